"""A call that is refused again and again freezes its run for its key, until an operator lifts it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server.core.errors import RunNotFrozen
from policy_server.core.policy import REPEATED_REFUSALS_MAX, EffectNaming, Policy, PolicyMode
from policy_server.core.types import DenyReason, SpendCall, Verdict
from policy_server.core.vault_key import parse
from policy_server.store.ledger import REFUSALS_KEPT
from tests.world import CHARGES, HOUR, RETENTION_MS, World, key_id, usd

OTHER = "POST /v1/customers"


async def refused(world: World, key: str, times: int, run: str = "run", **call: Any) -> list[Verdict]:
    """Ask the same again and again; every answer is a refusal."""
    call = {"endpoint": "POST /v1/refunds", "amount": 1} | call
    verdicts = [await world.ask(key, run=run, **call) for _ in range(times)]
    assert not any(verdict.allowed for verdict in verdicts)
    return verdicts


async def frozen(world: World, key: str, run: str = "run") -> bool:
    """Whether nothing is allowed in the run any more; asking counts nothing."""
    verdict = await world.ask(key, None, run, endpoint="GET /v1/charges", validate_only=True)
    return verdict.reason is DenyReason.RUN_FROZEN


@pytest.fixture
async def key(world: World) -> str:
    """A key whose runs are frozen at the third refusal of one call."""
    return await world.key(usd(100), allow=(CHARGES, OTHER, "GET /v1/*"), repeated_refusals_max=3)


async def test_repeated_refusals_flip_a_decision(world: World) -> None:
    """The field alone does: what was allowed before is refused, reads too, in this run and for this key."""
    keys = [
        await world.key(usd(100), allow=(CHARGES, "GET /v1/*"), repeated_refusals_max=most) for most in (3, 0)
    ]
    for one in keys:
        told = await refused(world, one, 3)
        assert {verdict.reason for verdict in told} == {DenyReason.ENDPOINT_NOT_ALLOWED}
    bounded, free = keys
    for endpoint in (CHARGES, "GET /v1/charges"):
        verdict = await world.ask(bounded, None, endpoint=endpoint)
        assert (verdict.reason, verdict.rule) == (DenyReason.RUN_FROZEN, "endpoint_not_allowed")
        assert (await world.ask(free, None, endpoint=endpoint)).allowed
        assert (await world.ask(bounded, None, "another", endpoint=endpoint)).allowed
    events = [event.fields.get("detail", "") for event in await world.events(vault_key_id=key_id(bounded))]
    assert [text for text in events if "froze" in text] == [
        "froze the run: this call was refused 3 times in it"
    ]


async def test_the_refusal_that_freezes_says_so(world: World) -> None:
    """It keeps its reason, and no longer tells that a repeat can help."""
    key = await world.key(usd(100), allow=(CHARGES,), repeated_refusals_max=3)
    assert (await world.ask(key, 90, "before")).allowed
    *before, last = [await world.ask(key, 20, "run") for _ in range(3)]
    assert [told.reason for told in (*before, last)] == [DenyReason.CAP_EXCEEDED] * 3
    assert all(told.retry_at_ms and "frozen" not in told.message for told in before)
    assert last.retry_at_ms is None
    after = await world.ask(key, 20, "run")
    assert (after.reason, after.message) == (DenyReason.RUN_FROZEN, last.message)
    assert [told.run_frozen for told in (*before, last, after)] == [False, False, True, True]


async def test_ten_is_the_limit_unless_the_policy_says_another(world: World) -> None:
    """Also for policies that were stored before the field was there."""
    key = await world.key(usd(100), allow=(CHARGES, "GET /v1/*"))
    await refused(world, key, REPEATED_REFUSALS_MAX - 1)
    assert not await frozen(world, key)
    await refused(world, key, 1)
    assert await frozen(world, key)
    stored = (
        Policy(allow=(CHARGES,)).to_json().replace(f', "repeated_refusals_max": {REPEATED_REFUSALS_MAX}', "")
    )
    assert "repeated_refusals_max" not in stored
    assert Policy.from_json(stored).repeated_refusals_max == REPEATED_REFUSALS_MAX


async def test_a_model_that_asks_in_other_words_asks_the_same(world: World, key: str) -> None:
    """A call that moves money and has no name of its own is one effect in its run, whatever its amount."""
    for amount in (101, 102, 103):
        assert (await world.ask(key, amount)).reason is DenyReason.CAP_EXCEEDED
    assert await frozen(world, key)


@pytest.mark.parametrize(
    "calls",
    [
        [{"amount": 101, "step": step} for step in ("1", "2", "3")],
        [{"amount": 101, "idempotency_key": name} for name in ("1", "2", "3")],
    ],
)
async def test_a_new_name_makes_no_other_call_of_the_same(
    world: World, key: str, calls: list[dict[str, Any]]
) -> None:
    """Frameworks name each try of a model by a step of its own; the parameters say that it is the same."""
    for call in calls:
        assert (await world.ask(key, **call)).reason is DenyReason.CAP_EXCEEDED
    assert await frozen(world, key)


async def test_different_calls_count_apart(world: World, key: str) -> None:
    """Other steps with other parameters, other endpoints, other reasons, other runs, other keys."""
    for step in range(4):
        await refused(world, key, 2, amount=101 + step, endpoint=CHARGES, step=str(step))
    await refused(world, key, 2)
    await refused(world, key, 2, vendor_account="acct_1", amount=None, endpoint=OTHER)
    await refused(world, key, 2, amount=None, fingerprint="a")
    await refused(world, key, 2, amount=None, fingerprint="b")
    await refused(world, key, 2, "another")
    assert not await frozen(world, key)
    by_parameters = await world.key(
        usd(100), effects=EffectNaming.BY_PARAMETERS, repeated_refusals_max=2, allow=(CHARGES, "GET /v1/*")
    )
    for amount in (101, 102, 103):
        assert not (await world.ask(by_parameters, amount)).allowed
    assert not await frozen(world, by_parameters)


async def test_what_is_not_the_run_s_fault_does_not_count(world: World, key: str) -> None:
    """Questions, a frozen account, an ended key, a wrong secret, calls without a run, and allowed calls."""
    await refused(world, key, 5, validate_only=True)
    await world.server.administration.freeze("", "an incident")
    await refused(world, key, 5)
    await world.server.administration.unfreeze("")
    parsed = parse(key)
    assert parsed is not None
    wrong = f"vk_{parsed.key_id}_{'a' * 32}"
    assert {v.reason for v in await refused(world, wrong, 5)} == {DenyReason.VAULT_KEY_UNKNOWN}
    await refused(world, key, 5, "", idempotency_key="k")
    for _ in range(5):
        assert (await world.ask(key, 10)).allowed
    assert not await frozen(world, key)
    assert not await world.redis.keys("*refusals*")


async def test_an_operator_sees_and_lifts_it(world: World, key: str) -> None:
    """The list says which, since when and why; lifted, the run goes on and counts from nothing."""
    administration = world.server.administration
    await refused(world, key, 3)
    world.now_ms += 1
    await refused(world, key, 3, "run:2")
    found = await administration.frozen_runs("", 0, 10)
    assert [(one.vault_key_id, one.run_id, one.frozen_at_ms, one.reason, one.endpoint) for one in found] == [
        (key_id(key), "run:2", world.now_ms, "endpoint_not_allowed", "POST /v1/refunds"),
        (key_id(key), "run", world.now_ms - 1, "endpoint_not_allowed", "POST /v1/refunds"),
    ]
    await administration.unfreeze_run(key_id(key), "run")
    assert (await world.ask(key, 1)).allowed
    await refused(world, key, 2)
    assert not await frozen(world, key)
    assert await frozen(world, key, "run:2")
    assert [one.run_id for one in await administration.frozen_runs("", 0, 10)] == ["run:2"]
    with pytest.raises(RunNotFrozen):
        await administration.unfreeze_run(key_id(key), "run")
    (lifted,) = await world.events(kind="administration", run_id="run")
    assert (lifted.fields["vault_key_id"], lifted.fields["detail"]) == (
        key_id(key),
        "let the frozen run run go on",
    )


async def test_refusals_of_a_run_that_is_not_frozen_are_soon_forgotten(world: World, key: str) -> None:
    """Whoever names a new run in each call fills no store; a frozen run stays."""
    await refused(world, key, 1)
    (name,) = await world.redis.keys("*refusals*")
    begins_in = world.now_ms - time.time_ns() // 1_000_000
    assert await world.redis.pttl(name) <= begins_in + HOUR
    await refused(world, key, 2)
    assert await frozen(world, key)
    assert await world.redis.pttl(name) > begins_in + RETENTION_MS - HOUR


async def test_a_frozen_run_is_forgotten_after_the_retention(world: World, key: str) -> None:
    """As holds are: nothing grows for ever."""
    await refused(world, key, 3)
    ttl = await world.redis.pttl((await world.redis.keys("*refusals*"))[0])
    assert ttl > 0
    world.now_ms += RETENTION_MS
    assert not await frozen(world, key)
    await refused(world, key, 3, "later")
    assert [
        run for run, _ in await world.redis.zrange("spendgate:{default}:frozen-runs", 0, -1, withscores=True)
    ] == [f"{key_id(key)}:later"]


async def test_switching_it_off_lets_frozen_runs_go_on(world: World, key: str) -> None:
    """And switching it on again does not."""
    allow = (CHARGES, OTHER, "GET /v1/*")
    await refused(world, key, 3)
    await world.change(key, usd(100), allow=allow, repeated_refusals_max=0)
    assert (await world.ask(key, 1)).allowed
    await world.change(key, usd(100), allow=allow, repeated_refusals_max=100)
    assert await frozen(world, key)


async def test_shadow_mode_only_says_so(world: World) -> None:
    """What would have been refused is counted, and a run that would be frozen is told of."""
    key = await world.key(usd(100), allow=(CHARGES,), repeated_refusals_max=3, mode=PolicyMode.SHADOW)
    told = [await world.ask(key, None, endpoint=OTHER, step=str(n)) for n in range(4)]
    assert all(verdict.allowed for verdict in told)
    assert [str(verdict.shadow_reason) for verdict in told] == ["endpoint_not_allowed"] * 3 + ["run_frozen"]
    (found,) = await world.server.administration.frozen_runs("", 0, 10)
    assert found.reason == "endpoint_not_allowed"


async def test_a_run_remembers_a_bounded_number_of_different_refusals(world: World, key: str) -> None:
    """Further ones count together, so that no run can fill the store."""
    for number in range(REFUSALS_KEPT + 2):
        await refused(world, key, 1, amount=None, fingerprint=str(number))
    assert not await frozen(world, key)
    await refused(world, key, 1, amount=None, fingerprint="one more")
    assert await frozen(world, key)
    assert await world.redis.hlen((await world.redis.keys("*refusals*"))[0]) <= REFUSALS_KEPT + 3


async def test_servers_that_refuse_at_once_count_together(world: World, key: str) -> None:
    """Exactly the allowed number of refusals has its own reason; every later one finds the run frozen."""
    servers = [world.server, world.second_server()]
    call = SpendCall(key, "POST /v1/refunds", None, "run")
    answers = await asyncio.gather(*(servers[n % 2].decide(call) for n in range(20)))
    assert Counter(str(answer.reason) for answer in answers) == {"endpoint_not_allowed": 3, "run_frozen": 17}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.booleans()), max_size=25))
async def test_a_run_is_frozen_when_one_call_was_refused_too_often(
    world: World, asked: list[tuple[str, str, bool]]
) -> None:
    """Whatever comes in whatever order; a plain count says the same."""
    most = 3
    key = await world.key(usd(100), allow=("GET /v1/*",), repeated_refusals_max=most)
    counts: Counter[tuple[str, str]] = Counter()
    for run, fingerprint, allowed in asked:
        is_frozen = any(count >= most for (of, _), count in counts.items() if of == run)
        endpoint = "GET /v1/charges" if allowed else OTHER
        verdict = await world.ask(key, None, run, endpoint=endpoint, fingerprint=fingerprint)
        assert (verdict.reason is DenyReason.RUN_FROZEN) == is_frozen
        assert verdict.allowed == (allowed and not is_frozen)
        if not allowed and not is_frozen:
            counts[run, fingerprint] += 1
