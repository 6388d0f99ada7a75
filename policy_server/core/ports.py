"""What the policy server needs from its store, in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy_server.core.effects import Effect
from policy_server.core.errors import SpendgateError
from policy_server.core.policy import Cap, OwnedCap, Policy
from policy_server.core.types import (
    Amount,
    AuditEvent,
    AuditFilter,
    DenyReason,
    FrozenRun,
    LocalRefusal,
    Observation,
    Replay,
    Settlement,
    SettleResult,
    SpendCall,
)
from policy_server.core.window import Span


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A vault key as the store keeps it."""

    key_id: str
    account: str
    name: str
    secret_hash: str
    version: int
    policy: Policy
    created_at_ms: int
    revoked_at_ms: int | None = None
    root_public_key: str = ""
    """What derived keys are verified by; empty for keys from which none can be derived."""
    revoked_derived: tuple[str, ...] = ()
    """Public ids of derived keys that were revoked alone."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account as the store keeps it; version 0 when nothing was ever set."""

    account: str
    version: int
    budgets: Mapping[str, tuple[Cap, ...]]
    freeze_reason: str | None = None


@dataclass(frozen=True, slots=True)
class CountedCap:
    """A cap and the span it counts over now."""

    owned: OwnedCap
    span: Span


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is refused and what decided it."""

    reason: DenyReason
    rule: str = ""
    detail: str = ""
    """What the message says beyond reason and rule."""
    sealed: bool = False
    """Whether a derived key says so, which holds in shadow mode too."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What makes two refused calls of a run the same, and how often that may be."""

    same_call: str
    refusals_max: int


@dataclass(frozen=True, slots=True)
class Question:
    """Everything the store needs to decide on one call in one step."""

    call: SpendCall
    account: str
    vault_key_id: str
    """Empty when the vault key is unknown."""
    key_version: int
    """0 when the vault key is unknown."""
    account_version: int
    effect: Effect | None
    fingerprint: str
    hold_ttl_ms: int
    caps: tuple[CountedCap, ...]
    refusal: Refusal | None
    """Refuse so, whatever the counters say."""
    call_refusal: Refusal | None
    """Refuse so, unless the call is a duplicate."""
    unpriced_in: tuple[str, ...] | None
    """Currencies in which a call without an amount may be settled; None when it needs an amount."""
    restored_object_id: str
    """The object whose count a refund gives back; empty when the policy has another rule."""
    shadow: bool
    shadow_refusal: Refusal | None
    derived_key_id: str = ""
    """The derived key that makes the call, if it is one."""
    loop: Loop | None = None
    """How repeated refusals are counted; None where they are not."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The record of key or account moved on; read it again."""


@dataclass(frozen=True, slots=True)
class OutOfSpan:
    """By the store's clock a span is over, or not begun."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store decided."""

    allowed: bool
    reason: DenyReason | None
    rule: str
    attempt: int
    duplicate: bool
    replay: Replay | None
    object_id: str
    expires_at_ms: int
    shadow_reason: DenyReason | None
    asked: Amount | None
    """What the first call asked for, with a duplicate."""
    needed: int | None
    """What caps on money must have room for; None when the call was decided before any cap."""
    counts: tuple[tuple[int, int], ...]
    """Settled and held of each cap of the question."""


class Ledger(Protocol):
    """Counts, holds and records, each decision in one atomic step.

    Every method raises `StoreUnavailable` when the store does not answer.
    """

    async def decide(
        self, questions: Sequence[Question]
    ) -> list[Answer | Stale | OutOfSpan | SpendgateError]:
        """Decide on each question by itself, in order, and record the decisions."""

    async def settle(
        self, settlements: Sequence[tuple[str, Settlement]]
    ) -> list[SettleResult | SpendgateError]:
        """Close holds; each settlement comes with its account."""

    async def observe(self, observations: Sequence[tuple[str, Observation]]) -> None:
        """Bring exposures to what was observed; each observation comes with its account."""

    async def record_refusals(self, refusals: Sequence[tuple[str, LocalRefusal]]) -> None:
        """Record what the sidecar refused; each refusal comes with its account."""

    async def counts(
        self, account: str, vault_key_id: str, run_id: str, caps: Sequence[CountedCap]
    ) -> list[tuple[int, int]]:
        """Return settled and held of each cap."""

    async def expire_holds(self, account: str, limit: int) -> int:
        """Mark overdue holds unknown; return how many there were."""

    async def frozen_runs(self, account: str, offset: int, limit: int) -> list[FrozenRun]:
        """Return frozen runs of the account, the latest first."""

    async def unfreeze_run(self, account: str, vault_key_id: str, run_id: str) -> bool:
        """Let a frozen run go on, and record it; tell whether it was frozen."""


class Registry(Protocol):
    """Keeps vault keys and accounts; every change is recorded in the same step."""

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return a vault key."""

    async def account(self, account: str) -> AccountRecord:
        """Return an account, also one that nothing was ever set for."""

    async def keys(self, account: str, offset: int, limit: int) -> list[KeyRecord]:
        """Return vault keys of the account, oldest first."""

    async def accounts(self) -> list[str]:
        """Return the accounts that have had keys."""

    async def create_key(self, record: KeyRecord) -> KeyRecord:
        """Keep a new key; `NameTaken` when a working key has its name."""

    async def update_policy(self, record: KeyRecord, policy: Policy) -> KeyRecord:
        """Replace the policy of ``record``; `VersionConflict` when it has moved on."""

    async def revoke_key(self, record: KeyRecord) -> KeyRecord:
        """End a key; `VersionConflict` when it has moved on."""

    async def revoke_derived_key(self, record: KeyRecord, derived_key_id: str) -> KeyRecord:
        """End one derived key of ``record``; `VersionConflict` when it has moved on."""

    async def update_account(self, old: AccountRecord, new: AccountRecord, detail: str) -> AccountRecord:
        """Replace ``old`` by ``new``; `VersionConflict` when it has moved on."""


class AuditTrail(Protocol):
    """Reads what was recorded."""

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on."""

    def watch(
        self, account: str, wanted: AuditFilter, after: int | None
    ) -> AsyncIterator[tuple[AuditEvent | None, int]]:
        """Yield wanted events as they are written, and checkpoints, each with its sequence."""
