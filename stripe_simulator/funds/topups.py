"""Top-ups: from the account's own bank to its balance, pending until a test says they arrived."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import IN, commit, move
from stripe_simulator.parameters import check_charge_amount

PENDING = "pending"
STATUSES = ("canceled", "failed", "pending", "succeeded")


@dataclass(slots=True)
class Topup:
    id: str
    created: int
    amount: int
    currency: str
    metadata: dict[str, str]
    description: str | None = None
    transfer_group: str | None = None
    statement_descriptor: str | None = None
    status: str = PENDING

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "topup",
            "amount": self.amount,
            "balance_transaction": None,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "expected_availability_date": self.created,
            "failure_code": "account_closed" if self.status == "failed" else None,
            "failure_message": None,
            "livemode": False,
            "metadata": self.metadata,
            "source": None,
            "statement_descriptor": self.statement_descriptor,
            "status": self.status,
            "transfer_group": self.transfer_group,
        }


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    amount, currency = parameters.required_positive_integer("amount"), parameters.currency()
    check_charge_amount(amount, currency)
    topup = Topup(
        id="",
        created=call.now,
        amount=amount,
        currency=currency,
        metadata=parameters.metadata({}),
        description=parameters.text("description"),
        transfer_group=parameters.text("transfer_group"),
        statement_descriptor=parameters.text("statement_descriptor"),
    )
    call.begin()
    topup.id = call.new_id("tu")
    call.ledger.topups.add(topup)
    commit(call, topup.id, amount, currency, IN)
    record_event(call, "topup.created", topup.json())
    return topup.json()


def _at_path(call: Call) -> Topup:
    return call.ledger.topups.require(call.path_ids[0], param="topup")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Words only."""
    parameters = call.parameters
    parameters.metadata({})
    call.begin()
    topup = _at_path(call)
    topup.metadata = parameters.metadata(topup.metadata)
    if "description" in parameters:
        topup.description = parameters.text("description")
    return topup.json()


def cancel(call: Call) -> JsonObject:
    call.begin()
    topup = _at_path(call)
    if topup.status != PENDING:
        raise StripeError(400, f"Only pending top-ups can be canceled; this one is {topup.status}.")
    _end(call, topup, "canceled")
    return topup.json()


def _end(call: Call, topup: Topup, status: str) -> None:
    before = topup.json()
    topup.status = status
    if status == "succeeded":
        move(call, topup.id, topup.amount, topup.currency, IN)
    else:
        commit(call, topup.id, 0, topup.currency, IN)
    record_event(call, f"topup.{status}", topup.json(), before)


def resolve_topup(call: Call, topup: Topup, *, succeeded: bool) -> None:
    """The account's own bank paid, or did not."""
    _end(call, topup, "succeeded" if succeeded else "failed")


def list_topups(call: Call) -> JsonObject:
    status = call.parameters.choice("status", STATUSES)
    return page(call, call.ledger.topups, lambda topup: status in (None, topup.status))
