"""The windows that are published in tests/vectors/, found minute by minute and not by the server's code.

``python -m tests.window_vectors`` writes them. All lie in the past, so no change of a zone's rules changes
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

FILE = Path(__file__).parent / "vectors" / "windows.json"

_MINUTE_MS = 60_000
_LONGEST = {"hour": 3, "day": 3 * 24, "week": 10 * 24, "month": 34 * 24}
"""How many hours before and after a moment its window certainly begins and ends."""


@dataclass(frozen=True)
class Vector:
    """One window: its first millisecond, and the first one after it."""

    about: str
    zone: str
    window: str
    start: str
    """In the zone's own time, with its offset from UTC at that moment."""
    last: str
    """The last millisecond in the window."""
    end: str
    start_ms: int
    """In milliseconds since 1970 UTC."""
    end_ms: int


CASES: tuple[tuple[str, str, str, str], ...] = (
    # what it shows, zone, window, a moment within in the zone's time
    ("an ordinary day", "UTC", "day", "2024-05-15T12:00+00:00"),
    ("an hour is cut at full hours", "UTC", "hour", "2024-05-15T12:34+00:00"),
    ("a week begins on Monday", "UTC", "week", "2024-05-19T23:59+00:00"),
    ("a week over the end of a year", "UTC", "week", "2024-12-31T12:00+00:00"),
    ("the 29th of February", "UTC", "day", "2024-02-29T12:00+00:00"),
    ("February of a leap year", "UTC", "month", "2024-02-10T00:00+00:00"),
    ("February of another year", "UTC", "month", "2023-02-28T23:59+00:00"),
    ("February of 2000, a leap year", "UTC", "month", "2000-02-29T00:00+00:00"),
    ("a month of 31 days", "UTC", "month", "2024-01-31T23:59+00:00"),
    ("a month of 30 days", "UTC", "month", "2024-04-30T00:00+00:00"),
    ("the last day of a year", "UTC", "day", "2024-12-31T23:00+00:00"),
    ("the last month of a year", "UTC", "month", "2024-12-31T23:59+00:00"),
    ("the last hour of a year", "UTC", "hour", "2024-12-31T23:59+00:00"),
    ("23 hours: the clock is set forward", "Europe/Berlin", "day", "2024-03-31T12:00+02:00"),
    ("25 hours: the clock is set back", "Europe/Berlin", "day", "2024-10-27T12:00+01:00"),
    ("the hour before the one that is left out", "Europe/Berlin", "hour", "2024-03-31T01:30+01:00"),
    ("the hour after the one that is left out", "Europe/Berlin", "hour", "2024-03-31T03:30+02:00"),
    ("an hour that comes twice, for the first time", "Europe/Berlin", "hour", "2024-10-27T02:30+02:00"),
    ("an hour that comes twice, for the second time", "Europe/Berlin", "hour", "2024-10-27T02:30+01:00"),
    ("a week of 167 hours", "Europe/Berlin", "week", "2024-03-31T12:00+02:00"),
    ("a week of 169 hours", "Europe/Berlin", "week", "2024-10-27T12:00+01:00"),
    ("a month with a change of the clock", "Europe/Berlin", "month", "2024-03-15T12:00+01:00"),
    ("the other month with a change of the clock", "Europe/Berlin", "month", "2024-10-15T12:00+02:00"),
    ("the end of a month is another day in UTC", "Europe/Berlin", "month", "2024-06-30T23:59+02:00"),
    ("23 hours: the clock is set forward", "America/New_York", "day", "2024-03-10T12:00-04:00"),
    ("25 hours: the clock is set back", "America/New_York", "day", "2024-11-03T12:00-05:00"),
    ("a week of 167 hours", "America/New_York", "week", "2024-03-10T12:00-04:00"),
    ("a month with a change of the clock", "America/New_York", "month", "2024-11-15T12:00-05:00"),
    ("the end of a year is another day in UTC", "America/New_York", "day", "2024-12-31T23:59-05:00"),
    ("a day is never cut at midnight UTC", "Asia/Tokyo", "day", "2024-05-15T23:59+09:00"),
    ("a zone without changes of the clock", "Asia/Tokyo", "month", "2024-03-31T00:00+09:00"),
    ("a week of 168 hours everywhere else", "Asia/Tokyo", "week", "2024-03-31T12:00+09:00"),
    ("23 and a half hours", "Australia/Lord_Howe", "day", "2024-10-06T12:00+11:00"),
    ("24 and a half hours", "Australia/Lord_Howe", "day", "2024-04-07T12:00+10:30"),
    ("before the clock is set back by half an hour", "Australia/Lord_Howe", "hour", "2024-04-07T01:45+11:00"),
    ("the half hour that comes twice", "Australia/Lord_Howe", "hour", "2024-04-07T01:45+10:30"),
    ("half an hour is left out", "Australia/Lord_Howe", "hour", "2024-10-06T02:45+11:00"),
    ("the day before the one that is left out", "Pacific/Apia", "day", "2011-12-29T12:00-10:00"),
    ("the day after the one that is left out", "Pacific/Apia", "day", "2011-12-31T12:00+14:00"),
    ("a week of six days", "Pacific/Apia", "week", "2011-12-31T12:00+14:00"),
    ("a December of 30 days", "Pacific/Apia", "month", "2011-12-15T12:00-10:00"),
    ("a day that begins at 01:00", "America/Sao_Paulo", "day", "2018-11-04T12:00-02:00"),
    ("the day before, which ends where 00:00 would be", "America/Sao_Paulo", "day", "2018-11-03T23:30-03:00"),
    ("a day with its last hour twice", "America/Sao_Paulo", "day", "2018-02-17T23:30-03:00"),
    ("a week with a midnight that is left out", "America/Sao_Paulo", "week", "2018-11-04T12:00-02:00"),
    ("the clock is set back for Ramadan", "Africa/Casablanca", "day", "2024-03-10T12:00+00:00"),
    ("and forward after it", "Africa/Casablanca", "day", "2024-04-14T12:00+01:00"),
    ("a month with both changes of the clock", "Africa/Casablanca", "month", "2023-04-15T12:00+00:00"),
    ("5:45 from UTC", "Asia/Kathmandu", "day", "2024-05-15T12:00+05:45"),
    ("hours are the zone's own, not UTC's", "Asia/Kathmandu", "hour", "2024-05-15T12:10+05:45"),
    ("the hour in which the offset grew by 15 minutes", "Asia/Kathmandu", "hour", "1986-01-01T00:30+05:45"),
    (
        "a day that goes on when the clock is set back over midnight",
        "America/St_Johns",
        "day",
        "2006-10-29T12:00-03:30",
    ),
    ("a midnight that is left out", "America/Havana", "day", "2024-03-10T12:00-04:00"),
    ("a midnight that comes twice", "America/Havana", "day", "2024-11-03T12:00-05:00"),
)


