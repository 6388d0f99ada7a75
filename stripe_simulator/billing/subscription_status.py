"""How a subscription's status follows the payment of its invoices."""

from __future__ import annotations

from stripe_simulator.billing.invoice_objects import Invoice
from stripe_simulator.billing.subscription_objects import (
    ACTIVE,
    INCOMPLETE,
    INCOMPLETE_EXPIRED,
    PAST_DUE,
    PAUSED,
    Subscription,
)
from stripe_simulator.call import Call
from stripe_simulator.events import record_event


def _of(call: Call, invoice: Invoice) -> Subscription | None:
    return call.ledger.subscriptions.get(invoice.subscription or "")


def _become(call: Call, subscription: Subscription, status: str) -> None:
    before = subscription.json()
    subscription.status = status
    record_event(call, "customer.subscription.updated", subscription.json(), before)


def invoice_paid(call: Call, invoice: Invoice) -> None:
    subscription = _of(call, invoice)
    if subscription is not None and subscription.status in (INCOMPLETE, PAST_DUE, PAUSED):
        _become(call, subscription, ACTIVE)


def invoice_failed(call: Call, invoice: Invoice) -> None:
    """A first payment that fails leaves the subscription incomplete; a later one makes it past due."""
    subscription = _of(call, invoice)
    if (
        subscription is not None
        and subscription.status == ACTIVE
        and invoice.billing_reason == "subscription_cycle"
    ):
        _become(call, subscription, PAST_DUE)


def invoice_voided(call: Call, invoice: Invoice) -> None:
    subscription = _of(call, invoice)
    if subscription is not None and subscription.status == INCOMPLETE:
        _become(call, subscription, INCOMPLETE_EXPIRED)
