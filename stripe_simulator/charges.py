"""Charges: taking money at once, holding it, and capturing what was held."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.call import Call
from stripe_simulator.cards import AUTHENTICATION_DECLINE, Decline, card_of_token
from stripe_simulator.customers import existing_customer
from stripe_simulator.details import read_details
from stripe_simulator.disputes import dispute_if_the_card_says_so
from stripe_simulator.errors import JsonObject, StripeError, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import commit, move
from stripe_simulator.objects import Charge, Details, PaymentMethod
from stripe_simulator.parameters import Parameters, check_charge_amount

# Stripe names the card field at fault for these two declines.
_DECLINE_PARAM = {"incorrect_cvc": "cvc", "expired_card": "exp_month"}


@dataclass(slots=True)
class Attempt:
    """What is to be charged: an amount in minor units, or only held when `capture` is False."""

    amount: int
    currency: str
    capture: bool
    customer: str | None
    method: PaymentMethod
    details: Details
    metadata: dict[str, str]
    payment_intent: str | None = None
    owner: str | None = None


def attempt_charge(call: Call, attempt: Attempt) -> Charge:
    """Try the card. A declined attempt is a charge too, with status `failed`."""
    card = attempt.method.card
    decline = card.decline
    if decline is None and card.needs_authentication and attempt.payment_intent is None:
        # A bare charge has no step in which the cardholder could authenticate.
        decline = AUTHENTICATION_DECLINE
    captured = decline is None and attempt.capture
    pending = captured and card.settles_later
    charge = Charge(
        id=call.new_id("ch"),
        created=call.now,
        amount=attempt.amount,
        currency=attempt.currency,
        customer=attempt.customer,
        method=attempt.method,
        details=attempt.details,
        metadata=attempt.metadata,
        payment_intent=attempt.payment_intent,
        captured=captured,
        amount_captured=attempt.amount if captured else 0,
        decline=decline,
        pending=pending,
    )
    call.ledger.charges.add(charge)
    charge.owner = attempt.owner or charge.id
    if captured and not pending:
        move(call, charge.owner, charge.amount, charge.currency, source=charge.id)
    elif decline is None and charge.owner == charge.id:
        commit(call, charge.id, charge.amount, charge.currency)
    record_event(call, f"charge.{charge.status}", charge.json())
    return charge


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    amount = parameters.required_positive_integer("amount")
    currency = parameters.currency()
    check_charge_amount(amount, currency)
    capture = parameters.boolean("capture", default=True)
    details = read_details(parameters, Details())
    metadata = parameters.metadata({})
    customer, source = parameters.text("customer"), _source(parameters)
    if customer is None and source is None:
        raise StripeError(400, "Must provide source or customer.", code="parameter_missing")
    call.begin()
    method = _method_to_charge(call, customer, source)
    charge = attempt_charge(call, Attempt(amount, currency, capture, customer, method, details, metadata))
    if charge.decline is not None:
        raise _declined(charge.id, charge.decline)
    dispute_if_the_card_says_so(call, charge)
    return charge.json()


def _source(parameters: Parameters) -> str | None:
    name = "source" if "source" in parameters else "card"
    try:
        return parameters.text(name)
    except StripeError:
        raise StripeError(
            402,
            "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use "
            "test tokens that map to the test card you are using, see https://stripe.com/docs/testing.",
        ) from None


def _method_to_charge(call: Call, customer_id: str | None, source: str | None) -> PaymentMethod:
    customer = existing_customer(call, customer_id) if customer_id is not None else None
    if source is None:
        if customer is None or customer.default_source is None:
            raise StripeError(
                402,
                "Cannot charge a customer that has no active card",
                type="card_error",
                code="missing",
                param="card",
            )
        return customer.default_source
    if customer is not None:
        own = customer.default_source
        if own is not None and own.id == source:
            return own
        raise StripeError(
            400,
            f"Customer {customer.id} does not have a linked source with ID {source}.",
            code="missing",
            param="source",
        )
    return method_of_token(call, source)


def method_of_token(call: Call, token: str) -> PaymentMethod:
    """A new `card_…` for a test token."""
    card = card_of_token(token)
    if card is None:
        raise no_such_object("token", token, param="source", status=400)
    return call.ledger.payment_methods.add(PaymentMethod(call.new_id("card"), call.now, card))


def _declined(charge_id: str, decline: Decline) -> StripeError:
    """402 `card_error` naming the failed charge."""
    return StripeError(
        402,
        decline.message,
        type="card_error",
        code=decline.code,
        param=_DECLINE_PARAM.get(decline.code),
        details={"charge": charge_id, "decline_code": decline.decline_code},
    )


def retrieve(call: Call) -> JsonObject:
    return call.ledger.charges.require(call.path_ids[0], param="id").json()


def update(call: Call) -> JsonObject:
    """Description, metadata and the like: never the money."""
    parameters = call.parameters
    read_details(parameters, Details())
    parameters.metadata({})
    call.begin()
    charge = call.ledger.charges.require(call.path_ids[0], param="id")
    before = charge.json()
    charge.details = read_details(parameters, charge.details)
    charge.metadata = parameters.metadata(charge.metadata)
    if (customer := parameters.text("customer")) is not None:
        charge.customer = existing_customer(call, customer).id
    after = charge.json()
    record_event(call, "charge.updated", after, before)
    return after


def list_charges(call: Call) -> JsonObject:
    customer = call.parameters.text("customer")
    intent = call.parameters.text("payment_intent")
    group = call.parameters.text("transfer_group")

    def keep(charge: Charge) -> bool:
        return (
            (customer is None or charge.customer == customer)
            and (intent is None or charge.payment_intent == intent)
            and (group is None or charge.details.transfer_group == group)
        )

    return page(call, call.ledger.charges, keep)


def capture(call: Call) -> JsonObject:
    """Take what was held, or part of it; the rest is released and counts as refunded."""
    parameters = call.parameters
    amount = parameters.positive_integer("amount")
    read_details(parameters, Details())
    call.begin()
    charge = call.ledger.charges.require(call.path_ids[0], param="charge")
    _refuse_uncapturable(charge)
    if amount is not None and amount > charge.amount:
        raise capture_too_large("amount")
    charge.details = read_details(parameters, charge.details)
    take_held(call, charge, charge.amount if amount is None else amount, final=True)
    return charge.json()


def _refuse_uncapturable(charge: Charge) -> None:
    if charge.payment_intent is not None:
        raise StripeError(
            400,
            f"This Charge was created by a PaymentIntent ({charge.payment_intent}). Capture the "
            "PaymentIntent instead of the Charge.",
        )
    if charge.decline is not None:
        raise StripeError(400, f"Charge {charge.id} could not be captured because it has failed.")
    if charge.refunded:
        message = f"Charge {charge.id} has already been refunded."
        raise StripeError(400, message, code="charge_already_refunded")
    if charge.captured:
        message = f"Charge {charge.id} has already been captured."
        raise StripeError(400, message, code="charge_already_captured")


def capture_too_large(param: str, intent: JsonObject | None = None) -> StripeError:
    return StripeError(
        400,
        "The payment could not be captured because the requested capture amount is greater than the amount "
        "you can capture for this charge.",
        code="amount_too_large",
        param=param,
        details={"payment_intent": intent} if intent is not None else None,
    )


def take_held(call: Call, charge: Charge, amount: int, *, final: bool) -> None:
    """Capture `amount` minor units of a hold; when `final`, give the rest of the hold up."""
    before = charge.json()
    charge.amount_captured += amount
    move(call, charge.owner, amount, charge.currency, source=charge.id)
    if final:
        charge.captured = True
        charge.released = charge.amount - charge.amount_captured
        charge.amount_refunded = charge.released
        commit(call, charge.owner, 0, charge.currency)
    record_event(call, "charge.captured", charge.json(), before)


def release_hold(call: Call, charge: Charge) -> None:
    """Give up what is still held; with nothing captured, Stripe reports the whole charge as refunded."""
    before = charge.json()
    charge.captured = charge.amount_captured > 0
    charge.released = charge.amount - charge.amount_captured
    charge.amount_refunded = charge.released
    commit(call, charge.owner, 0, charge.currency)
    record_event(call, "charge.refunded", charge.json(), before)
