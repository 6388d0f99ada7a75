"""Holds whose outcome nobody knows: every one of them has an owner, the list, until it is resolved."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server.core.errors import HoldClosed
from policy_server.core.types import Outcome, UnresolvedCursor, UnresolvedHold, Verdict
from tests.world import HOLD_TTL_MS, World, key_id, usd

_STEPS = st.lists(
    st.sampled_from(["hold", "settle", "release", "unknown", "repeat", "expire", "wait", "past deadline"]),
    max_size=12,
)


async def listed(world: World, account: str = "", size: int = 100) -> list[UnresolvedHold]:
    """Every unresolved hold, read page by page."""
    found: list[UnresolvedHold] = []
    after: UnresolvedCursor | None = None
    while True:
        page = await world.server.settler.unresolved(account, after, size)
        found += page.holds
        assert len(page.holds) <= size
        if page.next is None:
            return found
        after = page.next


async def unknown_in_redis(world: World) -> set[str]:
    """The ids of the holds that Redis has as unknown."""
    holds = {name: value for name, value in (await world.dump()).items() if ":hold:" in name}
    return {name.rpartition(":")[2] for name, hold in holds.items() if hold["state"] == "unknown"}


async def test_an_unknown_hold_is_listed_with_all_that_is_needed_to_find_out(world: World) -> None:
    """Nothing has to be looked up elsewhere, and nothing in the list is a secret."""
    key = await world.key(usd(10_000))
    verdict = await world.ask(
        key,
        700,
        "run-1",
        step="pay",
        object_id="pi_1",
        sender="stripe:abc",
        vendor_account="",
        fingerprint="f",
    )
    assert await listed(world) == []
    world.now_ms += 1_000
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    (hold,) = await listed(world)
    assert (hold.authorization_id, hold.attempt) == (verdict.authorization_id, 1)
    assert (hold.vault_key_id, hold.account, hold.run_id, hold.step) == (
        key_id(key),
        "default",
        "run-1",
        "pay",
    )
    assert (hold.endpoint, hold.object_id, hold.sender) == ("POST /v1/charges", "pi_1", "stripe:abc")
    assert hold.asked is not None
    assert (hold.asked.minor_units, hold.asked.currency) == (700, "USD")
    assert hold.held_at_ms == world.now_ms - 1_000
    assert hold.last_send_ms == hold.held_at_ms + HOLD_TTL_MS
    assert hold.effect_name == verdict.effect_name


async def test_an_overdue_hold_is_listed_until_it_is_settled(world: World) -> None:
    """Nobody reported it, so nobody but the list knows of it; settling it takes it off."""
    key = await world.key(usd(10_000))
    verdict = await world.ask(key, 700)
    world.now_ms += HOLD_TTL_MS
    await world.server.settler.expire_holds()
    assert [hold.authorization_id for hold in await listed(world)] == [verdict.authorization_id]
    await world.settle(verdict, 600, evidence="event evt_1", object_id="ch_1")
    assert await listed(world) == []
    assert await world.count(key) == (600, 0)
    told = (await world.events())[-1].fields
    assert (told["state"], told["reason"], told["detail"]) == ("settled", "reconciled", "event evt_1")


async def test_an_unknown_hold_is_never_forgotten(world: World) -> None:
    """It counts for as long as it is unknown, so it is remembered as long; once closed, as others are."""
    key = await world.key(usd(10_000))
    verdict = await world.ask(key, 700)
    (name,) = await world.redis.keys(f"*hold:{verdict.authorization_id}")
    assert await world.redis.pttl(name) > 0
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    assert await world.redis.pttl(name) == -1
    await world.settle(verdict, outcome=Outcome.FAILED, evidence="nothing there")
    assert await world.redis.pttl(name) > 0


async def test_what_was_sent_again_is_not_released_on_older_evidence(world: World) -> None:
    """The repeat may be the one that is carried out, and nobody looked for that one."""
    key = await world.key(usd(10_000))
    verdict = await world.ask(key, 700)
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    (looked_at,) = await listed(world)
    world.now_ms += HOLD_TTL_MS + 60_000
    assert (await world.ask(key, 700)).duplicate
    with pytest.raises(HoldClosed, match="allowed again since"):
        await world.settle(verdict, outcome=Outcome.FAILED, unless_sent_after_ms=looked_at.last_send_ms)
    (again,) = await listed(world)
    assert again.last_send_ms == world.now_ms
    await world.settle(verdict, outcome=Outcome.FAILED, unless_sent_after_ms=again.last_send_ms)
    assert await world.count(key) == (0, 0)


@pytest.mark.parametrize("passes_ms", [0, -1_200_000])
async def test_every_sending_is_later_than_the_one_before(world: World, passes_ms: int) -> None:
    """Also in the same millisecond, and after the clock was set back."""
    key = await world.key(usd(10_000))
    verdict = await world.ask(key, 700)
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    for _ in range(2):
        (looked_at,) = await listed(world)
        world.now_ms += passes_ms
        assert (await world.ask(key, 700)).duplicate
        with pytest.raises(HoldClosed, match="allowed again since"):
            await world.settle(verdict, outcome=Outcome.FAILED, unless_sent_after_ms=looked_at.last_send_ms)
    assert await world.count(key) == (0, 700)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_pages_list_every_hold_once_the_oldest_first(world: World, size: int) -> None:
    """Also where several became unknown in the same millisecond, and over several accounts."""
    made: list[Verdict] = []
    for account in ("default", "other"):
        key = await world.key(usd(10_000), account=account)
        for n in range(7):
            world.now_ms += n % 3 == 0
            made.append(await world.ask(key, 10, f"run-{n}"))
    for verdict in reversed(made):
        await world.settle(verdict, outcome=Outcome.UNKNOWN)
    found = await listed(world, size=size)
    assert sorted(hold.authorization_id for hold in found) == sorted(one.authorization_id for one in made)
    times = [(hold.account, hold.held_at_ms) for hold in found]
    assert times == sorted(times)
    assert len(await listed(world, "other", size)) == 7


@given(histories=st.lists(_STEPS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_hold_is_without_an_owner(world: World, histories: Sequence[Sequence[str]]) -> None:
    """Whatever happens: a hold that counts is among the deadlines, and the list is the unknown ones."""
    await world.begin_anew()
    key = await world.key(usd(1_000_000))
    for number, steps in enumerate(histories):
        run, verdict = f"run-{number}", None
        for step in steps:
            match step:
                case "hold" | "repeat":
                    answer = await world.ask(key, 100, run)
                    verdict = answer if answer.allowed else verdict
                case "expire":
                    await world.server.settler.expire_holds()
                case "wait":
                    world.now_ms += 1_000
                case "past deadline":
                    world.now_ms += HOLD_TTL_MS
                case _ if verdict is not None:
                    outcome = {"settle": Outcome.SUCCEEDED, "release": Outcome.FAILED}.get(
                        step, Outcome.UNKNOWN
                    )
                    with contextlib.suppress(HoldClosed):
                        await world.settle(verdict, outcome=outcome)
    holds = {
        name.rpartition(":")[2]: value for name, value in (await world.dump()).items() if ":hold:" in name
    }
    open_holds = {name for name, hold in holds.items() if hold["state"] in {"held", "unknown"}}
    assert set(await world.redis.zrange("spendgate:{default}:deadlines", 0, -1)) == open_holds
    assert {hold.authorization_id for hold in await listed(world)} == await unknown_in_redis(world)
    assert (await world.count(key))[1] == 100 * len(open_holds)
