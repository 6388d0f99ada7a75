"""Which stretch of time a cap counts over."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy_server.core.errors import FieldInvalid
from policy_server.core.window import ENDLESS, Calendar, Window, span_at, zone
from tests.world import DAY, HOUR, MINUTE, moment

TIMED = [Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH]
ZONES = sorted(zoneinfo.available_timezones() - {"localtime"})


@pytest.mark.parametrize(
    ("window", "zone_name", "now", "start", "end"),
    [
        (Window.HOUR, "UTC", "2031-03-12T12:34:56.789", "2031-03-12T12:00", "2031-03-12T13:00"),
        (Window.HOUR, "Asia/Kolkata", "2031-03-12T12:10", "2031-03-12T12:00", "2031-03-12T13:00"),
        (Window.DAY, "UTC", "2031-03-12T00:00", "2031-03-12T00:00", "2031-03-13T00:00"),
        (Window.DAY, "Asia/Tokyo", "2031-03-12T23:59:59.999", "2031-03-12T00:00", "2031-03-13T00:00"),
        (Window.DAY, "America/Havana", "2031-03-09T05:00", "2031-03-09T01:00", "2031-03-10T00:00"),
        (Window.DAY, "Asia/Beirut", "2031-03-30T05:00", "2031-03-30T01:00", "2031-03-31T00:00"),
        (Window.WEEK, "UTC", "2031-03-12T12:00", "2031-03-10T00:00", "2031-03-17T00:00"),
        (Window.WEEK, "UTC", "2031-03-16T23:59:59.999", "2031-03-10T00:00", "2031-03-17T00:00"),
        (Window.WEEK, "UTC", "2030-12-31T12:00", "2030-12-30T00:00", "2031-01-06T00:00"),
        (Window.MONTH, "UTC", "2031-01-31T23:59:59.999", "2031-01-01T00:00", "2031-02-01T00:00"),
        (Window.MONTH, "UTC", "2031-12-15T00:00", "2031-12-01T00:00", "2032-01-01T00:00"),
        (Window.MONTH, "UTC", "2032-02-29T12:00", "2032-02-01T00:00", "2032-03-01T00:00"),
        (Window.DAY, "UTC", "2032-02-29T12:00", "2032-02-29T00:00", "2032-03-01T00:00"),
        (Window.MONTH, "Asia/Tokyo", "2031-01-31T23:30", "2031-01-01T00:00", "2031-02-01T00:00"),
        (Window.MONTH, "Europe/Berlin", "2031-03-31T12:00", "2031-03-01T00:00", "2031-04-01T00:00"),
    ],
)
def test_a_window_follows_the_calendar_of_its_zone(
    window: Window, zone_name: str, now: str, start: str, end: str
) -> None:
    """A span begins and ends where the zone's own calendar says, in the zone's own time."""
    span = span_at(window, zone_name, moment(now, zone_name))
    assert (span.start_ms, span.end_ms) == (moment(start, zone_name), moment(end, zone_name))


@pytest.mark.parametrize(
    ("zone_name", "day", "hours"),
    [
        ("UTC", "2031-03-30", 24),
        ("Asia/Tokyo", "2031-03-30", 24),
        ("Europe/Berlin", "2031-03-30", 23),
        ("Europe/Berlin", "2031-10-26", 25),
        ("Asia/Beirut", "2031-03-30", 23),
        ("America/Havana", "2031-03-09", 23),
        ("America/Havana", "2031-11-02", 25),
        ("Australia/Lord_Howe", "2031-04-06", 24.5),
        ("Australia/Lord_Howe", "2031-10-05", 23.5),
        ("Pacific/Apia", "2011-12-29", 24),
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_a_day_is_as_long_as_the_zone_makes_it(zone_name: str, day: str, hours: float) -> None:
    """Days on which the clock is changed have 23 or 25 hours, or what the zone gives them."""
    span = span_at(Window.DAY, zone_name, moment(f"{day}T12:00", zone_name))
    assert (span.end_ms - span.start_ms) / HOUR == hours
    assert datetime.fromtimestamp(span.start_ms / 1000, ZoneInfo(zone_name)).date().isoformat() == day


def test_a_day_begins_where_the_zone_begins_it_and_not_at_midnight_utc() -> None:
    """The reset is never off by the zone's offset."""
    span = span_at(Window.DAY, "Asia/Tokyo", moment("2031-03-12T14:59:59.999"))
    assert span.end_ms == moment("2031-03-12T15:00")


