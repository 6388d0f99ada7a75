"""Products and prices as they are kept, and how they are written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from stripe_simulator.errors import JsonObject


@dataclass(slots=True)
class Product:
    id: str
    created: int
    updated: int
    name: str
    metadata: dict[str, str]
    active: bool = True
    description: str | None = None
    url: str | None = None
    default_price: str | None = None

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "product",
            "active": self.active,
            "created": self.created,
            "default_price": self.default_price,
            "description": self.description,
            "images": [],
            "livemode": False,
            "marketing_features": [],
            "metadata": self.metadata,
            "name": self.name,
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "type": "service",
            "unit_label": None,
            "updated": self.updated,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class Tier:
    """What units up to `up_to` cost each, and once for reaching the tier; the last tier has no end."""

    up_to: int | None
    unit_amount: Decimal
    flat_amount: Decimal

    def json(self) -> JsonObject:
        return {
            "flat_amount": _whole(self.flat_amount),
            "flat_amount_decimal": written_decimal(self.flat_amount),
            "unit_amount": _whole(self.unit_amount),
            "unit_amount_decimal": written_decimal(self.unit_amount),
            "up_to": self.up_to,
        }


@dataclass(frozen=True, slots=True)
class CustomAmount:
    """A price whose amount the paying customer chooses."""

    minimum: int | None
    maximum: int | None
    preset: int | None

    def json(self) -> JsonObject:
        return {"maximum": self.maximum, "minimum": self.minimum, "preset": self.preset}


@dataclass(slots=True)
class Price:
    """`unit_amount` may have fractions of a minor unit; None when tiers or the customer decide."""

    id: str
    created: int
    currency: str
    product: str
    metadata: dict[str, str]
    unit_amount: Decimal | None
    recurring: JsonObject | None = None
    active: bool = True
    nickname: str | None = None
    lookup_key: str | None = None
    tiers: list[Tier] = field(default_factory=list)
    tiers_mode: str | None = None
    custom: CustomAmount | None = None
    divide_by: int = 1
    rounds_up: bool = True
    currency_options: dict[str, Decimal] = field(default_factory=dict)
    tax_behavior: str = "unspecified"

    @property
    def is_metered(self) -> bool:
        return self.recurring is not None and self.recurring["usage_type"] == "metered"

    def unit_amount_in(self, currency: str) -> Decimal | None:
        """The amount of one unit in a currency that the price has."""
        return self.unit_amount if currency == self.currency else self.currency_options.get(currency)

    def total(self, quantity: Decimal | int, currency: str) -> int:
        """Minor units for this many, rounded half up once; zero where the amount is not decided yet."""
        if self.tiers:
            return rounded(_tiered(self.tiers, self.tiers_mode, Decimal(quantity)))
        rounding = ROUND_CEILING if self.rounds_up else ROUND_FLOOR
        packages = Decimal(quantity)
        if self.divide_by != 1:
            packages = (packages / self.divide_by).to_integral_value(rounding)
        return rounded((self.unit_amount_in(currency) or Decimal(0)) * packages)

    def json(self) -> JsonObject:
        answer: JsonObject = {
            "id": self.id,
            "object": "price",
            "active": self.active,
            "billing_scheme": "tiered" if self.tiers else "per_unit",
            "created": self.created,
            "currency": self.currency,
            "custom_unit_amount": self.custom.json() if self.custom else None,
            "livemode": False,
            "lookup_key": self.lookup_key,
            "metadata": self.metadata,
            "nickname": self.nickname,
            "product": self.product,
            "recurring": self.recurring,
            "tax_behavior": self.tax_behavior,
            "tiers_mode": self.tiers_mode,
            "transform_quantity": None,
            "type": "recurring" if self.recurring else "one_time",
            "unit_amount": _whole(self.unit_amount),
            "unit_amount_decimal": written_decimal(self.unit_amount),
        }
        if self.divide_by != 1:
            answer["transform_quantity"] = {
                "divide_by": self.divide_by,
                "round": "up" if self.rounds_up else "down",
            }
        return answer

    def currency_options_json(self) -> JsonObject:
        """Shown only when it is expanded."""
        amounts = {**self.currency_options}
        if self.unit_amount is not None:
            amounts[self.currency] = self.unit_amount
        return {
            currency: {
                "custom_unit_amount": None,
                "tax_behavior": self.tax_behavior,
                "unit_amount": _whole(amount),
                "unit_amount_decimal": written_decimal(amount),
            }
            for currency, amount in amounts.items()
        }


def rounded(amount: Decimal) -> int:
    """Whole minor units; half of one is rounded away from zero."""
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _tiered(tiers: list[Tier], mode: str | None, quantity: Decimal) -> Decimal:
    """Volume: all units cost what the last reached tier says. Graduated: each tier prices its own units."""
    total, below = Decimal(0), Decimal(0)
    for tier in tiers:
        last = tier.up_to is None or quantity <= tier.up_to
        if mode == "volume" and last:
            return tier.flat_amount + tier.unit_amount * quantity
        if mode == "graduated":
            upper = quantity if tier.up_to is None else min(quantity, Decimal(tier.up_to))
            total += tier.flat_amount + tier.unit_amount * (upper - below)
            below = upper
            if last:
                break
    return total


def _whole(amount: Decimal | None) -> int | None:
    return int(amount) if amount is not None and amount == amount.to_integral_value() else None


def written_decimal(amount: Decimal | None) -> str | None:
    """Without exponent and without zeros at the end of a fraction."""
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
