"""Starts a subscription: its items, its trial, its first invoice and the payment of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from stripe_simulator.billing import invoice_life
from stripe_simulator.billing.invoice_items import add_item
from stripe_simulator.billing.invoice_objects import OPEN, Described
from stripe_simulator.billing.line_pricing import LineRequest
from stripe_simulator.billing.subscription_billing import (
    DEFAULT_INCOMPLETE,
    ERROR_IF_INCOMPLETE,
    begin_period,
    collect,
    draft_invoice,
    line_for,
    line_once,
    period_after,
)
from stripe_simulator.billing.subscription_objects import (
    ACTIVE,
    INCOMPLETE,
    INCOMPLETE_EXPIRED,
    TRIALING,
    Subscription,
    SubscriptionItem,
)
from stripe_simulator.billing.subscription_reading import ItemRequest
from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import StripeError
from stripe_simulator.events import record_event


@dataclass(slots=True)
class Plan:
    """What to start, read but not yet looked up. `anchor` is where the first full period begins."""

    subscription: Subscription
    items: list[ItemRequest]
    added: list[LineRequest]
    behavior: str
    currency: str | None = None
    trial_end: int | None = None
    anchor: int | None = None
    prorates: bool = True
    off_session: bool = True
    # What the first invoice bills once, and the object whose commitment it takes over.
    once: list[tuple[Price, int]] = field(default_factory=list)
    takes_over: str | None = None


def start(call: Call, plan: Plan) -> Subscription:
    """Make the subscription and its first invoice; raises when the payment behavior says so."""
    subscription = plan.subscription
    existing_customer(call, subscription.customer)
    _take_items(call, plan)
    _refuse_without_method(call, plan)
    subscription.id = call.new_id("sub")
    if plan.trial_end is not None and plan.trial_end > call.now:
        subscription.trial_start, subscription.trial_end = call.now, plan.trial_end
    subscription.billing_cycle_anchor = subscription.trial_end or plan.anchor or call.now
    for item in subscription.items:
        item.id, item.subscription = call.new_id("si"), subscription.id
        first_end = subscription.trial_end or plan.anchor
        begin_period(item, call.now, first_end)
        call.ledger.subscription_items.add(item)
    call.ledger.subscriptions.add(subscription)
    record_event(call, "customer.subscription.created", subscription.json())
    _bill_first(call, plan)
    return subscription


def _take_items(call: Call, plan: Plan) -> None:
    subscription = plan.subscription
    for request in plan.items:
        price = request.find_price(call, plan.currency)
        if price is None:
            raise StripeError(400, "Each item needs a price.", param="items", code="parameter_missing")
        plan.currency = plan.currency or price.currency
        subscription.currency = plan.currency
        metadata = request.parameters.metadata({})
        subscription.items.append(
            SubscriptionItem("", call.now, "", price, request.quantity_for(price), metadata)
        )


def _refuse_without_method(call: Call, plan: Plan) -> None:
    """An automatic charge needs something to charge, before anything is made."""
    subscription = plan.subscription
    customer = existing_customer(call, subscription.customer)
    pays_later = plan.behavior == DEFAULT_INCOMPLETE or subscription.collection_method == "send_invoice"
    free = plan.trial_end is not None and not plan.added
    has_method = (
        subscription.default_payment_method or customer.default_payment_method or customer.default_source
    )
    if not (pays_later or free or has_method):
        raise StripeError(
            400,
            "This customer has no attached payment source or default payment method. Please consider adding "
            "a default payment method.",
            code="resource_missing",
        )


def _first_part(call: Call, plan: Plan, item: SubscriptionItem) -> Decimal:
    """How much of a full period the first invoice bills for an item."""
    if plan.subscription.trial_end is not None:
        return Decimal(0)
    if plan.anchor is None:
        return Decimal(1)
    whole = period_after(call.now, item.price.recurring) - call.now
    return Decimal(item.period_end - call.now) / Decimal(whole) if plan.prorates else Decimal(0)


def _bill_first(call: Call, plan: Plan) -> None:
    subscription = plan.subscription
    for request in plan.added:
        described = Described(subscription=subscription.id, period_start=call.now, period_end=call.now)
        add_item(call, subscription.customer, request.resolve(call, subscription.currency), described)
    lines = [
        line_for(call, subscription, item, part=_first_part(call, plan, item)) for item in subscription.items
    ]
    lines += [line_once(call, subscription.currency, price, quantity) for price, quantity in plan.once]
    invoice = draft_invoice(call, subscription, lines, "subscription_create", takes_over=plan.takes_over)
    refusal = collect(call, subscription, invoice, plan.behavior, off_session=plan.off_session)
    if refusal is not None and plan.behavior == ERROR_IF_INCOMPLETE:
        subscription.status = INCOMPLETE_EXPIRED
        invoice_life.void(call, invoice)
        call.ledger.subscriptions.remove(subscription.id)
        raise refusal
    unpaid = invoice.status == OPEN and subscription.collection_method != "send_invoice"
    if unpaid:
        subscription.status = INCOMPLETE
    else:
        subscription.status = TRIALING if subscription.trial_end is not None else ACTIVE
