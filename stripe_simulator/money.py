"""What each call did with money, so that a test can compare it with what was meant.

Every object has at most one commitment: money it may still move without anybody's further say. A movement is
one of three steps:

- `committed`: the commitment grew. An open intent, invoice, session or pending payout commits its amount.
- `moved`: money changed hands. Its `new` part was not committed before.
- `released`: the commitment fell without money moving.

So the sum of `new` over an object's steps is all that it ever committed or moved. Direction `in` is towards
the account (a charge, a top-up, a reversal); `out` is away from it (a refund, a payout, a credit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stripe_simulator.errors import JsonObject

if TYPE_CHECKING:
    from stripe_simulator.call import Call

IN = "in"
OUT = "out"

COMMITTED = "committed"
MOVED = "moved"
RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Movement:
    """One step of one object. `amount` is in minor units, None for a commitment without an upper bound."""

    n: int
    step: str
    direction: str
    amount: int | None
    new: int | None
    currency: str
    object_id: str

    def json(self) -> JsonObject:
        return {
            "n": self.n,
            "step": self.step,
            "direction": self.direction,
            "amount": self.amount,
            "new": self.new,
            "currency": self.currency,
            "object": self.object_id,
        }


@dataclass(slots=True)
class Commitment:
    """What one object may still move."""

    amount: int
    currency: str
    direction: str


_BOOKED_AS = {
    "ch": "charge",
    "re": "refund",
    "po": "payout",
    "tr": "transfer",
    "trr": "transfer_refund",
    "tu": "topup",
    "du": "adjustment",
}
"""What a booking is called, by the prefix of its source's id."""


@dataclass(frozen=True, slots=True)
class Booking:
    """One entry of the account's balance. `amount` is negative when money left."""

    id: str
    created: int
    amount: int
    currency: str
    source: str

    def json(self) -> JsonObject:
        kind = _BOOKED_AS.get(self.source.partition("_")[0])
        return {
            "id": self.id,
            "object": "balance_transaction",
            "amount": self.amount,
            "available_on": self.created,
            "created": self.created,
            "currency": self.currency,
            "description": None,
            "exchange_rate": None,
            "fee": 0,
            "fee_details": [],
            "net": self.amount,
            "reporting_category": kind or "other_adjustment",
            "source": self.source if kind else None,
            "status": "available",
            "type": kind or "adjustment",
        }


class Commitments:
    """The open commitments of one account, by object."""

    def __init__(self) -> None:
        self._open: dict[str, Commitment] = {}

    def get(self, object_id: str) -> Commitment | None:
        return self._open.get(object_id)

    def put(self, object_id: str, commitment: Commitment) -> None:
        if commitment.amount:
            self._open[object_id] = commitment
        else:
            self._open.pop(object_id, None)

    def hand_over(self, giver: str, taker: str, most: int | None = None) -> None:
        """Another object takes a commitment on, as an invoice does with its items; nothing changes in sum."""
        given = self._open.get(giver)
        if given is None:
            return
        amount = given.amount if most is None else min(most, given.amount)
        taken = self._open.get(taker)
        same = taken is not None and (taken.currency, taken.direction) == (given.currency, given.direction)
        held = taken.amount if taken is not None and same else 0
        self.put(giver, Commitment(given.amount - amount, given.currency, given.direction))
        self.put(taker, Commitment(held + amount, given.currency, given.direction))


_Money = tuple[int | None, int | None, str]
"""An amount, how much of it is new, and the currency."""


def commit(call: Call, object_id: str, amount: int, currency: str, direction: str = IN) -> None:
    """Make an object's commitment exactly `amount`, noting by how much it grew or fell."""
    commitments = call.ledger.commitments
    before = commitments.get(object_id)
    same = before is not None and (before.currency, before.direction) == (currency, direction)
    if before is not None and not same:
        _note(call, RELEASED, before.direction, (before.amount, 0, before.currency), object_id)
    held = before.amount if before is not None and same else 0
    if amount > held:
        _note(call, COMMITTED, direction, (amount - held, amount - held, currency), object_id)
    elif amount < held:
        _note(call, RELEASED, direction, (held - amount, 0, currency), object_id)
    commitments.put(object_id, Commitment(amount, currency, direction))


def commit_without_bound(call: Call, object_id: str, currency: str) -> None:
    """An object that lets any number of customers pay, such as a payment link without a limit."""
    _note(call, COMMITTED, IN, (None, None, currency), object_id)


def move(
    call: Call, object_id: str, amount: int, currency: str, direction: str = IN, *, source: str = ""
) -> None:
    """Money changed hands, first out of what the object had committed.

    `source` is what Stripe books it under, when that is another object than the one that committed it.
    """
    if amount == 0:
        return
    commitments = call.ledger.commitments
    before = commitments.get(object_id)
    fulfilled = 0
    if before is not None and (before.currency, before.direction) == (currency, direction):
        fulfilled = min(before.amount, amount)
        commitments.put(object_id, Commitment(before.amount - fulfilled, currency, direction))
    _note(call, MOVED, direction, (amount, amount - fulfilled, currency), object_id)
    funds = call.ledger.funds
    signed = amount if direction == IN else -amount
    funds[currency] = funds.get(currency, 0) + signed
    call.ledger.bookings.add(Booking(call.new_id("txn"), call.now, signed, currency, source or object_id))


def _note(call: Call, step: str, direction: str, money: _Money, object_id: str) -> None:
    n = call.ledger.identifiers.next_movement()
    amount, new, currency = money
    call.movements.append(Movement(n, step, direction, amount, new, currency, object_id))
