"""What happens to an invoice: opened, finalized, paid, voided, written off."""

from __future__ import annotations

from stripe_simulator.billing.invoice_items import forget, pending_items, put_on
from stripe_simulator.billing.invoice_money import commit_invoice
from stripe_simulator.billing.invoice_objects import DRAFT, OPEN, PAID, UNCOLLECTIBLE, VOID, Invoice
from stripe_simulator.billing.subscription_status import invoice_failed, invoice_paid, invoice_voided
from stripe_simulator.call import Call
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import StripeError
from stripe_simulator.events import record_event
from stripe_simulator.funds.customer_balances import adjust_balance
from stripe_simulator.intent_confirmation import Confirmation, confirm_intent
from stripe_simulator.intents import open_intent, when_intent_changes
from stripe_simulator.money import commit
from stripe_simulator.objects import (
    CANCELED,
    PROCESSING,
    REQUIRES_ACTION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
    PaymentIntent,
    PaymentMethod,
)

DAY_SECONDS = 24 * 60 * 60


def keep_draft(call: Call, invoice: Invoice, *, take_pending: bool, takes_over: str | None = None) -> Invoice:
    """Keep a new draft; with `take_pending` it takes the customer's pending items of its currency.

    It takes the commitment of the object `takes_over` on, too.
    """
    invoice.id = call.new_id("in")
    invoice.starting_balance = existing_customer(call, invoice.customer).balance
    if invoice.days_until_due is not None:
        invoice.due_date = invoice.due_date or call.now + invoice.days_until_due * DAY_SECONDS
    for line in invoice.lines:
        line.invoice = invoice.id
    call.ledger.invoices.add(invoice)
    if takes_over is not None:
        call.ledger.commitments.hand_over(takes_over, invoice.id)
    if take_pending:
        for item in pending_items(call, invoice.customer, invoice.currency):
            put_on(call, invoice, item)
    commit_invoice(call, invoice)
    record_event(call, "invoice.created", invoice.json())
    return invoice


