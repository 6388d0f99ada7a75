"""What a message costs, as Twilio says it: a decimal of the account's currency, and only once it was sent.

Prices go below the smallest unit of a currency, and money is counted in whole
units here. So each message is rounded up to the next unit: a message for
0.0075 USD counts as one cent. A cap may be reached early, never late.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from sidecar.vendor import Money
from spendgate.currencies import DECIMALS

Message = Mapping[str, Any]

_DIGITS_MAX = 15

ENDED = frozenset({"sent", "delivered", "undelivered", "failed", "read", "partially_delivered", "canceled"})
"""States in which nothing more is charged for a message that has a price."""


def price_of(message: Message) -> Money | None:
    """Return what was charged for a message, rounded up; None while Twilio does not say."""
    price, currency = message.get("price"), _currency(message)
    if price is None or not currency:
        return None
    try:
        # What Twilio charges is negative. Nothing that it writes is read as a credit.
        exact = abs(Decimal(str(price))).scaleb(DECIMALS[currency])
        if not exact.is_finite() or exact.adjusted() >= _DIGITS_MAX:
            return None
    except InvalidOperation:
        return None
    return Money(int(exact.to_integral_value(rounding=ROUND_CEILING)), currency)


def charged_so_far(message: Message) -> Money | None:
    """Return what is known to be charged for a message just made: nothing yet, in the account's currency.

    None when even the currency is not known.
    """
    currency = _currency(message)
    return price_of(message) or (Money(0, currency) if currency else None)


def _currency(message: Message) -> str:
    unit = str(message.get("price_unit") or "").upper()
    return unit if unit in DECIMALS else ""