def vectors() -> Iterator[Vector]:
    """Every published window."""
    for about, zone, window, moment in CASES:
        begin, end = edges(zone, window, round(datetime.fromisoformat(moment).timestamp() * 1000))
        yield Vector(about, zone, window, text(begin, zone), text(end - 1, zone), text(end, zone), begin, end)


def text(at_ms: int, zone: str) -> str:
    """A moment in a zone's time, with its offset."""
    whole = datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone))
    return whole.replace(microsecond=at_ms % 1000 * 1000).isoformat(timespec="milliseconds")


def edges(zone: str, window: str, at_ms: int) -> tuple[int, int]:
    """Where the window around a moment begins and ends, found by looking at every minute around it."""
    if window == "hour":
        return _hour_edges(zone, at_ms)
    first = _period_start(window)
    reached = date.min
    begin = end = 0
    for minute_ms in _minutes(window, at_ms):
        # A day has begun once the calendar has reached it, also when the clock is set back over midnight.
        now = max(reached, first(_local(zone, minute_ms).date()))
        if now > reached:
            if minute_ms > at_ms:
                end = minute_ms
                break
            begin = minute_ms
        reached = now
    return begin, end


def _hour_edges(zone: str, at_ms: int) -> tuple[int, int]:
    begin = 0
    for minute_ms in _minutes("hour", at_ms):
        local, before = _local(zone, minute_ms), _local(zone, minute_ms - _MINUTE_MS)
        shift = (local.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        if local.minute == 0 or shift % timedelta(hours=1):
            if minute_ms > at_ms:
                return begin, minute_ms
            begin = minute_ms
    raise AssertionError("no hour is that long")


def _minutes(window: str, at_ms: int) -> range:
    around = _LONGEST[window] * 60 * _MINUTE_MS
    return range(at_ms - around - at_ms % _MINUTE_MS, at_ms + around, _MINUTE_MS)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _local(zone: str, at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, _zone(zone))


def _period_start(window: str) -> Callable[[date], date]:
    if window == "week":
        return lambda day: day - timedelta(days=day.weekday())
    if window == "month":
        return lambda day: day.replace(day=1)
    return lambda day: day


def published() -> list[Vector]:
    """What stands in the file."""
    return [Vector(**one) for one in json.loads(FILE.read_text())["windows"]]


def document() -> str:
    """The file as it should be."""
    lines = ",\n".join(f"    {json.dumps(asdict(one), ensure_ascii=False)}" for one in vectors())
    return f'{{\n  "windows": [\n{lines}\n  ]\n}}\n'


if __name__ == "__main__":
    FILE.write_text(document())
