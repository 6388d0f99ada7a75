"""The subscription endpoints: create, change, cancel, pause, resume, list."""

from __future__ import annotations

from stripe_simulator.billing.invoice_items import forget
from stripe_simulator.billing.subscription_billing import collect, draft_invoice
from stripe_simulator.billing.subscription_changes import Change, apply_change, credit_unused
from stripe_simulator.billing.subscription_creation import Plan, start
from stripe_simulator.billing.subscription_objects import (
    ACTIVE,
    CANCELED,
    ENDED,
    PAUSED,
    TRIALING,
    Subscription,
)
from stripe_simulator.billing.subscription_reading import (
    read_added,
    read_behavior,
    read_items,
    read_proration,
    read_trial_end,
)
from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.parameters import Parameters

COLLECTION_METHODS = ("charge_automatically", "send_invoice")
STATUSES = (
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)


def create(call: Call) -> JsonObject:
    """Also at the older path below a customer."""
    parameters = call.parameters
    below_customer = call.path.startswith("/v1/customers/")
    customer = call.path_ids[0] if below_customer else parameters.required_text("customer")
    items = read_items(parameters)
    if not items:
        raise missing_parameter("items")
    method = parameters.choice("collection_method", COLLECTION_METHODS) or COLLECTION_METHODS[0]
    subscription = Subscription("", call.now, customer, "usd", method, {})
    _describe(subscription, parameters)
    if method == "send_invoice" and subscription.days_until_due is None:
        raise missing_parameter("days_until_due")
    plan = Plan(
        subscription=subscription,
        items=items,
        added=read_added(parameters),
        behavior=read_behavior(parameters),
        currency=parameters.currency() if "currency" in parameters else None,
        trial_end=read_trial_end(parameters, call.now),
        anchor=_future_anchor(parameters, call.now),
        prorates=read_proration(parameters) != "none",
        off_session=parameters.boolean("off_session", default=True),
    )
    call.begin()
    start(call, plan)
    return subscription.json()


def _future_anchor(parameters: Parameters, now: int) -> int | None:
    anchor = parameters.integer("billing_cycle_anchor")
    if anchor is not None and anchor <= now:
        raise StripeError(400, "billing_cycle_anchor must be in the future.", param="billing_cycle_anchor")
    return anchor


def _describe(subscription: Subscription, parameters: Parameters) -> None:
    for name in ("description", "default_payment_method"):
        if name in parameters:
            setattr(subscription, name, parameters.text(name))
    for name in ("pause_collection", "cancellation_details", "trial_settings"):
        if name in parameters:
            setattr(subscription, name, parameters.mapping(name))
    if "days_until_due" in parameters:
        subscription.days_until_due = parameters.positive_integer("days_until_due")
    if "cancel_at" in parameters:
        subscription.cancel_at = parameters.positive_integer("cancel_at")
    ends = parameters.boolean("cancel_at_period_end", subscription.cancel_at_period_end)
    subscription.cancel_at_period_end = ends
    subscription.metadata = parameters.metadata(subscription.metadata)


def _at_path(call: Call) -> Subscription:
    """By its own id, or below the customer it belongs to."""
    subscription = call.ledger.subscriptions.require(call.path_ids[-1], param="id")
    if len(call.path_ids) > 1 and subscription.customer != call.path_ids[0]:
        raise no_such_object("subscription", subscription.id, param="id")
    return subscription


def _running(call: Call) -> Subscription:
    subscription = _at_path(call)
    if subscription.status in ENDED:
        raise no_such_object("subscription", subscription.id, param="id")
    return subscription


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    parameters = call.parameters
    _describe(Subscription("", 0, "", "", "", {}), parameters)
    trial_end = read_trial_end(parameters, call.now)
    anchor = parameters.choice("billing_cycle_anchor", ("now", "unchanged"))
    method = parameters.choice("collection_method", COLLECTION_METHODS)
    change = Change(
        items=read_items(parameters),
        proration=read_proration(parameters),
        behavior=read_behavior(parameters),
        moment=parameters.integer("proration_date") or call.now,
        added=read_added(parameters),
        restarts=anchor == "now",
        off_session=parameters.boolean("off_session", default=True),
    )
    call.begin()
    subscription = _running(call)
    before = subscription.json()
    _describe(subscription, parameters)
    subscription.collection_method = method or subscription.collection_method
    if subscription.cancel_at_period_end and subscription.canceled_at is None:
        subscription.canceled_at, subscription.cancel_at = call.now, subscription.period_end
    elif "cancel_at_period_end" in parameters and not subscription.cancel_at_period_end:
        subscription.canceled_at = subscription.cancel_at = None
    if trial_end is not None:
        change.restarts = _set_trial(call, subscription, trial_end) or change.restarts
    apply_change(call, subscription, change)
    record_event(call, "customer.subscription.updated", subscription.json(), before)
    return subscription.json()


