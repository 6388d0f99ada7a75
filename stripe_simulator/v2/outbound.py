"""Outbound payments to others and outbound transfers to oneself; both leave a financial account.

They are under way until a test says they were posted, and may be canceled until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from stripe_simulator.balance import require_funds
from stripe_simulator.call import Call
from stripe_simulator.currencies import DECIMAL_DIGITS
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.ledger import Collection
from stripe_simulator.money import OUT, commit, move
from stripe_simulator.parameters import Parameters
from stripe_simulator.v2.lists import page_v2

PROCESSING, POSTED, FAILED, CANCELED, RETURNED = "processing", "posted", "failed", "canceled", "returned"


def timestamp(unix_seconds: int | None) -> str | None:
    """v2 writes times as RFC 3339 with milliseconds."""
    if unix_seconds is None:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(slots=True)
class Outbound:
    """`kind` is the object's type after `v2.money_management.`; amounts are minor units."""

    id: str
    created: int
    kind: str
    amount: int
    currency: str
    financial_account: str
    to: JsonObject
    description: str | None = None
    statement_descriptor: str | None = None
    status: str = PROCESSING
    changed_at: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_under_way(self) -> bool:
        return self.status == PROCESSING

    def json(self) -> JsonObject:
        money = {"currency": self.currency, "value": self.amount}
        reason = {"reason": "payout_method_declined"} if self.status == FAILED else None
        return {
            "id": self.id,
            "object": f"v2.money_management.{self.kind}",
            "amount": money,
            "cancelable": self.is_under_way,
            "created": timestamp(self.created),
            "delivery_options": None,
            "description": self.description,
            "expected_arrival_date": timestamp(self.created + 24 * 60 * 60),
            "from": {"debited": money, "financial_account": self.financial_account},
            "livemode": False,
            "metadata": self.metadata,
            "receipt_url": None,
            "statement_descriptor": self.statement_descriptor or "",
            "status": self.status,
            "status_details": {"failed": reason} if reason else None,
            "status_transitions": {
                f"{status}_at": timestamp(self.changed_at.get(status))
                for status in (CANCELED, FAILED, POSTED, RETURNED)
            },
            "to": {"credited": money, **self.to},
            "trace_id": {"status": "pending", "value": None},
        }


def _required(parameters: Parameters, name: str, known: str) -> Parameters:
    inner = parameters.hash(name, known)
    if inner is None:
        field_name = parameters.full_name(name)
        raise StripeError(400, f"Missing required field: {field_name}.", code="invalid_fields")
    return inner


def _read(call: Call, kind: str, to_known: str, needs: str) -> Outbound:
    parameters = call.parameters
    money = _required(parameters, "amount", "currency value")
    amount, currency = money.required_positive_integer("value"), money.required_text("currency")
    if currency not in DECIMAL_DIGITS:
        raise StripeError(400, f"Invalid currency: {currency}.", code="invalid_fields")
    source = _required(parameters, "from", "currency financial_account")
    if source.required_text("currency") != currency:
        raise StripeError(400, "This account does not convert currencies.", code="invalid_fields")
    to = _required(parameters, "to", to_known)
    to.required_text(needs)
    shown: JsonObject = {
        name: to.text(name) for name in ("payout_method", "recipient") if name in to_known.split()
    }
    return Outbound(
        id="",
        created=call.now,
        kind=kind,
        amount=amount,
        currency=currency,
        financial_account=source.required_text("financial_account"),
        to=shown,
        description=parameters.text("description"),
        statement_descriptor=parameters.text("statement_descriptor"),
        metadata=parameters.metadata({}),
    )


def create_payment(call: Call) -> JsonObject:
    read = _read(
        call, "outbound_payment", "currency payout_method payout_method_options recipient", "recipient"
    )
    return _start(call, call.ledger.outbound_payments, "obp", read)


def create_transfer(call: Call) -> JsonObject:
    read = _read(call, "outbound_transfer", "currency payout_method payout_method_options", "payout_method")
    return _start(call, call.ledger.outbound_transfers, "obt", read)


def _start(call: Call, kept: Collection[Outbound], prefix: str, outbound: Outbound) -> JsonObject:
    call.begin()
    require_funds(call, outbound.amount, outbound.currency)
    outbound.id = call.new_id(prefix)
    kept.add(outbound)
    commit(call, outbound.id, outbound.amount, outbound.currency, OUT)
    record_event(call, f"v2.money_management.{outbound.kind}.created", outbound.json())
    return outbound.json()


def _kept(call: Call) -> Collection[Outbound]:
    payments = call.path.startswith("/v2/money_management/outbound_payments")
    return call.ledger.outbound_payments if payments else call.ledger.outbound_transfers


def retrieve(call: Call) -> JsonObject:
    return _kept(call).require(call.path_ids[0], param="id").json()


def list_outbound(call: Call) -> JsonObject:
    statuses = call.parameters.texts("status")
    recipient = call.parameters.text("recipient")

    def keep(outbound: Outbound) -> bool:
        return (not statuses or outbound.status in statuses) and recipient in (
            None,
            outbound.to.get("recipient"),
        )

    return page_v2(call, _kept(call), keep)


def cancel(call: Call) -> JsonObject:
    """Only while it is under way; the whole amount stays."""
    call.begin()
    outbound = _kept(call).require(call.path_ids[0], param="id")
    if outbound.status == CANCELED:
        raise StripeError(409, "It was already canceled.", type="already_canceled", code="already_canceled")
    if not outbound.is_under_way:
        raise StripeError(
            409,
            f"It is {outbound.status} and cannot be canceled.",
            type="not_cancelable",
            code="not_cancelable",
        )
    _become(call, outbound, CANCELED)
    return outbound.json()


def _become(call: Call, outbound: Outbound, status: str) -> None:
    outbound.status = status
    outbound.changed_at[status] = call.now
    if status == POSTED:
        move(call, outbound.id, outbound.amount, outbound.currency, OUT)
    else:
        commit(call, outbound.id, 0, outbound.currency, OUT)
    record_event(call, f"v2.money_management.{outbound.kind}.{status}", outbound.json())


def resolve_outbound(call: Call, outbound: Outbound, *, succeeded: bool) -> None:
    """The money arrived, or could not be sent."""
    _become(call, outbound, POSTED if succeeded else FAILED)
