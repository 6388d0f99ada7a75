"""The words of the policy server: what is asked, what is answered, what is kept.

Money is counted in integer minor units, time in milliseconds since 1970 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

MAX_MINOR_UNITS = 2**53 - 1
"""Largest amount, count and total: Redis scripts compute in doubles."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Money in one currency."""

    minor_units: int
    currency: str
    """ISO 4217 code in upper case."""


class DenyReason(StrEnum):
    """Why a call is refused, in the order in which reasons are looked for."""

    VAULT_KEY_UNKNOWN = "vault_key_unknown"
    VAULT_KEY_REVOKED = "vault_key_revoked"
    VAULT_KEY_EXPIRED = "vault_key_expired"
    ACCOUNT_FROZEN = "account_frozen"
    RUN_NOT_ALLOWED = "run_not_allowed"
    RUN_FROZEN = "run_frozen"
    ENDPOINT_NOT_ALLOWED = "endpoint_not_allowed"
    VENDOR_ACCOUNT_NOT_ALLOWED = "vendor_account_not_allowed"
    CURRENCY_NOT_ALLOWED = "currency_not_allowed"
    PARAMETER_NOT_ALLOWED = "parameter_not_allowed"
    RUN_ID_REQUIRED = "run_id_required"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    EFFECT_TOO_OLD = "effect_too_old"
    AMOUNT_UNKNOWN = "amount_unknown"
    CAP_EXCEEDED = "cap_exceeded"


class Replay(StrEnum):
    """What the caller does with a duplicate."""

    JOIN = "join"
    FORWARD = "forward"
    FETCH = "fetch"


class Outcome(StrEnum):
    """What became of a call at the vendor."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class HoldState(StrEnum):
    """Where a hold is in its life: ``held`` to one of the others."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    UNKNOWN = "unknown"


class VaultKeyState(StrEnum):
    """Whether a vault key works."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


class AuditKind(StrEnum):
    """What an audit event tells of."""

    DECISION = "decision"
    SETTLEMENT = "settlement"
    REFUSAL = "refusal"
    ADMINISTRATION = "administration"


@dataclass(frozen=True, slots=True)
class SpendCall:
    """One call that an agent wants to make, as it reaches the policy server."""

    vault_key: str = field(repr=False)
    endpoint: str
    amount: Amount | None = None
    run_id: str = ""
    idempotency_key: str = ""
    fingerprint: str = ""
    step: str = ""
    validate_only: bool = False
    request_id: str = ""
    object_id: str = ""
    hold_ttl_ms: int = 0
    """0 means the server's default."""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    moves_money: bool = False
    """Money moves, also when ``amount`` is None because nobody knows it yet."""
    vendor_account: str = ""
    """The account at the vendor that the call acts for; empty means the key's own."""
    unpriced: bool = False
    """Money moves, and nobody can tell how much before it has; ``amount`` is None."""
    absorbed_object_ids: tuple[str, ...] = ()
    """Objects that become part of the one that the call makes or changes."""
    refunded_object_id: str = ""
    """The object whose money the call gives back; makes the call a refund."""
    sender: str = ""
    """Names the vendor's credentials that the call will be sent with; no secret."""

    @property
    def spends(self) -> bool:
        """Whether the call moves money, of a known amount or not."""
        return self.moves_money or self.unpriced or (self.amount is not None and self.amount.minor_units > 0)


@dataclass(frozen=True, slots=True)
class CapStatus:
    """How full one cap is, in minor units or calls."""

    cap: str
    budget: str
    currency: str
    """Empty when calls are counted."""
    limit: int
    settled: int
    held: int
    resets_at_ms: int | None
    derived_key_id: str = ""

    @property
    def rule(self) -> str:
        """The name by which a verdict's rule names the cap."""
        owner = self.budget or self.derived_key_id
        return f"{owner}: {self.cap}" if owner else self.cap

    @property
    def remaining(self) -> int:
        """What may still be held."""
        return max(0, self.limit - self.settled - self.held)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one call."""

    allowed: bool
    reason: DenyReason | None = None
    message: str = ""
    rule: str = ""
    authorization_id: str = ""
    attempt: int = 0
    duplicate: bool = False
    replay: Replay | None = None
    effect_name: str = ""
    upstream_key: str = ""
    object_id: str = ""
    caps: tuple[CapStatus, ...] = ()
    expires_at_ms: int = 0
    policy_version: int = 0
    allowed_endpoints: tuple[str, ...] = ()
    vault_key_id: str = ""
    retry_at_ms: int | None = None
    """When the same call may succeed at the earliest, if nobody changes anything; None means never."""
    run_frozen: bool = False
    """Whether a refusal froze the run, or found it frozen."""
    shadow_reason: DenyReason | None = None
    asked: Amount | None = None
    """What the first call with this effect asked for, with a duplicate."""


class RuleVerdict(StrEnum):
    """What came of looking at one rule."""

    PASSED = "passed"
    BROKEN = "broken"
    NOT_REACHED = "not_reached"


@dataclass(frozen=True, slots=True)
class ExaminedRule:
    """One rule for a call, and what came of looking at it."""

    reason: DenyReason
    """What a call is refused with that breaks it."""
    rule: str
    """A cap, a parameter, an endpoint pattern; empty when the reason says it all."""
    verdict: RuleVerdict
    cap: CapStatus | None = None
    """How full the cap is, without this call."""
    needed: int = 0
    """What the cap must have room for, in minor units or calls; 1 for a call without a price."""
    remaining_after: int = 0
    """What would be left after the call; one without a price takes nothing until it is settled."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be answered to a call, and why."""

    verdict: Verdict
    rules: tuple[ExaminedRule, ...]
    """In the order in which they are looked at."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the caller reports about one authorized call."""

    authorization_id: str
    attempt: int
    outcome: Outcome
    amount: Amount | None = None
    object_id: str = ""
    vendor_request_id: str = ""
    http_status: int = 0
    latency_ms: int = 0
    stale: bool = False
    """The answer may tell of an earlier time; it never lowers what the object commits."""
    counted_object_id: str = ""
    """The object under which the amount counts; empty means ``object_id``."""
    evidence: str = ""
    """What shows the outcome, when nobody saw the vendor's answer."""
    unless_sent_after_ms: int | None = None
    """Change nothing when a repeat was allowed after this time."""
    replayed: bool = False
    """The answer is the one that the first try got."""

    def as_far_as_known(self) -> Settlement:
        """Return what it says of the effect: a repeat that was turned away says nothing of the first try."""
        tells = self.outcome is not Outcome.FAILED or not self.stale or self.replayed or self.evidence
        return self if tells else replace(self, outcome=Outcome.UNKNOWN, amount=None)


