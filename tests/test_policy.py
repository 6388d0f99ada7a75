"""What a policy says: endpoint patterns, caps, rules, and that no field is without effect."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from policy_server.core.errors import FieldInvalid
from policy_server.core.policy import (
    Cap,
    EffectNaming,
    EndpointPattern,
    ParameterRule,
    Policy,
    PolicyMode,
    PolicyView,
    RefundRule,
    check_caps,
)
from policy_server.core.ports import KeyRecord
from policy_server.core.types import MAX_MINOR_UNITS, Amount, DenyReason, VaultKeyState
from policy_server.core.window import Window
from policy_server.rpc import convert
from spendgate.v1 import amount_pb2, policy_pb2
from tests.world import CHARGES, DAY, NOON, World, calls, moment, usd


@pytest.mark.parametrize(
    ("pattern", "endpoint", "matches"),
    [
        ("POST /v1/charges", "POST /v1/charges", True),
        ("POST /v1/charges", "GET /v1/charges", False),
        ("POST /v1/charges", "POST /v1/charges/{charge}/refund", False),
        ("POST /v1/charges", "POST /v1/charges2", False),
        ("POST /v1/charges", "POST /v1/Charges", False),
        ("POST /v1/charges", "POST /v2/charges", False),
        ("POST /v1/charges", "XPOST /v1/charges", False),
        ("POST /v1/charges", "POST /v1/charges/", False),
        ("POST /v1/charges", "POST /v1/charges?expand=x", False),
        ("POST /v1.0/charges", "POST /v1x0/charges", False),
        ("POST /v1/charges/{charge}/refund", "POST /v1/charges/{charge}/refund", True),
        ("POST /v1/charges/{charge}/refund", "POST /v1/charges/ch_1/refund", True),
        ("POST /v1/charges/{charge}/refund", "POST /v1/charges/ch_1/x/refund", False),
        ("POST /v1/charges/{charge}/refund", "POST /v1/charges//refund", False),
        ("POST /v1/charges/*/refund", "POST /v1/charges/ch_1/refund", True),
        ("POST /v1/charges/*/refund", "POST /v1/charges/ch_1/capture", False),
        ("POST /v1/charges/{charge}", "POST /v1/charges", False),
        ("POST /v1/charges/{charge}", "POST /v1/charges/ch_1/refund", False),
        ("GET /v1/*", "GET /v1/charges", True),
        ("GET /v1/*", "GET /v1/charges/ch_1/refunds", True),
        ("GET /v1/*", "GET /v1/", False),
        ("GET /v1/*", "GET /v1", False),
        ("GET /v1/*", "GET /v1/charges/", False),
        ("GET /v1/*", "GET /v1//charges", False),
        ("GET /v1/*", "GET /v12/charges", False),
        ("GET /v1/*", "POST /v1/charges", False),
        ("* /v1/charges", "DELETE /v1/charges", True),
        ("* /v1/charges", "POST /v1/refunds", False),
        ("* /*", "PATCH /anything/at/all", True),
    ],
)
def test_an_endpoint_pattern_matches_whole_segments(pattern: str, endpoint: str, matches: bool) -> None:
    """A pattern lets exactly its endpoints pass: never a longer path, never a part of a segment."""
    assert EndpointPattern(pattern).matches(endpoint) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "POST", "/v1/charges", "POST v1/charges", "POST /", "POST  /v1/charges", "POST /v1/charges/"),
        *("post /v1/charges", "FETCH /v1/charges", "POST //charges", "POST /v1//charges", "POST /v1/char*"),
        *(
            "POST /v1/{charge",
            "POST /v1/{}",
            "POST /v1/%63harges",
            "POST /v1/charges?x=1",
            "POST /v1/charges\n",
        ),
        *("POST https://api.stripe.com/v1/charges", "** /v1/charges", "POST /v1/**", f"POST /{'a' * 256}"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    """A pattern that could mean something else than its author thinks never enters a policy."""
    with pytest.raises(FieldInvalid, match="must look like"):
        Policy(allow=(pattern,))
    with pytest.raises(FieldInvalid, match="must look like"):
        usd(1, endpoints=(pattern,))
    with pytest.raises(FieldInvalid, match="must look like"):
        ParameterRule("customer", endpoints=(pattern,))
    with pytest.raises(FieldInvalid, match="must look like"):
        Policy(allow=(CHARGES,), unpriced=(pattern,))


@pytest.mark.parametrize(
    ("cap", "identity"),
    [
        (usd(5), "usd/day"),
        (usd(6), "usd/day"),
        (calls(5, Window.RUN), "calls/run"),
        (usd(5, Window.WEEK, time_zone="Asia/Tokyo"), "usd/week in Asia/Tokyo"),
        (usd(5, Window.TOTAL, time_zone="Asia/Tokyo"), "usd/total"),
        (usd(5, endpoints=("POST /v1/b", "POST /v1/a")), "usd/day on POST /v1/a, POST /v1/b"),
    ],
)
def test_a_cap_is_named_by_everything_but_its_limit(cap: Cap, identity: str) -> None:
    """A changed limit keeps its count; a cap that counts something else has another name."""
    assert cap.id == identity


def test_two_caps_that_would_count_in_one_place_are_refused() -> None:
    """Of two limits on the same thing nobody can tell which one is meant."""
    with pytest.raises(FieldInvalid, match="twice"):
        Policy(allow=(CHARGES,), caps=(usd(5), usd(6)))
    with pytest.raises(FieldInvalid, match="twice"):
        check_caps([usd(5, endpoints=("GET /a", "GET /b")), usd(6, endpoints=("GET /b", "GET /a"))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: usd(-1),
        lambda: usd(MAX_MINOR_UNITS + 1),
        lambda: Cap(5, Window.DAY, "usd"),
        lambda: Cap(5, Window.DAY, "EURO"),
        lambda: calls(0, Window.DAY),
        lambda: calls(1, Window.CALL),
        lambda: usd(5, time_zone="Berlin"),
        lambda: ParameterRule(""),
        lambda: ParameterRule("customer", required=True),
        Policy,
        lambda: Policy(allow=(CHARGES,), currencies=("usd",)),
        lambda: Policy(allow=(CHARGES,), budgets=("team a",)),
        lambda: Policy(allow=(CHARGES,) * 201),
        lambda: Policy(allow=(CHARGES,), unpriced=(CHARGES,) * 51),
        lambda: Policy(allow=(CHARGES,), vendor_accounts=("",)),
        lambda: Policy(allow=(CHARGES,), vendor_accounts=("acct 1",)),
        lambda: Policy(allow=(CHARGES,), vendor_accounts=("acct_1",) * 201),
    ],
)
def test_a_policy_that_means_nothing_is_refused(make: Any) -> None:
    """What can't be obeyed is refused when it is set, not when money moves."""
    with pytest.raises(FieldInvalid):
        make()


