"""What all who make or end payment intents share: opening one, its commitment, and telling its owner.

An intent that an invoice or a checkout session made belongs to that owner: the commitment is the owner's, and
the owner acts when the intent ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject
from stripe_simulator.events import record_event
from stripe_simulator.money import commit
from stripe_simulator.objects import (
    CANCELED,
    REQUIRES_CAPTURE,
    REQUIRES_CONFIRMATION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
    Details,
    PaymentIntent,
    PaymentMethod,
)

OwnerActs = Callable[[Call, PaymentIntent], None]

_OWNERS: dict[str, OwnerActs] = {}


def when_intent_changes(prefix: str, act: OwnerActs) -> None:
    """Let owners whose ids have this prefix know when an intent of theirs was paid or refused."""
    _OWNERS[prefix] = act


def tell_owner(call: Call, intent: PaymentIntent) -> None:
    act = _OWNERS.get(intent.owner.partition("_")[0])
    if act is not None:
        act(call, intent)


def keep_intent(call: Call, intent: PaymentIntent) -> PaymentIntent:
    """Give a new intent its id and keep it."""
    intent.id = call.new_id("pi")
    intent.owner = intent.owner or intent.id
    intent.client_secret = f"{intent.id}_secret_{secrets.token_hex(12)}"
    call.ledger.payment_intents.add(intent)
    record_event(call, "payment_intent.created", intent.json())
    track(call, intent)
    return intent


def open_intent(
    call: Call,
    *,
    owner: str,
    amount: int,
    currency: str,
    customer: str | None,
    method: PaymentMethod | None,
    capture_method: str = "automatic",
    metadata: dict[str, str] | None = None,
) -> PaymentIntent:
    """An intent made on behalf of its owner."""
    return keep_intent(
        call,
        PaymentIntent(
            id="",
            created=call.now,
            amount=amount,
            currency=currency,
            client_secret="",
            capture_method=capture_method,
            confirmation_method="automatic",
            customer=customer,
            method=method,
            details=Details(),
            metadata=metadata or {},
            automatic_payment_methods=None,
            payment_method_options={},
            setup_future_usage=None,
            status=REQUIRES_CONFIRMATION if method is not None else REQUIRES_PAYMENT_METHOD,
            owner=owner,
        ),
    )


def track(call: Call, intent: PaymentIntent) -> None:
    """Bring the intent's commitment up to date: an open one can be paid with its client secret alone."""
    if intent.owner != intent.id:
        return
    if intent.status in (SUCCEEDED, CANCELED):
        level = 0
    else:
        level = intent.amount_capturable if intent.status == REQUIRES_CAPTURE else intent.amount
    commit(call, intent.id, level, intent.currency)


def succeed(call: Call, intent: PaymentIntent) -> None:
    """The intent is paid in full, or as far as it was captured."""
    intent.status = SUCCEEDED
    intent.last_payment_error = None
    if intent.setup_future_usage and intent.customer and intent.method and intent.method.customer is None:
        intent.method.customer = intent.customer
    track(call, intent)
    record_event(call, "payment_intent.succeeded", intent.json())
    tell_owner(call, intent)


def fail(call: Call, intent: PaymentIntent, error: JsonObject) -> JsonObject:
    """Take the refused method off the intent, so that it waits for another; returns the intent as shown."""
    intent.status = REQUIRES_PAYMENT_METHOD
    intent.method = None
    intent.last_payment_error = error
    track(call, intent)
    shown = intent.json()
    record_event(call, "payment_intent.payment_failed", shown)
    tell_owner(call, intent)
    return shown