def test_a_clock_hour_that_comes_twice_is_two_windows() -> None:
    """When the clock is set back, the repeated hour starts its own count."""
    first = span_at(Window.HOUR, "Europe/Berlin", moment("2031-10-26T00:30"))
    second = span_at(Window.HOUR, "Europe/Berlin", moment("2031-10-26T01:30"))
    assert second.start_ms == first.end_ms
    assert second.end_ms - first.start_ms == 2 * HOUR


def test_a_day_that_has_begun_does_not_end_when_the_clock_goes_back_over_midnight() -> None:
    """St. John's set its clock back from 00:01 to 23:01; the new day went on."""
    back_at = moment("2006-10-29T02:31")
    before = span_at(Window.DAY, "America/St_Johns", back_at - 1)
    after = span_at(Window.DAY, "America/St_Johns", back_at + 30 * MINUTE)
    assert before == after


@settings(max_examples=1500, deadline=None)
@given(
    window=st.sampled_from(TIMED),
    zone_name=st.sampled_from(ZONES),
    now_ms=st.integers(moment("1975-01-01T00:00"), moment("2037-12-31T00:00")),
)
@example(Window.HOUR, "Australia/Lord_Howe", moment("2031-04-05T15:10"))
@example(Window.HOUR, "Australia/Lord_Howe", moment("2031-10-04T15:10"))
@example(Window.DAY, "America/St_Johns", moment("2006-10-29T02:45"))
@example(Window.MONTH, "America/St_Johns", moment("1987-11-01T02:45"))
@example(Window.DAY, "Pacific/Apia", moment("2011-12-30T09:59:59.999"))
@example(Window.WEEK, "Pacific/Kwajalein", moment("1993-08-21T12:00"))
def test_windows_tile_time(window: Window, zone_name: str, now_ms: int) -> None:
    """Every moment lies in exactly one span, in every zone: no gap and no overlap."""
    check_neighbours(window, zone_name, now_ms)


def check_neighbours(window: Window, zone_name: str, now_ms: int) -> None:
    """The span of a moment holds it, and meets the spans before and after it."""
    span = span_at(window, zone_name, now_ms)
    assert span.start_ms <= now_ms < span.end_ms
    assert span_at(window, zone_name, span.start_ms) == span
    assert span_at(window, zone_name, span.end_ms - 1) == span
    assert span_at(window, zone_name, span.end_ms).start_ms == span.end_ms
    assert span_at(window, zone_name, span.start_ms - 1).end_ms == span.start_ms


@settings(max_examples=300, deadline=None)
@given(zone_name=st.sampled_from(ZONES), year=st.integers(1975, 2036), window=st.sampled_from(TIMED))
def test_windows_tile_time_where_the_clock_is_changed(zone_name: str, year: int, window: Window) -> None:
    """The same, looked for at each change of a zone's clock within a year."""
    for change in _changes(zone_name, year):
        for now_ms in range(change - 2 * HOUR, change + 2 * HOUR + 1, 30 * MINUTE):
            check_neighbours(window, zone_name, now_ms)


def _changes(zone_name: str, year: int) -> list[int]:
    """The days, as their first moment or a later one, on which the zone's offset changes."""
    tz = ZoneInfo(zone_name)

    def offset(at_ms: int) -> object:
        return datetime.fromtimestamp(at_ms / 1000, tz).utcoffset()

    begin = moment(f"{year}-01-01T00:00")
    found = []
    for day in range(begin, begin + 366 * DAY, DAY):
        if offset(day) != offset(day + DAY):
            low, high = day, day + DAY
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(day) else (low, middle)
            found.append(high)
    return found


@pytest.mark.parametrize("window", [Window.CALL, Window.RUN, Window.TOTAL])
def test_runs_and_totals_have_no_end(window: Window) -> None:
    """What is counted per run or for ever does not reset."""
    assert span_at(window, "Europe/Berlin", moment("2031-03-12T12:00")) == ENDLESS


def test_the_calendar_remembers_a_span_only_while_it_lasts() -> None:
    """A window under steady traffic still resets at its end, to the millisecond."""
    calendar = Calendar()
    midnight = moment("2031-03-13T00:00")
    last = calendar.span(Window.DAY, "UTC", midnight - 1)
    assert calendar.span(Window.DAY, "UTC", midnight - DAY) == last
    assert calendar.span(Window.DAY, "UTC", midnight).start_ms == last.end_ms == midnight
    assert calendar.span(Window.DAY, "UTC", midnight - 1) == last


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe", "UTC\0"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    """A cap never counts in a zone that this server had to guess."""
    with pytest.raises(FieldInvalid, match="IANA zone"):
        zone(name)
