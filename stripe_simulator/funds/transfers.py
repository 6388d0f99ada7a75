"""Transfers to connected accounts, at once, and their reversals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stripe_simulator.balance import require_funds
from stripe_simulator.call import Call
from stripe_simulator.currencies import written
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page, whole_list
from stripe_simulator.money import IN, OUT, move

_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]+", re.ASCII)


@dataclass(slots=True)
class Transfer:
    id: str
    created: int
    amount: int
    currency: str
    destination: str
    metadata: dict[str, str]
    description: str | None = None
    source_transaction: str | None = None
    transfer_group: str | None = None
    amount_reversed: int = 0
    reversals: list[Reversal] = field(default_factory=list)

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "transfer",
            "amount": self.amount,
            "amount_reversed": self.amount_reversed,
            "balance_transaction": None,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "destination": self.destination,
            "destination_payment": None,
            "livemode": False,
            "metadata": self.metadata,
            "reversals": whole_list(
                [one.json() for one in reversed(self.reversals)], f"/v1/transfers/{self.id}/reversals"
            ),
            "reversed": self.amount_reversed == self.amount,
            "source_transaction": self.source_transaction,
            "source_type": "card",
            "transfer_group": self.transfer_group,
        }


@dataclass(slots=True)
class Reversal:
    id: str
    created: int
    amount: int
    currency: str
    transfer: str
    metadata: dict[str, str]

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "transfer_reversal",
            "amount": self.amount,
            "balance_transaction": None,
            "created": self.created,
            "currency": self.currency,
            "destination_payment_refund": None,
            "metadata": self.metadata,
            "source_refund": None,
            "transfer": self.transfer,
        }


def create(call: Call) -> JsonObject:
    """Without an amount, a transfer of a charge takes what is left of it."""
    parameters = call.parameters
    amount, currency = parameters.positive_integer("amount"), parameters.currency()
    source = parameters.text("source_transaction")
    if amount is None and source is None:
        raise missing_parameter("amount")
    transfer = Transfer(
        id="",
        created=call.now,
        amount=amount or 0,
        currency=currency,
        destination=parameters.required_text("destination"),
        metadata=parameters.metadata({}),
        description=parameters.text("description"),
        source_transaction=source,
        transfer_group=parameters.text("transfer_group"),
    )
    if not _ACCOUNT.fullmatch(transfer.destination):
        raise no_such_object("destination", transfer.destination, param="destination", status=400)
    call.begin()
    if source is not None:
        transfer.amount = _amount_from(call, source, amount)
    require_funds(call, transfer.amount, currency)
    transfer.id = call.new_id("tr")
    call.ledger.transfers.add(transfer)
    move(call, transfer.id, transfer.amount, currency, OUT)
    record_event(call, "transfer.created", transfer.json())
    return transfer.json()


def _amount_from(call: Call, source: str, amount: int | None) -> int:
    """What a transfer of a charge may take: no more than what others have left."""
    charge = call.ledger.charges.require(source, param="source_transaction", status=400)
    taken = sum(one.amount for one in call.ledger.transfers if one.source_transaction == source)
    left = charge.amount - charge.amount_refunded - taken
    wanted = left if amount is None else amount
    if wanted > left or wanted < 1:
        raise StripeError(
            400,
            f"Transfers using this transaction as a source must not exceed the source amount of "
            f"{written(charge.amount, charge.currency)}.",
            param="amount",
        )
    return wanted


def _at_path(call: Call) -> Transfer:
    return call.ledger.transfers.require(call.path_ids[0], param="transfer")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Words only."""
    parameters = call.parameters
    parameters.metadata({})
    call.begin()
    transfer = _at_path(call)
    before = transfer.json()
    transfer.metadata = parameters.metadata(transfer.metadata)
    if "description" in parameters:
        transfer.description = parameters.text("description")
    record_event(call, "transfer.updated", transfer.json(), before)
    return transfer.json()


def list_transfers(call: Call) -> JsonObject:
    destination, group = call.parameters.text("destination"), call.parameters.text("transfer_group")

    def keep(transfer: Transfer) -> bool:
        return destination in (None, transfer.destination) and group in (None, transfer.transfer_group)

    return page(call, call.ledger.transfers, keep)


def create_reversal(call: Call) -> JsonObject:
    """Bring back an amount, or everything not yet brought back."""
    parameters = call.parameters
    amount, metadata = parameters.positive_integer("amount"), parameters.metadata({})
    call.begin()
    transfer = _at_path(call)
    left = transfer.amount - transfer.amount_reversed
    if left == 0:
        raise StripeError(400, f"Transfer {transfer.id} has already been reversed.", param="id")
    if amount is not None and amount > left:
        asked, rest = written(amount, transfer.currency), written(left, transfer.currency)
        message = f"Reversal amount ({asked}) is greater than unreversed amount on transfer ({rest})"
        raise StripeError(400, message, param="amount")
    before = transfer.json()
    reversal = Reversal(
        call.new_id("trr"), call.now, amount or left, transfer.currency, transfer.id, metadata
    )
    call.ledger.reversals.add(reversal)
    transfer.reversals.append(reversal)
    transfer.amount_reversed += reversal.amount
    move(call, reversal.id, reversal.amount, reversal.currency, IN)
    record_event(call, "transfer.reversed", transfer.json(), before)
    return reversal.json()


def _reversal_at_path(call: Call) -> Reversal:
    reversal = call.ledger.reversals.require(call.path_ids[1], param="id")
    if reversal.transfer != call.path_ids[0]:
        raise no_such_object("transfer_reversal", reversal.id, param="id")
    return reversal


def retrieve_reversal(call: Call) -> JsonObject:
    return _reversal_at_path(call).json()


def update_reversal(call: Call) -> JsonObject:
    """Metadata only."""
    call.parameters.metadata({})
    call.begin()
    reversal = _reversal_at_path(call)
    reversal.metadata = call.parameters.metadata(reversal.metadata)
    return reversal.json()


def list_reversals(call: Call) -> JsonObject:
    transfer = _at_path(call)
    return page(call, call.ledger.reversals, lambda one: one.transfer == transfer.id)