@dataclass(frozen=True, slots=True)
class UnresolvedHold:
    """A hold whose outcome nobody knows, with what is needed to find out."""

    authorization_id: str
    attempt: int
    account: str
    vault_key_id: str
    run_id: str
    step: str
    endpoint: str
    vendor_account: str
    asked: Amount | None
    held: Amount | None
    effect_name: str
    object_id: str
    sender: str
    held_at_ms: int
    last_send_ms: int
    """After this time nobody is allowed any more to send the call."""


@dataclass(frozen=True, slots=True, order=True)
class UnresolvedCursor:
    """Where a page of unresolved holds begins: behind this one."""

    account: str
    score: int = 0
    authorization_id: str = ""


@dataclass(frozen=True, slots=True)
class UnresolvedPage:
    """Some unresolved holds, when they were read, and where to go on."""

    holds: tuple[UnresolvedHold, ...]
    read_at_ms: int
    next: UnresolvedCursor | None = None


@dataclass(frozen=True, slots=True)
class SettleResult:
    """What a settlement led to."""

    state: HoldState
    overrun: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What an object of the vendor commits for good, as a caller saw it there."""

    vault_key_id: str
    object_id: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class FrozenRun:
    """A run in which a vault key may do nothing until an operator lifts it."""

    vault_key_id: str
    run_id: str
    frozen_at_ms: int
    reason: str
    """Why the same call was refused again and again."""
    endpoint: str


@dataclass(frozen=True, slots=True)
class LocalRefusal:
    """A call that the sidecar refused before asking for a decision."""

    vault_key_id: str
    endpoint: str
    run_id: str
    code: str
    http_status: int
    refused_at_ms: int
    detail: str = ""

    @classmethod
    def of_strangers(cls, how_many: int) -> LocalRefusal:
        """Stand for many refusals of callers that nobody knows."""
        detail = f"{how_many} refusals of callers without a working vault key are not recorded singly"
        return cls("", "", "", "refusals_not_recorded", 0, 0, detail)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One entry of the audit trail, as it stands in the store."""

    sequence: int
    created_at_ms: int
    account: str
    fields: Mapping[str, str]
    """Values by the field names of the AuditEvent message; absent means empty."""

    @classmethod
    def recorded(cls, account: str, sequence: int, fields: Mapping[str, str]) -> AuditEvent:
        """Return the event that was recorded with these fields; ``call`` has those of its call."""
        return cls(sequence, int(fields["time"]), account, {**json.loads(fields["call"]), **fields})


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit events are wanted; every part that is set must match."""

    run_id: str = ""
    vault_key_id: str = ""
    idempotency_key_prefix: str = ""
    decision: str = ""
    kind: str = ""
    object_id: str = ""
    start_ms: int | None = None
    end_ms: int | None = None

    def matches(self, event: AuditEvent) -> bool:
        """Tell whether ``event`` is wanted."""
        fields = event.fields
        return (
            all(
                not wanted or fields.get(name, "") == wanted
                for name, wanted in (
                    ("run_id", self.run_id),
                    ("vault_key_id", self.vault_key_id),
                    ("decision", self.decision),
                    ("kind", self.kind),
                    ("object_id", self.object_id),
                )
            )
            and fields.get("idempotency_key", "").startswith(self.idempotency_key_prefix)
            and (self.start_ms is None or event.created_at_ms >= self.start_ms)
            and (self.end_ms is None or event.created_at_ms < self.end_ms)
        )
