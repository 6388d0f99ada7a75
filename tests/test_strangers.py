"""Nobody without a working key can fill the audit trail, and nothing that matters goes missing for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policy_server.core.strangers import OVERALL, PER_KEY, Rate, Strangers
from policy_server.core.types import AuditEvent, LocalRefusal
from tests.processes import REPOSITORY
from tests.world import DAY, SECOND, World, key_id, usd

BADLY_FORMED = LocalRefusal("", "POST /v1/charges", "run", "parameter_invalid", 400, 1)


def reasons(events: list[AuditEvent]) -> Counter[str]:
    """How often each reason is on record."""
    return Counter(event.fields.get("reason", "") for event in events)


async def test_a_flood_under_the_id_of_a_key_is_recorded_up_to_a_limit_and_counted_beyond_it(
    world: World,
) -> None:
    """Guesses at its secret: all refused, the first recorded, the rest one event that says how many."""
    key = await world.key(usd(100))
    guess = key[:-32] + "a" * 32
    before = len(await world.events())
    flood = PER_KEY.burst + 137
    for number in range(flood):
        verdict = await world.ask(guess, 1, f"run-{number}")
        assert (verdict.reason, verdict.vault_key_id) == ("vault_key_unknown", key_id(key))
    assert len(await world.events()) - before == PER_KEY.burst
    await world.server.settler.record_counted_strangers()
    await world.server.settler.record_counted_strangers()
    events = (await world.events())[before:]
    assert reasons(events) == {"vault_key_unknown": PER_KEY.burst, "refusals_not_recorded": 1}
    assert events[-1].fields["detail"].startswith("137 refusals ")


async def test_a_flood_keeps_nothing_of_the_key_itself_from_the_record(world: World) -> None:
    """The holder of the key is decided on, recorded and counted as if nobody else were there."""
    key = await world.key(usd(100))
    for number in range(PER_KEY.burst + 10):
        await world.ask(key[:-32] + "a" * 32, 1, f"run-{number}")
    before = len(await world.events())
    allowed = await world.spend(key, 60, "mine")
    refused = await world.ask(key, 60, "too much")
    assert (allowed.allowed, refused.reason) == (True, "cap_exceeded")
    kinds = [event.fields["kind"] for event in (await world.events())[before:]]
    assert kinds == ["decision", "settlement", "decision"]


async def test_what_the_sidecar_refuses_by_itself_is_bounded_too(world: World) -> None:
    """Those under a key share its limit; those under keys that do not exist share one."""
    key = await world.key(usd(100), account="shop")
    mine = replace(BADLY_FORMED, vault_key_id=key_id(key))
    for _ in range(PER_KEY.burst // 100 + 1):
        await world.server.settler.record_refusals([mine] * 100)
        await world.server.settler.record_refusals(
            [replace(BADLY_FORMED, vault_key_id=f"{'b' * 11}{c}") for c in "abcde" * 20]
        )
    await world.server.settler.record_counted_strangers()
    for account in ("shop", "default"):
        found = reasons(await world.events(account, kind="refusal"))
        assert found == {"parameter_invalid": PER_KEY.burst, "refusals_not_recorded": 1}


async def test_a_revoked_key_can_fill_nothing(world: World) -> None:
    """Who holds it still is a stranger; what is known of it is refused as before."""
    key = await world.key(usd(100))
    await world.server.administration.revoke_key(key_id(key))
    for number in range(PER_KEY.burst + 3):
        assert (await world.ask(key, 1, f"run-{number}")).reason == "vault_key_revoked"
    found = reasons(await world.events(vault_key_id=key_id(key)))
    assert found["vault_key_revoked"] == PER_KEY.burst


async def test_what_was_counted_is_not_lost_when_it_cannot_be_recorded(world: World) -> None:
    """The next time tells all of it."""
    strangers = Strangers(world.now, per_key=Rate(0, DAY))
    for _ in range(5):
        assert not strangers.are_recorded("default", "")
    counted = strangers.take_counted()
    assert counted == {"default": 5}
    strangers.put_back(counted)
    assert not strangers.are_recorded("default", "")
    assert strangers.take_counted() == {"default": 6}


@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from([-DAY, 0, 1, SECOND, 60 * SECOND])),
        max_size=200,
    )
)
def test_no_order_of_arrivals_is_recorded_faster_than_the_rates(arrivals: list[tuple[str, int]]) -> None:
    """Neither of one key nor of all, also when the clock jumps back; every other one is counted."""
    now_ms = 0
    per_key, overall = Rate(3, 10 * SECOND), Rate(8, SECOND)
    strangers = Strangers(lambda: now_ms, per_key=per_key, overall=overall)
    recorded: Counter[str] = Counter()
    forward_ms = 0
    for key, step_ms in arrivals:
        now_ms += step_ms
        forward_ms += max(0, step_ms)
        recorded[key] += strangers.are_recorded("default", key)
    for rate, count in [(per_key, max(recorded.values(), default=0)), (overall, recorded.total())]:
        assert count <= rate.burst + forward_ms / rate.one_per_ms
    assert recorded.total() + strangers.take_counted().total() == len(arrivals)


def test_the_limits_are_those_that_are_documented() -> None:
    """docs/audit.md names them."""
    said = (REPOSITORY / "docs" / "audit.md").read_text()
    for rate in (PER_KEY, OVERALL):
        assert f"{rate.burst:,} at once and then one every {rate.one_per_ms // SECOND} s" in said
