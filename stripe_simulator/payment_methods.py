"""Payment methods: cards and bank accounts that customers keep."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.cards import Card, card_of_test_payment_method, card_of_token
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.objects import PaymentMethod

_NUMBERS = {
    "4242424242424242": "tok_visa",
    "4000000000000002": "tok_chargeDeclined",
    "4000000000009995": "tok_chargeDeclinedInsufficientFunds",
    "4000000000000341": "tok_chargeCustomerFail",
    "4000002500003155": "tok_authenticationRequired",
    "4000000000000259": "tok_createDispute",
    "5555555555554444": "tok_mastercard",
}
"""The test numbers that Stripe publishes; any other number is refused."""

_CARD = "cvc exp_month exp_year networks number token"


def _read_card(call: Call) -> Card:
    parameters = call.parameters
    kind = parameters.choice("type", ("card", "us_bank_account"))
    if kind is None:
        raise missing_parameter("type")
    if kind == "us_bank_account":
        card = card_of_test_payment_method("pm_usBankAccount")
    else:
        sent = parameters.hash("card", _CARD)
        if sent is None:
            raise missing_parameter("card")
        card = card_of_token(sent.text("token") or _NUMBERS.get(sent.text("number") or "", ""))
    if card is None:
        raise StripeError(402, "Your card number is incorrect.", type="card_error", code="incorrect_number")
    return card


def create(call: Call) -> JsonObject:
    """From a test token or test number; it may be charged once, or attached to a customer."""
    parameters = call.parameters
    card = _read_card(call)
    method = PaymentMethod("", call.now, card, metadata=parameters.metadata({}))
    method.billing_details = parameters.mapping("billing_details")
    call.begin()
    method.id = call.new_id("pm")
    return call.ledger.payment_methods.add(method).json()


def _at_path(call: Call) -> PaymentMethod:
    """The method in the path; a ready-made test one becomes a new one of its own."""
    name = call.path_ids[-1]
    card = card_of_test_payment_method(name)
    if card is not None and call.path.endswith("/attach"):
        return call.ledger.payment_methods.add(PaymentMethod(call.new_id("pm"), call.now, card))
    method = call.ledger.payment_methods.require(name, param="payment_method")
    if len(call.path_ids) > 1 and method.customer != call.path_ids[0]:
        raise no_such_object("PaymentMethod", name, param="payment_method")
    return method


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    parameters = call.parameters
    parameters.metadata({})
    billing = parameters.mapping("billing_details")
    call.begin()
    method = _at_path(call)
    if method.customer is None:
        raise StripeError(400, "You must save this PaymentMethod to a customer before you can update it.")
    method.metadata = parameters.metadata(method.metadata)
    method.billing_details = billing or method.billing_details
    return method.json()


def attach(call: Call) -> JsonObject:
    """Give it to a customer; a card that the issuer refuses is refused here already."""
    customer_id = call.parameters.required_text("customer")
    call.begin()
    customer = existing_customer(call, customer_id)
    method = _at_path(call)
    if method.customer not in (None, customer.id):
        raise StripeError(400, "The payment method you provided has already been attached to a customer.")
    card = method.card
    if card.decline is not None and not card.attaches:
        raise StripeError(
            402,
            card.decline.message,
            type="card_error",
            code=card.decline.code,
            details={"decline_code": card.decline.decline_code},
        )
    method.customer = customer.id
    record_event(call, "payment_method.attached", method.json())
    return method.json()


def detach(call: Call) -> JsonObject:
    """Take it from its customer; it can never be used again."""
    call.begin()
    method = _at_path(call)
    customer = call.ledger.customers.get(method.customer or "")
    if customer is None:
        raise StripeError(400, "The payment method you provided is not attached to a customer.")
    if customer.default_payment_method == method.id:
        customer.default_payment_method = None
    method.customer, method.detached = None, True
    record_event(call, "payment_method.detached", method.json())
    return method.json()


def list_methods(call: Call) -> JsonObject:
    """Those of a customer, or all that are attached to one."""
    customer = call.path_ids[0] if call.path_ids else call.parameters.text("customer")
    kind = call.parameters.text("type")

    def keep(method: PaymentMethod) -> bool:
        attached = method.customer is not None and method.id.startswith("pm_")
        return attached and customer in (None, method.customer) and kind in (None, method.card.kind)

    return page(call, call.ledger.payment_methods, keep)
