"""Invoices that a subscription makes: the first, those after a change, and those of each new period."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from stripe_simulator.billing import invoice_life
from stripe_simulator.billing.invoice_objects import OPEN, PAID, Described, Invoice, Line, Priced
from stripe_simulator.billing.line_pricing import name_of
from stripe_simulator.billing.subscription_objects import Subscription, SubscriptionItem
from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price, rounded
from stripe_simulator.errors import JsonObject, StripeError

DEFAULT_INCOMPLETE = "default_incomplete"
ALLOW_INCOMPLETE = "allow_incomplete"
ERROR_IF_INCOMPLETE = "error_if_incomplete"
PENDING_IF_INCOMPLETE = "pending_if_incomplete"


def period_after(start: int, recurring: JsonObject | None) -> int:
    """The end of the billing period that starts here; a month from the 31st ends on the last of the month."""
    rule = recurring or {"interval": "month", "interval_count": 1}
    count, begin = int(rule["interval_count"]), datetime.fromtimestamp(start, UTC)
    if rule["interval"] in ("day", "week"):
        days = count * (7 if rule["interval"] == "week" else 1)
        return int((begin + timedelta(days=days)).timestamp())
    months = begin.month - 1 + count * (12 if rule["interval"] == "year" else 1)
    year, month = begin.year + months // 12, months % 12 + 1
    day = min(begin.day, calendar.monthrange(year, month)[1])
    return int(begin.replace(year=year, month=month, day=day).timestamp())


def begin_period(item: SubscriptionItem, start: int, end: int | None = None) -> None:
    item.period_start = start
    item.period_end = end if end is not None else period_after(start, item.price.recurring)


def share(item: SubscriptionItem, moment: int) -> Decimal:
    """Which part of the item's period is still to come."""
    whole = item.period_end - item.period_start
    left = min(max(item.period_end - moment, 0), whole)
    return Decimal(left) / Decimal(whole) if whole > 0 else Decimal(0)


def line_for(
    call: Call,
    subscription: Subscription,
    item: SubscriptionItem,
    *,
    part: Decimal = Decimal(1),
    usage: int | None = None,
) -> Line:
    """One item's line for its present period; `part` of it, or nothing in a trial."""
    quantity = usage if item.quantity is None and usage is not None else item.quantity or 0
    price, currency = item.price, subscription.currency
    amount = rounded(Decimal(price.total(quantity, currency)) * part)
    described = Described(
        description=f"{quantity} x {name_of(call, price)}",
        metadata=dict(item.metadata),
        subscription=subscription.id,
        subscription_item=item.id,
        period_start=item.period_start,
        period_end=item.period_end,
    )
    priced = Priced(amount, currency, price, price.unit_amount_in(currency), Decimal(quantity))
    return Line(call.new_id("il"), "", priced, described)


def line_once(call: Call, currency: str, price: Price, quantity: int) -> Line:
    """A line for something that is billed a single time."""
    priced = Priced(
        price.total(quantity, currency), currency, price, price.unit_amount_in(currency), Decimal(quantity)
    )
    described = Described(name_of(call, price), period_start=call.now, period_end=call.now)
    return Line(call.new_id("il"), "", priced, described)


def draft_invoice(
    call: Call, subscription: Subscription, lines: list[Line], reason: str, *, takes_over: str | None = None
) -> Invoice:
    """A draft with these lines and whatever waits for the customer's next invoice."""
    invoice = Invoice(
        id="",
        created=call.now,
        customer=subscription.customer,
        currency=subscription.currency,
        collection_method=subscription.collection_method,
        auto_advance=True,
        metadata={},
        billing_reason=reason,
        description=subscription.description,
        days_until_due=subscription.days_until_due,
        subscription=subscription.id,
        lines=lines,
    )
    invoice_life.keep_draft(call, invoice, take_pending=True, takes_over=takes_over)
    subscription.latest_invoice = invoice.id
    return invoice


def collect(
    call: Call, subscription: Subscription, invoice: Invoice, behavior: str, *, off_session: bool = True
) -> StripeError | None:
    """Finalize and, unless the customer is to pay by hand, charge; returns the refusal of a failed charge."""
    if invoice.status not in (OPEN, PAID):
        invoice_life.finalize(call, invoice)
    by_hand = subscription.collection_method == "send_invoice" or behavior == DEFAULT_INCOMPLETE
    if invoice.status == PAID or by_hand or subscription.pause_collection is not None:
        return None
    try:
        invoice_life.pay(call, invoice, None, off_session=off_session)
    except StripeError as refusal:
        return refusal
    return None