def finalize(call: Call, invoice: Invoice) -> None:
    """Make a draft final. With nothing to pay it is paid at once; otherwise an intent waits for payment."""
    if invoice.status != DRAFT:
        raise StripeError(
            400, "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        )
    before = invoice.json()
    invoice.status = OPEN
    invoice.number = f"{invoice.customer[-8:].upper()}-{len(call.ledger.invoices):04d}"
    invoice.transitions.finalized_at = call.now
    _apply_balance(call, invoice)
    if invoice.amount_due > 0:
        intent = open_intent(
            call,
            owner=invoice.id,
            amount=invoice.amount_due,
            currency=invoice.currency,
            customer=invoice.customer,
            method=None,
        )
        invoice.payment_intent, invoice.confirmation_secret = intent.id, intent.client_secret
    commit_invoice(call, invoice)
    record_event(call, "invoice.finalized", invoice.json(), before)
    if invoice.amount_due == 0:
        _mark_paid(call, invoice)


def _apply_balance(call: Call, invoice: Invoice) -> None:
    """The customer's credit pays first; what an invoice gives back becomes credit."""
    customer = existing_customer(call, invoice.customer)
    invoice.starting_balance = customer.balance
    change = invoice.total if invoice.total < 0 else -invoice.applied_balance
    adjust_balance(call, customer, change, invoice.currency, "applied_to_invoice", invoice=invoice.id)
    invoice.ending_balance = customer.balance


def method_for(call: Call, invoice: Invoice) -> PaymentMethod | None:
    """The invoice's own method, else the subscription's, else the customer's default."""
    ledger = call.ledger
    customer = existing_customer(call, invoice.customer)
    subscription = ledger.subscriptions.get(invoice.subscription or "")
    names = (
        invoice.default_payment_method,
        subscription.default_payment_method if subscription is not None else None,
        customer.default_payment_method,
    )
    for name in names:
        if name is not None and (found := ledger.payment_methods.get(name)) is not None:
            return found
    return customer.default_source


def require_payable(invoice: Invoice) -> None:
    if invoice.status == PAID:
        raise StripeError(400, "Invoice is already paid")
    if invoice.status not in (DRAFT, OPEN, UNCOLLECTIBLE):
        raise StripeError(400, f"This invoice can't be paid: it has a status of {invoice.status}.")


def pay(call: Call, invoice: Invoice, method: PaymentMethod | None, *, off_session: bool = True) -> None:
    """Charge what is due; raises the 402 of a declined card, and leaves the invoice open then."""
    if invoice.status == DRAFT:
        finalize(call, invoice)
    if invoice.status == PAID:
        return
    method = method or method_for(call, invoice)
    if method is None:
        raise StripeError(
            400,
            "There is no `default_payment_method` set on this Customer or Invoice. Please set either an "
            "`invoice.default_payment_method`, `customer.invoice_settings.default_payment_method` or "
            "`customer.default_source`.",
            code="resource_missing",
        )
    intent = call.ledger.payment_intents.require(invoice.payment_intent or "", param="payment_intent")
    if intent.status == PROCESSING:
        raise StripeError(400, f"A payment for this invoice ({intent.id}) is already processing.")
    intent.method = method
    intent.amount = invoice.amount_remaining
    invoice.attempt_count += 1
    confirm_intent(call, intent, Confirmation(off_session=off_session, error_on_requires_action=False))
    if intent.status == REQUIRES_ACTION:
        raise StripeError(
            402,
            "This payment requires additional user action before it can be completed successfully.",
            type="card_error",
            code="invoice_payment_intent_requires_action",
            details={"payment_intent": intent.json()},
        )


def pay_off_stripe(call: Call, invoice: Invoice) -> None:
    """The customer paid in some other way: nothing is charged."""
    if invoice.status == DRAFT:
        finalize(call, invoice)
    invoice.paid_off_stripe = invoice.amount_remaining
    _drop_intent(call, invoice)
    if invoice.status != PAID:
        _mark_paid(call, invoice)


def _mark_paid(call: Call, invoice: Invoice) -> None:
    before = invoice.json()
    invoice.status = PAID
    invoice.transitions.paid_at = call.now
    commit_invoice(call, invoice)
    record_event(call, "invoice.paid", invoice.json(), before)
    record_event(call, "invoice.payment_succeeded", invoice.json(), before)
    invoice_paid(call, invoice)


def _intent_changed(call: Call, intent: PaymentIntent) -> None:
    invoice = call.ledger.invoices.require(intent.owner, param="invoice")
    if intent.status == SUCCEEDED:
        invoice.amount_paid += intent.amount_received
        _mark_paid(call, invoice)
    elif intent.status == REQUIRES_PAYMENT_METHOD:
        record_event(call, "invoice.payment_failed", invoice.json())
        invoice_failed(call, invoice)


when_intent_changes("in", _intent_changed)


def void(call: Call, invoice: Invoice) -> None:
    """Nobody has to pay any more; the customer's credit comes back."""
    if invoice.status not in (OPEN, UNCOLLECTIBLE):
        raise StripeError(
            400, f"You can only void an open or uncollectible invoice; this one is {invoice.status}."
        )
    before = invoice.json()
    invoice.status = VOID
    invoice.transitions.voided_at = call.now
    _drop_intent(call, invoice)
    customer = existing_customer(call, invoice.customer)
    adjust_balance(
        call,
        customer,
        invoice.applied_balance,
        invoice.currency,
        "unapplied_from_invoice",
        invoice=invoice.id,
    )
    commit_invoice(call, invoice)
    record_event(call, "invoice.voided", invoice.json(), before)
    invoice_voided(call, invoice)


def mark_uncollectible(call: Call, invoice: Invoice) -> None:
    """Written off; it may still be paid."""
    if invoice.status != OPEN:
        raise StripeError(
            400, f"You can only mark an open invoice as uncollectible; this one is {invoice.status}."
        )
    before = invoice.json()
    invoice.status = UNCOLLECTIBLE
    invoice.transitions.marked_uncollectible_at = call.now
    commit_invoice(call, invoice)
    record_event(call, "invoice.marked_uncollectible", invoice.json(), before)


def _drop_intent(call: Call, invoice: Invoice) -> None:
    intent = call.ledger.payment_intents.get(invoice.payment_intent or "")
    if intent is not None and intent.status != SUCCEEDED:
        intent.status = CANCELED
        intent.canceled_at = call.now
        intent.cancellation_reason = "void_invoice"
        record_event(call, "payment_intent.canceled", intent.json())


def delete_draft(call: Call, invoice: Invoice) -> None:
    """A draft goes, and what was on it with it."""
    if invoice.status != DRAFT:
        raise StripeError(400, "You can only delete draft invoices.")
    for item in list(call.ledger.invoice_items):
        if item.invoice == invoice.id:
            forget(call, item)
    record_event(call, "invoice.deleted", invoice.json())
    commit(call, invoice.id, 0, invoice.currency)
    call.ledger.invoices.remove(invoice.id)
