"""What happens to an intent when it is confirmed: paid, held, sent to authentication, or declined."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.call import Call
from stripe_simulator.cards import AUTHENTICATION_DECLINE, Decline, card_of_test_payment_method
from stripe_simulator.charges import Attempt, attempt_charge, method_of_token
from stripe_simulator.disputes import dispute_if_the_card_says_so
from stripe_simulator.errors import JsonObject, StripeError, no_such_object, unexpected_state
from stripe_simulator.events import record_event
from stripe_simulator.intents import fail, succeed, track
from stripe_simulator.objects import (
    PROCESSING,
    REQUIRES_ACTION,
    REQUIRES_CAPTURE,
    PaymentIntent,
    PaymentMethod,
)
from stripe_simulator.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How a confirmation may end when the card wants its holder to authenticate."""

    off_session: bool
    error_on_requires_action: bool


def read_confirmation(parameters: Parameters) -> Confirmation:
    # Besides true and false, `off_session` takes the older words for why the customer is absent.
    absent = parameters.choice("off_session", ("true", "false", "one_off", "recurring"))
    return Confirmation(
        off_session=absent not in (None, "false"),
        error_on_requires_action=parameters.boolean("error_on_requires_action", default=False),
    )


def read_method_name(parameters: Parameters) -> str | None:
    """What pays: `payment_method`, or the token in `payment_method_data[card][token]`."""
    if (named := parameters.text("payment_method")) is not None:
        return named
    card = Parameters(parameters.mapping("payment_method_data") or {}).mapping("card")
    return Parameters(card).text("token") if card is not None else None


def named_method(call: Call, name: str) -> PaymentMethod:
    """A ready-made test PaymentMethod becomes a new one of its own, as at Stripe."""
    if name.startswith("tok_") and call.parameters.text("payment_method") is None:
        return method_of_token(call, name)
    card = card_of_test_payment_method(name)
    if card is not None:
        return call.ledger.payment_methods.add(PaymentMethod(call.new_id("pm"), call.now, card))
    method = call.ledger.payment_methods.get(name)
    if method is None:
        raise no_such_object("PaymentMethod", name, param="payment_method", status=400)
    if method.detached:
        raise StripeError(
            400,
            "The provided PaymentMethod was detached from a Customer and can't be used again.",
            param="payment_method",
        )
    return method


def confirm_intent(call: Call, intent: PaymentIntent, how: Confirmation) -> None:
    """Try to charge or hold the intent's amount; raises the 402 of a declined card."""
    method = intent.method
    if method is None:
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either "
            "update the PaymentIntent with a payment method and then confirm it again, or confirm it again "
            "directly with a payment method or ConfirmationToken.",
            intent.json(),
        )
    if method.customer not in (None, intent.customer):
        raise StripeError(
            400,
            f"The payment method {method.id} belongs to a customer. Please include that customer to use it.",
            param="payment_method",
        )
    if method.card.needs_authentication:
        if how.off_session or how.error_on_requires_action:
            raise _failed(call, intent, method, AUTHENTICATION_DECLINE, charge=None)
        intent.status = REQUIRES_ACTION
        track(call, intent)
        record_event(call, "payment_intent.requires_action", intent.json())
        return
    charge_intent(call, intent, method)


def charge_intent(call: Call, intent: PaymentIntent, method: PaymentMethod) -> None:
    """Charge or hold, with nothing left to authenticate; raises the 402 of a declined card."""
    manual = intent.capture_method == "manual"
    charge = attempt_charge(
        call,
        Attempt(
            intent.amount,
            intent.currency,
            not manual,
            intent.customer,
            method,
            intent.details,
            dict(intent.metadata),
            payment_intent=intent.id,
            owner=intent.owner,
        ),
    )
    intent.latest_charge = charge.id
    if charge.decline is not None:
        raise _failed(call, intent, method, charge.decline, charge.id)
    intent.last_payment_error = None
    if charge.pending:
        intent.status = PROCESSING
        track(call, intent)
        record_event(call, "payment_intent.processing", intent.json())
    elif manual:
        intent.status = REQUIRES_CAPTURE
        intent.amount_capturable = intent.amount
        track(call, intent)
        record_event(call, "payment_intent.amount_capturable_updated", intent.json())
    else:
        intent.amount_received = intent.amount
        succeed(call, intent)
        dispute_if_the_card_says_so(call, charge)


def _failed(
    call: Call, intent: PaymentIntent, method: PaymentMethod, decline: Decline, charge: str | None
) -> StripeError:
    """Let the intent wait for another card, and make the 402."""
    details: JsonObject = {
        "charge": charge,
        "decline_code": decline.decline_code,
        "payment_method": method.json(),
    }
    if charge is None:
        del details["charge"]
    error = {
        **details,
        "code": decline.code,
        "doc_url": f"https://stripe.com/docs/error-codes/{decline.code.replace('_', '-')}",
        "message": decline.message,
        "type": "card_error",
    }
    answered = fail(call, intent, error)
    return StripeError(
        402,
        decline.message,
        type="card_error",
        code=decline.code,
        details={**details, "payment_intent": answered},
    )
