"""Payment intents: create, update, confirm, capture, raise the hold, cancel.

The account is taken to accept cards only, so automatic payment methods never ask for a `return_url`.
"""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.charges import capture_too_large, release_hold, take_held
from stripe_simulator.customers import existing_customer
from stripe_simulator.details import read_details
from stripe_simulator.errors import JsonObject, StripeError, unexpected_state
from stripe_simulator.events import record_event
from stripe_simulator.intent_confirmation import (
    confirm_intent,
    named_method,
    read_confirmation,
    read_method_name,
)
from stripe_simulator.intents import keep_intent, succeed, tell_owner, track
from stripe_simulator.lists import page
from stripe_simulator.money import commit
from stripe_simulator.objects import (
    CANCELED,
    REQUIRES_ACTION,
    REQUIRES_CAPTURE,
    REQUIRES_CONFIRMATION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
    Charge,
    Details,
    PaymentIntent,
)
from stripe_simulator.parameters import Parameters, check_charge_amount

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
CANCELLATION_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")

# In the order in which Stripe's messages list them.
_UNCONFIRMED = (REQUIRES_PAYMENT_METHOD, REQUIRES_CONFIRMATION, REQUIRES_ACTION)
_CANCELABLE = (REQUIRES_PAYMENT_METHOD, REQUIRES_CAPTURE, REQUIRES_CONFIRMATION, REQUIRES_ACTION)


def _read_amount(parameters: Parameters) -> int | None:
    """Minor units. Stripe words the refusal of zero differently here than for charges."""
    amount = parameters.integer("amount")
    if amount is not None and amount < 1:
        raise StripeError(
            400,
            "The amount must be greater than or equal to the minimum charge amount allowed for your account "
            "and the currency set (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts).  "
            "If you want to save a Payment Method for future use without an immediate payment, use a Setup "
            "Intent instead: https://docs.stripe.com/payments/setup-intents",
            code="parameter_invalid_integer",
            param="amount",
        )
    return amount


def _automatic_methods(parameters: Parameters) -> JsonObject | None:
    sent = parameters.mapping("automatic_payment_methods")
    if sent is None:
        # Since 2023-08-16 an intent that names no payment method types gets the automatic ones.
        chosen = "payment_method_types" in parameters or "allowed_payment_method_types" in parameters
        return None if chosen else {"allow_redirects": "always", "enabled": True}
    inner = Parameters(sent)
    redirects = inner.choice("allow_redirects", ("always", "never"))
    return {"allow_redirects": redirects or "always", "enabled": inner.boolean("enabled", default=False)}


def _read_intent(call: Call, amount: int, currency: str) -> PaymentIntent:
    """The intent as the parameters describe it; it has no id and is not kept yet."""
    parameters = call.parameters
    return PaymentIntent(
        id="",
        created=call.now,
        amount=amount,
        currency=currency,
        client_secret="",
        capture_method=parameters.choice("capture_method", CAPTURE_METHODS) or "automatic_async",
        confirmation_method=parameters.choice("confirmation_method", ("automatic", "manual")) or "automatic",
        customer=parameters.text("customer"),
        method=None,
        details=read_details(parameters, Details()),
        metadata=parameters.metadata({}),
        automatic_payment_methods=_automatic_methods(parameters),
        payment_method_options=parameters.mapping("payment_method_options") or {},
        setup_future_usage=parameters.choice("setup_future_usage", ("off_session", "on_session")),
        status=REQUIRES_PAYMENT_METHOD,
        return_url=parameters.text("return_url"),
    )


def create(call: Call) -> JsonObject:
    """Nothing moves unless `confirm=true`: then creating and confirming are one call."""
    parameters = call.parameters
    amount = _read_amount(parameters)
    if amount is None:
        amount = parameters.required_positive_integer("amount")
    currency = parameters.currency()
    check_charge_amount(amount, currency)
    confirm_now = parameters.boolean("confirm", default=False)
    intent = _read_intent(call, amount, currency)
    method_name = read_method_name(parameters)
    confirmation = read_confirmation(parameters)
    call.begin()
    if intent.customer is not None:
        existing_customer(call, intent.customer)
    if method_name is not None:
        intent.method = named_method(call, method_name)
        intent.status = REQUIRES_CONFIRMATION
    keep_intent(call, intent)
    if confirm_now:
        confirm_intent(call, intent, confirmation)
    return intent.json()


