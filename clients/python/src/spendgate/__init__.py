"""Spendgate, the spend policy between AI agents and Stripe: its contract, client and command.

`SpendGate` and `AsyncSpendGate` ask the policy server. `spendgate.http` and
`spendgate.stripe` call Stripe through the sidecar. `spendgate.pydantic_ai`,
`spendgate.langchain`, `spendgate.crewai` and `spendgate.mcp` have tools for agents, and
`spendgate.testing` proves in their tests that they are governed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "AsyncSpendGate": "spendgate.client",
    "Attempt": "spendgate.client",
    "Authorization": "spendgate.authorization",
    "Cap": "spendgate.authorization",
    "DerivationFailed": "spendgate.derived_keys",
    "DerivedCap": "spendgate.derived_keys",
    "DuplicateEffect": "spendgate.errors",
    "EffectInFlight": "spendgate.errors",
    "HoldState": "spendgate.authorization",
    "Money": "spendgate.money",
    "NoDecision": "spendgate.errors",
    "Outcome": "spendgate.authorization",
    "OutcomeUnknown": "spendgate.errors",
    "Refused": "spendgate.errors",
    "Replay": "spendgate.authorization",
    "Settlement": "spendgate.authorization",
    "SpendGate": "spendgate.client",
    "SpendGateError": "spendgate.errors",
    "VaultKey": "spendgate.vault_key",
    "VendorUnavailable": "spendgate.errors",
    "derive_key": "spendgate.derived_keys",
}
"""Where each name is. gRPC takes a while to load, and pytest loads this package in every session."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load what a name stands for when it is first asked for."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """List the names also before they are loaded."""
    return sorted({*globals(), *__all__})
