"""Spendgate, the spend policy between AI agents and Stripe: its contract, client and command.

`SpendGate` and `AsyncSpendGate` ask the policy server. `spendgate.http` and
`spendgate.stripe` call Stripe through the sidecar. `spendgate.pydantic_ai`,
`spendgate.langchain`, `spendgate.crewai` and `spendgate.mcp` have tools for agents.
"""

from spendgate.authorization import Authorization, Cap, HoldState, Outcome, Replay, Settlement
from spendgate.client import AsyncSpendGate, Attempt, SpendGate
from spendgate.derived_keys import DerivationFailed, DerivedCap, derive_key
from spendgate.errors import (
    DuplicateEffect,
    EffectInFlight,
    NoDecision,
    OutcomeUnknown,
    Refused,
    SpendGateError,
    VendorUnavailable,
)
from spendgate.money import Money
from spendgate.vault_key import VaultKey

__all__ = [
    "AsyncSpendGate",
    "Attempt",
    "Authorization",
    "Cap",
    "DerivationFailed",
    "DerivedCap",
    "DuplicateEffect",
    "EffectInFlight",
    "HoldState",
    "Money",
    "NoDecision",
    "Outcome",
    "OutcomeUnknown",
    "Refused",
    "Replay",
    "Settlement",
    "SpendGate",
    "SpendGateError",
    "VaultKey",
    "VendorUnavailable",
    "derive_key",
]
