"""Customers as they are kept, and how they are written as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.errors import JsonObject
from stripe_simulator.forms import Form
from stripe_simulator.objects import PaymentMethod


@dataclass(slots=True)
class Customer:
    """Somebody who pays. `default_source` is the card a charge by customer alone takes."""

    id: str
    created: int
    metadata: dict[str, str]
    balance: int = 0
    email: str | None = None
    name: str | None = None
    phone: str | None = None
    description: str | None = None
    address: Form | None = None
    shipping: Form | None = None
    default_source: PaymentMethod | None = None
    default_payment_method: str | None = None
    currency: str | None = None
    deleted: bool = False

    def json(self) -> JsonObject:
        if self.deleted:
            return {"id": self.id, "object": "customer", "deleted": True}
        return {
            "id": self.id,
            "object": "customer",
            "address": self.address,
            "balance": self.balance,
            "created": self.created,
            "currency": self.currency,
            "default_source": self.default_source.id if self.default_source else None,
            "delinquent": False,
            "description": self.description,
            "discount": None,
            "email": self.email,
            "invoice_prefix": self.id[-8:].upper(),
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": self.default_payment_method,
                "footer": None,
                "rendering_options": None,
            },
            "livemode": False,
            "metadata": self.metadata,
            "name": self.name,
            "phone": self.phone,
            "preferred_locales": [],
            "shipping": self.shipping,
            "tax_exempt": "none",
            "test_clock": None,
        }
