"""The official Stripe SDK for Python, unchanged, with nothing but its address set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from tests.stack import Stack, VaultKey, cap

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


def attempts(stack: Stack, key: VaultKey) -> int:
    """How often the sidecar was asked, as its audit trail has it."""
    return len([event for event in stack.events(key) if event.decision])


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


def test_a_retry_of_the_sdk_after_a_lost_reply_is_one_charge(stack: Stack) -> None:
    """The reply is lost, the program repeats with the SDK's own key, and Stripe charges once."""
    key = stack.key()
    client = stack.sdk(key)
    stack.simulator.fault("drop_reply")
    with pytest.raises(stripe.APIError) as lost:
        client.v1.charges.create(CHARGE, {"idempotency_key": "mine"})
    assert lost.value.http_status == 504
    assert client.v1.charges.create(CHARGE, {"idempotency_key": "mine"}).status == "succeeded"
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


def test_a_forbidden_endpoint_raises_permission_error_once(stack: Stack) -> None:
    """403: PermissionError, one attempt, and what is allowed."""
    key = stack.key("POST /v1/charges")
    with pytest.raises(stripe.PermissionError) as refused:
        stack.sdk(key).v1.refunds.create({"charge": "ch_1"})
    assert refused.value.http_status == 403
    assert refused.value.error is not None
    assert refused.value.error.code == "endpoint_not_allowed"
    body = refused.value.json_body
    assert body is not None
    assert body["error"]["spendgate"]["allowed_endpoints"] == ["POST /v1/charges"]
    assert attempts(stack, key) == 1


def test_a_reached_cap_raises_rate_limit_error_once(stack: Stack) -> None:
    """429: RateLimitError, one attempt, and what is left."""
    key = stack.key(caps=[cap(1000)])
    with pytest.raises(stripe.RateLimitError) as refused:
        stack.sdk(key).v1.charges.create(CHARGE)
    assert refused.value.error is not None
    assert refused.value.error.code == "spend_cap_exceeded"
    assert refused.value.request_id is not None
    assert attempts(stack, key) == 1
    assert stack.simulator.posts() == []


def test_a_revoked_key_raises_authentication_error_once(stack: Stack) -> None:
    """401: AuthenticationError from the very next call on, one attempt."""
    key = stack.key()
    client = stack.sdk(key)
    client.v1.charges.create(CHARGE)
    stack.revoke(key)
    with pytest.raises(stripe.AuthenticationError):
        client.v1.charges.create(CHARGE)
    assert attempts(stack, key) == 2


def test_a_reused_name_raises_idempotency_error_once(stack: Stack) -> None:
    """400 with type idempotency_error: IdempotencyError, one attempt, nothing forwarded."""
    key = stack.key()
    client = stack.sdk(key)
    client.v1.charges.create(CHARGE, {"idempotency_key": "mine"})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.charges.create({**CHARGE, "amount": 2000}, {"idempotency_key": "mine"})
    assert attempts(stack, key) == 2
    assert len(stack.simulator.posts()) == 1


def test_a_malformed_amount_raises_invalid_request_error(stack: Stack) -> None:
    """400: InvalidRequestError with code and parameter."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stack.sdk(stack.key()).v1.charges.create({**CHARGE, "amount": "10.5"})  # type: ignore[typeddict-item]
    assert (refused.value.code, refused.value.param) == ("parameter_invalid_integer", "amount")


def test_a_declined_card_raises_card_error(stack: Stack) -> None:
    """Stripe's own refusals come through as they are."""
    key = stack.key()
    with pytest.raises(stripe.CardError) as declined:
        stack.sdk(key).v1.charges.create({**CHARGE, "source": "tok_chargeDeclined"})
    assert declined.value.code == "card_declined"
    stack.settled(key, 0)
