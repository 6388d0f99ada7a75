"""Moments and stretches of time as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_STRETCH = re.compile(r"([1-9][0-9]{0,4})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_stretch(text: str) -> timedelta:
    """Return a stretch of time such as "90m", "12h" or "30d", or raise `ValueError`."""
    match = _STRETCH.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a stretch of time; write a number and one of s, m, h, d, w, such as 30d"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_moment(text: str) -> datetime:
    """Return a moment such as "2027-01-31T00:00:00Z"; raises `ValueError`, also without a zone."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is not a moment with its zone; write one such as 2027-01-31T00:00:00Z")


def parse_past(text: str) -> datetime:
    """Return a moment, or that long ago when `text` is a stretch of time; raises `ValueError`."""
    if _STRETCH.fullmatch(text):
        return datetime.now(UTC) - parse_stretch(text)
    try:
        return parse_moment(text)
    except ValueError as error:
        raise ValueError(f"{error}, or how long ago, such as 2h") from None


def timestamp(moment: datetime) -> Timestamp:
    """Return `moment` as messages have it."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
