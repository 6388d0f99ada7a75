"""Payouts: from the account's balance to its bank. They are under way until a test says they arrived."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.balance import require_funds
from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import IN, OUT, commit, move

PENDING = "pending"
PAID = "paid"
CANCELED = "canceled"
FAILED = "failed"
STATUSES = ("pending", "in_transit", "paid", "failed", "canceled")

DAY_SECONDS = 24 * 60 * 60

# The banks of these currencies take whole units only.
_WHOLE_UNITS = ("huf", "twd")


@dataclass(slots=True)
class Payout:
    """A negative amount is a payout that came back."""

    id: str
    created: int
    amount: int
    currency: str
    method: str
    metadata: dict[str, str]
    description: str | None = None
    statement_descriptor: str | None = None
    destination: str | None = None
    status: str = PENDING
    original_payout: str | None = None
    reversed_by: str | None = None
    failure_code: str | None = None

    @property
    def is_under_way(self) -> bool:
        return self.status == PENDING and self.original_payout is None

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "payout",
            "amount": self.amount,
            "arrival_date": self.created + DAY_SECONDS,
            "automatic": False,
            "balance_transaction": None,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "destination": self.destination or "ba_simulator",
            "failure_balance_transaction": None,
            "failure_code": self.failure_code,
            "failure_message": None,
            "livemode": False,
            "metadata": self.metadata,
            "method": self.method,
            "original_payout": self.original_payout,
            "reconciliation_status": "not_applicable",
            "reversed_by": self.reversed_by,
            "source_type": "card",
            "statement_descriptor": self.statement_descriptor,
            "status": self.status,
            "type": "bank_account",
        }


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    amount, currency = parameters.required_positive_integer("amount"), parameters.currency()
    if currency in _WHOLE_UNITS and amount % 100:
        message = f"Invalid amount: payouts in {currency} must be divisible by 100."
        raise StripeError(400, message, param="amount")
    payout = Payout(
        id="",
        created=call.now,
        amount=amount,
        currency=currency,
        method=parameters.choice("method", ("standard", "instant")) or "standard",
        metadata=parameters.metadata({}),
        description=parameters.text("description"),
        statement_descriptor=parameters.text("statement_descriptor"),
        destination=parameters.text("destination"),
    )
    call.begin()
    require_funds(call, amount, currency)
    payout.id = call.new_id("po")
    call.ledger.payouts.add(payout)
    commit(call, payout.id, amount, currency, OUT)
    record_event(call, "payout.created", payout.json())
    return payout.json()


def _at_path(call: Call) -> Payout:
    return call.ledger.payouts.require(call.path_ids[0], param="payout")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Metadata only."""
    call.parameters.metadata({})
    call.begin()
    payout = _at_path(call)
    before = payout.json()
    payout.metadata = call.parameters.metadata(payout.metadata)
    record_event(call, "payout.updated", payout.json(), before)
    return payout.json()


def cancel(call: Call) -> JsonObject:
    """Only while it is pending; the whole payout returns to the balance."""
    call.begin()
    payout = _at_path(call)
    if payout.status != PENDING:
        raise StripeError(
            400, f"Payouts can only be canceled while they are pending; this one is {payout.status}."
        )
    before = payout.json()
    payout.status = CANCELED
    commit(call, payout.id, 0, payout.currency, OUT)
    record_event(call, "payout.canceled", payout.json(), before)
    return payout.json()


def reverse(call: Call) -> JsonObject:
    """Take a payout that arrived back from the bank; the answer is a new payout."""
    metadata = call.parameters.metadata({})
    call.begin()
    payout = _at_path(call)
    if payout.status != PAID or payout.reversed_by is not None or payout.original_payout is not None:
        raise StripeError(400, "This payout cannot be reversed.")
    back = Payout(call.new_id("po"), call.now, -payout.amount, payout.currency, "standard", metadata)
    back.status, back.original_payout, payout.reversed_by = PAID, payout.id, back.id
    call.ledger.payouts.add(back)
    move(call, back.id, payout.amount, payout.currency, IN)
    record_event(call, "payout.created", back.json())
    return back.json()


def resolve_payout(call: Call, payout: Payout, *, succeeded: bool) -> None:
    """The bank took it, or sent it back."""
    before = payout.json()
    if succeeded:
        payout.status = PAID
        move(call, payout.id, payout.amount, payout.currency, OUT)
        record_event(call, "payout.paid", payout.json(), before)
    else:
        payout.status, payout.failure_code = FAILED, "account_closed"
        commit(call, payout.id, 0, payout.currency, OUT)
        record_event(call, "payout.failed", payout.json(), before)


def list_payouts(call: Call) -> JsonObject:
    parameters = call.parameters
    status, destination = parameters.choice("status", STATUSES), parameters.text("destination")

    def keep(payout: Payout) -> bool:
        return status in (None, payout.status) and destination in (None, payout.destination)

    return page(call, call.ledger.payouts, keep)
