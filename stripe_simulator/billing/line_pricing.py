"""What an invoice item or line costs: a bare amount, a unit amount, or a price, times a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from stripe_simulator.billing.invoice_objects import Described, Priced
from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price, rounded
from stripe_simulator.errors import StripeError, missing_parameter
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import (
    PRICE_DATA,
    PriceRequest,
    read_price_request,
    read_quantity,
    read_unit_amount,
    refuse_custom,
    refused,
    require_type,
)

LINE = (
    "amount currency description discountable discounts invoice_item metadata period price price_data "
    "pricing quantity quantity_decimal tax_amounts tax_behavior tax_code tax_rates unit_amount "
    "unit_amount_decimal"
)

LARGEST_AMOUNT = 999_999_999_999


@dataclass(slots=True)
class LineRequest:
    """An item's money as its parameters describe it, before the price is looked up."""

    parameters: Parameters
    amount: int | None
    unit_amount: Decimal | None
    price: PriceRequest | None
    quantity: Decimal | None
    currency: str | None

    @property
    def names_money(self) -> bool:
        """Whether anything here decides or changes an amount."""
        return any(value is not None for value in (self.amount, self.unit_amount, self.price, self.quantity))

    def resolve(self, call: Call, currency: str | None = None, current: Priced | None = None) -> Priced:
        """The amount in minor units. What is not named stays as it is in `current`."""
        if self.amount is not None:
            return Priced(self.amount, self._currency(currency, current))
        quantity = (
            self.quantity if self.quantity is not None else (current.quantity if current else Decimal(1))
        )
        if self.price is not None:
            return self._by_price(call, self.price, quantity, currency)
        if self.unit_amount is not None:
            of_unit = rounded(self.unit_amount * quantity)
            return Priced(of_unit, self._currency(currency, current), None, self.unit_amount, quantity)
        if current is not None:
            return _requantified(current, quantity)
        raise missing_parameter(self.parameters.full_name("amount"))

    def _by_price(self, call: Call, request: PriceRequest, quantity: Decimal, wanted: str | None) -> Priced:
        price = request.find(call)
        require_type(request, price, "one_time")
        refuse_custom(request, price)
        currency = self.currency or wanted or price.currency
        if currency != price.currency and currency not in price.currency_options:
            if self.currency is not None:
                raise refused(f"The price has no amount in {currency}.", request.parameters, request.name)
            currency = price.currency
        return Priced(
            price.total(quantity, currency), currency, price, price.unit_amount_in(currency), quantity
        )

    def _currency(self, wanted: str | None, current: Priced | None) -> str:
        currency = self.currency or wanted or (current.currency if current else None)
        if currency is None:
            raise missing_parameter(self.parameters.full_name("currency"))
        return currency


def _requantified(current: Priced, quantity: Decimal) -> Priced:
    if quantity == current.quantity:
        return current
    if current.price is not None:
        amount = current.price.total(quantity, current.currency)
    elif current.unit_amount is not None:
        amount = rounded(current.unit_amount * quantity)
    else:
        amount = rounded(Decimal(current.amount) / current.quantity * quantity)
    return Priced(amount, current.currency, current.price, current.unit_amount, quantity)


def read_line(parameters: Parameters, price_data: str = PRICE_DATA) -> LineRequest:
    """Read an item or line. Only one of amount, unit amount and price may decide what it costs."""
    amount = parameters.integer("amount")
    if amount is not None and abs(amount) > LARGEST_AMOUNT:
        raise refused("Amount is too large.", parameters, "amount", "amount_too_large")
    unit_amount = read_unit_amount(parameters)
    price = _read_price(parameters, price_data)
    quantity = _read_quantity(parameters)
    if sum(given is not None for given in (amount, unit_amount, price)) > 1:
        raise refused("You may only specify one of amount, unit_amount_decimal, price.", parameters, "amount")
    if amount is not None and quantity is not None:
        raise refused(
            "You may only specify one of these parameters: amount, quantity.", parameters, "quantity"
        )
    currency = parameters.currency() if "currency" in parameters else None
    return LineRequest(parameters, amount, unit_amount, price, quantity, currency)


def _read_price(parameters: Parameters, price_data: str) -> PriceRequest | None:
    pricing = parameters.hash("pricing", "price")
    if pricing is None:
        return read_price_request(parameters, price_data)
    if "price" in parameters or "price_data" in parameters:
        raise refused(
            "You may only specify one of these parameters: pricing, price_data.", parameters, "pricing"
        )
    return read_price_request(pricing, price_data)


def _read_quantity(parameters: Parameters) -> Decimal | None:
    whole, fraction = read_quantity(parameters), parameters.decimal("quantity_decimal")
    if whole is not None and fraction is not None:
        message = "You may only specify one of these parameters: quantity, quantity_decimal."
        raise refused(message, parameters, "quantity")
    if fraction is not None and fraction < 0:
        raise refused("Invalid non-negative decimal", parameters, "quantity_decimal")
    return Decimal(whole) if whole is not None else fraction


def read_described(parameters: Parameters, current: Described, now: int) -> Described:
    """The words and the period after this request."""
    period = parameters.hash("period", "end start")
    start, end = current.period_start or now, current.period_end or now
    if period is not None:
        start, end = period.integer("start") or start, period.integer("end") or end
        if end < start:
            raise StripeError(400, "The period must end after it starts.", param="period")
    return Described(
        description=parameters.text("description") if "description" in parameters else current.description,
        metadata=parameters.metadata(current.metadata),
        discountable=parameters.boolean("discountable", current.discountable),
        proration=current.proration,
        subscription=parameters.text("subscription")
        if "subscription" in parameters
        else current.subscription,
        subscription_item=current.subscription_item,
        period_start=start,
        period_end=end,
    )


def name_of(call: Call, price: Price) -> str | None:
    """What a line says it is for, when nobody said otherwise."""
    product = call.ledger.products.get(price.product)
    return product.name if product is not None else None
