"""Explaining says what authorizing then does, by which rule, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server.core import messages
from policy_server.core.errors import FieldInvalid, SpendgateError, VaultKeyNotFound
from policy_server.core.policy import ParameterRule, PolicyMode, RefundRule
from policy_server.core.types import (
    Amount,
    DenyReason,
    ExaminedRule,
    Explanation,
    Outcome,
    RuleVerdict,
    SpendCall,
    Verdict,
)
from policy_server.core.window import Window
from tests.world import CHARGES, DAY, HOUR, World, calls, key_id, usd

REFUNDS = "POST /v1/refunds"
READ = "GET /v1/charges"
UNKNOWN_KEY = f"vk_{'a' * 12}_{'a' * 32}"


async def explain(world: World, call: SpendCall, by_id: str = "") -> Explanation:
    """Ask what would be decided; the store is as it was."""
    before = await world.dump()
    explained = await world.server.explainer.explain(call, by_id)
    assert await world.dump() == before
    return explained


def outcome(verdict: Verdict) -> tuple[Any, ...]:
    """What a caller acts on."""
    return (
        *(verdict.allowed, verdict.reason, verdict.rule, verdict.shadow_reason, verdict.duplicate),
        *(verdict.replay, verdict.effect_name, verdict.message, verdict.policy_version, verdict.retry_at_ms),
        *(verdict.vault_key_id, verdict.asked, verdict.allowed_endpoints),
    )


def broken(rules: tuple[ExaminedRule, ...]) -> list[tuple[DenyReason, str]]:
    """Which rules are broken."""
    return [(one.reason, one.rule) for one in rules if one.verdict is RuleVerdict.BROKEN]


def check_rules(explained: Explanation, *, shadow: bool) -> None:
    """The rules lead to the answer: the broken one decides, and none behind it is looked at."""
    verdict, rules = explained.verdict, explained.rules
    verdicts = [one.verdict for one in rules]
    if verdict.allowed and not shadow:
        assert RuleVerdict.BROKEN not in verdicts
    if not verdict.allowed:
        reason, rule = broken(rules)[-1]
        assert reason is verdict.reason
        assert rule in {verdict.rule, ""}
        last = max(i for i, one in enumerate(verdicts) if one is RuleVerdict.BROKEN)
        assert set(verdicts[last + 1 :]) <= {RuleVerdict.NOT_REACHED}
        assert shadow or verdicts.count(RuleVerdict.BROKEN) == 1
    elif verdict.shadow_reason:
        assert broken(rules)[0][0] is verdict.shadow_reason


async def revoked(world: World, key: str) -> bool:
    """Whether the key was ended."""
    return (await world.server.administration.get_key(key_id(key))).revoked_at_ms is not None


POLICIES = st.fixed_dictionaries(
    {
        "allow": st.sampled_from([("* /v1/*",), (CHARGES, "GET /v1/*")]),
        "currencies": st.sampled_from([(), ("USD",), ("EUR",)]),
        "parameter_rules": st.sampled_from([(), (ParameterRule("customer", ("cus_1",)),)]),
        "mode": st.sampled_from([PolicyMode.ENFORCE, PolicyMode.ENFORCE, PolicyMode.SHADOW]),
        "unpriced": st.sampled_from([(), (CHARGES,)]),
        "refunds": st.sampled_from(RefundRule),
        "repeated_refusals_max": st.sampled_from([0, 2, 10]),
        "budgets": st.sampled_from([(), ("team",), ("gone",)]),
        "vendor_accounts": st.sampled_from([(), ("acct_1",)]),
    }
)
CAPS = st.lists(
    st.sampled_from(
        [
            *(usd(60, Window.CALL), usd(90, Window.RUN), usd(100), usd(150, Window.TOTAL)),
            *(calls(3, Window.RUN), calls(5, Window.HOUR), usd(80, endpoints=(CHARGES,))),
        ]
    ),
    unique=True,
    max_size=4,
)
CALLS = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from([CHARGES, CHARGES, CHARGES, REFUNDS, READ]),
        "amount": st.sampled_from([None, *(Amount(n, "USD") for n in (0, 1, 40, 61)), Amount(5, "EUR")]),
        "run_id": st.sampled_from(["a", "a", "b", ""]),
        "step": st.sampled_from(["", "1", "2"]),
        "idempotency_key": st.sampled_from(["", "", "k"]),
        "object_id": st.sampled_from(["", "", "ch_1"]),
        "refunded_object_id": st.sampled_from(["", "", "ch_1"]),
        "vendor_account": st.sampled_from(["", "", "acct_1"]),
        "parameters": st.sampled_from([{}, {"customer": "cus_1"}, {"customer": "cus_2"}]),
        "moves_money": st.booleans(),
        "unpriced": st.sampled_from([False, False, True]),
    }
)
MEANWHILE = st.sampled_from(["", "", "", "settle", "hour", "day", "freeze", "unfreeze", "revoke", "tighten"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=POLICIES, caps=CAPS, steps=st.lists(st.tuples(MEANWHILE, CALLS), min_size=1, max_size=10))
async def test_explaining_says_what_authorizing_then_does(
    world: World, policy: dict[str, Any], caps: list[Any], steps: list[tuple[str, dict[str, Any]]]
) -> None:
    """Whatever the policy, whatever was counted before: decision, reason, rule, message, and what is left."""
    await world.begin_anew()
    administration = world.server.administration
    for budget in ("team", "gone"):
        await administration.set_budget("", budget, [usd(120, Window.TOTAL)])
    key = await world.key(*caps, **policy)
    await administration.delete_budget("", "gone")
    held: list[Verdict] = []
    for meanwhile, asked in steps:
        match meanwhile:
            case "settle" if held:
                await world.settle(held.pop(), outcome=Outcome.SUCCEEDED)
            case "hour" | "day":
                world.now_ms += HOUR if meanwhile == "hour" else DAY
            case "freeze":
                await administration.freeze("", "an incident")
            case "unfreeze":
                await administration.unfreeze("")
            case "revoke":
                await administration.revoke_key(key_id(key))
            case "tighten" if "gone" not in policy["budgets"] and not await revoked(world, key):
                await world.change(key, *caps, calls(1, Window.DAY), **policy)
        call = SpendCall(vault_key=key, **asked)
        try:
            explained = await explain(world, call)
        except SpendgateError as error:
            with pytest.raises(type(error)):
                await world.server.decide(call)
            continue
        by_id = await world.server.explainer.explain(SpendCall(vault_key="", **asked), key_id(key))
        assert by_id == explained
        done = await world.server.decide(call)
        foreseen = explained.verdict
        if done.reason and done.message == messages.run_frozen(done.reason):
            # Asking counts no refusal, so it does not foresee the one that freezes its run.
            foreseen = replace(foreseen, message=done.message, retry_at_ms=None)
        assert outcome(foreseen) == outcome(done)
        check_rules(explained, shadow=policy["mode"] is PolicyMode.SHADOW)
        if done.allowed and not done.duplicate:
            after = {one.rule: one.remaining for one in done.caps}
            assert {one.cap.rule: one.remaining_after for one in explained.rules if one.cap} == after
            if done.authorization_id:
                held.append(done)


async def test_it_reads_no_memory(world: World) -> None:
    """A server that has judged by an old policy explains by the new one."""
    other = world.second_server()
    key = await world.key(usd(100))
    assert (await world.ask(key, 1, server=other)).allowed
    await world.change(key, usd(100), allow=(REFUNDS,))
    explained = await other.explainer.explain(SpendCall(key, CHARGES, Amount(1, "USD"), "next"), "")
    assert explained.verdict.reason is DenyReason.ENDPOINT_NOT_ALLOWED


async def test_every_rule_is_shown_in_order(world: World) -> None:
    """What is passed, what decides, and what is not looked at any more."""
    key = await world.key(
        *(usd(60, Window.CALL), usd(50, Window.RUN), usd(100), calls(9, Window.DAY)),
        parameter_rules=(ParameterRule("customer", ("cus_1",)),),
        allow=(CHARGES, "GET /v1/*"),
    )
    await world.spend(key, 30, "before")
    call = SpendCall(key, CHARGES, Amount(40, "USD"), "run")
    allowed = await explain(world, call)
    assert [(str(one.reason), one.rule, one.needed) for one in allowed.rules] == [
        *(("vault_key_unknown", "", 0), ("vault_key_revoked", "", 0), ("vault_key_expired", "", 0)),
        *(("account_frozen", "", 0), ("run_frozen", "", 0), ("endpoint_not_allowed", CHARGES, 0)),
        *(("vendor_account_not_allowed", "", 0), ("currency_not_allowed", "USD", 0)),
        *(("parameter_not_allowed", "customer", 0), ("run_id_required", "", 0)),
        *(("idempotency_mismatch", "", 0), ("effect_too_old", "", 0), ("amount_unknown", "", 0)),
        *(("cap_exceeded", "usd/call", 0), ("cap_exceeded", "usd/run", 40)),
        *(("cap_exceeded", "usd/day", 40), ("cap_exceeded", "calls/day", 1)),
    ]
    assert {one.verdict for one in allowed.rules} == {RuleVerdict.PASSED}
    assert [one.cap.remaining for one in allowed.rules if one.cap] == [50, 70, 8]
    over = await explain(world, SpendCall(key, CHARGES, Amount(51, "USD"), "run"))
    assert broken(over.rules) == [(DenyReason.CAP_EXCEEDED, "usd/run")]
    assert [one.rule for one in over.rules if one.verdict is RuleVerdict.NOT_REACHED] == [
        "usd/day",
        "calls/day",
    ]
    elsewhere = await explain(world, SpendCall(key, REFUNDS, Amount(1, "USD"), "run"))
    assert broken(elsewhere.rules) == [(DenyReason.ENDPOINT_NOT_ALLOWED, "")]
    assert [one.cap.remaining for one in elsewhere.rules if one.cap] == [50, 70, 8]


async def test_an_unknown_key(world: World) -> None:
    """By its secret it is refused as a call would be; by its id it is an error."""
    await world.key(usd(1))
    call = SpendCall(UNKNOWN_KEY, CHARGES, Amount(1, "USD"), "run")
    explained = await explain(world, call)
    assert broken(explained.rules) == [(DenyReason.VAULT_KEY_UNKNOWN, "")]
    for unknown in ("a" * 12, "nonsense"):
        with pytest.raises(VaultKeyNotFound):
            await world.server.explainer.explain(SpendCall("", CHARGES, None, "run"), unknown)
    for key, by_id in ((UNKNOWN_KEY, "a" * 12), ("", "")):
        with pytest.raises(FieldInvalid):
            await world.server.explainer.explain(SpendCall(key, CHARGES, None, "run"), by_id)
