"""Decisions: their order, caps to the cent, repeats of one effect, and changes that act at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_server.core.effects import name_effect, upstream_key
from policy_server.core.errors import FieldInvalid, SpendgateError
from policy_server.core.policy import EffectNaming, ParameterRule
from policy_server.core.types import (
    MAX_MINOR_UNITS,
    Amount,
    DenyReason,
    Outcome,
    Replay,
    SpendCall,
    Verdict,
)
from policy_server.core.window import Window
from tests.world import (
    CHARGES,
    DAY,
    HOLD_TTL_MS,
    HOUR,
    MINUTE,
    NOON,
    World,
    calls,
    key_id,
    moment,
    usd,
)

ORDER = [
    *("vault_key_unknown", "vault_key_revoked", "vault_key_expired", "account_frozen"),
    *("endpoint_not_allowed", "vendor_account_not_allowed", "currency_not_allowed"),
    *("parameter_not_allowed", "run_id_required"),
    *("idempotency_mismatch", "usd/call", "usd/run", "usd/day", "team: usd/total"),
]


@pytest.mark.parametrize("first", range(len(ORDER)), ids=ORDER)
async def test_of_several_reasons_the_first_in_the_documented_order_is_given(
    world: World, first: int
) -> None:
    """Key, account, endpoint, its account, currency, parameters, run, idempotency, then the caps."""
    wrong = set(ORDER[first:])
    admin = world.server.administration
    await admin.set_budget("", "team", [usd(50, Window.TOTAL)])
    key = await world.key(usd(1000))
    if "idempotency_mismatch" in wrong:
        await world.ask(key, 1, idempotency_key="effect")
    elsewhere = "acct_1" if "vendor_account_not_allowed" in wrong else ""
    limits = {
        "usd/day": usd(49 if "usd/day" in wrong else 1000),
        "usd/run": usd(48 if "usd/run" in wrong else 1000, Window.RUN),
        "usd/call": usd(47 if "usd/call" in wrong else 1000, Window.CALL),
    }
    await world.change(
        key,
        *limits.values(),
        allow=["POST /v1/refunds" if "endpoint_not_allowed" in wrong else CHARGES],
        currencies=("EUR",) if "currency_not_allowed" in wrong else (),
        parameter_rules=(ParameterRule("customer", ("cus_1",), required="parameter_not_allowed" in wrong),),
        expires_at_ms=world.now_ms if "vault_key_expired" in wrong else None,
        budgets=("team",),
    )
    if "account_frozen" in wrong:
        await admin.freeze("", "an incident")
    if "vault_key_revoked" in wrong:
        await admin.revoke_key(key_id(key))
    if "vault_key_unknown" in wrong:
        key = key[:-1] + ("a" if key[-1] != "a" else "b")

    verdict = await world.ask(
        key,
        100,
        run="" if "run_id_required" in wrong else "run",
        idempotency_key="effect",
        vendor_account=elsewhere,
    )

    assert not verdict.allowed
    assert verdict.message
    if ORDER[first] in list(DenyReason):
        assert verdict.reason == ORDER[first]
    else:
        assert (verdict.reason, verdict.rule) == (DenyReason.CAP_EXCEEDED, ORDER[first])


async def test_an_unknown_amount_is_allowed_only_as_a_duplicate(world: World) -> None:
    """Money of which nobody knows how much never moves; idempotency comes first, caps later."""
    key = await world.key(usd(1000), calls(1, Window.DAY))
    call: dict[str, Any] = {"moves_money": True, "fingerprint": "f"}
    assert (await world.ask(key, None, **call)).reason is DenyReason.AMOUNT_UNKNOWN
    assert (await world.ask(key, 100, **call)).allowed
    assert (await world.ask(key, None, **call)).duplicate
    assert (
        await world.ask(key, None, **call | {"fingerprint": "g"})
    ).reason is DenyReason.IDEMPOTENCY_MISMATCH
    assert (await world.ask(key, None, "other", **call)).reason is DenyReason.AMOUNT_UNKNOWN


async def test_a_call_without_a_price_is_recognised_when_it_is_repeated(world: World) -> None:
    """It is named as money is, also by a policy that does not allow it any more; an amount contradicts it."""
    key = await world.key(usd(100), unpriced=(CHARGES,))
    first = await world.ask(key, unpriced=True)
    assert (first.allowed, first.duplicate, first.effect_name) == (True, False, f"run:{CHARGES}")
    await world.change(key, usd(100))
    assert (await world.ask(key, unpriced=True)).duplicate
    assert (await world.ask(key, run="other", unpriced=True)).reason is DenyReason.AMOUNT_UNKNOWN
    with pytest.raises(FieldInvalid, match="amount"):
        await world.ask(key, 1, unpriced=True)
    with pytest.raises(FieldInvalid, match="read"):
        await world.ask(key, endpoint="GET /v1/charges", unpriced=True)


async def test_the_four_arguments_suffice(world: World) -> None:
    """Vault key, endpoint, amount and run are a whole question, and its repeat is recognised."""
    key = await world.key(usd(1000))
    first = await world.server.decide(SpendCall(key, CHARGES, Amount(600, "USD"), "run"))
    assert (first.allowed, first.attempt, first.duplicate) == (True, 1, False)
    assert first.upstream_key.startswith("run:POST-/v1/charges~")
    assert first.expires_at_ms == NOON + HOLD_TTL_MS
    again = await world.server.decide(SpendCall(key, CHARGES, Amount(600, "USD"), "run"))
    assert (again.allowed, again.duplicate, again.replay) == (True, True, Replay.JOIN)
    other = await world.server.decide(SpendCall(key, CHARGES, Amount(601, "USD"), "run"))
    assert other.reason is DenyReason.IDEMPOTENCY_MISMATCH
    assert await world.count(key) == (0, 600)


async def test_a_cap_may_be_used_up_to_the_cent_and_no_further(world: World) -> None:
    """Reaching the limit exactly is allowed; one unit more is refused, never cut down to what is left."""
    key = await world.key(usd(10_000))
    await world.spend(key, 9_500)
    over = await world.ask(key, 1_000, "over")
    assert (over.reason, over.rule) == (DenyReason.CAP_EXCEEDED, "usd/day")
    assert "500 of 10000 left" in over.message
    assert over.caps[0].resets_at_ms == moment("2031-03-13T00:00")
    assert (await world.ask(key, 500, "rest")).allowed
    assert (await world.ask(key, 1, "more")).reason is DenyReason.CAP_EXCEEDED
    assert await world.count(key) == (9_500, 500)


async def test_big_then_small_amounts_sum_exactly(world: World) -> None:
    """Counts stay exact up to the largest number: nothing is rounded on the way through the scripts."""
    key = await world.key(usd(MAX_MINOR_UNITS))
    await world.spend(key, MAX_MINOR_UNITS - 2, "big")
    await world.spend(key, 1, "small")
    assert await world.count(key) == (MAX_MINOR_UNITS - 1, 0)
    assert (await world.ask(key, 2, "two")).reason is DenyReason.CAP_EXCEEDED
    assert (await world.ask(key, 1, "one")).allowed


async def test_a_refused_call_counts_nothing_and_a_raised_cap_works_at_once(world: World) -> None:
    """The same call that was refused is decided afresh, and allowed once there is room."""
    key = await world.key(usd(100), calls(5, Window.DAY))
    for _ in range(3):
        assert not (await world.ask(key, 101)).allowed
    assert await world.counts(key) == {"usd/day": (0, 0), "calls/day": (0, 0)}
    await world.change(key, usd(101), calls(5, Window.DAY))
    verdict = await world.ask(key, 101)
    assert (verdict.allowed, verdict.attempt, verdict.duplicate) == (True, 1, False)


async def test_several_caps_hold_all_or_none(world: World) -> None:
    """A call that one cap refuses leaves nothing in the others, of the key or of its budgets."""
    await world.server.administration.set_budget("", "team", [usd(150, Window.TOTAL), calls(9, Window.DAY)])
    key = await world.key(
        usd(1000), usd(1000, Window.MONTH), usd(120, Window.RUN), budgets=("team",), account=""
    )
    assert (await world.ask(key, 100, "a")).allowed
    before = await world.dump()
    assert (await world.ask(key, 100, "b")).rule == "team: usd/total"
    after = await world.dump()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "spendgate:{default}:audit",
        "spendgate:{default}:sequence",
        f"spendgate:{{default}}:refusals:{key_id(key)}:b",
    }
    assert await world.counts(key, "a") == {
        "usd/run": (0, 100),
        "usd/day": (0, 100),
        "usd/month": (0, 100),
        "team: usd/total": (0, 100),
        "team: calls/day": (1, 0),
    }


async def test_a_cap_per_call_limits_each_call_by_itself(world: World) -> None:
    """It counts nothing: any number of calls may reach it."""
    key = await world.key(usd(100, Window.CALL))
    assert all([(await world.ask(key, 100, f"r{n}")).allowed for n in range(5)])
    over = await world.ask(key, 101, "over")
    assert (over.reason, over.rule) == (DenyReason.CAP_EXCEEDED, "usd/call")
    assert "ask for at most 100" in over.message


async def test_a_cap_per_run_counts_each_run_apart(world: World) -> None:
    """One run can't use up what another may spend, and a run's count does not reset at midnight."""
    key = await world.key(usd(100, Window.RUN))
    await world.spend(key, 100, "a", step="1")
    world.now_ms += 2 * DAY
    assert not (await world.ask(key, 1, "a", step="2")).allowed
    assert (await world.ask(key, 100, "b")).allowed


async def test_caps_on_calls_count_reads_and_what_was_let_through(world: World) -> None:
    """A call that was let through stays counted when it fails; a duplicate is not counted."""
    key = await world.key(usd(1000), calls(3, Window.DAY))
    assert (await world.ask(key, endpoint="GET /v1/charges")).allowed
    verdict = await world.ask(key, 10)
    assert (await world.ask(key, 10)).duplicate
    await world.settle(verdict, outcome=Outcome.FAILED)
    assert await world.counts(key) == {"usd/day": (0, 0), "calls/day": (2, 0)}
    assert (await world.ask(key, endpoint="GET /v1/charges", run="")).allowed
    over = await world.ask(key, endpoint="GET /v1/charges")
    assert (over.reason, over.rule) == (DenyReason.CAP_EXCEEDED, "calls/day")


async def test_money_moves_only_in_a_currency_that_a_cap_counts(world: World) -> None:
    """A yen is never taken for a dollar, and a currency without a cap is refused."""
    key = await world.key(usd(1000), replace(usd(500), currency="JPY"))
    assert (await world.ask(key, Amount(500, "JPY"), "yen")).allowed
    assert not (await world.ask(key, Amount(1, "JPY"), "more")).allowed
    assert (await world.ask(key, 1000, "dollars")).allowed
    euros = await world.ask(key, Amount(1, "EUR"), "euros")
    assert (euros.reason, euros.rule) == (DenyReason.CURRENCY_NOT_ALLOWED, "EUR")
    only_refunds = await world.key(usd(1000, endpoints=("POST /v1/refunds",)))
    assert (await world.ask(only_refunds, 1)).reason is DenyReason.CURRENCY_NOT_ALLOWED


async def test_a_write_without_money_is_recognised_by_its_parameters(world: World) -> None:
    """Two customers made in one run are two effects, one customer asked for twice is one."""
    key = await world.key(usd(0))
    endpoint = "POST /v1/customers"
    first = await world.ask(key, endpoint=endpoint, fingerprint="a" * 64)
    second = await world.ask(key, endpoint=endpoint, fingerprint="b" * 64)
    again = await world.ask(key, endpoint=endpoint, fingerprint="a" * 64)
    assert (first.duplicate, second.duplicate, again.duplicate) == (False, False, True)
    assert first.authorization_id == again.authorization_id != second.authorization_id


@pytest.mark.parametrize("endpoint", ["GET /v1/charges", "HEAD /v1/charges"])
async def test_reads_hold_nothing(world: World, endpoint: str) -> None:
    """A read has no effect to name and nothing to settle, and money on a read is a mistake."""
    key = await world.key(usd(1000))
    for _ in range(2):
        verdict = await world.ask(key, endpoint=endpoint, run="")
        assert (verdict.allowed, verdict.duplicate, verdict.authorization_id) == (True, False, "")
        assert verdict.upstream_key == ""
    for money in ({"amount": 100}, {"moves_money": True}):
        with pytest.raises(FieldInvalid, match="read"):
            await world.ask(key, endpoint=endpoint, **money)
    assert await world.count(key) == (0, 0)
    assert not await world.redis.keys("*hold:*")


# Repeats of one effect.

TABLE: list[tuple[str, str, bool, tuple[str, str]]] = [
    # state, age, same fingerprint, (reason, or "" and replay)
    ("held", "young", True, ("", "join")),
    ("held", "young", False, ("idempotency_mismatch", "")),
    ("settled", "young", True, ("", "forward")),
    ("settled", "young", False, ("idempotency_mismatch", "")),
    ("settled", "old", True, ("", "fetch")),
    ("settled", "old", False, ("idempotency_mismatch", "")),
    ("settled without object", "young", True, ("", "forward")),
    ("settled without object", "old", True, ("effect_too_old", "")),
    ("unknown", "young", True, ("", "forward")),
    ("unknown", "young", False, ("idempotency_mismatch", "")),
    ("unknown", "old", True, ("effect_too_old", "")),
    ("unknown", "old", False, ("idempotency_mismatch", "")),
    ("overdue", "young", True, ("", "forward")),
    ("overdue", "young", False, ("idempotency_mismatch", "")),
    ("overdue", "old", True, ("effect_too_old", "")),
    ("released", "young", True, ("", "new")),
    ("released", "young", False, ("", "new")),
    ("released", "old", True, ("", "new")),
    ("refused", "young", True, ("", "new")),
    ("refused", "young", False, ("", "new")),
]


@pytest.mark.parametrize(("state", "age", "same", "wanted"), TABLE)
async def test_the_table_of_repeats(
    world: World, state: str, age: str, same: bool, wanted: tuple[str, str]
) -> None:
    """A repeat of a known effect is a duplicate or refused, and never touches a cap again."""
    key = await world.key(usd(99 if state == "refused" else 1000))
    first = await world.ask(key, 100, fingerprint="one", hold_ttl_ms=HOUR)
    if state == "refused":
        await world.change(key, usd(1000))
    elif state in {"settled", "settled without object"}:
        await world.settle(first, 100, object_id="ch_1" if state == "settled" else "")
    elif state == "unknown":
        await world.settle(first, outcome=Outcome.UNKNOWN)
    elif state == "released":
        await world.settle(first, outcome=Outcome.FAILED)
    if state == "overdue":
        world.now_ms += HOUR
    # To the millisecond: just inside and just outside the window in which the vendor replays.
    if age == "old":
        world.now_ms = NOON + 23 * HOUR
    elif state not in {"held", "overdue"}:
        world.now_ms = NOON + 23 * HOUR - 1
    counted = (await world.counts(key))["usd/day"]

    verdict = await world.ask(key, 100, fingerprint="one" if same else "two")

    reason, replay = wanted
    assert (verdict.reason or "") == reason
    if replay == "new":
        assert (verdict.duplicate, verdict.replay) == (False, None)
        assert verdict.attempt == first.attempt + 1
        assert verdict.upstream_key != first.upstream_key
        assert (await world.counts(key))["usd/day"] == (counted[0], counted[1] + 100)
    else:
        assert (await world.counts(key))["usd/day"] == counted
    if replay not in {"", "new"}:
        assert (verdict.duplicate, verdict.replay) == (True, replay)
        assert verdict.upstream_key == first.upstream_key
        assert verdict.object_id == ("ch_1" if state == "settled" else "")
    assert verdict.authorization_id == first.authorization_id or state == "refused"


async def test_the_same_call_for_another_account_is_another_request(world: World) -> None:
    """A charge on one connected account is never taken for a repeat of that on another."""
    key = await world.key(usd(1000), vendor_accounts=("acct_1", "acct_2"))
    assert (await world.ask(key, 100, vendor_account="acct_1")).allowed
    assert (await world.ask(key, 100, vendor_account="acct_1")).duplicate
    for other in ("acct_2", ""):
        refused = await world.ask(key, 100, vendor_account=other)
        assert refused.reason is DenyReason.IDEMPOTENCY_MISMATCH


async def test_effects_of_two_vault_keys_are_two(world: World) -> None:
    """The same idempotency key under another vault key is another effect with another upstream key."""
    one, other = await world.key(usd(100)), await world.key(usd(100))
    first = await world.ask(one, 100, idempotency_key="k")
    second = await world.ask(other, 100, idempotency_key="k")
    assert (first.allowed, second.allowed, second.duplicate) == (True, True, False)
    assert first.upstream_key != second.upstream_key


async def test_the_same_request_sent_again_gets_its_first_answer(world: World) -> None:
    """After a lost reply the caller holds once, and is not sent to wait for itself."""
    key = await world.key(usd(1000))
    first = await world.ask(key, 100, request_id="r1")
    recorded = len(await world.events())
    again = await world.ask(key, 100, request_id="r1")
    assert replace(again, caps=()) == replace(first, caps=())
    assert not again.duplicate
    assert len(await world.events()) == recorded
    assert (await world.ask(key, 100, request_id="r2")).replay is Replay.JOIN
    assert await world.count(key) == (0, 100)


async def test_a_request_id_never_covers_another_amount(world: World) -> None:
    """A reused request id does not turn a hold of 100 into leave to spend 900."""
    key = await world.key(usd(1000))
    await world.ask(key, 100, request_id="r1")
    verdict = await world.ask(key, 900, request_id="r1")
    assert verdict.reason is DenyReason.IDEMPOTENCY_MISMATCH


async def test_concurrent_duplicates_hold_once(world: World) -> None:
    """Of many callers with one effect exactly one is told to go ahead; the others join it."""
    key = await world.key(usd(10_000))
    verdicts = await asyncio.gather(*(world.ask(key, 100) for _ in range(20)))
    assert sorted(verdict.duplicate for verdict in verdicts) == [False] + [True] * 19
    assert await world.count(key) == (0, 100)


async def test_validate_only_writes_nothing(world: World) -> None:
    """A dry run gives the answer the call would get, and leaves every key of Redis as it was."""
    key = await world.key(usd(100), calls(5, Window.RUN))
    await world.ask(key, 60, "taken", hold_ttl_ms=MINUTE)
    world.now_ms += HOUR
    before = await world.dump()
    answers: list[Verdict] = [
        await world.ask(*question, validate_only=True)
        for question in (
            (key, 40),
            (key, 41),
            (key, 60, "taken"),
            (key, 1, "taken"),
            (key, None, "taken", "GET /v1/charges"),
            (key[:-32] + "a" * 32, 1),
            ("nonsense", 1),
        )
    ]
    assert [answer.reason or answer.replay or "allowed" for answer in answers] == [
        *("allowed", "cap_exceeded", "forward", "idempotency_mismatch", "allowed"),
        *("vault_key_unknown", "vault_key_unknown"),
    ]
    assert answers[0].upstream_key == ""
    assert await world.dump() == before
    assert (await world.ask(key, 40)).allowed


# How an effect gets its name.


def _named(call: SpendCall, *, by_parameters: bool = False) -> str:
    return name_effect(call, "abcdefghijkl", by_parameters=by_parameters).name


@pytest.mark.parametrize(
    ("more", "by_parameters", "name"),
    [
        ({"idempotency_key": "k", "step": "s"}, False, "k"),
        ({"step": "s"}, False, "run:s"),
        ({"step": "s"}, True, "run:s"),
        ({}, False, "run:POST /v1/charges"),
        ({"amount": None, "moves_money": True}, False, "run:POST /v1/charges"),
        ({"fingerprint": "f" * 64}, True, f"run:POST /v1/charges:{'f' * 16}"),
        ({"amount": None, "fingerprint": "f" * 64}, False, f"run:POST /v1/charges:{'f' * 16}"),
    ],
)
def test_the_order_in_which_an_effect_is_named(more: Any, by_parameters: bool, name: str) -> None:
    """Idempotency key, run and step, run and endpoint for money, run and parameters for the rest."""
    call = replace(SpendCall("", CHARGES, Amount(5, "USD"), "run"), **more)
    assert _named(call, by_parameters=by_parameters) == name


async def test_an_effect_needs_a_name(world: World) -> None:
    """Without run and idempotency key a repeat could not be recognised, so nothing is decided."""
    working, ended = await world.key(usd(100)), await world.key(usd(100))
    await world.server.administration.revoke_key(key_id(ended))
    for key in (working, ended, f"vk_{'a' * 12}_{'a' * 32}"):
        with pytest.raises(FieldInvalid, match="repeat"):
            await world.ask(key, 5, "", step="s")
    assert not await world.events(kind="decision")


_TEXT = st.text(st.sampled_from("ab:~ /é€\U0001f600"), max_size=40)


@given(st.lists(st.tuples(_TEXT, _TEXT, _TEXT), min_size=2, max_size=2, unique=True))
def test_no_choice_of_names_makes_two_effects_one(names: list[tuple[str, str, str]]) -> None:
    """Run, step and key are hashed apart: 'a' and 'b:c' never meet 'a:b' and 'c'."""
    effects = []
    for run, step, key in names:
        call = SpendCall("", CHARGES, Amount(5, "USD"), run or "run", key, "", step)
        effects.append((name_effect(call, "k", by_parameters=False), key or (run or "run", step)))
    (one, one_parts), (other, other_parts) = effects
    assert (one.authorization_id == other.authorization_id) == (one_parts == other_parts)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=255), st.integers(1, 2**31 - 1))
def test_an_upstream_key_is_a_header_that_the_vendor_takes(name: str, attempt: int) -> None:
    """It is printable ASCII of at most 255 characters, and each attempt has its own."""
    effect = name_effect(SpendCall("", CHARGES, idempotency_key=name), "abcdefghijkl", by_parameters=False)
    sent = upstream_key(effect, attempt)
    assert len(sent) <= 255
    assert all("!" <= character <= "~" for character in sent)
    assert sent != upstream_key(effect, attempt - 1)


async def test_steps_make_two_wanted_charges_of_one_run(world: World) -> None:
    """Identical charges with different steps are both made, and both counted."""
    key = await world.key(usd(1000))
    assert not (await world.ask(key, 100, step="1")).duplicate
    assert not (await world.ask(key, 100, step="2")).duplicate
    assert (await world.ask(key, 100, step="1")).duplicate
    assert await world.count(key) == (0, 200)


async def test_by_parameters_a_run_may_pay_for_different_things(world: World) -> None:
    """Each set of parameters is its own effect, and each is still made once."""
    key = await world.key(usd(1000), effects=EffectNaming.BY_PARAMETERS)
    for fingerprint in ("one", "two"):
        assert not (await world.ask(key, 100, fingerprint=fingerprint)).duplicate
        assert (await world.ask(key, 100, fingerprint=fingerprint)).duplicate
    assert await world.count(key) == (0, 200)


# Windows.


async def test_a_cap_resets_at_its_window_and_not_a_millisecond_earlier(world: World) -> None:
    """At its limit a key is refused at 23:59:59.999 and allowed at 00:00:00.000 of its zone."""
    zones = ("UTC", "Asia/Tokyo", "Europe/Berlin")
    keys = {zone: await world.key(usd(100, time_zone=zone)) for zone in zones}
    for zone, key in keys.items():
        for midnight in ("2031-03-31T00:00", "2031-10-27T00:00", "2032-03-01T00:00"):
            world.now_ms = moment(midnight, zone) - HOUR
            await world.spend(key, 100, f"fill {midnight}")
            world.now_ms = moment(midnight, zone) - 1
            assert not (await world.ask(key, 1, f"early {midnight}")).allowed
            world.now_ms += 1
            assert (await world.ask(key, 1, f"new day {midnight}")).allowed


async def test_a_day_under_steady_traffic_still_resets(world: World) -> None:
    """Calls around the clock do not keep a window open."""
    key = await world.key(usd(24))
    for hour in range(48):
        world.now_ms = NOON + hour * HOUR
        await world.spend(key, 1, f"hour {hour}")
        assert (await world.count(key))[0] == (hour + 1 if hour < 12 else (hour - 12) % 24 + 1)


async def test_a_hold_counts_in_the_day_in_which_it_was_taken(world: World) -> None:
    """Taken before midnight and settled after it, it counts in its own day and only there."""
    key = await world.key(usd(100))
    world.now_ms = moment("2031-03-13T00:00") - MINUTE
    verdict = await world.ask(key, 100)
    world.now_ms += 2 * MINUTE
    await world.settle(verdict, 80)
    assert await world.count(key) == (0, 0)
    world.now_ms -= 2 * MINUTE
    assert await world.count(key) == (80, 0)


@pytest.mark.parametrize("behind_ms", [-3 * MINUTE, 3 * MINUTE])
async def test_the_clock_of_the_store_decides(world: World, behind_ms: int) -> None:
    """Servers whose clocks differ count in the same window."""
    skewed = world.second_server(skew_ms=-behind_ms)
    key = await world.key(usd(100))
    midnight = moment("2031-03-13T00:00")
    for now_ms, allowed in ((midnight - 1, True), (midnight, True), (midnight + 1, False)):
        world.now_ms = now_ms
        verdict = await world.ask(key, 100, f"run {now_ms}", server=skewed)
        assert verdict.allowed is allowed
        assert verdict.caps[0].resets_at_ms == (midnight if now_ms < midnight else midnight + DAY)


# Changes act on the very next call, also on servers that know the key already.


async def test_changes_act_on_the_very_next_call_of_every_server(world: World) -> None:
    """A lowered cap, a freeze, its end, a changed budget and a revoke are never missed by a cache."""
    servers = [world.server, world.second_server()]
    admin = world.server.administration
    await admin.set_budget("", "team", [usd(1000)])
    key = await world.key(usd(1000), budgets=("team",))
    asked = 0

    async def reasons(amount: int = 100) -> list[DenyReason | None]:
        nonlocal asked
        asked += 1
        return [
            (await world.ask(key, amount, f"{asked} {n}", server=server)).reason
            for n, server in enumerate(servers)
        ]

    assert await reasons() == [None, None]
    await world.change(key, usd(299), budgets=("team",))
    assert await reasons() == [DenyReason.CAP_EXCEEDED] * 2
    await world.change(key, usd(1000), budgets=("team",))
    await admin.set_budget("", "team", [usd(299)])
    assert await reasons() == [DenyReason.CAP_EXCEEDED] * 2
    await admin.set_budget("", "team", [usd(1000)])
    assert await reasons() == [None, None]
    await admin.freeze("", "an incident")
    assert await reasons() == [DenyReason.ACCOUNT_FROZEN] * 2
    await admin.unfreeze("")
    assert await reasons() == [None, None]
    await world.change(key, usd(1000), budgets=("team",), expires_at_ms=world.now_ms + 1)
    assert await reasons() == [None, None]
    world.now_ms += 1
    assert await reasons() == [DenyReason.VAULT_KEY_EXPIRED] * 2
    await admin.revoke_key(key_id(key))
    assert await reasons() == [DenyReason.VAULT_KEY_REVOKED] * 2


async def test_a_freeze_stops_its_account_only(world: World) -> None:
    """Keys, budgets and freezes of one account do not reach another."""
    mine, theirs = await world.key(usd(100), account="mine"), await world.key(usd(100), account="theirs")
    await world.server.administration.freeze("mine", "an incident")
    assert (await world.ask(mine, 1)).reason is DenyReason.ACCOUNT_FROZEN
    assert "an incident" in (await world.ask(mine, 1)).message
    assert (await world.ask(theirs, 1)).allowed


async def test_a_batch_decides_each_call_by_itself_and_in_order(world: World) -> None:
    """One bad call in a batch changes nothing for the others, and earlier calls count first."""
    key = await world.key(usd(100))
    results = await world.server.authorizer.authorize(
        [
            SpendCall(key, CHARGES, Amount(60, "USD"), "a"),
            SpendCall(key, CHARGES, Amount(60, "USD"), "b"),
            SpendCall(key, CHARGES, Amount(60, "USD")),
            SpendCall("vk_?", CHARGES, Amount(1, "USD"), "c"),
            SpendCall(key, CHARGES, Amount(60, "USD"), "a"),
            SpendCall(key, CHARGES, Amount(40, "USD"), "d"),
        ]
    )
    seen = [
        type(result) if isinstance(result, SpendgateError) else (result.allowed, result.duplicate)
        for result in results
    ]
    assert seen == [
        *((True, False), (False, False), FieldInvalid, (False, False), (True, True), (True, False)),
    ]
    assert await world.server.authorizer.authorize([]) == []


async def test_a_total_never_resets(world: World) -> None:
    """A cap over the key's whole life holds as long as the key lives, however long it rests."""
    key = await world.key(usd(100, Window.TOTAL))
    await world.spend(key, 100)
    ((name, _),) = [item for item in (await world.dump()).items() if ":count:" in item[0]]
    assert await world.redis.pttl(name) == -1


async def test_a_run_is_remembered_from_its_last_call_on(world: World) -> None:
    """A run that goes on for longer than counts are kept does not get its cap anew."""
    key = await world.key(usd(100, Window.RUN))
    await world.spend(key, 60, step="1")
    (name,) = await world.redis.keys("*:count:*")
    kept_ms = await world.redis.pttl(name)
    world.now_ms += 10 * DAY
    await world.spend(key, 1, step="2")
    assert await world.redis.pttl(name) > kept_ms + 9 * DAY


async def test_a_refused_endpoint_is_told_what_is_allowed(world: World) -> None:
    """The answer names the endpoints that the key may call, and no other refusal does."""
    key = await world.key(usd(1), allow=(CHARGES, "GET /v1/*"))
    refused = await world.ask(key, 1, endpoint="POST /v1/transfers")
    assert (refused.reason, refused.allowed_endpoints) == (
        DenyReason.ENDPOINT_NOT_ALLOWED,
        (CHARGES, "GET /v1/*"),
    )
    assert (await world.ask(key, 2)).allowed_endpoints == ()
    assert refused.authorization_id == refused.upstream_key == ""
