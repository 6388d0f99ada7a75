"""Begins a subscription's next period when a test says that its time has come."""

from __future__ import annotations

from stripe_simulator.billing.subscription_billing import (
    ALLOW_INCOMPLETE,
    begin_period,
    collect,
    draft_invoice,
    line_for,
)
from stripe_simulator.billing.subscription_objects import ACTIVE, ENDED, PAUSED, TRIALING, Subscription
from stripe_simulator.billing.subscriptions import end_subscription
from stripe_simulator.call import Call
from stripe_simulator.outcomes import NotWaiting


def renew_subscription(call: Call, subscription: Subscription, usage: dict[str, int]) -> None:
    """Bill the next period, or end the subscription if it was to end; `usage` is for metered items."""
    if subscription.status in (*ENDED, PAUSED):
        raise NotWaiting(f"{subscription.id} is {subscription.status}")
    if subscription.cancel_at_period_end:
        end_subscription(call, subscription, bill=False, prorate=False)
        return
    if subscription.status == TRIALING:
        subscription.status = ACTIVE
    for item in subscription.items:
        begin_period(item, item.period_end)
    lines = [line_for(call, subscription, item, usage=usage.get(item.id)) for item in subscription.items]
    invoice = draft_invoice(call, subscription, lines, "subscription_cycle")
    collect(call, subscription, invoice, ALLOW_INCOMPLETE)
