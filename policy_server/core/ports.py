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
    UnresolvedCursor,
    UnresolvedPage,
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
    epoch: str = ""
    """The ledger that it was read in, by which alone its version counts."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account as the store keeps it; version 0 when nothing was ever set."""

    account: str
    version: int
    budgets: Mapping[str, tuple[Cap, ...]]
    freeze_reason: str | None = None
    epoch: str = ""
    """The ledger that it was read in, by which alone its version counts."""


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
    epoch: str
    """The ledger in which the records have these versions."""
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
    """Ids of the derived key that makes the call, if it is one: the first link's first, joined by ``/``."""
    expires_at_ms: int | None = None
    """When the key expires, on which the store's clock must agree. None when that does not matter."""
    loop: Loop | None = None
    """How repeated refusals are counted; None where they are not."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The record of key or account moved on; read it again."""


@dataclass(frozen=True, slots=True)
class OutOfSpan:
    """By the store's clock a span is over, or not begun, or a key has expired, or has not."""

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
    froze: bool
    """Whether this refusal froze its run."""
    counts: tuple[tuple[int, int], ...]
    """Settled and held of each cap of the question."""
    takes: tuple[int | None, ...]
    """How much the call takes of each of them; None when it was decided before any cap."""


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

    async def unresolved(self, after: UnresolvedCursor, limit: int) -> UnresolvedPage:
        """Return unknown holds of the cursor's account, the oldest first."""


class Registry(Protocol):
    """Keeps vault keys and accounts; every change is recorded in the same step."""

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return a vault key."""

    async def account(self, account: str) -> AccountRecord:
        """Return an account, also one that nothing was ever set for."""

    async def keys(self, account: str, offset: int, limit: int) -> list[KeyRecord]:
        """Return vault keys of the account, oldest first."""

    async def accounts(self) -> list[str]:
        """Return the accounts that have a ledger, in order."""

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


class AuditTail(Protocol):
    """Reads what was recorded lately, and is still in the store.

    Every method raises `StoreUnavailable` when the store does not answer.
    """

    async def scan(
        self, account: str, wanted: AuditFilter, before: int | None, above: int, limit: int
    ) -> tuple[list[AuditEvent], int | None, bool]:
        """Look at events below ``before`` and above ``above``, newest first.

        Returns those that are wanted, the lowest sequence that was looked at, or
        ``before`` when there was none, and whether there was none below it.
        """

    async def oldest(self, account: str) -> int | None:
        """Return the sequence of the oldest event that is still there."""

    def follow(self, account: str, after: int | None) -> AsyncIterator[tuple[list[AuditEvent], int]]:
        """Yield events above ``after``, or from now on, as they come, each time with the last sequence.

        Now and then it yields none, so that the caller knows that it goes on.
        """


@dataclass(frozen=True, slots=True)
class ArchiveHead:
    """The newest event of an account that the archive has."""

    sequence: int
    hash: bytes
    """SHA-256 over the hash before it and the event: it stands for the whole trail so far."""
    epoch: str = ""
    """The ledger that the event was written in; empty when it names none."""
    tip: str = ""
    """Which event it is of all that could have its number; empty when it does not say."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What the archive says to a rebuild: no append that was prepared before it passes any more."""

    generation: int
    """Number of the ledger to be. No other rebuild gets it."""
    head: ArchiveHead
    """The newest event; sequence 0 when there is none."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the store has for the archive."""

    entries: Sequence[tuple[int, Sequence[bytes]]]
    """Sequence, and field names and values in turn, of events, oldest first."""
    newest: int
    """Sequence of the newest event there is."""
    marked: int
    """The newest event that was said to be archived, by `Backlog.mark`; 0 when none was."""
    marked_hash: bytes
    rebuilding: bool = False
    """Whether a rebuild of the ledger is under way, or has broken off."""


class Backlog(Protocol):
    """The events that the store keeps until they are archived.

    Every method raises `StoreUnavailable` when the store does not answer.
    """

    def accounts(self) -> Sequence[str]:
        """Return the accounts that may have events."""

    def look(self, account: str, first: int, limit: int) -> Waiting:
        """Return events from sequence ``first`` on."""

    def mark(self, account: str, head: ArchiveHead) -> None:
        """Note that events up to ``head`` are archived for good; never goes back."""

    def trim(self, account: str, first: int) -> None:
        """Let go of events below sequence ``first``."""


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """One audit event as the archive keeps it."""

    sequence: int
    created_at_ms: int
    account: str
    fields: Mapping[str, str]
    """Every field of the stream entry, unchanged and in its order."""
    hash: bytes


class Archive(Protocol):
    """Keeps audit events for good, and reads them.

    Every method raises `ArchiveUnavailable` when the database does not answer.
    """

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest event of each account that has any."""

    async def head(self, account: str) -> int:
        """Return the sequence of an account's newest event; 0 when it has none."""

    async def read(self, account: str, after: int, limit: int) -> list[ArchivedEvent]:
        """Return events above sequence ``after``, oldest first."""

    async def fence(self, account: str, above: int) -> Fence:
        """Let no append pass that was prepared before; give out a number higher than ``above``."""

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of what an account's chain had come to."""

    account: str
    sequence: int
    hash: bytes
    created_at_ms: int
    key_id: str
    """The first 16 hex digits of the SHA-256 of the public key."""
    signature: bytes = b""

    @property
    def signed_text(self) -> bytes:
        """What the signature is over."""
        lines = ("spendgate audit checkpoint 1", self.account, str(self.sequence), self.hash.hex())
        return "\n".join((*lines, str(self.created_at_ms), self.key_id, "")).encode()


@dataclass(frozen=True, slots=True)
class AccountProgress:
    """How far the archive is with one account."""

    account: str
    newest: int
    """Sequence of the newest event."""
    archived: int
    """Sequence of the newest event in the archive."""
    archived_hash: bytes

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return max(0, self.newest - self.archived)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the archive is, and what is wrong."""

    accounts: tuple[AccountProgress, ...]
    problem: str
    """Empty while the archive keeps up."""
    backlog_max: int
    """How many events of one account may wait."""


class ArchiveProgress(Protocol):
    """Tells how far the archive is behind the store; raises `StoreUnavailable`."""

    async def look(self) -> Progress:
        """Return how far it is."""


class ArchiveCare(Protocol):
    """What operators do with the archive; raises `ArchiveUnavailable` and `StoreUnavailable`."""

    @property
    def public_key(self) -> str:
        """The key that checkpoints are signed with, as PEM."""

    async def progress(self) -> Progress:
        """Return how far the archive is."""

    def export(self, account: str, after: int) -> AsyncIterator[list[str]]:
        """Yield the lines of an export that begins after event ``after``."""

    async def checkpoint(self, account: str) -> Checkpoint:
        """Sign the newest archived event; `FieldInvalid` when there is none."""

    async def accept_loss(self, account: str, reason: str) -> tuple[int, int]:
        """Go on after events that the archive has lost; return the first and the last of them.

        Raises `NothingLost` when it has all that was ever archived, and
        `StillInStore` when the drainer will archive again what it lacks.
        """
