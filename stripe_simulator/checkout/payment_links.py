"""Payment links: pages that any number of customers pay, or as many as a limit says."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.checkout.lines import CheckoutLine, make_lines, read_lines
from stripe_simulator.checkout.session_objects import PAYMENT, SUBSCRIPTION, Session, Terms
from stripe_simulator.checkout.sessions import check_mode, page_of_lines, read_terms
from stripe_simulator.checkout.shipping_options import read_shipping_options
from stripe_simulator.checkout.shipping_rates import ShippingRate
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.lists import page, whole_list
from stripe_simulator.money import commit, commit_without_bound
from stripe_simulator.parameters import Parameters


@dataclass(slots=True)
class PaymentLink:
    """`limit` is how many sessions may complete; None is no limit, and then the commitment has no bound."""

    id: str
    created: int
    currency: str
    metadata: dict[str, str]
    terms: Terms
    lines: list[CheckoutLine] = field(default_factory=list)
    shipping_options: list[ShippingRate] = field(default_factory=list)
    active: bool = True
    limit: int | None = None
    completed: int = 0

    @property
    def mode(self) -> str:
        return SUBSCRIPTION if any(line.price.recurring for line in self.lines) else PAYMENT

    @property
    def most(self) -> int:
        """The most that one customer can make of it."""
        dearest = max((rate.amount for rate in self.shipping_options), default=0)
        return sum(line.largest(self.currency) for line in self.lines) + dearest

    def open_session(self, now: int) -> Session:
        """A customer opens the link."""
        session = Session(
            "", now, self.mode, self.currency, now + 24 * 60 * 60, dict(self.metadata), self.terms
        )
        session.lines, session.payment_link = list(self.lines), self.id
        session.shipping_options = list(self.shipping_options)
        session.shipping = 0 if self.shipping_options else None
        return session

    def line_items(self) -> JsonObject:
        """Shown only when they are expanded, or by their own path."""
        items = [line.json_in(self.currency) for line in self.lines]
        return whole_list(items, f"/v1/payment_links/{self.id}/line_items")

    def json(self) -> JsonObject:
        restrictions = None
        if self.limit is not None:
            restrictions = {"completed_sessions": {"count": self.completed, "limit": self.limit}}
        return {
            "id": self.id,
            "object": "payment_link",
            "active": self.active,
            "after_completion": {
                "hosted_confirmation": {"custom_message": None},
                "type": "hosted_confirmation",
            },
            "allow_promotion_codes": False,
            "application_fee_amount": None,
            "currency": self.currency,
            "inactive_message": None,
            "livemode": False,
            "metadata": self.metadata,
            "restrictions": restrictions,
            "shipping_options": [
                {"shipping_amount": rate.amount, "shipping_rate": rate.id} for rate in self.shipping_options
            ],
            "submit_type": "auto",
            "transfer_data": None,
            "url": f"https://buy.stripe.com/test_{self.id}",
        }


def commit_link(call: Call, link: PaymentLink, *, was_open: bool = False) -> None:
    """An active link commits its price for each session that may still complete."""
    if not link.active:
        commit(call, link.id, 0, link.currency)
    elif link.limit is not None:
        commit(call, link.id, link.most * max(0, link.limit - link.completed), link.currency)
    elif not was_open:
        commit_without_bound(call, link.id, link.currency)


def _read_limit(parameters: Parameters) -> int | None:
    restrictions = parameters.hash("restrictions", "completed_sessions")
    completed = restrictions.hash("completed_sessions", "limit") if restrictions is not None else None
    return completed.required_positive_integer("limit") if completed is not None else None


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    requests = read_lines(parameters)
    if not requests:
        raise missing_parameter("line_items")
    currency = parameters.currency() if "currency" in parameters else None
    options = read_shipping_options(parameters)
    link = PaymentLink(
        id="",
        created=call.now,
        currency=currency or "usd",
        metadata=parameters.metadata({}),
        terms=read_terms(parameters),
        limit=_read_limit(parameters),
    )
    call.begin()
    link.lines, link.currency = make_lines(call, requests, currency)
    link.shipping_options = [find(call) for find in options]
    check_mode(link.mode, link.lines)
    link.id = call.new_id("plink")
    call.ledger.payment_links.add(link)
    commit_link(call, link)
    record_event(call, "payment_link.created", link.json())
    return link.json()


def _at_path(call: Call) -> PaymentLink:
    return call.ledger.payment_links.require(call.path_ids[0], param="payment_link")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Switch it on or off, change its limit, and the quantities of the lines it has."""
    parameters = call.parameters
    active, limit = parameters.boolean("active", default=True), _read_limit(parameters)
    requests = read_lines(parameters)
    if any(request.id is None or request.price is not None for request in requests):
        raise StripeError(400, "Only the lines that a payment link has can be updated.", param="line_items")
    parameters.metadata({})
    call.begin()
    link = _at_path(call)
    before, was_open = link.json(), link.active and link.limit is None
    by_id = {line.id: line for line in link.lines}
    for request in requests:
        line = by_id.get(request.id or "")
        if line is None:
            raise StripeError(400, f"No such line item: '{request.id}'", code="resource_missing")
        request.change(line)
    if "active" in parameters:
        link.active = active
    if "restrictions" in parameters:
        link.limit = limit
    link.metadata = parameters.metadata(link.metadata)
    commit_link(call, link, was_open=was_open and not requests)
    record_event(call, "payment_link.updated", link.json(), before)
    return link.json()


def list_links(call: Call) -> JsonObject:
    active = call.parameters.boolean("active", default=True) if "active" in call.parameters else None
    return page(call, call.ledger.payment_links, lambda link: active in (None, link.active))


def list_line_items(call: Call) -> JsonObject:
    link = _at_path(call)
    return page_of_lines(call, link.lines, link.currency)
