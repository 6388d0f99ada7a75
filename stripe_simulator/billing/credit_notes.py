"""Credit notes in a simple form: less to pay on an open invoice, or something back on a paid one.

On a paid invoice the amount is split into what is refunded to the card, what becomes credit of the customer,
and what was given back outside Stripe. Without a split all of it becomes credit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.billing.invoice_money import commit_invoice
from stripe_simulator.billing.invoice_objects import OPEN, PAID, Invoice
from stripe_simulator.call import Call
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.funds.customer_balances import adjust_balance
from stripe_simulator.intents import tell_owner
from stripe_simulator.lists import page
from stripe_simulator.parameters import Parameters
from stripe_simulator.refunds import give_back

REASONS = ("duplicate", "fraudulent", "order_change", "product_unsatisfactory")
_LINE = (
    "amount description invoice_line_item metadata quantity tax_amounts tax_rates type unit_amount "
    "unit_amount_decimal"
)


@dataclass(slots=True)
class Split:
    """Where the amount goes, in minor units."""

    amount: int
    refund: int = 0
    credit: int = 0
    out_of_band: int = 0


@dataclass(slots=True)
class CreditNote:
    id: str
    created: int
    invoice: str
    customer: str
    currency: str
    split: Split
    before_payment: bool
    reason: str | None = None
    memo: str | None = None
    number: str = ""
    refund: str | None = None
    balance_transaction: str | None = None
    voided_at: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self) -> JsonObject:
        amount = self.split.amount
        return {
            "id": self.id,
            "object": "credit_note",
            "amount": amount,
            "amount_shipping": 0,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_balance_transaction": self.balance_transaction,
            "discount_amount": 0,
            "invoice": self.invoice,
            "livemode": False,
            "memo": self.memo,
            "metadata": self.metadata,
            "number": self.number,
            "out_of_band_amount": self.split.out_of_band,
            "pdf": f"https://pay.stripe.com/credit_notes/{self.id}/pdf",
            "post_payment_amount": 0 if self.before_payment else amount,
            "pre_payment_amount": amount if self.before_payment else 0,
            "reason": self.reason,
            "refunds": [{"amount_refunded": self.split.refund, "refund": self.refund}] if self.refund else [],
            "status": "void" if self.voided_at is not None else "issued",
            "subtotal": amount,
            "total": amount,
            "type": "pre_payment" if self.before_payment else "post_payment",
            "voided_at": self.voided_at,
        }


def _read_split(parameters: Parameters) -> Split:
    refund, credit = parameters.integer("refund_amount"), parameters.integer("credit_amount")
    out_of_band = parameters.integer("out_of_band_amount")
    parts = [part for part in (refund, credit, out_of_band) if part is not None]
    if any(part < 0 for part in parts):
        raise StripeError(
            400, "Invalid non-negative integer", code="parameter_invalid_integer", param="amount"
        )
    amount = parameters.positive_integer("amount")
    lines = parameters.hashes("lines", _LINE)
    if amount is None and lines:
        amount = sum(_line_amount(line) for line in lines)
    if amount is None and parts:
        amount = sum(parts)
    if amount is None:
        raise missing_parameter("amount")
    if parts and sum(parts) != amount:
        raise StripeError(
            400,
            f"The sum of credit amount, refund amount and out of band amount ({sum(parts)}) must equal the "
            f"credit note amount ({amount}).",
            param="amount",
        )
    return Split(amount, refund or 0, credit or 0, out_of_band or 0)


def _line_amount(line: Parameters) -> int:
    amount = line.integer("amount")
    if amount is not None:
        return amount
    unit = line.integer("unit_amount")
    if unit is None:
        raise missing_parameter(line.full_name("amount"))
    return unit * (line.positive_integer("quantity") or 1)


def _read(call: Call) -> CreditNote:
    parameters = call.parameters
    return CreditNote(
        id="",
        created=call.now,
        invoice=parameters.required_text("invoice"),
        customer="",
        currency="",
        split=_read_split(parameters),
        before_payment=False,
        reason=parameters.choice("reason", REASONS),
        memo=parameters.text("memo"),
        metadata=parameters.metadata({}),
    )


def _place(call: Call, note: CreditNote) -> Invoice:
    """Find the invoice and refuse what it cannot be credited with."""
    invoice = call.ledger.invoices.require(note.invoice, param="invoice", status=400)
    if invoice.status not in (OPEN, PAID):
        raise StripeError(400, f"You cannot issue a credit note on an invoice with status {invoice.status}.")
    note.customer, note.currency = invoice.customer, invoice.currency
    note.before_payment = invoice.status == OPEN
    split = note.split
    if note.before_payment:
        if split.refund or split.credit or split.out_of_band:
            raise StripeError(
                400, "An open invoice has nothing to refund or credit yet.", param="refund_amount"
            )
        left = invoice.amount_remaining
    else:
        if not (split.refund or split.credit or split.out_of_band):
            split.credit = split.amount
        left = invoice.amount_due - invoice.post_payment_credit
    if split.amount > left:
        raise StripeError(
            400,
            f"The credit note amount ({split.amount}) is greater than what can be credited ({left}).",
            param="amount",
        )
    return invoice


def create(call: Call) -> JsonObject:
    note = _read(call)
    call.begin()
    invoice = _place(call, note)
    if note.split.refund:
        note.refund = _refund(call, invoice, note.split.refund)
    note.id = call.new_id("cn")
    note.number = f"{invoice.number}-CN-{len(call.ledger.credit_notes) + 1:02d}"
    call.ledger.credit_notes.add(note)
    if note.before_payment:
        _lower(call, invoice, note.split.amount)
    else:
        invoice.post_payment_credit += note.split.amount
        customer = existing_customer(call, invoice.customer)
        transaction = adjust_balance(
            call, customer, -note.split.credit, invoice.currency, "credit_note", credit_note=note.id
        )
        note.balance_transaction = transaction.id if transaction is not None else None
    record_event(call, "credit_note.created", note.json())
    return note.json()


def _refund(call: Call, invoice: Invoice, amount: int) -> str:
    intent = call.ledger.payment_intents.get(invoice.payment_intent or "")
    charge = call.ledger.charges.get(intent.latest_charge or "") if intent is not None else None
    if charge is None:
        raise StripeError(400, "This invoice was not paid by a charge that could be refunded.")
    return give_back(call, charge, amount, None, {}).id


def _lower(call: Call, invoice: Invoice, amount: int) -> None:
    """Less is due; with nothing left the invoice is paid."""
    invoice.pre_payment_credit += amount
    intent = call.ledger.payment_intents.get(invoice.payment_intent or "")
    if intent is not None:
        intent.amount = invoice.amount_remaining
        if invoice.amount_remaining == 0:
            intent.status = "succeeded"
            tell_owner(call, intent)
    commit_invoice(call, invoice)


def preview(call: Call) -> JsonObject:
    note = _read(call)
    _place(call, note)
    note.id = "cn_preview"
    return note.json()


def _at_path(call: Call) -> CreditNote:
    return call.ledger.credit_notes.require(call.path_ids[0], param="id")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Words only."""
    parameters = call.parameters
    parameters.metadata({})
    call.begin()
    note = _at_path(call)
    before = note.json()
    note.metadata = parameters.metadata(note.metadata)
    if "memo" in parameters:
        note.memo = parameters.text("memo")
    record_event(call, "credit_note.updated", note.json(), before)
    return note.json()


def void(call: Call) -> JsonObject:
    """Only one on an open invoice: the customer owes its amount again."""
    call.begin()
    note = _at_path(call)
    invoice = call.ledger.invoices.require(note.invoice, param="invoice")
    if note.voided_at is not None or not note.before_payment or invoice.status != OPEN:
        raise StripeError(400, "Only a credit note on an open invoice can be voided.")
    before = note.json()
    note.voided_at = call.now
    _lower(call, invoice, -note.split.amount)
    record_event(call, "credit_note.voided", note.json(), before)
    return note.json()


def list_notes(call: Call) -> JsonObject:
    customer, invoice = call.parameters.text("customer"), call.parameters.text("invoice")

    def keep(note: CreditNote) -> bool:
        return customer in (None, note.customer) and invoice in (None, note.invoice)

    return page(call, call.ledger.credit_notes, keep)