def retrieve(call: Call) -> JsonObject:
    return _intent_at_path(call).json()


def _intent_at_path(call: Call) -> PaymentIntent:
    return call.ledger.payment_intents.require(call.path_ids[0], param="intent")


def list_intents(call: Call) -> JsonObject:
    customer = call.parameters.text("customer")

    def keep(intent: PaymentIntent) -> bool:
        return customer is None or intent.customer == customer

    return page(call, call.ledger.payment_intents, keep)


def update(call: Call) -> JsonObject:
    """Descriptive things at any time; amount, currency, card and capture method only before confirmation."""
    parameters = call.parameters
    amount = _read_amount(parameters)
    currency = parameters.currency() if "currency" in parameters else None
    capture_method = parameters.choice("capture_method", CAPTURE_METHODS)
    method_name = read_method_name(parameters)
    read_details(parameters, Details())
    parameters.metadata({})
    call.begin()
    intent = _intent_at_path(call)
    new_amount = intent.amount if amount is None else amount
    new_currency = currency or intent.currency
    if (new_amount, new_currency) != (intent.amount, intent.currency):
        _require_status(intent, _UNCONFIRMED, "amount could not be updated", "update the amount of")
        _refuse_owned(intent, "change the amount of")
        check_charge_amount(new_amount, new_currency)
    if method_name is not None or capture_method is not None:
        _require_status(intent, _UNCONFIRMED, "payment method could not be updated", "update")
    if (customer := parameters.text("customer")) is not None:
        intent.customer = existing_customer(call, customer).id
    if method_name is not None:
        intent.method = named_method(call, method_name)
        intent.status = REQUIRES_CONFIRMATION
    intent.amount, intent.currency = new_amount, new_currency
    intent.capture_method = capture_method or intent.capture_method
    intent.payment_method_options = (
        parameters.mapping("payment_method_options") or intent.payment_method_options
    )
    intent.details = read_details(parameters, intent.details)
    intent.metadata = parameters.metadata(intent.metadata)
    track(call, intent)
    return intent.json()


def _refuse_owned(intent: PaymentIntent, verb: str) -> None:
    """The amount of an intent that an invoice or a session made is decided there."""
    if intent.owner != intent.id:
        raise StripeError(
            400,
            f"You cannot {verb} this PaymentIntent ({intent.id}) because it was created by {intent.owner}.",
        )


def _require_status(intent: PaymentIntent, allowed: tuple[str, ...], refusal: str, verb: str) -> None:
    if intent.status not in allowed:
        raise unexpected_state(
            f"This PaymentIntent's {refusal} because it has a status of {intent.status}. You may only {verb} "
            f"a PaymentIntent with one of the following statuses: {', '.join(allowed)}.",
            intent.json(),
        )


def confirm(call: Call) -> JsonObject:
    """Charge or hold the intent's amount. The request itself names no currency and usually no amount."""
    parameters = call.parameters
    amount = parameters.positive_integer("amount_to_confirm")
    capture_method = parameters.choice("capture_method", CAPTURE_METHODS)
    method_name = read_method_name(parameters)
    confirmation = read_confirmation(parameters)
    details = ("receipt_email", "shipping")
    read_details(parameters, Details())
    call.begin()
    intent = _intent_at_path(call)
    if intent.status == SUCCEEDED:
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously "
            "confirmed.",
            intent.json(),
        )
    if intent.status not in _UNCONFIRMED:
        raise unexpected_state(
            f"You cannot confirm this PaymentIntent because it has a status of {intent.status}. Only a "
            f"PaymentIntent with one of the following statuses may be confirmed: {', '.join(_UNCONFIRMED)}.",
            intent.json(),
        )
    if amount is not None:
        check_charge_amount(amount, intent.currency, "amount_to_confirm")
        _refuse_owned(intent, "change the amount of")
        intent.amount = amount
        track(call, intent)
    if method_name is not None:
        intent.method = named_method(call, method_name)
    if any(name in parameters for name in details):
        intent.details = read_details(parameters, intent.details)
    intent.capture_method = capture_method or intent.capture_method
    intent.return_url = parameters.text("return_url") or intent.return_url
    confirm_intent(call, intent, confirmation)
    return intent.json()


