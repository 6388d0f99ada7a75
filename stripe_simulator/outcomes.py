"""What a payment came to that was not decided at once: authentication, bank debits, refunds by bank."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.cards import AUTHENTICATION_FAILURE, DEBIT_FAILURE, Decline
from stripe_simulator.disputes import dispute_if_the_card_says_so
from stripe_simulator.errors import JsonObject
from stripe_simulator.events import record_event
from stripe_simulator.intent_confirmation import charge_intent
from stripe_simulator.intents import fail, succeed
from stripe_simulator.money import OUT, commit, move
from stripe_simulator.objects import (
    PENDING,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
    Charge,
    PaymentIntent,
    Refund,
)


class NotWaiting(ValueError):
    """The object waits for no outcome; the message says so."""


def resolve_intent(call: Call, intent: PaymentIntent, *, succeeded: bool) -> JsonObject:
    """The customer authenticated or failed to; or the bank paid or did not."""
    if intent.status == PROCESSING:
        resolve_charge(call, call.ledger.charges.require(intent.latest_charge or "", param="id"), succeeded)
    elif intent.status == REQUIRES_ACTION and succeeded and intent.method is not None:
        charge_intent(call, intent, intent.method)
    elif intent.status == REQUIRES_ACTION:
        fail(call, intent, _error(AUTHENTICATION_FAILURE, None))
    else:
        raise NotWaiting(f"{intent.id} is {intent.status}")
    return intent.json()


def resolve_charge(call: Call, charge: Charge, succeeded: bool) -> JsonObject:
    """A pending charge ends; the intent that made it, if any, ends with it."""
    if not charge.pending:
        raise NotWaiting(f"{charge.id} is {charge.status}")
    charge.pending = False
    intent = call.ledger.payment_intents.get(charge.payment_intent or "")
    if succeeded:
        charge.amount_captured = charge.amount
        move(call, charge.owner, charge.amount, charge.currency, source=charge.id)
        record_event(call, "charge.succeeded", charge.json())
        if intent is not None:
            intent.amount_received = charge.amount
            succeed(call, intent)
        dispute_if_the_card_says_so(call, charge)
        return charge.json()
    charge.decline = DEBIT_FAILURE
    charge.captured = False
    charge.amount_captured = 0
    record_event(call, "charge.failed", charge.json())
    if intent is not None:
        fail(call, intent, _error(DEBIT_FAILURE, charge.id))
    else:
        commit(call, charge.owner, 0, charge.currency)
    return charge.json()


def _error(decline: Decline, charge: str | None) -> JsonObject:
    error: JsonObject = {"code": decline.code, "message": decline.message, "type": "invalid_request_error"}
    if charge is not None:
        error["charge"] = charge
    return error


def resolve_refund(call: Call, refund: Refund, *, succeeded: bool) -> JsonObject:
    """A pending refund arrives, or comes back to the account."""
    if refund.status not in (PENDING, REQUIRES_ACTION):
        raise NotWaiting(f"{refund.id} is {refund.status}")
    before = refund.json()
    if succeeded:
        refund.status = SUCCEEDED
        move(call, refund.id, refund.amount, refund.currency, OUT)
    else:
        refund.take_back(call.ledger.charges.get(refund.charge), "failed")
        commit(call, refund.id, 0, refund.currency, OUT)
        record_event(call, "refund.failed", refund.json(), before)
    record_event(call, "refund.updated", refund.json(), before)
    return refund.json()
