"""A cap resets when its zone says, never before, never later, and never twice, whatever any clock shows."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server.core.types import Outcome
from policy_server.core.window import Calendar, Span, Window, span_at
from tests import rpc, window_vectors
from tests.processes import Process, policy_server_process, redis_url
from tests.window_vectors import Vector
from tests.world import DAY, HOUR, MINUTE, NOON, SECOND, World, moment, usd

VECTORS = window_vectors.published()
EVER_MS = 100 * 366 * DAY
"""The vectors lie in the past; nothing of them may be forgotten meanwhile."""


def named(vector: Vector) -> str:
    """The name of a test with a vector."""
    return f"{vector.zone}-{vector.window}-{vector.start[:16]}"


def test_the_published_vectors_are_what_looking_at_every_minute_gives() -> None:
    """They were not made by the code that they test; their texts and their numbers agree."""
    assert window_vectors.FILE.read_text() == window_vectors.document()
    for one in VECTORS:
        begin, last, end = map(datetime.fromisoformat, (one.start, one.last, one.end))
        assert round(begin.timestamp() * 1000) == one.start_ms
        assert round(end.timestamp() * 1000) == one.end_ms == round(last.timestamp() * 1000) + 1
        for shown in (begin, last, end):
            assert shown.utcoffset() == shown.astimezone(ZoneInfo(one.zone)).utcoffset()
    assert json.loads(window_vectors.FILE.read_text()).keys() == {"windows"}


@pytest.mark.parametrize("vector", VECTORS, ids=named)
def test_a_window_is_the_published_one(vector: Vector) -> None:
    """From its first millisecond to its last, and for no millisecond more."""
    window = Window(vector.window)
    whole = Span(vector.start_ms, vector.end_ms)
    middle = (vector.start_ms + vector.end_ms) // 2
    for now_ms in (vector.start_ms, vector.start_ms + 1, middle, vector.end_ms - 1):
        assert span_at(window, vector.zone, now_ms) == whole
    assert span_at(window, vector.zone, vector.start_ms - 1).end_ms == vector.start_ms
    assert span_at(window, vector.zone, vector.end_ms).start_ms == vector.end_ms
    calendar = Calendar()
    for now_ms in (vector.start_ms - 1, vector.start_ms, vector.end_ms - 1, vector.end_ms):
        assert calendar.span(window, vector.zone, now_ms) == span_at(window, vector.zone, now_ms)


@pytest.mark.parametrize("vector", VECTORS, ids=named)
async def test_a_cap_never_resets_early_and_never_late(redis: str, vector: Vector) -> None:
    """Full at the first millisecond, it refuses at the last, 23:59:59.999, and allows at 00:00:00.000."""
    world = World(redis, retention_ms=EVER_MS)
    try:
        key = await world.key(usd(100, Window(vector.window), time_zone=vector.zone))
        answers = []
        for number, (now_ms, amount) in enumerate(
            (
                (vector.start_ms - 1, 100),  # fills the window before
                (vector.start_ms, 100),  # a new one
                ((vector.start_ms + vector.end_ms) // 2, 1),
                (vector.end_ms - 1, 1),
                (vector.end_ms, 100),
                (vector.end_ms, 1),
            )
        ):
            world.now_ms = now_ms
            verdict = await world.ask(key, amount, f"run-{number}")
            answers.append(verdict.allowed)
            if vector.start_ms <= now_ms < vector.end_ms:
                assert verdict.caps[0].resets_at_ms == vector.end_ms
        assert answers == [True, True, False, False, True, False]
    finally:
        await world.close()


@pytest.mark.parametrize("step_s", [1, 20])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo"])
async def test_a_day_of_steady_traffic_still_resets(world: World, zone: str, step_s: int) -> None:
    """Refused calls keep no window open, nor do reads of it: each day allows its cap, once."""
    key = await world.key(usd(100, time_zone=zone))
    length = 25 * HOUR if step_s > 1 else 20 * MINUTE
    begin = moment("2031-10-26T00:00", zone) - 10 * MINUTE
    allowed: list[str] = []
    for number, now_ms in enumerate(range(begin, begin + length, step_s * SECOND)):
        world.now_ms = now_ms
        if (await world.ask(key, 100, f"run-{number}")).allowed:
            allowed.append(window_vectors.text(now_ms, zone)[:19])
    days = ["2031-10-25T23:50:00", "2031-10-26T00:00:00"]
    if step_s > 1 and zone == "Asia/Tokyo":  # in Berlin, that day has 25 hours
        days.append("2031-10-27T00:00:00")
    assert allowed == days


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo", "America/Sao_Paulo", "Pacific/Apia"])
async def test_a_hold_taken_at_2359_and_settled_at_0001_counts_once_in_its_own_day(
    world: World, zone: str
) -> None:
    """The day in which it is settled stays empty; what it did not use comes back where it was held."""
    midnight = moment("2031-10-26T00:00", zone)
    key = await world.key(usd(100, time_zone=zone))
    world.now_ms = midnight - MINUTE
    held = await world.ask(key, 80, "late")
    assert not (await world.ask(key, 30, "over")).allowed
    world.now_ms = midnight + MINUTE
    await world.settle(held, 60)
    assert list((await world.counts(key)).values()) == [(0, 0)]
    assert (await world.ask(key, 100, "early")).allowed
    world.now_ms = midnight - 1
    assert list((await world.counts(key)).values()) == [(60, 0)]
    assert (await world.ask(key, 40, "rest")).allowed
    assert not (await world.ask(key, 1, "over")).allowed


async def test_a_hold_released_after_midnight_gives_nothing_to_the_new_day(world: World) -> None:
    """What comes back belongs to the day that is over."""
    midnight = moment("2031-03-13T00:00")
    key = await world.key(usd(100))
    world.now_ms = midnight - MINUTE
    held = await world.ask(key, 100, "late")
    world.now_ms = midnight + MINUTE
    assert (await world.ask(key, 100, "early")).allowed
    await world.settle(held, outcome=Outcome.FAILED)
    assert not (await world.ask(key, 1, "over")).allowed


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    skews=st.lists(st.integers(-26 * HOUR, 26 * HOUR), min_size=1, max_size=3),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"]),
    window=st.sampled_from([Window.HOUR, Window.DAY]),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from([0, 1, MINUTE, 20 * MINUTE, 7 * HOUR]), st.integers(1, 60)
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_no_clock_but_the_store_s_opens_a_window(
    redis_server: Process,
    skews: list[int],
    zone: str,
    window: Window,
    steps: list[tuple[int, int, int]],
) -> None:
    """Servers whose clocks are off by hours allow together what one with the right time would."""

    async def history() -> None:
        world = World(redis_url(redis_server))
        try:
            await world.redis.flushall()
            world.now_ms = NOON + 11 * HOUR + 59 * MINUTE
            key = await world.key(usd(100, window, time_zone=zone))
            servers = [world.second_server(skew_ms=skew) for skew in skews]
            spent: Counter[Span] = Counter()
            for number, (who, later, amount) in enumerate(steps):
                world.now_ms += later
                verdict = await world.ask(key, amount, f"run-{number}", server=servers[who % len(servers)])
                true_window = span_at(window, zone, world.now_ms)
                assert verdict.allowed == (spent[true_window] + amount <= 100)
                spent[true_window] += amount if verdict.allowed else 0
                assert verdict.caps[0].resets_at_ms == true_window.end_ms
        finally:
            await world.close()

    asyncio.run(history())


def test_machines_with_other_zone_files_open_no_other_window(redis: str, tmp_path: Path) -> None:
    """A server counts by the zones that came with it, whatever the machine has, or if it has none."""
    zones = tmp_path / "zones" / "Asia"
    zones.mkdir(parents=True)
    shutil.copy("/usr/share/zoneinfo/Pacific/Honolulu", zones / "Tokyo")
    with (
        policy_server_process(tmp_path, redis, env={"PYTHONTZPATH": str(zones.parent)}) as server,
        rpc.calling(server, "admin") as admin,
        rpc.calling(server, "sidecar") as sidecar,
    ):
        policy = rpc.day_cap(1_000)
        policy.caps[0].time_zone = "Asia/Tokyo"
        key, _ = rpc.make_key(admin, policy)
        verdict = sidecar(sidecar.policy.Authorize, rpc.charge(key, 100, "run"))
    resets_at = verdict.caps[0].reset_time.ToDatetime(ZoneInfo("UTC")).astimezone(ZoneInfo("Asia/Tokyo"))
    assert (resets_at.hour, resets_at.minute) == (0, 0)
