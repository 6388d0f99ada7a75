"""Invoice payments: which intent pays an invoice. An invoice has at most one here."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.billing.invoice_objects import OPEN, Invoice
from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, no_such_object
from stripe_simulator.ledger import Ledger
from stripe_simulator.lists import page_of, whole_list


@dataclass(slots=True)
class InvoicePayment:
    """Not kept: it follows from its invoice."""

    invoice: Invoice

    @property
    def id(self) -> str:
        return f"inpay_{self.invoice.id[3:]}"

    @property
    def created(self) -> int:
        return self.invoice.transitions.finalized_at or self.invoice.created

    def json(self) -> JsonObject:
        invoice = self.invoice
        paid = invoice.amount_paid > 0
        return {
            "id": self.id,
            "object": "invoice_payment",
            "amount_paid": invoice.amount_paid if paid else None,
            "amount_requested": invoice.amount_due,
            "created": self.created,
            "currency": invoice.currency,
            "invoice": invoice.id,
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": invoice.payment_intent, "type": "payment_intent"},
            "status": "paid" if paid else "open" if invoice.status == OPEN else "canceled",
            "status_transitions": {"canceled_at": None, "paid_at": invoice.transitions.paid_at},
        }


def _all(ledger: Ledger) -> list[InvoicePayment]:
    return [InvoicePayment(one) for one in ledger.invoices if one.payment_intent is not None]


def payments_of(ledger: Ledger, invoice_id: str) -> JsonObject:
    """The payments of an invoice, shown when they are expanded."""
    found = [one.json() for one in _all(ledger) if one.invoice.id == invoice_id]
    return whole_list(found, "/v1/invoice_payments")


def retrieve(call: Call) -> JsonObject:
    wanted = call.path_ids[0]
    for payment in _all(call.ledger):
        if payment.id == wanted:
            return payment.json()
    raise no_such_object("invoice_payment", wanted, param="invoice_payment")


def list_payments(call: Call) -> JsonObject:
    invoice_id = call.parameters.text("invoice")
    found = [one for one in _all(call.ledger) if invoice_id in (None, one.invoice.id)]
    return page_of(call, reversed(found), "invoice_payment")
