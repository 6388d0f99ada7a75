"""The official Stripe SDKs, unchanged, with nothing but their address set: names, repeats, refusals.

`connect` opens each of them in turn. What they do with Stripe's objects is in
`tests/test_stripe_sdk_flows.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from spendgate.v1 import policy_pb2
from tests.conftest import Connect
from tests.relay import Relay
from tests.sdks import SdkError
from tests.stack import STRIPE_KEY, Stack, VaultKey, cap

# The SDK uses httpx, for its async calls, in a way that httpx wants changed.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw:DeprecationWarning")

CHARGE: stripe.params.ChargeCreateParams = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


@pytest.fixture(autouse=True)
def module_settings(stack: Stack) -> Iterator[None]:
    """The SDK's module-wide settings, as a program would set them, put back afterwards."""
    before = (stripe.api_key, stripe.api_base)
    stripe.api_base = stack.origin()
    yield
    stripe.api_key, stripe.api_base = before


# As programs in Python are written


def test_charge_intent_and_refund_with_the_module(stack: Stack) -> None:
    """Module style: a charge, an intent confirmed at once, and a refund of the rest."""
    key = stack.key()
    stripe.api_key = key.text
    charge = stripe.Charge.create(**CHARGE)
    intent = stripe.PaymentIntent.create(
        amount=1000,
        currency="usd",
        payment_method="pm_card_visa",
        confirm=True,
        automatic_payment_methods={"enabled": True, "allow_redirects": "never"},
    )
    refund = stripe.Refund.create(charge=charge.id)
    assert (charge.status, intent.status, refund.amount) == ("succeeded", "succeeded", 1900)
    assert [one.id for one in stripe.Charge.list(limit=1).auto_paging_iter()][-1] == charge.id
    stack.settled(key, 1900 + 1000 + 1900)


def test_the_client_with_a_run_pays_once(stack: Stack) -> None:
    """StripeClient sends a new random key with every call; within a run that names nothing."""
    key = stack.key()
    client = stack.sdk(key)
    options: stripe.RequestOptions = {"headers": {"Spendgate-Run-Id": "run-1"}}
    first = client.v1.charges.create(CHARGE, options)
    again = client.v1.charges.create(CHARGE, options)
    assert first.id == again.id
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


def test_the_field_that_the_client_puts_into_the_body_names_the_effect(stack: Stack) -> None:
    """idempotency_key among the parameters reaches the sidecar as a form field, and never Stripe."""
    client = stack.sdk(stack.key())
    named = {**CHARGE, "idempotency_key": "order-7"}
    ids = {client.v1.charges.create(named).id for _ in range(2)}  # type: ignore[arg-type]
    assert len(ids) == 1
    assert "idempotency_key" not in stack.simulator.posts()[0]["parameters"]


async def test_the_client_works_asynchronously(stack: Stack) -> None:
    """Async calls go the same way."""
    http = stripe.HTTPXClient()
    client = stack.sdk(stack.key(), http)
    charge = await client.v1.charges.create_async(CHARGE)
    assert (await client.v1.charges.retrieve_async(charge.id)).id == charge.id
    await http.close_async()


# Names and repeats, with every SDK


def test_a_run_in_a_header_pays_once(stack: Stack, connect: Connect) -> None:
    """SDKs make up a new key for every call; the run's name, sent along as a header, names the effect."""
    key = stack.key()
    sdk = connect(key)
    ids = {sdk.call("charges.create", CHARGE, run="run-1")["id"] for _ in range(2)}
    assert len(ids) == 1
    assert len(stack.simulator.executed()) == 1
    assert {event.run_id for event in stack.events(key, decision="allow")} == {"run-1"}
    stack.settled(key, 1900)


def test_steps_in_a_header_tell_two_wanted_charges_apart(stack: Stack, connect: Connect) -> None:
    """Each step of a run is made once."""
    key = stack.key()
    sdk = connect(key)
    ids = [
        sdk.call("charges.create", CHARGE, run="run-1", step=step)["id"]
        for step in ("first", "second", "first")
    ]
    assert ids[0] == ids[2] != ids[1]
    stack.settled(key, 3800)


def test_without_a_run_every_call_is_an_effect_of_its_own(stack: Stack, connect: Connect) -> None:
    """The key that an SDK makes up for a call names that call."""
    key = stack.key()
    sdk = connect(key)
    assert sdk.call("charges.create", CHARGE)["id"] != sdk.call("charges.create", CHARGE)["id"]
    stack.settled(key, 3800)


