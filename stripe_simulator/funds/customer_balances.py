"""Customer balances: what a customer is owed (negative) or owes (positive) beside any invoice."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.customer_objects import Customer
from stripe_simulator.errors import JsonObject, StripeError, no_such_object
from stripe_simulator.lists import page
from stripe_simulator.money import IN, OUT, commit


@dataclass(slots=True)
class BalanceTransaction:
    """A negative amount gives the customer credit, which costs the account; a positive one takes it."""

    id: str
    created: int
    customer: str
    amount: int
    currency: str
    ending_balance: int
    type: str
    description: str | None = None
    invoice: str | None = None
    credit_note: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "customer_balance_transaction",
            "amount": self.amount,
            "checkout_session": None,
            "created": self.created,
            "credit_note": self.credit_note,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "ending_balance": self.ending_balance,
            "invoice": self.invoice,
            "livemode": False,
            "metadata": self.metadata,
            "type": self.type,
        }


def adjust_balance(
    call: Call,
    customer: Customer,
    amount: int,
    currency: str,
    type: str,
    *,
    invoice: str | None = None,
    credit_note: str | None = None,
) -> BalanceTransaction | None:
    """Add a signed amount. What the customer is owed, or owes, is the customer's one commitment."""
    if amount == 0:
        return None
    customer.balance += amount
    customer.currency = customer.currency or currency
    transaction = BalanceTransaction(
        call.new_id("cbtxn"),
        call.now,
        customer.id,
        amount,
        currency,
        customer.balance,
        type,
        invoice=invoice,
        credit_note=credit_note,
    )
    call.ledger.balance_transactions.add(transaction)
    commit(call, customer.id, abs(customer.balance), currency, OUT if customer.balance < 0 else IN)
    return transaction


def _customer(call: Call) -> Customer:
    customer = call.ledger.customers.require(call.path_ids[0], param="customer")
    if customer.deleted:
        raise no_such_object("customer", customer.id, param="customer")
    return customer


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    amount, currency = parameters.integer("amount"), parameters.currency()
    if not amount:
        raise StripeError(
            400,
            "The amount must be a non-zero integer.",
            code="parameter_missing" if amount is None else "parameter_invalid_integer",
            param="amount",
        )
    description, metadata = parameters.text("description"), parameters.metadata({})
    call.begin()
    customer = _customer(call)
    if customer.currency not in (None, currency):
        raise StripeError(
            400,
            f"The customer's currency is {customer.currency}; its balance cannot be changed in {currency}.",
            param="currency",
        )
    transaction = adjust_balance(call, customer, amount, currency, "adjustment")
    assert transaction is not None  # noqa: S101 - a non-zero amount makes one
    transaction.description, transaction.metadata = description, metadata
    return transaction.json()


def _at_path(call: Call) -> BalanceTransaction:
    customer = _customer(call)
    transaction = call.ledger.balance_transactions.require(call.path_ids[1], param="transaction")
    if transaction.customer != customer.id:
        raise no_such_object("customer_balance_transaction", transaction.id, param="transaction")
    return transaction


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Words only."""
    parameters = call.parameters
    parameters.metadata({})
    call.begin()
    transaction = _at_path(call)
    transaction.metadata = parameters.metadata(transaction.metadata)
    if "description" in parameters:
        transaction.description = parameters.text("description")
    return transaction.json()


def list_transactions(call: Call) -> JsonObject:
    customer = _customer(call)
    return page(call, call.ledger.balance_transactions, lambda one: one.customer == customer.id)
