"""Which stretch of time a cap counts over, in any IANA zone.

A window is a half-open stretch ``[start, end)`` of real time. It is found from
the local calendar, so a day is 23, 24 or 25 hours long and begins where the
zone's own calendar begins it, even when midnight does not exist that day.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policy_server.core.errors import FieldInvalid


class Window(StrEnum):
    """What a cap counts over."""

    CALL = "call"
    RUN = "run"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of real time in milliseconds since 1970 UTC."""

    start_ms: int
    end_ms: int
    """The first millisecond after it; 0 when it has no end."""

    def contains(self, now_ms: int) -> bool:
        """Tell whether ``now_ms`` lies in it."""
        return self.start_ms <= now_ms and (self.end_ms == 0 or now_ms < self.end_ms)


_HOUR_MS = 3_600_000

ENDLESS = Span(0, 0)
"""The span of runs and totals."""


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA zone ``name``, or raise `FieldInvalid`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FieldInvalid(
            "time_zone", f"must be an IANA zone such as 'Europe/Berlin', not {name!r}"
        ) from None


class Calendar:
    """Finds the span of each window, remembering the current one of each zone."""

    def __init__(self) -> None:
        self._current: dict[tuple[Window, str], Span] = {}

    def span(self, window: Window, zone_name: str, now_ms: int) -> Span:
        """Return the span of ``window`` around ``now_ms`` in the zone's calendar."""
        known = self._current.get((window, zone_name))
        if known is None or not known.contains(now_ms):
            known = span_at(window, zone_name, now_ms)
            self._current[window, zone_name] = known
        return known


def span_at(window: Window, zone_name: str, now_ms: int) -> Span:
    """Return the span of ``window`` around ``now_ms``; `ENDLESS` for runs and totals."""
    if window in {Window.CALL, Window.RUN, Window.TOTAL}:
        return ENDLESS
    tz = zone(zone_name)
    if window is Window.HOUR:
        return _hour_at(tz, now_ms)
    local = datetime.fromtimestamp(now_ms / 1000, tz)
    first = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if window is Window.DAY:
        after = first + timedelta(days=1)
    elif window is Window.WEEK:
        first -= timedelta(days=first.weekday())
        after = first + timedelta(days=7)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    span = Span(_midnight_ms(first, tz), _midnight_ms(after, tz))
    # Where the clock is set back over midnight, the window that has begun goes on.
    return span if span.contains(now_ms) else span_at(window, zone_name, span.end_ms)


def _hour_at(tz: ZoneInfo, now_ms: int) -> Span:
    # Hours are cut in real time: the clock shows some of them twice. Where a zone
    # shifts its clock by part of an hour, one hour ends and another begins.
    def into_hour_ms(at_ms: int) -> int:
        local = datetime.fromtimestamp(at_ms / 1000, tz)
        return (local.minute * 60 + local.second) * 1000 + at_ms % 1000

    def same_hours(at_ms: int) -> bool:
        return (into_hour_ms(at_ms) - into_hour_ms(now_ms) - (at_ms - now_ms)) % _HOUR_MS == 0

    start_ms = now_ms - into_hour_ms(now_ms)
    end_ms = start_ms + _HOUR_MS
    return Span(
        start_ms + bisect_left(range(start_ms, now_ms), True, key=same_hours),
        now_ms + bisect_left(range(now_ms, end_ms), True, key=lambda at_ms: not same_hours(at_ms)),
    )


def _midnight_ms(local: datetime, tz: ZoneInfo) -> int:
    # For a midnight that the zone skips, the earlier offset names the very
    # moment of the change, which is where that day begins.
    return int(local.replace(tzinfo=tz).astimezone(UTC).timestamp()) * 1000