def test_a_key_among_the_options_pays_once(stack: Stack, connect: Connect) -> None:
    """A program's own key keeps its meaning."""
    sdk = connect(stack.key())
    assert len({sdk.call("charges.create", CHARGE, key="order-7")["id"] for _ in range(2)}) == 1
    assert len(stack.simulator.executed()) == 1


# Lost answers, with every SDK


def test_an_answer_lost_before_the_sidecar_is_one_charge(stack: Stack, connect: Connect) -> None:
    """Stripe's answer is lost: an error that no SDK retries, and the program's repeat finds the charge."""
    key = stack.key()
    stack.simulator.fault("drop_reply", match={"path": "/v1/charges"})
    with Relay(stack.origin(root=True)) as relay:
        sdk = connect(key, relay.origin)
        with pytest.raises(SdkError) as lost:
            sdk.call("charges.create", CHARGE, key="mine")
        assert (lost.value.kind, lost.value.status) == ("APIError", 504)
        assert (lost.value.code, lost.value.spendgate["retryable"]) == ("outcome_unknown", True)
        assert len(relay.passed) == 1
        assert sdk.call("charges.create", CHARGE, key="mine")["status"] == "succeeded"
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


def test_a_connection_that_stripe_drops_is_one_charge(stack: Stack, connect: Connect) -> None:
    """Stripe hangs up without an answer and did nothing; nobody can tell, and the repeat is safe."""
    key = stack.key()
    stack.simulator.fault("refuse", match={"path": "/v1/charges"})
    sdk = connect(key)
    with pytest.raises(SdkError) as lost:
        sdk.call("charges.create", CHARGE, run="run-1")
    assert (lost.value.kind, lost.value.code) == ("APIError", "outcome_unknown")
    assert sdk.call("charges.create", CHARGE, run="run-1")["status"] == "succeeded"
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


def test_an_answer_lost_behind_the_sidecar_is_repeated_by_the_sdk(stack: Stack, connect: Connect) -> None:
    """The connection to the sidecar breaks: the SDK tries again by itself, and there is one charge."""
    key = stack.key()
    with Relay(stack.origin(root=True)) as relay:
        relay.lose = 1
        charge = connect(key, relay.origin).call("charges.create", CHARGE)
        assert relay.passed == ["POST /v1/charges"] * 2
    assert (charge["status"], len(stack.simulator.executed())) == ("succeeded", 1)
    assert [event.duplicate for event in stack.events(key, decision="allow")] == [False, True]
    stack.settled(key, 1900)


def test_an_error_of_stripe_is_repeated_by_the_sdk(stack: Stack, connect: Connect) -> None:
    """A 500 that Stripe gave before it did anything: the SDK tries again under the same upstream key."""
    key = stack.key()
    stack.simulator.fault("error_before", match={"path": "/v1/charges"})
    assert connect(key).call("charges.create", CHARGE)["status"] == "succeeded"
    assert len({post["idempotency_key"] for post in stack.simulator.posts()}) == 1
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


# Refusals, with every SDK: the right class, and one attempt

INTENT = {"amount": 1900, "currency": "usd"}
METER = {"event_name": "used", "payload": {"stripe_customer_id": "cus_1", "value": "7"}}
RULE = policy_pb2.ParameterRule(parameter="destination")

