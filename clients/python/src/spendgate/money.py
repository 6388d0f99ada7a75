"""Money in integer minor units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from spendgate import currencies
from spendgate.v1 import amount_pb2


@dataclass(frozen=True, slots=True)
class Money:
    """An exact, non-negative amount in one currency.

    ``Money(1999, "usd")`` and ``Money.of("19.99", "usd")`` are both 19.99 US dollars.
    """

    minor_units: int
    """Count of the currency's smallest units as Stripe counts them, from 0 to 2^53 - 1."""

    currency: str
    """ISO 4217 code, in upper case once made."""

    def __post_init__(self) -> None:
        """Raise `ValueError`, or `TypeError` for what is no integer: money is never rounded."""
        if not isinstance(self.minor_units, int) or isinstance(self.minor_units, bool):
            raise TypeError(
                f"{self.minor_units!r} is not an integer of minor units; "
                'write Money(1999, "usd"), or Money.of("19.99", "usd")'
            )
        if not 0 <= self.minor_units <= currencies.MAX_MINOR_UNITS:
            raise ValueError(f"{self.minor_units} is not from 0 to {currencies.MAX_MINOR_UNITS}")
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isalpha()):
            raise ValueError(f"{self.currency!r} is not a currency; write a code such as usd")
        object.__setattr__(self, "currency", self.currency.upper())

    @classmethod
    def of(cls, amount: str, currency: str) -> Self:
        """Return an amount written in major units, such as "19.99"; raises `ValueError`."""
        return cls(currencies.minor_units(currency, amount), currency)

    @classmethod
    def from_proto(cls, amount: amount_pb2.Amount) -> Self:
        """Return what a message of the contract says."""
        return cls(amount.minor_units, amount.currency_code)

    def to_proto(self) -> amount_pb2.Amount:
        """Return the message of the contract."""
        return amount_pb2.Amount(minor_units=self.minor_units, currency_code=self.currency)

    def __str__(self) -> str:
        """Return the amount for people, such as "19.99 USD"."""
        return currencies.text(self.minor_units, self.currency)
