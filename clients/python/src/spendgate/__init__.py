"""Spendgate, the spend policy between AI agents and Stripe: its contract, client and command."""

from spendgate.derived_keys import DerivationFailed, DerivedCap, derive_key

__all__ = ["DerivationFailed", "DerivedCap", "derive_key"]