REFUSALS: dict[str, tuple[dict[str, Any], str, dict[str, Any], tuple[str, int, str]]] = {
    "cap": (
        {"caps": [cap(1000)]},
        *("charges.create", CHARGE),
        ("RateLimitError", 429, "spend_cap_exceeded"),
    ),
    "cap of an intent": (
        {"caps": [cap(1000)]},
        *("payment_intents.create", INTENT),
        ("RateLimitError", 429, "spend_cap_exceeded"),
    ),
    "endpoint": (
        {"allow": ["POST /v1/charges"]},
        *("refunds.create", {"charge": "ch_1"}),
        ("PermissionError", 403, "endpoint_not_allowed"),
    ),
    "currency": (
        {},
        *("charges.create", {**CHARGE, "currency": "eur"}),
        ("PermissionError", 403, "currency_not_allowed"),
    ),
    "parameter": (
        {"parameter_rules": [RULE]},
        *("charges.create", {**CHARGE, "destination": {"account": "acct_1"}}),
        ("PermissionError", 403, "parameter_not_allowed"),
    ),
    "no price": (
        {},
        *("billing.meter_events.create", METER),
        ("InvalidRequestError", 400, "amount_unknown"),
    ),
    "amount": (
        {},
        *("charges.create", {**CHARGE, "amount": "10.5"}),
        ("InvalidRequestError", 400, "parameter_invalid_integer"),
    ),
    "name too long": (
        {},
        *("charges.create", {**CHARGE, "idempotency_key": "x" * 256}),
        ("InvalidRequestError", 400, "parameter_invalid"),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_raises_the_right_class_once(stack: Stack, connect: Connect, refusal: str) -> None:
    """Class, status and code, exactly one request, and nothing at Stripe."""
    policy, method, params, expected = REFUSALS[refusal]
    policy = dict(policy)
    key = stack.key(*policy.pop("allow", ()), **policy)
    with Relay(stack.origin(root=True)) as relay:
        with pytest.raises(SdkError) as refused:
            connect(key, relay.origin).call(method, params)
        assert len(relay.passed) == 1
    assert (refused.value.kind, refused.value.status, refused.value.code) == expected
    assert refused.value.spendgate["reason"]
    assert stack.simulator.posts() == []


def test_a_refusal_says_what_would_be_allowed(stack: Stack, connect: Connect) -> None:
    """What is left, when it resets, and which endpoints may be called, for the program to read."""
    sdk = connect(stack.key("POST /v1/charges", caps=[cap(1000)]))
    with pytest.raises(SdkError) as over:
        sdk.call("charges.create", CHARGE)
    assert (over.value.spendgate["remaining"], over.value.spendgate["cap"]) == (1000, "usd/day")
    assert over.value.spendgate["resets_at"].endswith("T00:00:00Z")
    with pytest.raises(SdkError) as forbidden:
        sdk.call("refunds.create", {"charge": "ch_1"})
    assert forbidden.value.spendgate["allowed_endpoints"] == ["POST /v1/charges"]


def test_a_revoked_key_raises_authentication_error_once(stack: Stack, connect: Connect) -> None:
    """From the very next call on."""
    key = stack.key()
    with Relay(stack.origin(root=True)) as relay:
        sdk = connect(key, relay.origin)
        sdk.call("charges.create", CHARGE)
        stack.revoke(key)
        with pytest.raises(SdkError) as refused:
            sdk.call("charges.create", CHARGE)
        assert len(relay.passed) == 2
    assert (refused.value.kind, refused.value.status) == ("AuthenticationError", 401)
    assert refused.value.code == "vault_key_invalid"
    assert len(stack.simulator.posts()) == 1


def test_a_raw_stripe_key_raises_authentication_error(stack: Stack, connect: Connect) -> None:
    """A program that kept its own key is told why that is refused."""
    with pytest.raises(SdkError, match="raw Stripe key") as refused:
        connect(VaultKey(STRIPE_KEY, "")).call("charges.create", CHARGE)
    assert (refused.value.kind, refused.value.spendgate["reason"]) == (
        "AuthenticationError",
        "raw_vendor_key",
    )


def test_a_reused_name_raises_idempotency_error_once(stack: Stack, connect: Connect) -> None:
    """Other parameters under one name are refused as Stripe would, and nothing is forwarded."""
    key = stack.key()
    with Relay(stack.origin(root=True)) as relay:
        sdk = connect(key, relay.origin)
        sdk.call("charges.create", CHARGE, key="mine")
        with pytest.raises(SdkError) as refused:
            sdk.call("charges.create", {**CHARGE, "amount": 2000}, key="mine")
        assert len(relay.passed) == 2
    assert (refused.value.kind, refused.value.status) == ("IdempotencyError", 400)
    assert refused.value.code == "idempotency_key_reused"
    assert len(stack.simulator.posts()) == 1


def test_a_declined_card_raises_card_error(stack: Stack, connect: Connect) -> None:
    """Stripe's own refusals come through as they are."""
    key = stack.key()
    with pytest.raises(SdkError) as declined:
        connect(key).call("charges.create", {**CHARGE, "source": "tok_chargeDeclined"})
    assert (declined.value.kind, declined.value.status) == ("CardError", 402)
    assert declined.value.code == "card_declined"
    stack.settled(key, 0)


def test_no_decision_raises_api_error_once(stack: Stack, connect: Connect) -> None:
    """While the policy server hangs: 503 that no SDK retries, and nothing at Stripe."""
    key = stack.key()
    server = stack.policy_servers[0]
    with Relay(stack.origin(root=True)) as relay:
        sdk = connect(key, relay.origin)
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(SdkError) as refused:
                sdk.call("charges.create", CHARGE)
        finally:
            server.signal(signal.SIGCONT)
        assert len(relay.passed) == 1
    assert (refused.value.kind, refused.value.status) == ("APIError", 503)
    assert refused.value.code == "policy_unavailable"
    assert stack.simulator.posts() == []