@pytest.mark.parametrize(
    ("rule", "parameters", "broken"),
    [
        (ParameterRule("customer", ("cus_1", "cus_2")), {"customer": "cus_2"}, False),
        (ParameterRule("customer", ("cus_1",)), {"customer": "cus_2"}, True),
        (ParameterRule("customer", ("cus_1",)), {"customer": ""}, True),
        (ParameterRule("customer", ("cus_1",)), {}, False),
        (ParameterRule("customer", ("cus_1",), required=True), {}, True),
        (ParameterRule("application_fee_amount"), {}, False),
        (ParameterRule("application_fee_amount"), {"application_fee_amount": "5"}, True),
    ],
)
def test_a_parameter_rule(rule: ParameterRule, parameters: dict[str, str], broken: bool) -> None:
    """A rule lists the values a parameter may have; no value means it may not be sent."""
    assert rule.broken_by(parameters) is broken


def test_a_parameter_rule_without_endpoints_is_about_writes() -> None:
    """A required parameter does not keep the agent from reading, unless the rule says so."""
    everywhere = ParameterRule("customer", ("cus_1",), required=True)
    on_reads = ParameterRule("limit", ("10",), endpoints=("GET /v1/charges",))
    view = PolicyView(Policy(allow=("* /v1/*",), parameter_rules=(everywhere, on_reads)), {})
    assert view.terms("GET /v1/charges").rules == (on_reads,)
    assert view.terms(CHARGES).rules == (everywhere,)


