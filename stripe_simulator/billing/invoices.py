"""The invoice endpoints: create, change, finalize, pay, send, void, write off, delete, list."""

from __future__ import annotations

from stripe_simulator.billing import invoice_life
from stripe_simulator.billing.invoice_items import pending_items
from stripe_simulator.billing.invoice_money import commit_invoice
from stripe_simulator.billing.invoice_objects import DRAFT, OPEN, Invoice
from stripe_simulator.call import Call
from stripe_simulator.checkout.shipping_rates import RATE_DATA, read_rate_amount
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.intent_confirmation import named_method
from stripe_simulator.lists import page, page_of
from stripe_simulator.parameters import Parameters

COLLECTION_METHODS = ("charge_automatically", "send_invoice")
STATUSES = ("draft", "open", "paid", "uncollectible", "void")


def create(call: Call) -> JsonObject:
    """A draft. Pending items come onto it only when asked for."""
    parameters = call.parameters
    take_pending = parameters.choice("pending_invoice_items_behavior", ("exclude", "include")) == "include"
    customer_id = parameters.required_text("customer")
    sent_currency = parameters.currency() if "currency" in parameters else None
    invoice = Invoice(
        id="",
        created=call.now,
        customer=customer_id,
        currency=sent_currency or "usd",
        collection_method=parameters.choice("collection_method", COLLECTION_METHODS) or COLLECTION_METHODS[0],
        auto_advance=parameters.boolean("auto_advance", default=False),
        metadata={},
        number=None,
        subscription=parameters.text("subscription"),
        shipping=_shipping(parameters) or 0,
    )
    _describe(invoice, parameters)
    _require_due(invoice, parameters)
    call.begin()
    customer = existing_customer(call, customer_id)
    if invoice.subscription is not None:
        call.ledger.subscriptions.require(invoice.subscription, param="subscription", status=400)
    if sent_currency is None:
        waiting = pending_items(call, customer_id)
        by_items = waiting[0].priced.currency if waiting and take_pending else None
        invoice.currency = by_items or customer.currency or "usd"
    invoice_life.keep_draft(call, invoice, take_pending=take_pending)
    return invoice.json()


def _require_due(invoice: Invoice, parameters: Parameters) -> None:
    sends = invoice.collection_method == "send_invoice"
    if sends and invoice.days_until_due is None and invoice.due_date is None:
        raise StripeError(
            400,
            "If invoices are sent, `days_until_due` or `due_date` must be set.",
            code="parameter_missing",
            param="days_until_due",
        )
    if not sends and ("days_until_due" in parameters or "due_date" in parameters):
        message = "`days_until_due` and `due_date` need collection_method = send_invoice."
        raise StripeError(400, message, param="days_until_due")


def _shipping(parameters: Parameters) -> int | None:
    """The amount of a shipping rate that is described in the request itself."""
    cost = parameters.hash("shipping_cost", "shipping_rate shipping_rate_data")
    data = cost.hash("shipping_rate_data", RATE_DATA) if cost is not None else None
    return None if data is None else read_rate_amount(data).amount


def _describe(invoice: Invoice, parameters: Parameters) -> None:
    for name in ("description", "footer", "default_payment_method", "number"):
        if name in parameters:
            setattr(invoice, name, parameters.text(name))
    if "days_until_due" in parameters:
        invoice.days_until_due = parameters.positive_integer("days_until_due")
    if "due_date" in parameters:
        invoice.due_date = parameters.positive_integer("due_date")
    invoice.metadata = parameters.metadata(invoice.metadata)


def _at_path(call: Call) -> Invoice:
    return call.ledger.invoices.require(call.path_ids[0], param="invoice")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """A draft's particulars; of a final invoice only words and whether it collects by itself."""
    parameters = call.parameters
    _describe(Invoice("", 0, "", "", "", False, {}), parameters)
    method = parameters.choice("collection_method", COLLECTION_METHODS)
    shipping = _shipping(parameters)
    advance = parameters.boolean("auto_advance", default=False)
    call.begin()
    invoice = _at_path(call)
    before = invoice.json()
    if invoice.status != DRAFT and (shipping is not None or method is not None):
        raise StripeError(
            400, "Finalized invoices can't be updated in this way.", code="invoice_not_editable"
        )
    if "auto_advance" in parameters:
        invoice.auto_advance = advance
    invoice.collection_method = method or invoice.collection_method
    invoice.shipping = invoice.shipping if shipping is None else shipping
    _describe(invoice, parameters)
    commit_invoice(call, invoice)
    record_event(call, "invoice.updated", invoice.json(), before)
    return invoice.json()


def delete(call: Call) -> JsonObject:
    invoice = _at_path(call)
    invoice_life.delete_draft(call, invoice)
    return {"id": invoice.id, "object": "invoice", "deleted": True}


def finalize(call: Call) -> JsonObject:
    advance = call.parameters.boolean("auto_advance", default=False)
    call.begin()
    invoice = _at_path(call)
    if "auto_advance" in call.parameters:
        invoice.auto_advance = advance
    invoice_life.finalize(call, invoice)
    return invoice.json()


def pay(call: Call) -> JsonObject:
    parameters = call.parameters
    off_stripe = parameters.boolean("paid_out_of_band", default=False)
    off_session = parameters.boolean("off_session", default=True)
    parameters.boolean("forgive", default=False)
    named = parameters.text("payment_method") or parameters.text("source")
    call.begin()
    invoice = _at_path(call)
    invoice_life.require_payable(invoice)
    if off_stripe:
        invoice_life.pay_off_stripe(call, invoice)
    else:
        method = named_method(call, named) if named is not None else None
        invoice_life.pay(call, invoice, method, off_session=off_session)
    return invoice.json()


def send(call: Call) -> JsonObject:
    """Mail the invoice, which makes a draft final; nothing is charged."""
    call.begin()
    invoice = _at_path(call)
    if invoice.status == DRAFT:
        invoice_life.finalize(call, invoice)
    elif invoice.status != OPEN:
        raise StripeError(400, f"You can only send an open invoice; this one is {invoice.status}.")
    record_event(call, "invoice.sent", invoice.json())
    return invoice.json()


def void(call: Call) -> JsonObject:
    call.begin()
    invoice = _at_path(call)
    invoice_life.void(call, invoice)
    return invoice.json()


def mark_uncollectible(call: Call) -> JsonObject:
    call.begin()
    invoice = _at_path(call)
    invoice_life.mark_uncollectible(call, invoice)
    return invoice.json()


def list_invoices(call: Call) -> JsonObject:
    parameters = call.parameters
    customer, subscription = parameters.text("customer"), parameters.text("subscription")
    status = parameters.choice("status", STATUSES)
    method = parameters.choice("collection_method", COLLECTION_METHODS)

    def keep(invoice: Invoice) -> bool:
        return (
            customer in (None, invoice.customer)
            and subscription in (None, invoice.subscription)
            and status in (None, invoice.status)
            and method in (None, invoice.collection_method)
        )

    return page(call, call.ledger.invoices, keep)


def list_lines(call: Call) -> JsonObject:
    return page_of(call, _at_path(call).lines, "line_item")
