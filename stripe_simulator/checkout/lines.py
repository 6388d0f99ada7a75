"""What a checkout page or a payment link sells, and for how much at least and at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price
from stripe_simulator.currencies import LARGEST_CHARGE
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import (
    CHECKOUT_PRICE_DATA,
    PriceRequest,
    read_price_request,
    read_quantity,
    refused,
)

LINE_ITEM = "adjustable_quantity dynamic_tax_rates id metadata price price_data quantity tax_rates"

# What a customer may raise an adjustable quantity to when the request names no maximum.
_DEFAULT_MOST = 99


@dataclass(slots=True)
class CheckoutLine:
    """`most` is what the customer may raise the quantity to; `chosen` an amount that the customer entered."""

    id: str
    created: int
    price: Price
    quantity: int
    least: int | None = None
    most: int | None = None
    chosen: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def amount(self, currency: str) -> int:
        """Minor units as the page shows them: nothing yet for what is metered."""
        if self.price.custom is not None:
            preset = self.price.custom.preset or 0
            return (preset if self.chosen is None else self.chosen) * self.quantity
        return 0 if self.price.is_metered else self.price.total(self.quantity, currency)

    def largest(self, currency: str) -> int:
        """The most that a customer can make of this line."""
        quantity = self.quantity if self.most is None else max(self.most, self.quantity)
        if self.price.custom is not None:
            return (self.price.custom.maximum or LARGEST_CHARGE) * quantity
        return 0 if self.price.is_metered else self.price.total(quantity, currency)

    def json_in(self, currency: str) -> JsonObject:
        amount = self.amount(currency)
        adjustable = None
        if self.most is not None:
            adjustable = {"enabled": True, "maximum": self.most, "minimum": self.least}
        return {
            "id": self.id,
            "object": "item",
            "adjustable_quantity": adjustable,
            "amount_discount": 0,
            "amount_subtotal": amount,
            "amount_tax": 0,
            "amount_total": amount,
            "currency": currency,
            "description": None,
            "metadata": self.metadata,
            "price": self.price.json(),
            "quantity": None if self.price.is_metered else self.quantity,
        }


@dataclass(slots=True)
class LineRequest:
    """One line as asked for, before its price is looked up."""

    parameters: Parameters
    id: str | None
    price: PriceRequest | None
    quantity: int | None
    least: int | None
    most: int | None

    def make(self, call: Call, currency: str | None) -> CheckoutLine:
        if self.price is None:
            raise missing_parameter(self.parameters.full_name("price"))
        price = self.price.find(call)
        if currency is not None and currency != price.currency and currency not in price.currency_options:
            raise StripeError(
                400,
                f"The price {price.id} has no amount in {currency}.",
                param=self.parameters.full_name("price"),
            )
        quantity = self.quantity
        if price.is_metered and quantity is not None:
            raise refused("Quantity should not be specified for metered prices.", self.parameters, "quantity")
        if quantity is None and not price.is_metered:
            raise missing_parameter(self.parameters.full_name("quantity"))
        line = CheckoutLine(call.new_id("li"), call.now, price, quantity or 0, self.least, self.most)
        line.metadata = self.parameters.metadata({})
        return line

    def change(self, line: CheckoutLine) -> None:
        """Apply what the request says about a line that is there."""
        line.quantity = line.quantity if self.quantity is None else self.quantity
        if "adjustable_quantity" in self.parameters:
            line.least, line.most = self.least, self.most


def read_lines(parameters: Parameters, name: str = "line_items") -> list[LineRequest]:
    return [_read_line(sent) for sent in parameters.hashes(name, LINE_ITEM)]


def _read_line(sent: Parameters) -> LineRequest:
    quantity = read_quantity(sent)
    if quantity == 0:
        raise refused(
            "This value must be greater than or equal to 1.", sent, "quantity", "parameter_invalid_integer"
        )
    least, most = None, None
    adjustable = sent.hash("adjustable_quantity", "enabled maximum minimum")
    if adjustable is not None and adjustable.boolean("enabled", default=False):
        least = adjustable.integer("minimum") or 0
        most = adjustable.positive_integer("maximum") or _DEFAULT_MOST
    sent.metadata({})
    price = read_price_request(sent, CHECKOUT_PRICE_DATA)
    return LineRequest(sent, sent.text("id"), price, quantity, least, most)


def make_lines(
    call: Call, requests: list[LineRequest], currency: str | None
) -> tuple[list[CheckoutLine], str]:
    """The lines, and the one currency they share."""
    lines: list[CheckoutLine] = []
    for request in requests:
        line = request.make(call, currency)
        currency = currency or line.price.currency
        if line.price.unit_amount_in(currency) is None and line.price.currency != currency:
            raise StripeError(400, "All prices must be in one currency.", param="line_items")
        lines.append(line)
    return lines, currency or "usd"


def change_lines(call: Call, lines: list[CheckoutLine], requests: list[LineRequest], currency: str) -> None:
    """Replace the lines by those listed: known ids change, others are new, and what is not named goes."""
    by_id = {line.id: line for line in lines}
    after = []
    for request in requests:
        if request.id is None:
            after.append(request.make(call, currency))
            continue
        line = by_id.get(request.id)
        if line is None:
            param = request.parameters.full_name("id")
            raise StripeError(400, f"No such line item: '{request.id}'", param=param, code="resource_missing")
        request.change(line)
        after.append(line)
    lines[:] = after
