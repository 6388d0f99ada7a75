"""What an invoice commits, and whether it may still change."""

from __future__ import annotations

from stripe_simulator.billing.invoice_objects import DRAFT, OPEN, Invoice
from stripe_simulator.call import Call
from stripe_simulator.errors import StripeError
from stripe_simulator.money import commit


def commit_invoice(call: Call, invoice: Invoice) -> None:
    """A draft or open invoice commits what is left to pay; any other commits nothing."""
    level = max(0, invoice.amount_remaining) if invoice.status in (DRAFT, OPEN) else 0
    commit(call, invoice.id, level, invoice.currency)


def editable_invoice(invoice: Invoice) -> Invoice:
    """The invoice, if its lines may change: only a draft's may."""
    if invoice.status != DRAFT:
        raise StripeError(
            400,
            f"This invoice is no longer editable: it has a status of {invoice.status}.",
            code="invoice_not_editable",
        )
    return invoice
