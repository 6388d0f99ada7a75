"""Reads the JSON bodies of Stripe's v2 API, and writes them anew."""

from __future__ import annotations

import json
import re
from typing import Any

from sidecar.forms import Pairs
from sidecar.refusals import malformed
from sidecar.stripe.forms import check_name

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_DEPTH_MAX = 8
_VALUES_MAX = 1_000


def parse(raw: bytes) -> dict[str, Any]:
    """Return the object in a body; raise `Refused` when it is none, or could be read in two ways."""
    if not raw:
        return {}
    try:
        body = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_float=_no_float, parse_constant=_no_float
        )
    except (ValueError, RecursionError):
        raise malformed("", "The body must be one JSON object in UTF-8, whose numbers are whole.") from None
    if not isinstance(body, dict):
        raise malformed("", "The body must be a JSON object.")
    return body


def write(body: dict[str, Any]) -> bytes:
    """Write a body."""
    return json.dumps(body, separators=(",", ":")).encode() if body else b""


def flatten(body: dict[str, Any]) -> Pairs:
    """Return the values with names as in a form, such as ``amount[value]``."""
    pairs: list[tuple[str, str]] = []
    _flatten("", body, 0, pairs)
    return pairs


def _flatten(name: str, value: Any, depth: int, pairs: list[tuple[str, str]]) -> None:
    if depth > _DEPTH_MAX or len(pairs) > _VALUES_MAX:
        raise malformed(
            "", f"The body is nested more than {_DEPTH_MAX} deep, or has over {_VALUES_MAX} values."
        )
    if name and value in ({}, []):
        # Else what is given, and then forwarded, would be seen by nobody.
        pairs.append((check_name(name), ""))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not _KEY.fullmatch(key):
                raise malformed(key[:64], "A name in the body must be letters, digits, _, . and -.")
            _flatten(f"{name}[{key}]" if name else key, inner, depth + 1, pairs)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _flatten(f"{name}[{number}]", inner, depth + 1, pairs)
    else:
        pairs.append((check_name(name), _text(value)))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    if _NO_TEXT.search(text):
        raise malformed("", "Texts in the body must be Unicode, without NUL characters.")
    return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_float(text: str) -> Any:
    # As a double, an amount could be read as another one.
    raise ValueError
