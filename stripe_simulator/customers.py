"""Customers: who pays, and the card that is charged when only the customer is named."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.cards import Card, card_of_test_payment_method, card_of_token
from stripe_simulator.errors import JsonObject, StripeError, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.objects import Customer, PaymentMethod
from stripe_simulator.parameters import Parameters

_TEXTS = ("email", "name", "phone", "description")
_HASHES = ("address", "shipping")


def existing_customer(call: Call, customer_id: str) -> Customer:
    """A customer named in a parameter: 400 when there is none, or when it was deleted."""
    customer = call.ledger.customers.get(customer_id)
    if customer is None or customer.deleted:
        raise no_such_object("customer", customer_id, param="customer", status=400)
    return customer


def _apply(customer: Customer, parameters: Parameters) -> None:
    for name in _TEXTS:
        if name in parameters:
            setattr(customer, name, parameters.text(name))
    for name in _HASHES:
        if name in parameters:
            setattr(customer, name, parameters.mapping(name))
    balance = parameters.integer("balance")
    if balance is not None:
        customer.balance = balance
    settings = parameters.mapping("invoice_settings") or {}
    if "default_payment_method" in settings:
        customer.default_payment_method = Parameters(settings).text("default_payment_method")
    customer.metadata = parameters.metadata(customer.metadata)


def _check(parameters: Parameters) -> None:
    """Refuse what cannot be read before anything is changed."""
    _apply(Customer(id="", created=0, metadata={}), parameters)
    parameters.text("source")
    parameters.text("payment_method")


def _attach(call: Call, customer: Customer) -> None:
    """Give the customer the card that this request names, if it names one."""
    parameters = call.parameters
    if (token := parameters.text("source")) is not None:
        card = card_of_token(token)
        if card is None:
            raise no_such_object("token", token, param="source", status=400)
        customer.default_source = _attached(call, customer, card, "card")
    if (name := parameters.text("payment_method")) is not None:
        card = card_of_test_payment_method(name)
        if card is None:
            raise no_such_object("PaymentMethod", name, param="payment_method", status=400)
        _attached(call, customer, card, "pm")


def _attached(call: Call, customer: Customer, card: Card, prefix: str) -> PaymentMethod:
    if card.decline is not None and not card.attaches:
        raise StripeError(
            402,
            card.decline.message,
            type="card_error",
            code=card.decline.code,
            details={"decline_code": card.decline.decline_code},
        )
    method = PaymentMethod(call.new_id(prefix), call.now, card, customer=customer.id)
    return call.ledger.payment_methods.add(method)


def create(call: Call) -> JsonObject:
    _check(call.parameters)
    call.begin()
    customer = Customer(id=call.new_id("cus"), created=call.now, metadata={})
    _attach(call, customer)
    _apply(customer, call.parameters)
    call.ledger.customers.add(customer)
    answer = customer.json()
    record_event(call, "customer.created", answer)
    return answer


def retrieve(call: Call) -> JsonObject:
    """A deleted customer is still found, reduced to its id."""
    return call.ledger.customers.require(call.path_ids[0], param="id").json()


def update(call: Call) -> JsonObject:
    _check(call.parameters)
    call.begin()
    customer = _living(call)
    before = customer.json()
    _attach(call, customer)
    _apply(customer, call.parameters)
    after = customer.json()
    record_event(call, "customer.updated", after, before)
    return after


def delete(call: Call) -> JsonObject:
    customer = _living(call)
    record_event(call, "customer.deleted", customer.json())
    customer.deleted = True
    return customer.json()


def _living(call: Call) -> Customer:
    customer = call.ledger.customers.require(call.path_ids[0], param="id")
    if customer.deleted:
        raise no_such_object("customer", customer.id, param="id")
    return customer


def list_customers(call: Call) -> JsonObject:
    email = call.parameters.text("email")

    def keep(customer: Customer) -> bool:
        return not customer.deleted and (email is None or customer.email == email)

    return page(call, call.ledger.customers, keep)
