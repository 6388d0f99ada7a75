"""Reads prices out of parameters: those to keep, and those that a line names or brings along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import CustomAmount, Price, Product, Tier
from stripe_simulator.currencies import DECIMAL_DIGITS
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.parameters import Parameters

INTERVALS = ("day", "week", "month", "year")
TAX_BEHAVIORS = ("inclusive", "exclusive", "unspecified")

RECURRING = "interval interval_count meter trial_period_days usage_type"
PRICE_DATA = "currency product tax_behavior unit_amount unit_amount_decimal"
RECURRING_PRICE_DATA = PRICE_DATA + " recurring"
CHECKOUT_PRICE_DATA = RECURRING_PRICE_DATA + " product_data"
PRODUCT_DATA = (
    "active description id images metadata name statement_descriptor tax_code tax_details unit_label url"
)

LARGEST_QUANTITY = 999_999_999


def refused(message: str, parameters: Parameters, name: str, code: str | None = None) -> StripeError:
    """A 400 about one parameter, named in full."""
    return StripeError(400, message, code=code, param=parameters.full_name(name))


def read_unit_amount(parameters: Parameters, stem: str = "unit_amount") -> Decimal | None:
    """`unit_amount` or `unit_amount_decimal`: zero is a price, a negative one is not."""
    whole, fraction = parameters.integer(stem), parameters.decimal(f"{stem}_decimal")
    if whole is not None and fraction is not None:
        raise refused(
            f"You may only specify one of these parameters: {stem}, {stem}_decimal.", parameters, stem
        )
    amount = Decimal(whole) if whole is not None else fraction
    if amount is not None and amount < 0:
        raise refused("Invalid non-negative integer", parameters, stem, "parameter_invalid_integer")
    return amount


def read_recurring(parameters: Parameters) -> JsonObject | None:
    inner = parameters.hash("recurring", RECURRING)
    if inner is None:
        return None
    interval = inner.choice("interval", INTERVALS)
    if interval is None:
        raise missing_parameter(inner.full_name("interval"))
    return {
        "interval": interval,
        "interval_count": inner.positive_integer("interval_count") or 1,
        "meter": inner.text("meter"),
        "trial_period_days": inner.positive_integer("trial_period_days"),
        "usage_type": inner.choice("usage_type", ("licensed", "metered")) or "licensed",
    }


def read_tiers(parameters: Parameters) -> list[Tier]:
    tiers = [
        _read_tier(sent)
        for sent in parameters.hashes(
            "tiers", "flat_amount flat_amount_decimal unit_amount unit_amount_decimal up_to"
        )
    ]
    ends = [tier.up_to or 0 for tier in tiers]
    rising = ends[:-1] == sorted(set(ends[:-1])) and 0 not in ends[:-1]
    if not tiers or tiers[-1].up_to is not None or not rising:
        raise refused("Tiers must rise, and only the last one must have up_to = inf.", parameters, "tiers")
    return tiers


def _read_tier(sent: Parameters) -> Tier:
    zero = Decimal(0)
    unit, flat = read_unit_amount(sent), read_unit_amount(sent, "flat_amount")
    up_to = None if sent.required_text("up_to") == "inf" else sent.positive_integer("up_to")
    return Tier(up_to, zero if unit is None else unit, zero if flat is None else flat)


def read_custom_amount(parameters: Parameters) -> CustomAmount | None:
    inner = parameters.hash("custom_unit_amount", "enabled maximum minimum preset")
    if inner is None or not inner.boolean("enabled", default=False):
        return None
    return CustomAmount(
        inner.positive_integer("minimum"), inner.positive_integer("maximum"), inner.integer("preset")
    )


def read_currency_options(parameters: Parameters) -> dict[str, Decimal]:
    """What one unit costs in further currencies."""
    sent = parameters.mapping("currency_options") or {}
    holder = Parameters(sent, parameters.full_name("currency_options"))
    amounts = {}
    for currency in sent:
        inner = holder.hash(currency, "custom_unit_amount tax_behavior tiers unit_amount unit_amount_decimal")
        amount = read_unit_amount(inner) if inner is not None else None
        if currency not in DECIMAL_DIGITS or amount is None:
            raise refused(f"Invalid currency option: {currency}", holder, currency)
        amounts[currency] = amount
    return amounts


def read_quantity(parameters: Parameters) -> int | None:
    """A count of units; zero is allowed where the endpoint allows it."""
    quantity = parameters.integer("quantity")
    if quantity is not None and not 0 <= quantity <= LARGEST_QUANTITY:
        raise refused(
            "This value must be greater than or equal to 0.",
            parameters,
            "quantity",
            "parameter_invalid_integer",
        )
    return quantity


@dataclass(slots=True)
class PriceRequest:
    """The price one line asks for, read but not yet looked up: an id, or what to make a price from."""

    parameters: Parameters
    price_id: str | None
    make: Callable[[Call], Price] | None
    name: str

    def find(self, call: Call) -> Price:
        """The price of this line; one that was described is kept, inactive, as at Stripe."""
        if self.make is not None:
            return self.make(call)
        price = call.ledger.prices.require(
            self.price_id or "", param=self.parameters.full_name(self.name), status=400
        )
        if not price.active:
            raise refused(
                "The price specified is inactive. This field only accepts active prices.",
                self.parameters,
                self.name,
            )
        return price


def read_price_request(
    parameters: Parameters, price_data: str = RECURRING_PRICE_DATA, name: str = "price"
) -> PriceRequest | None:
    """`price`, or `price_data` with these names; None when the line has neither."""
    price_id = parameters.text(name)
    data = parameters.hash("price_data", price_data)
    if price_id is not None and data is not None:
        raise refused(f"You may only specify one of these parameters: {name}, price_data.", parameters, name)
    if price_id is None and data is None:
        return None
    return PriceRequest(parameters, price_id, _read_price_data(data) if data is not None else None, name)


def _read_price_data(data: Parameters) -> Callable[[Call], Price]:
    currency = data.currency()
    unit_amount = read_unit_amount(data)
    if unit_amount is None:
        raise missing_parameter(data.full_name("unit_amount"))
    recurring = read_recurring(data)
    product_id = data.text("product")
    described = data.hash("product_data", PRODUCT_DATA)
    product_name = described.required_text("name") if described is not None else None
    tax_behavior = data.choice("tax_behavior", TAX_BEHAVIORS) or "unspecified"
    if product_id is None and product_name is None:
        raise missing_parameter(data.full_name("product"))

    def make(call: Call) -> Price:
        if product_name is not None:
            product = call.ledger.products.add(
                Product(call.new_id("prod"), call.now, call.now, product_name, {})
            )
        else:
            param = data.full_name("product")
            product = call.ledger.products.require(product_id or "", param=param, status=400)
        price = Price(call.new_id("price"), call.now, currency, product.id, {}, unit_amount, recurring)
        price.active = False
        price.tax_behavior = tax_behavior
        return call.ledger.prices.add(price)

    return make


def refuse_custom(request: PriceRequest, price: Price) -> None:
    """Only a checkout page can ask a customer for an amount."""
    if price.custom is not None:
        raise refused(
            "Prices with `custom_unit_amount` are only accepted by Checkout.",
            request.parameters,
            request.name,
        )


def require_type(request: PriceRequest, price: Price, wanted: str) -> None:
    """Refuse a recurring price where a one-time one is wanted, and the other way round."""
    found = "recurring" if price.recurring else "one_time"
    if found != wanted:
        raise refused(
            f"The price specified is set to `type={found}` but this field only accepts prices with "
            f"`type={wanted}`.",
            request.parameters,
            request.name,
        )
