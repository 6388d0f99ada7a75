"""Caps as operators write and read them.

    CURRENCY AMOUNT/WINDOW [in ZONE] [on ENDPOINT[, ENDPOINT...]]
    calls COUNT/WINDOW [in ZONE] [on ENDPOINT[, ENDPOINT...]]

`usd 500.00/day` and `jpy 5000/month in Asia/Tokyo` limit money, in major units;
`calls 20/run on POST /v1/charges` limits calls. A window is one of call, run,
hour, day, week, month and total. Without a zone the calendar is UTC's.
"""

from __future__ import annotations

import re

from spendgate import currencies
from spendgate.v1 import policy_pb2

WINDOWS: dict[str, policy_pb2.Window] = {
    "call": policy_pb2.WINDOW_CALL,
    "run": policy_pb2.WINDOW_RUN,
    "hour": policy_pb2.WINDOW_HOUR,
    "day": policy_pb2.WINDOW_DAY,
    "week": policy_pb2.WINDOW_WEEK,
    "month": policy_pb2.WINDOW_MONTH,
    "total": policy_pb2.WINDOW_TOTAL,
}

_NAMES = {window: name for name, window in WINDOWS.items()}
_WITHOUT_CALENDAR = frozenset({"call", "run", "total"})
_COUNT = re.compile(r"[1-9][0-9]{0,15}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_ENDPOINT = re.compile(r"(?:GET|HEAD|POST|PUT|PATCH|DELETE|\*) /[^\s,]+")


class CapTextError(ValueError):
    """A cap is not written as the grammar wants; the message is one sentence with an example."""


def parse(text: str) -> policy_pb2.Cap:
    """Return the cap that `text` describes, or raise `CapTextError`."""
    # The space at the end lets "in" and "on" be found also when nothing follows them.
    words = " ".join(text.split()) + " "
    words, on, endpoints = words.partition(" on ")
    words, within, zone = f"{words} ".partition(" in ")
    unit, _, rest = words.strip().partition(" ")
    limit, slash, window = (part.strip() for part in rest.partition("/"))
    try:
        if not text.isascii():
            raise ValueError("there are characters other than ASCII; write one such as usd 500.00/day")
        cap = _limit(unit, limit)
        name = _window(slash, window)
        cap.window = WINDOWS[name]
        if within:
            cap.time_zone = _zone(zone.strip(), name)
        if on:
            cap.endpoints.extend(endpoint_patterns(endpoints))
        if name == "call" and cap.WhichOneof("limit") == "calls":
            raise ValueError("counts the calls of one call; choose a longer window such as calls 20/run")
    except ValueError as error:
        raise CapTextError(f"in the cap {text!r}, {error}") from None
    return cap


def text(cap: policy_pb2.Cap) -> str:
    """Return `cap` as `parse` reads it.

    A currency or window that this version does not know is shown as the number
    it is, which `parse` does not read.
    """
    name = _NAMES.get(cap.window, f"window-{int(cap.window)}")
    parts = [f"{_limit_text(cap)}/{name}"]
    if cap.time_zone not in {"", "UTC"} and name not in _WITHOUT_CALENDAR:
        parts.append(f"in {cap.time_zone}")
    if cap.endpoints:
        parts.append(f"on {', '.join(cap.endpoints)}")
    return " ".join(parts)


def endpoint_patterns(text: str) -> list[str]:
    """Return the endpoint patterns of a list with commas, or raise `ValueError`."""
    patterns = [part.strip() for part in text.split(",")]
    for pattern in patterns:
        if not pattern:
            raise ValueError("an endpoint is missing after 'on'; write one such as on POST /v1/charges")
        if not _ENDPOINT.fullmatch(pattern):
            raise ValueError(
                f"the endpoint {pattern!r} is not a method and a path; "
                "end with one such as on POST /v1/charges, GET /v1/*"
            )
    return patterns


def _limit(unit: str, limit: str) -> policy_pb2.Cap:
    cap = policy_pb2.Cap()
    if unit.lower() == "calls":
        if not _COUNT.fullmatch(limit) or int(limit) > currencies.MAX_MINOR_UNITS:
            raise ValueError(
                f"the count {limit!r} is not a whole number from 1; write one such as calls 20/run"
            )
        cap.calls = int(limit)
        return cap
    if unit.upper() not in currencies.DECIMALS:
        raise ValueError(
            f"the currency {unit!r} is not one that Stripe charges in; begin with a code, "
            "or with the word calls, such as usd 500.00/day"
        )
    cap.amount.minor_units = currencies.minor_units(unit, limit)
    cap.amount.currency_code = unit.upper()
    return cap


def _window(slash: str, window: str) -> str:
    names = ", ".join(WINDOWS)
    if not slash or not window:
        raise ValueError(f"the window is missing; end with / and one of {names}, such as usd 500.00/day")
    if window.lower() not in WINDOWS:
        raise ValueError(f"the window {window!r} is not one of {names}; write one such as usd 500.00/day")
    return window.lower()


def _zone(zone: str, window: str) -> str:
    if not _ZONE.fullmatch(zone):
        raise ValueError(f"the time zone {zone!r} is not an IANA name; write one such as in Europe/Berlin")
    if window in _WITHOUT_CALENDAR:
        raise ValueError(
            f"the time zone {zone!r} means nothing, because the window {window} follows no calendar; "
            "leave it out, or write one such as usd 500.00/day in Europe/Berlin"
        )
    return "" if zone == "UTC" else zone


def _limit_text(cap: policy_pb2.Cap) -> str:
    if cap.WhichOneof("limit") == "calls":
        return f"calls {cap.calls}"
    currency = cap.amount.currency_code
    if currency not in currencies.DECIMALS:
        return f"{currency.lower()} {cap.amount.minor_units} minor units"
    return f"{currency.lower()} {currencies.major_units(cap.amount.minor_units, currency)}"
