"""Asks Stripe for an object, and reads from it what may not be there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sidecar.refusals import Refused
from sidecar.vendor import Fetch

Object = Mapping[str, Any]
_CURRENCY = re.compile(r"[A-Za-z]{3}")
T = TypeVar("T")


async def fetched(fetch: Fetch, path: str) -> dict[str, Any]:
    """GET one object of Stripe, or raise `Refused` when there is none."""
    answer = await fetch(path)
    if answer.status != 200:
        raise Refused(
            400 if answer.status == 404 else 503,
            "amount_unknown",
            "The object that the call is about can't be read at Stripe "
            f"(GET {path.partition('?')[0]} answers {answer.status}), so its amount is not known and the "
            "call was not sent.",
            retryable=answer.status == 429 or answer.status >= 500,
        )
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _unreadable()
    return body


def readable(read: Callable[[], T]) -> T:
    """Read from an answer of Stripe, which may lack what is looked for."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise _unreadable() from None


def _unreadable() -> Refused:
    return Refused(400, "amount_unknown", "Stripe's answer does not say what the call would move.")


def currency_of(source: Object, where: str = "currency") -> str:
    """Return a currency in upper case; raise `TypeError` where there is none, as in a session for setup."""
    currency = at(source, where)
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise TypeError
    return currency.upper()


def at(source: Object, where: str) -> Any:
    for name in where.split("."):
        source = source[name]
    return source


def item_ids(invoice: Object) -> tuple[str, ...]:
    """Return the invoice items among an invoice's lines."""
    lines = invoice.get("lines") or {}
    found = []
    for line in lines.get("data") or ():
        details = (line.get("parent") or {}).get("invoice_item_details") or line
        item = details.get("invoice_item")
        if isinstance(item, str):
            found.append(item)
    return tuple(found[:100])