def _set_trial(call: Call, subscription: Subscription, end: int) -> bool:
    """Prolong, begin or end the trial; tells whether a paid cycle begins now."""
    was_trial = subscription.status == TRIALING
    if end <= call.now:
        if was_trial:
            subscription.trial_end, subscription.status = call.now, ACTIVE
        return was_trial
    subscription.trial_start = subscription.trial_start or call.now
    subscription.trial_end, subscription.status = end, TRIALING
    subscription.billing_cycle_anchor = end
    for item in subscription.items:
        item.period_end = end
    return False


def cancel(call: Call) -> JsonObject:
    """At once. `prorate` credits unused time, `invoice_now` bills what is pending; both default to false."""
    parameters = call.parameters
    bill, prorate = (
        parameters.boolean("invoice_now", default=False),
        parameters.boolean("prorate", default=False),
    )
    details = parameters.mapping("cancellation_details")
    subscription = _running(call)
    subscription.cancellation_details = details or subscription.cancellation_details
    end_subscription(call, subscription, bill=bill, prorate=prorate)
    return subscription.json()


def end_subscription(call: Call, subscription: Subscription, *, bill: bool, prorate: bool) -> None:
    if not bill:
        for item in list(call.ledger.invoice_items):
            described = item.described
            if item.invoice is None and described.proration and described.subscription == subscription.id:
                forget(call, item)
    if prorate:
        credit_unused(call, subscription)
    if bill:
        invoice = draft_invoice(call, subscription, [], "manual")
        collect(call, subscription, invoice, "allow_incomplete")
    subscription.status = CANCELED
    subscription.canceled_at = subscription.ended_at = call.now
    record_event(call, "customer.subscription.deleted", subscription.json())


def pause(call: Call) -> JsonObject:
    """No further invoices until it is resumed; `invoicing_behavior=invoice` bills what is pending first."""
    parameters = call.parameters
    bill = parameters.choice("invoicing_behavior", ("invoice", "pending_invoice_item")) == "invoice"
    parameters.choice("type", ("subscription",))
    call.begin()
    subscription = _running(call)
    before = subscription.json()
    if bill:
        collect(call, subscription, draft_invoice(call, subscription, [], "manual"), "allow_incomplete")
    subscription.status = PAUSED
    record_event(call, "customer.subscription.paused", subscription.json(), before)
    return subscription.json()


def resume(call: Call) -> JsonObject:
    """A new cycle begins now and is billed at once; it stays paused until that is paid."""
    parameters = call.parameters
    anchor = parameters.choice("billing_cycle_anchor", ("now", "unchanged"))
    change = Change([], read_proration(parameters), read_behavior(parameters), call.now)
    call.begin()
    subscription = _running(call)
    if subscription.status != PAUSED:
        raise StripeError(
            400, f"Only a paused subscription can be resumed; this one is {subscription.status}."
        )
    before = subscription.json()
    change.restarts = anchor != "unchanged"
    apply_change(call, subscription, change)
    if not change.restarts:
        subscription.status = ACTIVE
    record_event(call, "customer.subscription.resumed", subscription.json(), before)
    return subscription.json()


def list_subscriptions(call: Call) -> JsonObject:
    """Canceled ones only when asked for."""
    parameters = call.parameters
    customer = call.path_ids[0] if call.path_ids else parameters.text("customer")
    status, price = parameters.choice("status", STATUSES), parameters.text("price")

    def keep(one: Subscription) -> bool:
        by_status = (
            one.status not in ENDED
            if status is None
            else status in ("all", one.status) or (status == "ended" and one.status in ENDED)
        )
        by_price = price is None or any(item.price.id == price for item in one.items)
        return by_status and by_price and customer in (None, one.customer)

    return page(call, call.ledger.subscriptions, keep)
