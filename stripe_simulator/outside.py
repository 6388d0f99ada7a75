"""What happens outside the API because a test says so: customers pay or dispute, banks decide, time renews.

Each action answers with the object as it then is, with what money moved, and with the refusal that a person
would have been shown, if there was one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stripe_simulator.api import StripeApi
from stripe_simulator.authentication import PLATFORM_ACCOUNT
from stripe_simulator.billing.invoice_life import pay as pay_invoice
from stripe_simulator.billing.invoice_objects import Invoice
from stripe_simulator.billing.renewals import renew_subscription
from stripe_simulator.billing.subscription_objects import Subscription
from stripe_simulator.call import Call
from stripe_simulator.cards import card_of_test_payment_method
from stripe_simulator.checkout.paying import Choices, pay_link, pay_session
from stripe_simulator.checkout.payment_links import PaymentLink
from stripe_simulator.checkout.session_objects import Session
from stripe_simulator.disputes import OPEN, Dispute, decide, open_dispute
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.funds.payouts import Payout, resolve_payout
from stripe_simulator.funds.topups import Topup, resolve_topup
from stripe_simulator.intent_confirmation import Confirmation, confirm_intent
from stripe_simulator.money import move
from stripe_simulator.objects import Charge, PaymentIntent, PaymentMethod, Refund
from stripe_simulator.outcomes import NotWaiting, resolve_charge, resolve_intent, resolve_refund
from stripe_simulator.setup_intents import SetupIntent, resolve_setup
from stripe_simulator.v2.outbound import Outbound, resolve_outbound

_WAITING = {
    Payout: ("pending",),
    Topup: ("pending",),
    Outbound: ("processing",),
    SetupIntent: ("requires_action",),
    Dispute: OPEN,
}


class ControlError(ValueError):
    """A control request that is not understood; the message says why."""


def read_object(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        raise ControlError("the body is not JSON") from None
    if not isinstance(read, dict):
        raise ControlError("the body is not a JSON object")
    return read


class _Sent:
    """The members of a control request, each of which must be known and of its type."""

    def __init__(self, body: bytes, known: str) -> None:
        self._members = read_object(body)
        unknown = set(self._members) - {"account", *known.split()}
        if unknown:
            raise ControlError(
                f"unknown member {min(unknown)!r}; known are account, {', '.join(known.split())}"
            )

    def text(self, name: str, default: str | None = None) -> str:
        value = self._members.get(name, default)
        if not isinstance(value, str):
            raise ControlError(f"{name} must be a string")
        return value

    def number(self, name: str) -> int | None:
        value = self._members.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ControlError(f"{name} must be a whole number")
        return value

    def numbers(self, name: str) -> dict[str, int]:
        value = self._members.get(name, {})
        if not isinstance(value, dict) or not all(type(one) is int for one in value.values()):
            raise ControlError(f"{name} must be an object of whole numbers")
        return value


def _act(api: StripeApi, sent: _Sent, action: Callable[[Call], Any]) -> JsonObject:
    """Run an action for the account and tell what it came to."""
    call = api.outside_call(sent.text("account", PLATFORM_ACCOUNT))
    error = None
    record = None
    try:
        record = action(call)
    except StripeError as refusal:
        error = refusal.body("outside")["error"]
    except NotWaiting as wrong:
        raise ControlError(str(wrong)) from None
    finally:
        api.note_outside(call)
    return {
        "object": record.json() if record is not None else None,
        "money": [movement.json() for movement in call.movements],
        "error": error,
    }


def _found(call: Call, object_id: str) -> Any:
    record = call.ledger.get(object_id)
    if record is None:
        raise ControlError(f"there is no {object_id!r} in account {call.ledger.account}")
    return record


def resolve(api: StripeApi, query: str, body: bytes) -> Any:
    """`{"id", "outcome": "succeeded" | "failed"}`: decide what waits for a person or a bank."""
    sent = _Sent(body, "id outcome")
    outcome = sent.text("outcome")
    if outcome not in ("succeeded", "failed"):
        raise ControlError("outcome must be succeeded or failed")

    def action(call: Call) -> Any:
        record = _found(call, sent.text("id"))
        _resolve(call, record, succeeded=outcome == "succeeded")
        return record

    return _act(api, sent, action)


def _resolve(call: Call, record: Any, *, succeeded: bool) -> None:
    waiting = _WAITING.get(type(record))
    if waiting is not None and record.status not in waiting:
        raise NotWaiting(f"{record.id} is {record.status}")
    match record:
        case PaymentIntent():
            resolve_intent(call, record, succeeded=succeeded)
        case Charge():
            resolve_charge(call, record, succeeded)
        case Refund():
            resolve_refund(call, record, succeeded=succeeded)
        case SetupIntent():
            resolve_setup(call, record, succeeded=succeeded)
        case Dispute():
            decide(call, record, won=succeeded)
        case Payout():
            resolve_payout(call, record, succeeded=succeeded)
        case Topup():
            resolve_topup(call, record, succeeded=succeeded)
        case Outbound():
            resolve_outbound(call, record, succeeded=succeeded)
        case _:
            raise NotWaiting(f"{record.id} never waits for an outcome")


def pay(api: StripeApi, query: str, body: bytes) -> Any:
    """A customer pays a session, a payment link, an open invoice or an intent by its client secret.

    `{"id", "payment_method"?, "quantities"?: {line index: n}, "amount"?, "shipping_option"?: index}`. An
    invoice without a method is collected as Stripe would by itself. A link answers with its new session.
    """
    sent = _Sent(body, "id payment_method quantities amount shipping_option")
    quantities = {int(index): number for index, number in sent.numbers("quantities").items()}

    def action(call: Call) -> Any:
        record = _found(call, sent.text("id"))
        if isinstance(record, Invoice) and not sent.text("payment_method", ""):
            pay_invoice(call, record, None)
            return record
        method = _method(call, sent.text("payment_method", "pm_card_visa"))
        choices = Choices(method, quantities, sent.number("amount"), sent.number("shipping_option"))
        return _pay(call, record, choices)

    return _act(api, sent, action)


def _pay(call: Call, record: Any, choices: Choices) -> Any:
    match record:
        case Session():
            pay_session(call, record, choices)
        case PaymentLink():
            return pay_link(call, record, choices)
        case Invoice():
            pay_invoice(call, record, choices.method, off_session=False)
        case PaymentIntent():
            if record.status not in ("requires_payment_method", "requires_confirmation"):
                raise NotWaiting(f"{record.id} is {record.status}")
            record.method = choices.method
            confirm_intent(call, record, Confirmation(off_session=False, error_on_requires_action=False))
        case _:
            raise ControlError(f"nobody can pay {record.id}")
    return record


def _method(call: Call, name: str) -> PaymentMethod:
    card = card_of_test_payment_method(name)
    if card is not None:
        return call.ledger.payment_methods.add(PaymentMethod(call.new_id("pm"), call.now, card))
    method = call.ledger.payment_methods.get(name)
    if method is None:
        raise ControlError(f"there is no payment method {name!r}")
    return method


def dispute(api: StripeApi, query: str, body: bytes) -> Any:
    """`{"charge", "amount"?, "reason"?}`: a cardholder disputes a charge; answers with the dispute."""
    sent = _Sent(body, "charge amount reason")

    def action(call: Call) -> Any:
        charge = call.ledger.charges.get(sent.text("charge"))
        if charge is None or charge.dispute is not None or charge.pending or not charge.amount_captured:
            raise ControlError("that charge cannot be disputed")
        amount = sent.number("amount") or charge.amount_captured
        return open_dispute(call, charge, amount, sent.text("reason", "fraudulent"))

    return _act(api, sent, action)


def fund(api: StripeApi, query: str, body: bytes) -> Any:
    """`{"amount", "currency"}`: put money on the balance; a negative amount takes some."""
    sent = _Sent(body, "amount currency")
    amount, currency = sent.number("amount"), sent.text("currency")
    if amount is None:
        raise ControlError("amount must be a whole number")

    def action(call: Call) -> None:
        move(call, "funding", abs(amount), currency, "in" if amount > 0 else "out")

    return _act(api, sent, action)


def renew(api: StripeApi, query: str, body: bytes) -> Any:
    """`{"id", "usage"?: {item: n}}`: a subscription's next period begins now and is billed."""
    sent = _Sent(body, "id usage")

    def action(call: Call) -> Any:
        record = _found(call, sent.text("id"))
        if not isinstance(record, Subscription):
            raise ControlError(f"{sent.text('id')} is not a subscription")
        renew_subscription(call, record, sent.numbers("usage"))
        return record

    return _act(api, sent, action)