def _held_charge(call: Call, intent: PaymentIntent) -> Charge:
    return call.ledger.charges.require(intent.latest_charge or "", param="charge")


def capture(call: Call) -> JsonObject:
    """Take the hold or part of it; with multicapture, `final_capture=false` keeps the rest held."""
    parameters = call.parameters
    amount = parameters.positive_integer("amount_to_capture")
    final = parameters.boolean("final_capture", default=True)
    read_details(parameters, Details())
    parameters.metadata({})
    call.begin()
    intent = _intent_at_path(call)
    _refuse_uncapturable(intent)
    if amount is None:
        amount = intent.amount_capturable
    if amount > intent.amount_capturable:
        raise capture_too_large("amount_to_capture", intent.json())
    if not final and not intent.allows_multicapture:
        raise StripeError(
            400,
            "You cannot set `final_capture` to false: multicapture was not requested when this PaymentIntent "
            "was confirmed (payment_method_options[card][request_multicapture]).",
            param="final_capture",
        )
    intent.details = read_details(parameters, intent.details)
    intent.metadata = parameters.metadata(intent.metadata)
    final = final or amount == intent.amount_capturable
    take_held(call, _held_charge(call, intent), amount, final=final)
    intent.amount_received += amount
    intent.amount_capturable = 0 if final else intent.amount_capturable - amount
    if final:
        succeed(call, intent)
    else:
        track(call, intent)
        record_event(call, "payment_intent.amount_capturable_updated", intent.json())
    return intent.json()


def _refuse_uncapturable(intent: PaymentIntent) -> None:
    if intent.status == SUCCEEDED:
        raise unexpected_state(
            "The remaining amount on this PaymentIntent could not be captured because the remainder of the "
            "authorized amount has been released.",
            intent.json(),
        )
    if intent.status != REQUIRES_CAPTURE:
        raise unexpected_state(
            f"This PaymentIntent could not be captured because it has a status of {intent.status}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
            intent.json(),
        )


def increment_authorization(call: Call) -> JsonObject:
    """Raise a hold. `amount` is the new total in minor units, not the difference."""
    parameters = call.parameters
    amount = parameters.required_positive_integer("amount")
    read_details(parameters, Details())
    parameters.metadata({})
    call.begin()
    intent = _intent_at_path(call)
    if intent.status != REQUIRES_CAPTURE:
        raise unexpected_state(
            f"You cannot increment the authorization of this PaymentIntent because it has a status of "
            f"{intent.status}. Only a PaymentIntent with one of the following statuses may be incremented: "
            "requires_capture.",
            intent.json(),
        )
    check_charge_amount(amount, intent.currency)
    if amount <= intent.amount:
        raise StripeError(
            400,
            "The new authorization amount must be greater than the currently authorized amount.",
            param="amount",
            details={"payment_intent": intent.json()},
        )
    charge = _held_charge(call, intent)
    charge.amount = amount
    intent.amount_capturable += amount - intent.amount
    intent.amount = amount
    if intent.owner == intent.id:
        track(call, intent)
    else:
        commit(call, intent.owner, intent.amount_capturable, intent.currency)
    intent.details = read_details(parameters, intent.details)
    intent.metadata = parameters.metadata(intent.metadata)
    record_event(call, "payment_intent.amount_capturable_updated", intent.json())
    return intent.json()


def cancel(call: Call) -> JsonObject:
    """End an intent that has not succeeded; what it held is released."""
    reason = call.parameters.choice("cancellation_reason", CANCELLATION_REASONS)
    call.begin()
    intent = _intent_at_path(call)
    if intent.status not in _CANCELABLE:
        raise unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {intent.status}. Only a "
            "PaymentIntent with one of the following statuses may be canceled: requires_payment_method, "
            "requires_capture, requires_confirmation, requires_action, processing.",
            intent.json(),
        )
    held = intent.status == REQUIRES_CAPTURE
    if intent.owner.startswith("in_"):
        _refuse_owned(intent, "cancel")
    intent.status = CANCELED
    intent.amount_capturable = 0
    intent.canceled_at = call.now
    intent.cancellation_reason = reason
    if held:
        release_hold(call, _held_charge(call, intent))
    track(call, intent)
    record_event(call, "payment_intent.canceled", intent.json())
    tell_owner(call, intent)
    return intent.json()
