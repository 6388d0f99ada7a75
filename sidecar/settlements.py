"""Writes into a settlement what a vendor's answer, or evidence of it, means."""

from __future__ import annotations

from sidecar.vendor import Failed, Money, Reading, Succeeded, Unclear
from spendgate.v1 import amount_pb2
from spendgate.v1 import policy_service_pb2 as pb


def fill(settlement: pb.SettleRequest, reading: Reading) -> None:
    """Set outcome, amount and objects."""
    match reading:
        case Succeeded(money=money, object_id=object_id, counted_id=counted_id):
            settlement.outcome = pb.OUTCOME_SUCCEEDED
            settlement.object_id = object_id
            settlement.counted_object_id = counted_id
            if money is not None:
                settlement.amount.CopyFrom(amount_of(money))
        case Failed(money=money, object_id=object_id):
            settlement.outcome = pb.OUTCOME_FAILED
            settlement.object_id = object_id
            if money is not None:
                settlement.amount.CopyFrom(amount_of(money))
        case Unclear():
            settlement.outcome = pb.OUTCOME_UNKNOWN


def amount_of(money: Money) -> amount_pb2.Amount:
    """Return an amount as the contract has it."""
    return amount_pb2.Amount(minor_units=money.minor_units, currency_code=money.currency)
