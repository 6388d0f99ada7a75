"""The lines of a draft: added, changed and removed without invoice items of one's own."""

from __future__ import annotations

from collections.abc import Callable

from stripe_simulator.billing.invoice_items import add_item, forget, put_on
from stripe_simulator.billing.invoice_money import commit_invoice, editable_invoice
from stripe_simulator.billing.invoice_objects import Described, Invoice, Line
from stripe_simulator.billing.line_pricing import LINE, LineRequest, read_described, read_line
from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.money import commit
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import CHECKOUT_PRICE_DATA


def _draft(call: Call) -> Invoice:
    return editable_invoice(call.ledger.invoices.require(call.path_ids[0], param="invoice"))


def _requests(call: Call, known: str) -> list[tuple[Parameters, LineRequest]]:
    sent = call.parameters.hashes("lines", known)
    if not sent:
        raise missing_parameter("lines")
    return [(one, read_line(one, CHECKOUT_PRICE_DATA)) for one in sent]


def _changed(call: Call, invoice: Invoice, before: JsonObject) -> JsonObject:
    commit_invoice(call, invoice)
    record_event(call, "invoice.updated", invoice.json(), before)
    return invoice.json()


def _metadata(parameters: Parameters) -> Callable[[dict[str, str]], dict[str, str]]:
    sent = parameters.mapping("invoice_metadata")
    reader = Parameters({"metadata": sent if sent is not None else {}})
    return reader.metadata


def add_lines(call: Call) -> JsonObject:
    """Each line is a new item, or an invoice item that waits for an invoice."""
    requests = _requests(call, LINE)
    for one, _ in requests:
        read_described(one, Described(), call.now)
    metadata = _metadata(call.parameters)
    call.begin()
    invoice = _draft(call)
    before = invoice.json()
    for one, request in requests:
        item_id = one.text("invoice_item")
        if item_id is None:
            described = read_described(one, Described(), call.now)
            add_item(call, invoice.customer, request.resolve(call, invoice.currency), described, invoice)
            continue
        item = call.ledger.invoice_items.require(item_id, param=one.full_name("invoice_item"), status=400)
        if item.invoice is not None or item.customer != invoice.customer:
            raise StripeError(400, f"Invoice item {item_id} cannot be added to this invoice.")
        put_on(call, invoice, item)
    invoice.metadata = metadata(invoice.metadata)
    return _changed(call, invoice, before)


def _line(invoice: Invoice, line_id: str) -> Line:
    for line in invoice.lines:
        if line.id == line_id:
            return line
    raise no_such_object("line_item", line_id, param="line_item_id")


def _change(call: Call, line: Line, sent: Parameters, request: LineRequest) -> None:
    if request.names_money:
        line.priced = request.resolve(call, line.priced.currency, line.priced)
    line.described = read_described(sent, line.described, call.now)
    item = call.ledger.invoice_items.get(line.item or "")
    if item is not None:
        item.priced, item.described = line.priced, line.described


def update_lines(call: Call) -> JsonObject:
    requests = _requests(call, LINE + " id")
    for one, _ in requests:
        one.required_text("id")
        read_described(one, Described(), call.now)
    metadata = _metadata(call.parameters)
    call.begin()
    invoice = _draft(call)
    before = invoice.json()
    for one, request in requests:
        _change(call, _line(invoice, one.required_text("id")), one, request)
    invoice.metadata = metadata(invoice.metadata)
    return _changed(call, invoice, before)


def update_line(call: Call) -> JsonObject:
    """One line by its own path; answers with the line."""
    request = read_line(call.parameters, CHECKOUT_PRICE_DATA)
    read_described(call.parameters, Described(), call.now)
    call.begin()
    invoice = _draft(call)
    before = invoice.json()
    line = _line(invoice, call.path_ids[1])
    _change(call, line, call.parameters, request)
    _changed(call, invoice, before)
    return line.json()


def remove_lines(call: Call) -> JsonObject:
    """`delete` forgets the item behind a line; `unassign` lets it wait for another invoice."""
    sent = call.parameters.hashes("lines", "behavior id")
    behaviors = [one.choice("behavior", ("delete", "unassign")) or "delete" for one in sent]
    ids = [one.required_text("id") for one in sent]
    call.begin()
    invoice = _draft(call)
    before = invoice.json()
    for line_id, behavior in zip(ids, behaviors, strict=True):
        line = _line(invoice, line_id)
        invoice.lines.remove(line)
        item = call.ledger.invoice_items.get(line.item or "")
        if item is not None and behavior == "delete":
            forget(call, item)
        elif item is not None:
            item.invoice = None
            commit_invoice(call, invoice)
            commit(call, item.id, max(0, item.priced.amount), item.priced.currency)
    return _changed(call, invoice, before)
