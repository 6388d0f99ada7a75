"""Invoice items: what is to be billed to a customer, on a draft or on the next invoice."""

from __future__ import annotations

from stripe_simulator.billing.invoice_money import commit_invoice, editable_invoice
from stripe_simulator.billing.invoice_objects import DRAFT, Described, Invoice, InvoiceItem, Line, Priced
from stripe_simulator.billing.line_pricing import name_of, read_described, read_line
from stripe_simulator.call import Call
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import commit


def add_item(
    call: Call, customer: str, priced: Priced, described: Described, invoice: Invoice | None = None
) -> InvoiceItem:
    """Keep an item, pending unless it goes onto a draft at once."""
    if described.description is None and priced.price is not None:
        described.description = name_of(call, priced.price)
    item = InvoiceItem(call.new_id("ii"), call.now, customer, priced, described)
    call.ledger.invoice_items.add(item)
    if invoice is None:
        commit(call, item.id, max(0, priced.amount), priced.currency)
    record_event(call, "invoiceitem.created", item.json())
    if invoice is not None:
        put_on(call, invoice, item)
        commit_invoice(call, invoice)
    return item


def put_on(call: Call, invoice: Invoice, item: InvoiceItem) -> Line:
    """Make a pending item a line of the invoice; the invoice takes its commitment on."""
    if item.priced.currency != invoice.currency:
        raise StripeError(
            400,
            f"The currency of the invoice item ({item.priced.currency}) does not match the currency of the "
            f"invoice ({invoice.currency}).",
            param="currency",
        )
    item.invoice = invoice.id
    line = Line(call.new_id("il"), invoice.id, item.priced, item.described, item.id)
    invoice.lines.append(line)
    call.ledger.commitments.hand_over(item.id, invoice.id)
    return line


def pending_items(call: Call, customer: str, currency: str | None = None) -> list[InvoiceItem]:
    """The items that the customer's next invoice takes, oldest first."""
    return [
        item
        for item in call.ledger.invoice_items
        if item.customer == customer and item.invoice is None and currency in (None, item.priced.currency)
    ]


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    request = read_line(parameters)
    described = read_described(parameters, Described(), call.now)
    customer_id, invoice_id = parameters.required_text("customer"), parameters.text("invoice")
    if request.amount is not None or request.unit_amount is not None:
        parameters.currency()
    call.begin()
    existing_customer(call, customer_id)
    if described.subscription is not None:
        call.ledger.subscriptions.require(described.subscription, param="subscription", status=400)
    invoice = None
    if invoice_id is not None:
        invoice = editable_invoice(call.ledger.invoices.require(invoice_id, param="invoice", status=400))
        if invoice.customer != customer_id:
            raise StripeError(400, "The invoice belongs to another customer.", param="invoice")
    priced = request.resolve(call, invoice.currency if invoice is not None else None)
    return add_item(call, customer_id, priced, described, invoice).json()


def _at_path(call: Call) -> InvoiceItem:
    return call.ledger.invoice_items.require(call.path_ids[0], param="invoiceitem")


def _draft_of(call: Call, item: InvoiceItem) -> Invoice | None:
    """The draft the item is on; refuses an item whose invoice is final."""
    if item.invoice is None:
        return None
    invoice = call.ledger.invoices.require(item.invoice, param="invoice")
    if invoice.status != DRAFT:
        raise StripeError(
            400,
            f"This invoice item belongs to {invoice.id}, which is no longer a draft.",
            code="invoice_not_editable",
        )
    return invoice


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    parameters = call.parameters
    request = read_line(parameters)
    read_described(parameters, Described(), call.now)
    call.begin()
    item = _at_path(call)
    before = item.json()
    invoice = _draft_of(call, item)
    if request.names_money:
        item.priced = request.resolve(call, item.priced.currency, item.priced)
    item.described = read_described(parameters, item.described, call.now)
    if invoice is None:
        commit(call, item.id, max(0, item.priced.amount), item.priced.currency)
    else:
        for line in invoice.lines:
            if line.item == item.id:
                line.priced, line.described = item.priced, item.described
        commit_invoice(call, invoice)
    record_event(call, "invoiceitem.updated", item.json(), before)
    return item.json()


def delete(call: Call) -> JsonObject:
    item = _at_path(call)
    invoice = _draft_of(call, item)
    if invoice is not None:
        invoice.lines = [line for line in invoice.lines if line.item != item.id]
        commit_invoice(call, invoice)
    forget(call, item)
    return {"id": item.id, "object": "invoiceitem", "deleted": True}


def forget(call: Call, item: InvoiceItem) -> None:
    record_event(call, "invoiceitem.deleted", item.json())
    commit(call, item.id, 0, item.priced.currency)
    call.ledger.invoice_items.remove(item.id)


def list_items(call: Call) -> JsonObject:
    parameters = call.parameters
    customer, invoice = parameters.text("customer"), parameters.text("invoice")
    pending = parameters.boolean("pending", default=True) if "pending" in parameters else None

    def keep(item: InvoiceItem) -> bool:
        return (
            customer in (None, item.customer)
            and invoice in (None, item.invoice)
            and pending in (None, item.invoice is None)
        )

    return page(call, call.ledger.invoice_items, keep)
