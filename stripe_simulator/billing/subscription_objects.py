"""Subscriptions and their items, as they are kept and written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.catalog_objects import Price
from stripe_simulator.errors import JsonObject
from stripe_simulator.forms import Form
from stripe_simulator.lists import whole_list

ACTIVE = "active"
TRIALING = "trialing"
INCOMPLETE = "incomplete"
INCOMPLETE_EXPIRED = "incomplete_expired"
PAST_DUE = "past_due"
PAUSED = "paused"
CANCELED = "canceled"
ENDED = (CANCELED, INCOMPLETE_EXPIRED)


@dataclass(slots=True)
class SubscriptionItem:
    """One price that a subscription bills, and the period that is paid for; metered ones have no quantity."""

    id: str
    created: int
    subscription: str
    price: Price
    quantity: int | None
    metadata: dict[str, str] = field(default_factory=dict)
    period_start: int = 0
    period_end: int = 0

    def total(self, currency: str) -> int:
        """What one period costs in advance: nothing for what is metered."""
        return 0 if self.quantity is None else self.price.total(self.quantity, currency)

    def json(self) -> JsonObject:
        answer: JsonObject = {
            "id": self.id,
            "object": "subscription_item",
            "billing_thresholds": None,
            "created": self.created,
            "current_period_end": self.period_end,
            "current_period_start": self.period_start,
            "discounts": [],
            "metadata": self.metadata,
            "price": self.price.json(),
            "quantity": self.quantity,
            "subscription": self.subscription,
            "tax_rates": [],
        }
        if self.quantity is None:
            del answer["quantity"]
        return answer


@dataclass(slots=True)
class Subscription:
    """What a customer is billed for again and again. Times are unix seconds."""

    id: str
    created: int
    customer: str
    currency: str
    collection_method: str
    metadata: dict[str, str]
    items: list[SubscriptionItem] = field(default_factory=list)
    status: str = INCOMPLETE
    description: str | None = None
    default_payment_method: str | None = None
    days_until_due: int | None = None
    billing_cycle_anchor: int = 0
    trial_start: int | None = None
    trial_end: int | None = None
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    latest_invoice: str | None = None
    pause_collection: Form | None = None
    cancellation_details: Form | None = None
    pending_update: JsonObject | None = None
    trial_settings: Form | None = None

    @property
    def period_end(self) -> int:
        return max((item.period_end for item in self.items), default=self.created)

    def json(self) -> JsonObject:
        items = [item.json() for item in self.items]
        return {
            "id": self.id,
            "object": "subscription",
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": self.billing_cycle_anchor,
            "billing_mode": {"type": "flexible"},
            "billing_thresholds": None,
            "cancel_at": self.cancel_at,
            "cancel_at_period_end": self.cancel_at_period_end,
            "canceled_at": self.canceled_at,
            "cancellation_details": self.cancellation_details
            or {"comment": None, "feedback": None, "reason": None},
            "collection_method": self.collection_method,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "days_until_due": self.days_until_due,
            "default_payment_method": self.default_payment_method,
            "default_source": None,
            "default_tax_rates": [],
            "description": self.description,
            "discounts": [],
            "ended_at": self.ended_at,
            "items": whole_list(items, f"/v1/subscription_items?subscription={self.id}"),
            "latest_invoice": self.latest_invoice,
            "livemode": False,
            "metadata": self.metadata,
            "next_pending_invoice_item_invoice": None,
            "on_behalf_of": None,
            "pause_collection": self.pause_collection,
            "pending_invoice_item_interval": None,
            "pending_setup_intent": None,
            "pending_update": self.pending_update,
            "schedule": None,
            "start_date": self.created,
            "status": self.status,
            "test_clock": None,
            "transfer_data": None,
            "trial_end": self.trial_end,
            "trial_settings": self.trial_settings
            or {"end_behavior": {"missing_payment_method": "create_invoice"}},
            "trial_start": self.trial_start,
        }
