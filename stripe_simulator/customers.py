"""Customers: who pays, and the card that is charged when only the customer is named."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.cards import Card, card_of_test_payment_method, card_of_token
from stripe_simulator.customer_objects import Customer
from stripe_simulator.errors import JsonObject, StripeError, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.funds.customer_balances import adjust_balance
from stripe_simulator.lists import page
from stripe_simulator.objects import PaymentMethod
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
    customer.metadata = parameters.metadata(customer.metadata)


def _check(parameters: Parameters) -> None:
    """Refuse what cannot be read before anything is changed."""
    _apply(Customer(id="", created=0, metadata={}), parameters)
    for name in ("source", "payment_method", "default_source"):
        parameters.text(name)
    parameters.integer("balance")
    _default_method_name(parameters)


_INVOICE_SETTINGS = "custom_fields default_payment_method footer rendering_options"


def _default_method_name(parameters: Parameters) -> str | None:
    settings = parameters.hash("invoice_settings", _INVOICE_SETTINGS)
    return settings.text("default_payment_method") if settings is not None else None


def _set_balance(call: Call, customer: Customer) -> None:
    """`balance` names the new balance, not the change; the change is what it costs or brings."""
    balance = call.parameters.integer("balance")
    if balance is not None:
        currency = customer.currency or "usd"
        adjust_balance(call, customer, balance - customer.balance, currency, "adjustment")


def _set_default_method(call: Call, customer: Customer, attached: PaymentMethod | None) -> None:
    """The method that invoices charge: one of the customer's own, or the one this request attaches."""
    settings = call.parameters.hash("invoice_settings", _INVOICE_SETTINGS)
    if settings is None or "default_payment_method" not in settings:
        return
    name = settings.text("default_payment_method")
    if name is not None and attached is not None and name == call.parameters.text("payment_method"):
        name = attached.id
    method = call.ledger.payment_methods.get(name or "")
    if name is not None and (method is None or method.customer != customer.id):
        raise StripeError(
            400,
            f"The customer does not have a payment method with the ID {name}. The payment method must be "
            "attached to the customer.",
            code="resource_missing",
            param="invoice_settings[default_payment_method]",
        )
    customer.default_payment_method = name


def _attach(call: Call, customer: Customer) -> PaymentMethod | None:
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
        return _attached(call, customer, card, "pm")
    return None


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
    attached = _attach(call, customer)
    _set_default_method(call, customer, attached)
    _apply(customer, call.parameters)
    call.ledger.customers.add(customer)
    _set_balance(call, customer)
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
    attached = _attach(call, customer)
    _set_default_method(call, customer, attached)
    if (source := call.parameters.text("default_source")) is not None:
        _set_default_source(call, customer, source)
    _apply(customer, call.parameters)
    _set_balance(call, customer)
    after = customer.json()
    record_event(call, "customer.updated", after, before)
    return after


def _set_default_source(call: Call, customer: Customer, source: str) -> None:
    method = call.ledger.payment_methods.get(source)
    if method is None or method.customer != customer.id:
        raise no_such_object("source", source, param="default_source", status=400)
    customer.default_source = method


def delete(call: Call) -> JsonObject:
    """Ends all subscriptions of the customer, too."""
    customer = _living(call)
    for subscription in call.ledger.subscriptions:
        if subscription.customer == customer.id and subscription.ended_at is None:
            subscription.status, subscription.ended_at = "canceled", call.now
            record_event(call, "customer.subscription.deleted", subscription.json())
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
