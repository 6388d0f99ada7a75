"""Quotes: an offer that becomes an invoice or a subscription when it is accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stripe_simulator.billing import invoice_life
from stripe_simulator.billing.invoice_objects import Invoice
from stripe_simulator.billing.subscription_billing import ALLOW_INCOMPLETE, DEFAULT_INCOMPLETE, line_once
from stripe_simulator.billing.subscription_creation import Plan, start
from stripe_simulator.billing.subscription_objects import Subscription
from stripe_simulator.billing.subscription_reading import DAY_SECONDS, ItemRequest
from stripe_simulator.call import Call
from stripe_simulator.checkout.lines import CheckoutLine, make_lines, read_lines
from stripe_simulator.checkout.sessions import page_of_lines
from stripe_simulator.customers import existing_customer
from stripe_simulator.downloads import PIECE_BYTES, Download
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.lists import page, whole_list
from stripe_simulator.money import commit
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import PriceRequest

DRAFT, OPEN, ACCEPTED, CANCELED = "draft", "open", "accepted", "canceled"
COLLECTION_METHODS = ("charge_automatically", "send_invoice")


@dataclass(slots=True)
class Quote:
    id: str
    created: int
    customer: str | None
    currency: str
    collection_method: str
    expires_at: int
    metadata: dict[str, str]
    lines: list[CheckoutLine] = field(default_factory=list)
    trial_days: int | None = None
    description: str | None = None
    status: str = DRAFT
    number: str | None = None
    invoice: str | None = None
    subscription: str | None = None
    finalized_at: int | None = None
    accepted_at: int | None = None
    canceled_at: int | None = None

    @property
    def due(self) -> int:
        """What is due when it is accepted."""
        free = self.trial_days is not None
        return sum(line.amount(self.currency) for line in self.lines if not (free and line.price.recurring))

    @property
    def total(self) -> int:
        return sum(line.amount(self.currency) for line in self.lines)

    def _computed(self) -> JsonObject:
        recurring = [line for line in self.lines if line.price.recurring]
        amount = sum(line.amount(self.currency) for line in recurring)
        rule = (recurring[0].price.recurring or {}) if recurring else {}
        return {
            "recurring": {
                "amount_subtotal": amount,
                "amount_total": amount,
                "interval": rule.get("interval"),
                "interval_count": rule.get("interval_count"),
            }
            if recurring
            else None,
            "upfront": {"amount_subtotal": self.due, "amount_total": self.due},
        }

    def line_items(self) -> JsonObject:
        """Shown only when they are expanded, or by their own path."""
        items = [line.json_in(self.currency) for line in self.lines]
        return whole_list(items, f"/v1/quotes/{self.id}/line_items")

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "quote",
            "amount_subtotal": self.total,
            "amount_total": self.total,
            "collection_method": self.collection_method,
            "computed": self._computed(),
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "expires_at": self.expires_at,
            "invoice": self.invoice,
            "livemode": False,
            "metadata": self.metadata,
            "number": self.number,
            "status": self.status,
            "status_transitions": {
                "accepted_at": self.accepted_at,
                "canceled_at": self.canceled_at,
                "finalized_at": self.finalized_at,
            },
            "subscription": self.subscription,
            "subscription_data": {"effective_date": None, "trial_period_days": self.trial_days},
        }


def _trial_days(parameters: Parameters) -> int | None:
    data = parameters.hash(
        "subscription_data", "billing_mode description effective_date metadata trial_period_days"
    )
    return data.positive_integer("trial_period_days") if data is not None else None


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    requests = read_lines(parameters)
    quote = Quote(
        id="",
        created=call.now,
        customer=parameters.text("customer"),
        currency="usd",
        collection_method=parameters.choice("collection_method", COLLECTION_METHODS) or COLLECTION_METHODS[0],
        expires_at=parameters.positive_integer("expires_at") or call.now + 30 * DAY_SECONDS,
        metadata=parameters.metadata({}),
        trial_days=_trial_days(parameters),
        description=parameters.text("description"),
    )
    call.begin()
    if quote.customer is not None:
        existing_customer(call, quote.customer)
    quote.lines, quote.currency = make_lines(call, requests, None)
    quote.id = call.new_id("qt")
    call.ledger.quotes.add(quote)
    record_event(call, "quote.created", quote.json())
    return quote.json()


def _at_path(call: Call) -> Quote:
    return call.ledger.quotes.require(call.path_ids[0], param="quote")


def _require(quote: Quote, allowed: tuple[str, ...], verb: str) -> None:
    if quote.status not in allowed:
        raise StripeError(400, f"This quote is {quote.status} and cannot be {verb}.")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    parameters = call.parameters
    requests, customer = read_lines(parameters), parameters.text("customer")
    expires, days = parameters.positive_integer("expires_at"), _trial_days(parameters)
    parameters.metadata({})
    call.begin()
    quote = _at_path(call)
    if requests or customer or expires or days:
        _require(quote, (DRAFT,), "changed")
    if customer is not None:
        quote.customer = existing_customer(call, customer).id
    if requests:
        quote.lines, quote.currency = make_lines(call, requests, None)
    quote.expires_at, quote.trial_days = expires or quote.expires_at, days or quote.trial_days
    if "description" in parameters:
        quote.description = parameters.text("description")
    quote.metadata = parameters.metadata(quote.metadata)
    return quote.json()


def finalize(call: Call) -> JsonObject:
    """Open it; from now on its customer may accept it, so it commits what would be due."""
    expires = call.parameters.positive_integer("expires_at")
    call.begin()
    quote = _at_path(call)
    _require(quote, (DRAFT,), "finalized")
    if quote.customer is None or not quote.lines:
        raise missing_parameter("customer" if quote.customer is None else "line_items")
    quote.expires_at = expires or quote.expires_at
    quote.status, quote.finalized_at = OPEN, call.now
    quote.number = f"QT-{quote.id[3:11]}-1"
    commit(call, quote.id, quote.due, quote.currency)
    record_event(call, "quote.finalized", quote.json())
    return quote.json()


def accept(call: Call) -> JsonObject:
    """Make the subscription, or the invoice, and collect it as the quote says."""
    call.begin()
    quote = _at_path(call)
    _require(quote, (OPEN,), "accepted")
    if call.now >= quote.expires_at:
        raise StripeError(400, "This quote has expired and cannot be accepted.")
    if any(line.price.recurring for line in quote.lines):
        _subscribe(call, quote)
    else:
        _invoice(call, quote)
    quote.status, quote.accepted_at = ACCEPTED, call.now
    commit(call, quote.id, 0, quote.currency)
    record_event(call, "quote.accepted", quote.json())
    return quote.json()


def _subscribe(call: Call, quote: Quote) -> None:
    subscription = Subscription(
        "", call.now, quote.customer or "", quote.currency, quote.collection_method, dict(quote.metadata)
    )
    if quote.collection_method == "send_invoice":
        subscription.days_until_due = 30
    recurring = [line for line in quote.lines if line.price.recurring]
    plan = Plan(
        subscription=subscription,
        items=[_item(line) for line in recurring],
        added=[],
        behavior=DEFAULT_INCOMPLETE if quote.collection_method == "send_invoice" else ALLOW_INCOMPLETE,
        currency=quote.currency,
        trial_end=call.now + quote.trial_days * DAY_SECONDS if quote.trial_days is not None else None,
        once=[(line.price, line.quantity) for line in quote.lines if not line.price.recurring],
        takes_over=quote.id,
    )
    start(call, plan)
    quote.subscription, quote.invoice = subscription.id, subscription.latest_invoice


def _item(line: CheckoutLine) -> ItemRequest:
    request = PriceRequest(Parameters({}), line.price.id, lambda _: line.price, "price")
    return ItemRequest(Parameters({}), None, request, None if line.price.is_metered else line.quantity)


def _invoice(call: Call, quote: Quote) -> None:
    """One-time prices become a draft that collects by itself later; it is not charged here."""
    invoice = Invoice(
        id="",
        created=call.now,
        customer=quote.customer or "",
        currency=quote.currency,
        collection_method=quote.collection_method,
        auto_advance=True,
        metadata=dict(quote.metadata),
        days_until_due=30 if quote.collection_method == "send_invoice" else None,
        quote=quote.id,
    )
    invoice.lines = [line_once(call, quote.currency, line.price, line.quantity) for line in quote.lines]
    invoice_life.keep_draft(call, invoice, take_pending=False, takes_over=quote.id)
    quote.invoice = invoice.id


def cancel(call: Call) -> JsonObject:
    call.begin()
    quote = _at_path(call)
    _require(quote, (DRAFT, OPEN), "canceled")
    quote.status, quote.canceled_at = CANCELED, call.now
    commit(call, quote.id, 0, quote.currency)
    record_event(call, "quote.canceled", quote.json())
    return quote.json()


def pdf(call: Call) -> Download:
    """A document of the size that a test has set; it is made while it is sent."""
    quote = _at_path(call)
    if quote.finalized_at is None:
        raise StripeError(400, "A draft quote has no PDF; finalize it first.")
    return Download("application/pdf", _pdf_pieces(quote.id, call.settings.quote_pdf_bytes))


def _pdf_pieces(name: str, size: int) -> Iterator[bytes]:
    head, filler = f"%PDF-1.7\n% {name}\n".encode(), b"%" + b"0123456789abcde\n" * (PIECE_BYTES // 16)
    sent = 0
    while sent < size:
        piece = (head if sent == 0 else filler)[: size - sent]
        sent += len(piece)
        yield piece


def list_line_items(call: Call) -> JsonObject:
    quote = _at_path(call)
    return page_of_lines(call, quote.lines, quote.currency)


def list_quotes(call: Call) -> JsonObject:
    customer, status = call.parameters.text("customer"), call.parameters.text("status")
    return page(
        call,
        call.ledger.quotes,
        lambda quote: customer in (None, quote.customer) and status in (None, quote.status),
    )
