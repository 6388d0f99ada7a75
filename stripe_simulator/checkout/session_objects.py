"""Checkout sessions as they are kept and written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.checkout.lines import CheckoutLine
from stripe_simulator.checkout.shipping_rates import ShippingRate
from stripe_simulator.errors import JsonObject
from stripe_simulator.lists import whole_list

PAYMENT = "payment"
SETUP = "setup"
SUBSCRIPTION = "subscription"
MODES = (PAYMENT, SETUP, SUBSCRIPTION)

OPEN = "open"
COMPLETE = "complete"
EXPIRED = "expired"

DAY_SECONDS = 24 * 60 * 60


@dataclass(slots=True)
class Terms:
    """What the session makes of a payment: how it is captured, or how its subscription begins."""

    capture_method: str = "automatic"
    setup_future_usage: str | None = None
    trial_days: int | None = None
    trial_end: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """A page on which a customer may pay until it expires. Amounts are minor units."""

    id: str
    created: int
    mode: str
    currency: str
    expires_at: int
    metadata: dict[str, str]
    terms: Terms
    setup_currency: str | None = None
    """The currency that a session for setup was given; it has none of its own."""
    lines: list[CheckoutLine] = field(default_factory=list)
    shipping_options: list[ShippingRate] = field(default_factory=list)
    shipping: int | None = None
    customer: str | None = None
    customer_email: str | None = None
    client_reference_id: str | None = None
    success_url: str | None = None
    cancel_url: str | None = None
    return_url: str | None = None
    ui_mode: str = "hosted"
    status: str = OPEN
    payment_status: str = "unpaid"
    payment_intent: str | None = None
    setup_intent: str | None = None
    subscription: str | None = None
    invoice: str | None = None
    payment_link: str | None = None

    @property
    def subtotal(self) -> int:
        """What is due on this page: recurring lines cost nothing yet while there is a trial."""
        return sum(line.amount(self.currency) for line in self._due_now())

    def _due_now(self) -> list[CheckoutLine]:
        trial = self.terms.trial_days is not None or self.terms.trial_end is not None
        return [line for line in self.lines if not (trial and line.price.recurring)]

    @property
    def amount_shipping(self) -> int:
        return self.shipping_options[self.shipping].amount if self.shipping is not None else 0

    @property
    def total(self) -> int:
        return self.subtotal + self.amount_shipping

    @property
    def most(self) -> int:
        """The most that a customer can make of this page."""
        dearest = max((rate.amount for rate in self.shipping_options), default=0)
        return sum(line.largest(self.currency) for line in self._due_now()) + dearest

    def _shipping_cost(self) -> JsonObject | None:
        if self.shipping is None:
            return None
        amount = self.amount_shipping
        rate = self.shipping_options[self.shipping].id
        return {"amount_subtotal": amount, "amount_tax": 0, "amount_total": amount, "shipping_rate": rate}

    def line_items(self) -> JsonObject:
        """Shown only when they are expanded, or by their own path."""
        items = [line.json_in(self.currency) for line in self.lines]
        return whole_list(items, f"/v1/checkout/sessions/{self.id}/line_items")

    def json(self) -> JsonObject:
        has_money = self.mode != SETUP
        return {
            "id": self.id,
            "object": "checkout.session",
            "amount_subtotal": self.subtotal if has_money else None,
            "amount_total": self.total if has_money else None,
            "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
            "cancel_url": self.cancel_url,
            "client_reference_id": self.client_reference_id,
            "client_secret": None,
            "created": self.created,
            "currency": self.currency if has_money else self.setup_currency,
            "customer": self.customer,
            "customer_creation": "if_required" if self.mode == PAYMENT else None,
            "customer_details": None,
            "customer_email": self.customer_email,
            "discounts": [],
            "expires_at": self.expires_at,
            "invoice": self.invoice,
            "livemode": False,
            "metadata": self.metadata,
            "mode": self.mode,
            "payment_intent": self.payment_intent,
            "payment_link": self.payment_link,
            "payment_method_types": ["card"],
            "payment_status": self.payment_status,
            "return_url": self.return_url,
            "setup_intent": self.setup_intent,
            "shipping_cost": self._shipping_cost(),
            "shipping_options": [
                {"shipping_amount": rate.amount, "shipping_rate": rate.id} for rate in self.shipping_options
            ],
            "status": self.status,
            "submit_type": None,
            "subscription": self.subscription,
            "success_url": self.success_url,
            "total_details": {
                "amount_discount": 0,
                "amount_shipping": self.amount_shipping,
                "amount_tax": 0,
            },
            "ui_mode": self.ui_mode,
            "url": f"https://checkout.stripe.com/c/pay/{self.id}" if self.status == OPEN else None,
        }
