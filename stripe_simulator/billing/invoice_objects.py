"""Invoices, their lines and the items that wait for one, as they are kept and written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from stripe_simulator.catalog_objects import Price, written_decimal
from stripe_simulator.errors import JsonObject
from stripe_simulator.lists import whole_list

DRAFT = "draft"
OPEN = "open"
PAID = "paid"
VOID = "void"
UNCOLLECTIBLE = "uncollectible"


@dataclass(slots=True)
class Priced:
    """What one item or line costs, and how that came about. `unit_amount` is None for a bare amount."""

    amount: int
    currency: str
    price: Price | None = None
    unit_amount: Decimal | None = None
    quantity: Decimal = Decimal(1)

    def pricing_json(self) -> JsonObject | None:
        if self.price is None:
            return None
        return {
            "price_details": {"price": self.price.id, "product": self.price.product},
            "type": "price_details",
            "unit_amount_decimal": written_decimal(self.unit_amount),
        }

    def quantity_json(self) -> JsonObject:
        whole = self.quantity == self.quantity.to_integral_value()
        return {
            "quantity": int(self.quantity) if whole else None,
            "quantity_decimal": written_decimal(self.quantity),
        }


@dataclass(slots=True)
class Described:
    """What is said about an item or line beside its money."""

    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    discountable: bool = True
    proration: bool = False
    subscription: str | None = None
    subscription_item: str | None = None
    period_start: int = 0
    period_end: int = 0

    def period_json(self) -> JsonObject:
        return {"end": self.period_end, "start": self.period_start}


@dataclass(slots=True)
class InvoiceItem:
    """Something to bill: pending until an invoice takes it."""

    id: str
    created: int
    customer: str
    priced: Priced
    described: Described
    invoice: str | None = None

    def json(self) -> JsonObject:
        described = self.described
        parent = None
        if described.subscription is not None:
            details = {
                "subscription": described.subscription,
                "subscription_item": described.subscription_item,
            }
            parent = {"subscription_details": details, "type": "subscription_details"}
        return {
            "id": self.id,
            "object": "invoiceitem",
            "amount": self.priced.amount,
            "currency": self.priced.currency,
            "customer": self.customer,
            "date": self.created,
            "description": described.description,
            "discountable": described.discountable,
            "discounts": [],
            "invoice": self.invoice,
            "livemode": False,
            "metadata": described.metadata,
            "net_amount": self.priced.amount,
            "parent": parent,
            "period": described.period_json(),
            "pricing": self.priced.pricing_json(),
            "proration": described.proration,
            **self.priced.quantity_json(),
            "tax_rates": [],
            "test_clock": None,
        }


@dataclass(slots=True)
class Line:
    """One line of an invoice; `item` is the invoice item it came from, if any."""

    id: str
    invoice: str
    priced: Priced
    described: Described
    item: str | None = None
    created: int = 0

    def _parent(self) -> JsonObject:
        described = self.described
        details: JsonObject = {
            "invoice_item": self.item,
            "proration": described.proration,
            "proration_details": {"credited_items": None},
            "subscription": described.subscription,
        }
        if described.subscription_item is not None:
            details["subscription_item"] = described.subscription_item
            return {
                "invoice_item_details": None,
                "subscription_item_details": details,
                "type": "subscription_item_details",
            }
        return {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "line_item",
            "amount": self.priced.amount,
            "currency": self.priced.currency,
            "description": self.described.description,
            "discount_amounts": [],
            "discountable": self.described.discountable,
            "discounts": [],
            "invoice": self.invoice,
            "livemode": False,
            "metadata": self.described.metadata,
            "parent": self._parent(),
            "period": self.described.period_json(),
            "pretax_credit_amounts": [],
            "pricing": self.priced.pricing_json(),
            **self.priced.quantity_json(),
            "subtotal": self.priced.amount,
            "taxes": [],
        }


@dataclass(slots=True)
class Transitions:
    """When the invoice came into each state, in unix seconds."""

    finalized_at: int | None = None
    marked_uncollectible_at: int | None = None
    paid_at: int | None = None
    voided_at: int | None = None

    def json(self) -> JsonObject:
        return {
            "finalized_at": self.finalized_at,
            "marked_uncollectible_at": self.marked_uncollectible_at,
            "paid_at": self.paid_at,
            "voided_at": self.voided_at,
        }


@dataclass(slots=True)
class Invoice:
    """`starting_balance` is what the customer was owed (negative) or owed before it, in minor units."""

    id: str
    created: int
    customer: str
    currency: str
    collection_method: str
    auto_advance: bool
    metadata: dict[str, str]
    billing_reason: str = "manual"
    description: str | None = None
    footer: str | None = None
    default_payment_method: str | None = None
    days_until_due: int | None = None
    due_date: int | None = None
    number: str | None = None
    subscription: str | None = None
    quote: str | None = None
    status: str = DRAFT
    lines: list[Line] = field(default_factory=list)
    shipping: int = 0
    starting_balance: int = 0
    ending_balance: int | None = None
    amount_paid: int = 0
    paid_off_stripe: int = 0
    pre_payment_credit: int = 0
    post_payment_credit: int = 0
    attempt_count: int = 0
    payment_intent: str | None = None
    confirmation_secret: str | None = None
    transitions: Transitions = field(default_factory=Transitions)

    @property
    def subtotal(self) -> int:
        return sum(line.priced.amount for line in self.lines)

    @property
    def total(self) -> int:
        return self.subtotal + self.shipping

    @property
    def applied_balance(self) -> int:
        """How much of the customer's balance changes the amount due: credit is negative."""
        return max(self.starting_balance, -self.total) if self.total > 0 else 0

    @property
    def amount_due(self) -> int:
        return max(0, self.total + self.applied_balance - self.pre_payment_credit)

    @property
    def amount_remaining(self) -> int:
        return self.amount_due - self.amount_paid - self.paid_off_stripe

    def _parent(self) -> JsonObject | None:
        if self.subscription is not None:
            details = {"metadata": {}, "subscription": self.subscription}
            return {
                "quote_details": None,
                "subscription_details": details,
                "type": "subscription_details",
            }
        if self.quote is not None:
            return {
                "quote_details": {"quote": self.quote},
                "subscription_details": None,
                "type": "quote_details",
            }
        return None

    def json(self) -> JsonObject:
        address = f"https://invoice.stripe.com/i/acct_simulator/test_{self.id}"
        return {
            "id": self.id,
            "object": "invoice",
            "amount_due": self.amount_due,
            "amount_overpaid": 0,
            "amount_paid": self.amount_paid,
            "amount_paid_off_stripe": self.paid_off_stripe,
            "amount_remaining": self.amount_remaining,
            "amount_shipping": self.shipping,
            "attempt_count": self.attempt_count,
            "attempted": self.attempt_count > 0,
            "auto_advance": self.auto_advance,
            "billing_reason": self.billing_reason,
            "collection_method": self.collection_method,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "default_payment_method": self.default_payment_method,
            "description": self.description,
            "discounts": [],
            "due_date": self.due_date,
            "ending_balance": self.ending_balance,
            "footer": self.footer,
            "hosted_invoice_url": None if self.status == DRAFT else address,
            "invoice_pdf": None if self.status == DRAFT else f"{address}/pdf",
            "lines": whole_list([line.json() for line in self.lines], f"/v1/invoices/{self.id}/lines"),
            "livemode": False,
            "metadata": self.metadata,
            "number": self.number,
            "parent": self._parent(),
            "period_end": self.created,
            "period_start": self.created,
            "post_payment_credit_notes_amount": self.post_payment_credit,
            "pre_payment_credit_notes_amount": self.pre_payment_credit,
            "starting_balance": self.starting_balance,
            "status": self.status,
            "status_transitions": self.transitions.json(),
            "subtotal": self.subtotal,
            "total": self.total,
        }
