"""Reads Stripe's lists to their end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sidecar.exchange import Forward
from sidecar.vendor import CannotLook, Look

_PAGE = 100
_PAGES_MAX = 500
"""A time with more objects than this many pages is not looked through by itself."""

VERSION = "2026-10-28.endive"
"""The API version that objects are read by."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time by Stripe's clock, both ends included, in seconds since 1970."""

    start_s: int
    end_s: int

    def holds(self, other: Span) -> bool:
        """Tell whether the other lies within."""
        return self.start_s <= other.start_s and other.end_s <= self.end_s


def united(spans: list[Span], gap_s: int) -> list[Span]:
    """Return as few spans as hold all of these, where no two are nearer than ``gap_s``."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_s):
        if found and span.start_s <= found[-1].end_s + gap_s:
            found[-1] = Span(found[-1].start_s, max(found[-1].end_s, span.end_s))
        else:
            found.append(span)
    return found


def get(target: str, account: str) -> Forward:
    """Return a read for an account; empty for the key's own."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Stripe-Version": VERSION}
    if account:
        # An account within others is named by its whole path.
        headers["Stripe-Context" if "/" in account else "Stripe-Account"] = account
    return Forward("GET", target, headers)


async def fetched(look: Look, path: str, account: str) -> dict[str, Any] | None:
    """Return one object; None when there is none."""
    answer = await look(get(path, account))
    if answer.status == 404:
        return None
    return _body(path, answer.status, answer.body)


async def listed(
    look: Look, path: str, account: str, span: Span, *more: tuple[str, str]
) -> AsyncIterator[dict[str, Any]]:
    """Yield what was made in a span, the newest first; raise `CannotLook` when it is too much."""
    asked = [
        ("limit", str(_PAGE)),
        ("created[gte]", str(span.start_s)),
        ("created[lte]", str(span.end_s)),
        *more,
    ]
    after = ""
    for _ in range(_PAGES_MAX):
        query = urlencode([*asked, *([("starting_after", after)] if after else [])])
        answer = await look(get(f"{path}?{query}", account))
        page = _body(path, answer.status, answer.body)
        entries = page.get("data")
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise CannotLook(f"what GET {path} answers is no list")
        for entry in entries:
            yield entry
        more_behind = page.get("has_more")
        if more_behind is False:
            return
        if more_behind is not True:
            raise CannotLook(f"a page of GET {path} does not say whether there is more")
        after = str(entries[-1].get("id") or "") if entries else ""
        if not after:
            raise CannotLook(f"a page of GET {path} is empty, and yet has more behind it")
    raise CannotLook(f"GET {path} lists more than {_PAGES_MAX * _PAGE} from one stretch of time")


def _body(path: str, status: int, content: bytes) -> dict[str, Any]:
    if status != 200:
        raise CannotLook(f"GET {path} answers {status}")
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise CannotLook(f"what GET {path} answers can't be read")
    return body