EUROS = Amount(100, "EUR")

FLIPS: dict[str, tuple[tuple[Cap, ...], dict[str, Any], dict[str, Any], DenyReason]] = {
    # field: caps and policy that refuse, the call, the reason. Without the field the call is allowed.
    "allow": ((), {"allow": ("POST /v1/refunds",)}, {}, DenyReason.ENDPOINT_NOT_ALLOWED),
    "cap per call": ((usd(99, Window.CALL),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap per run": ((usd(99, Window.RUN),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap per hour": ((usd(99, Window.HOUR),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap per day in a zone": ((usd(99, time_zone="Asia/Tokyo"),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap per week": ((usd(99, Window.WEEK),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap per month": ((usd(99, Window.MONTH),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap in total": ((usd(99, Window.TOTAL),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap on an endpoint": ((usd(99, endpoints=(CHARGES,)),), {}, {}, DenyReason.CAP_EXCEEDED),
    "cap of nothing": ((usd(0, Window.WEEK),), {}, {}, DenyReason.CAP_EXCEEDED),
    "currencies": ((), {"currencies": ("EUR",)}, {}, DenyReason.CURRENCY_NOT_ALLOWED),
    "currency without a cap": ((), {}, {"amount": EUROS}, DenyReason.CURRENCY_NOT_ALLOWED),
    "parameter_rules": (
        (),
        {"parameter_rules": (ParameterRule("customer", ("cus_1",)),)},
        {"parameters": {"customer": "cus_2"}},
        DenyReason.PARAMETER_NOT_ALLOWED,
    ),
    "expire_time": ((), {"expires_at_ms": NOON}, {}, DenyReason.VAULT_KEY_EXPIRED),
    "run named nowhere": (
        (usd(1000, Window.RUN),),
        {},
        {"run": "", "idempotency_key": "k"},
        DenyReason.RUN_ID_REQUIRED,
    ),
}


@pytest.mark.parametrize("field", FLIPS)
async def test_every_policy_field_alone_flips_a_decision(world: World, field: str) -> None:
    """No field is accepted and then ignored."""
    caps, policy, call, reason = FLIPS[field]
    base = usd(10_000, Window.DAY)
    plain = await world.key(base)
    free = {**call, "amount": 100}
    assert (await world.ask(plain, **free)).allowed
    refusing = await world.key(base, *caps, **policy)
    verdict = await world.ask(refusing, **({"amount": 100} | call))
    assert (verdict.allowed, verdict.reason) == (False, reason)
    assert verdict.message


async def test_vendor_accounts_flip_a_decision(world: World) -> None:
    """A named account is allowed, counts with the others, and is on record; reads need it too."""
    plain = await world.key(usd(100))
    refused = await world.ask(plain, 60, vendor_account="acct_1")
    assert refused.reason is DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED
    key = await world.key(usd(100), vendor_accounts=("acct_1",))
    assert (await world.ask(key, 60, "a", vendor_account="acct_1")).allowed
    assert (await world.ask(key, 41, "b")).reason is DenyReason.CAP_EXCEEDED
    for endpoint in (CHARGES, "GET /v1/charges"):
        refused = await world.ask(key, endpoint=endpoint, vendor_account="acct_2")
        assert (refused.reason, refused.rule) == (DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED, "acct_2")
        assert "acct_2" in refused.message
    assert (await world.ask(key, endpoint="GET /v1/charges", vendor_account="acct_1")).allowed
    recorded = [event.fields.get("vendor_account", "") for event in await world.events(kind="decision")]
    assert recorded == ["acct_1", "acct_1", "", "acct_2", "acct_2", "acct_1"]


async def test_unpriced_flips_a_decision(world: World) -> None:
    """A call of unknown amount is refused unless its endpoint is named, and needs a cap that counts it."""
    wanted: dict[str, Any] = {"unpriced": True}
    plain = await world.key(usd(100))
    refused = await world.ask(plain, **wanted)
    assert refused.reason is DenyReason.AMOUNT_UNKNOWN
    assert CHARGES in refused.message
    elsewhere = await world.key(usd(100), unpriced=("POST /v1/refunds",))
    assert (await world.ask(elsewhere, **wanted)).reason is DenyReason.AMOUNT_UNKNOWN
    named = await world.key(usd(100), unpriced=("POST /v1/*",))
    assert (await world.ask(named, **wanted)).allowed
    assert (await world.ask(named, run="moves", moves_money=True)).reason is DenyReason.AMOUNT_UNKNOWN
    for caps, more in (
        ((), {}),
        ((calls(5, Window.DAY),), {}),
        ((usd(100, Window.CALL),), {}),
        ((usd(100, endpoints=("POST /v1/refunds",)),), {}),
        ((usd(100),), {"currencies": ("EUR",)}),
    ):
        key = await world.key(*caps, unpriced=(CHARGES,), **more)
        verdict = await world.ask(key, **wanted)
        assert verdict.reason is DenyReason.CURRENCY_NOT_ALLOWED
        assert "no cap on money" in verdict.message


async def test_a_call_without_a_price_needs_room_in_every_cap_on_money(world: World) -> None:
    """Also in those of other currencies, and in those on calls; a cap per call can't be asked."""
    euros = Cap(100, Window.RUN, "EUR")
    base = (usd(100), usd(0, Window.CALL), calls(2, Window.RUN))
    key = await world.key(*base, euros, unpriced=(CHARGES,))
    assert (await world.ask(key, run="", idempotency_key="k", unpriced=True)).reason is (
        DenyReason.RUN_ID_REQUIRED
    )
    assert (await world.ask(key, step="1", unpriced=True)).allowed
    filled = await world.key(usd(100), Cap(0, Window.RUN, "EUR"), unpriced=(CHARGES,))
    refused = await world.ask(filled, unpriced=True)
    assert (refused.reason, refused.rule) == (DenyReason.CAP_EXCEEDED, "eur/run")
    assert (await world.ask(key, step="2", unpriced=True)).allowed
    refused = await world.ask(key, step="3", unpriced=True)
    assert (refused.reason, refused.rule) == (DenyReason.CAP_EXCEEDED, "calls/run")


async def test_a_cap_on_calls_flips_a_decision(world: World) -> None:
    """The count of calls is limited as money is."""
    for window in (Window.RUN, Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH, Window.TOTAL):
        key = await world.key(calls(1, window))
        assert (await world.ask(key, step="1")).allowed
        verdict = await world.ask(key, step="2")
        assert (verdict.reason, verdict.rule) == (DenyReason.CAP_EXCEEDED, f"calls/{window}")


async def test_the_endpoints_of_a_cap_flip_a_decision(world: World) -> None:
    """A cap on some endpoints counts those and no others."""
    key = await world.key(usd(1000), usd(50, endpoints=("POST /v1/refunds",)))
    assert (await world.ask(key, 51)).allowed
    assert (await world.ask(key, 51, endpoint="POST /v1/refunds")).reason is DenyReason.CAP_EXCEEDED


async def test_the_time_zone_of_a_cap_flips_a_decision(world: World) -> None:
    """One moment after midnight in Tokyo a Tokyo day is new and a day in UTC is not."""
    tokyo = await world.key(usd(100, time_zone="Asia/Tokyo"))
    utc = await world.key(usd(100))
    for key in (tokyo, utc):
        await world.spend(key, 100)
    world.now_ms = moment("2031-03-13T00:00", "Asia/Tokyo")
    assert (await world.ask(tokyo, 100, "next")).allowed
    assert not (await world.ask(utc, 100, "next")).allowed


async def test_shadow_mode_flips_a_decision_and_says_so(world: World) -> None:
    """Shadow mode allows and counts, and tells what would have been refused, and by what."""
    shadow: dict[str, Any] = {"mode": PolicyMode.SHADOW}
    key = await world.key(usd(99), allow=(CHARGES,), **shadow)
    over = await world.ask(key, 100)
    assert (over.allowed, over.shadow_reason) == (True, DenyReason.CAP_EXCEEDED)
    assert await world.count(key) == (0, 100)
    elsewhere = await world.ask(key, None, endpoint=CHARGES, step="2", vendor_account="acct_1")
    assert (elsewhere.allowed, elsewhere.shadow_reason) == (True, DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED)
    side_door = await world.ask(key, 1, endpoint="POST /v1/refunds")
    assert (side_door.allowed, side_door.shadow_reason) == (True, DenyReason.ENDPOINT_NOT_ALLOWED)
    shadowed = [
        (event.fields["reason"], event.fields.get("rule", ""))
        for event in await world.events(kind="decision")
    ]
    assert shadowed == [
        ("cap_exceeded", "usd/day"),
        ("vendor_account_not_allowed", "acct_1"),
        ("endpoint_not_allowed", ""),
    ]


async def test_shadow_mode_never_lifts_what_keeps_money_safe(world: World) -> None:
    """Revoked keys, frozen accounts and reused effects are refused in shadow mode too."""
    key = await world.key(usd(99), mode=PolicyMode.SHADOW)
    await world.ask(key, 1)
    assert (await world.ask(key, 2)).reason is DenyReason.IDEMPOTENCY_MISMATCH
    await world.server.administration.freeze("", "audit")
    assert (await world.ask(key, 1, "new")).reason is DenyReason.ACCOUNT_FROZEN


async def test_effects_flips_a_decision(world: World) -> None:
    """By endpoint a second, other charge of a run is refused; by parameters it is its own effect."""
    by_endpoint = await world.key(usd(1000))
    by_parameters = await world.key(usd(1000), effects=EffectNaming.BY_PARAMETERS)
    for key in (by_endpoint, by_parameters):
        await world.ask(key, 100)
    assert (await world.ask(by_endpoint, 200)).reason is DenyReason.IDEMPOTENCY_MISMATCH
    assert (await world.ask(by_parameters, 200)).allowed


async def test_budgets_flip_a_decision(world: World) -> None:
    """A budget limits all its keys together, and a key whose budget is gone may do nothing."""
    await world.server.administration.set_budget("", "team", [usd(100)])
    one = await world.key(usd(1000), budgets=("team",))
    other = await world.key(usd(1000), budgets=("team",))
    assert (await world.ask(one, 60)).allowed
    refused = await world.ask(other, 60)
    assert (refused.reason, refused.rule) == (DenyReason.CAP_EXCEEDED, "team: usd/day")
    assert "team" in refused.message
    assert (await world.ask(other, 40)).allowed
    await world.server.administration.delete_budget("", "team")
    gone = await world.ask(one, 1, "new")
    assert (gone.allowed, gone.rule) == (False, "budget team")
    await world.server.administration.set_budget("", "team", [usd(100)])
    assert not (await world.ask(one, 1, "new")).allowed, "a budget that is made again keeps its count"


def _policy_message() -> policy_pb2.Policy:
    return policy_pb2.Policy(
        allow=[CHARGES],
        caps=[
            policy_pb2.Cap(
                amount=amount_pb2.Amount(minor_units=5, currency_code="USD"), window=policy_pb2.WINDOW_DAY
            )
        ],
        parameter_rules=[policy_pb2.ParameterRule(parameter="customer")],
        expire_time=Timestamp(seconds=1),
    )


@pytest.mark.parametrize(
    "part",
    [
        lambda policy: policy,
        lambda policy: policy.caps[0],
        lambda policy: policy.caps[0].amount,
        lambda policy: policy.parameter_rules[0],
        lambda policy: policy.expire_time,
    ],
)
def test_an_unknown_field_of_a_policy_is_refused(part: Any) -> None:
    """A policy of a newer client is refused as a whole, wherever the unknown field is."""
    policy = _policy_message()
    assert convert.policy(policy).allow == (CHARGES,)
    field_127 = b"\xfa\x07\x03new"
    part(policy).MergeFromString(field_127)
    with pytest.raises(FieldInvalid, match="older than the client"):
        convert.policy(policy)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 99},
        {"effects": 99},
        {"refunds": 99},
        {"caps": [policy_pb2.Cap(calls=1, window=99)]},  # type: ignore[arg-type]
        {"caps": [policy_pb2.Cap(calls=1)]},
        {"caps": [policy_pb2.Cap(window=policy_pb2.WINDOW_DAY)]},
        {"expire_time": Timestamp(seconds=10**15)},
    ],
)
def test_an_unknown_value_in_a_policy_is_refused(change: dict[str, Any]) -> None:
    """A mode, window or limit that this server does not know, or that is missing, is never guessed."""
    policy = _policy_message()
    for field in change:
        policy.ClearField(field)
    policy.MergeFrom(policy_pb2.Policy(**change))
    with pytest.raises(FieldInvalid):
        convert.policy(policy)


_PATTERNS = st.sampled_from([CHARGES, "GET /v1/*", "* /v1/refunds/{refund}", "DELETE /v1/customers/*"])
_CAPS = st.builds(
    Cap,
    st.integers(1, MAX_MINOR_UNITS),
    st.sampled_from(sorted(set(Window) - {Window.CALL})),
    st.sampled_from(["", "USD", "JPY"]),
    st.sampled_from(["UTC", "Asia/Tokyo"]),
    st.lists(_PATTERNS, max_size=2, unique=True).map(tuple),
)
_POLICIES = st.builds(
    Policy,
    allow=st.lists(_PATTERNS, min_size=1, max_size=4).map(lambda allow: (*allow, "* /v1/*")),
    caps=st.lists(_CAPS, max_size=5, unique_by=lambda cap: cap.id).map(tuple),
    currencies=st.lists(st.sampled_from(["USD", "EUR"]), unique=True).map(tuple),
    parameter_rules=st.lists(
        st.builds(
            ParameterRule,
            st.text(st.characters(codec="utf-8"), min_size=1),
            st.lists(st.text(st.characters(codec="utf-8")), min_size=1).map(tuple),
            st.booleans(),
            st.lists(_PATTERNS, max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    mode=st.sampled_from(PolicyMode),
    effects=st.sampled_from(EffectNaming),
    expires_at_ms=st.none() | st.integers(0, NOON + 1000 * DAY),
    budgets=st.lists(st.sampled_from(["team", "all.of_us-2"]), unique=True).map(tuple),
    refunds=st.sampled_from(RefundRule),
    unpriced=st.lists(_PATTERNS, max_size=2).map(tuple),
    vendor_accounts=st.lists(st.sampled_from(["acct_1", "acct_2/acct_3"]), unique=True).map(tuple),
)


@given(_POLICIES)
def test_a_policy_survives_the_store_and_the_wire(policy: Policy) -> None:
    """What is read back, from Redis or by an operator, is what was set."""
    assert Policy.from_json(policy.to_json()) == policy
    record = KeyRecord("abcdefghijkl", "default", "name", "hash", 1, policy, NOON)
    sent = convert.vault_key(record, VaultKeyState.ACTIVE).SerializeToString()
    assert (
        convert.policy(type(convert.vault_key(record, VaultKeyState.ACTIVE)).FromString(sent).policy)
        == policy
    )


@pytest.mark.parametrize(
    ("allow", "limited", "fits"),
    [
        ("POST /v1/charges", "POST /v1/charges", True),
        ("POST /v1/charges", "POST /v1/charge", False),
        ("POST /v1/*", "POST /v1/charges/{charge}/capture", True),
        ("GET /v1/*", "POST /v1/charges", False),
        ("POST /v1/charges/{charge}/capture", "* /v1/*", True),
        ("POST /v1/charges", "POST /v1/charges/{charge}", False),
    ],
)
def test_a_limit_on_what_nothing_allows_is_refused(allow: str, limited: str, fits: bool) -> None:
    """A typo in the endpoints of a cap or a rule is told, and never switches the limit off."""
    for limits in (
        {"caps": (usd(1, endpoints=(limited,)),)},
        {"parameter_rules": (ParameterRule("x", endpoints=(limited,)),)},
        {"unpriced": (limited,)},
    ):
        with nullcontext() if fits else pytest.raises(FieldInvalid, match="nothing in allow permits"):
            Policy(allow=(allow,), **limits)  # type: ignore[arg-type]
