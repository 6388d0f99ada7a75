"""Shipping rates: what a checkout page or an invoice adds for sending goods."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.lists import page
from stripe_simulator.parameters import Parameters

RATE_DATA = "delivery_estimate display_name fixed_amount metadata tax_behavior tax_code type"


@dataclass(slots=True)
class ShippingRate:
    id: str
    created: int
    amount: int
    currency: str
    display_name: str
    metadata: dict[str, str]
    active: bool = True

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "shipping_rate",
            "active": self.active,
            "created": self.created,
            "delivery_estimate": None,
            "display_name": self.display_name,
            "fixed_amount": {"amount": self.amount, "currency": self.currency},
            "livemode": False,
            "metadata": self.metadata,
            "tax_behavior": "unspecified",
            "tax_code": None,
            "type": "fixed_amount",
        }


def read_rate_amount(parameters: Parameters) -> ShippingRate:
    """A rate as described; it has no id and is not kept yet."""
    parameters.choice("type", ("fixed_amount",))
    fixed = parameters.hash("fixed_amount", "amount currency currency_options")
    if fixed is None:
        raise missing_parameter(parameters.full_name("fixed_amount"))
    amount = fixed.integer("amount")
    if amount is None:
        raise missing_parameter(fixed.full_name("amount"))
    if amount < 0:
        raise StripeError(
            400,
            "Invalid non-negative integer",
            code="parameter_invalid_integer",
            param=fixed.full_name("amount"),
        )
    name = parameters.required_text("display_name")
    return ShippingRate("", 0, amount, fixed.currency(), name, parameters.metadata({}))


def keep_rate(call: Call, rate: ShippingRate) -> ShippingRate:
    rate.id, rate.created = call.new_id("shr"), call.now
    return call.ledger.shipping_rates.add(rate)


def create(call: Call) -> JsonObject:
    rate = read_rate_amount(call.parameters)
    call.begin()
    return keep_rate(call, rate).json()


def retrieve(call: Call) -> JsonObject:
    return call.ledger.shipping_rates.require(call.path_ids[0], param="shipping_rate_token").json()


def update(call: Call) -> JsonObject:
    """Metadata and whether it is still offered; its amount never changes."""
    parameters = call.parameters
    active = parameters.boolean("active", default=True)
    parameters.metadata({})
    call.begin()
    rate = call.ledger.shipping_rates.require(call.path_ids[0], param="shipping_rate_token")
    if "active" in parameters:
        rate.active = active
    rate.metadata = parameters.metadata(rate.metadata)
    return rate.json()


def list_rates(call: Call) -> JsonObject:
    active = call.parameters.boolean("active", default=True) if "active" in call.parameters else None
    currency = call.parameters.text("currency")

    def keep(rate: ShippingRate) -> bool:
        return active in (None, rate.active) and currency in (None, rate.currency)

    return page(call, call.ledger.shipping_rates, keep)
