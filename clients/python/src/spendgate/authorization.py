"""What the decision service is asked and says, without the messages of the contract."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypedDict

from spendgate import rpc
from spendgate.money import Money
from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.vault_key import SecretText, vault_key
from spendgate.verdict import cap_rule, reason_name


class Replay(StrEnum):
    """What to do with a call whose effect was asked for before."""

    NONE = "none"
    """Nothing: it was not."""
    JOIN = "join"
    """The first call is under way: wait, never send."""
    FORWARD = "forward"
    """Send again with the same upstream idempotency key, to a vendor that replays its first answer."""
    FETCH = "fetch"
    """Fetch the object; never send."""


class Outcome(StrEnum):
    """What became of a call."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The vendor certainly did not do it; what was held is given back."""
    UNKNOWN = "unknown"
    """Nobody knows; it keeps counting."""


class HoldState(StrEnum):
    """Where a hold is in its life."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Cap:
    """How full a cap was when it was looked at. Numbers are minor units of `currency`, or calls."""

    name: str
    """Such as "usd/day", or "team: usd/month" for a budget's."""
    currency: str | None
    """In upper case; None when the cap counts calls."""
    limit: int
    settled: int
    held: int
    remaining: int
    resets_at: datetime | None
    """None for windows without an end."""

    @classmethod
    def from_proto(cls, cap: policy_pb2.CapStatus) -> Cap:
        """Return what a message of the contract says."""
        return cls(
            name=cap_rule(cap),
            currency=cap.currency_code or None,
            limit=cap.limit,
            settled=cap.settled,
            held=cap.held,
            remaining=cap.remaining,
            resets_at=cap.reset_time.ToDatetime(UTC) if cap.HasField("reset_time") else None,
        )


@dataclass(frozen=True, slots=True)
class Authorization:
    """A yes."""

    id: str
    """Names it in `settle`, logs and the audit trail; the same for every repeat. Empty for reads."""
    attempt: int
    """Which try of the effect this is, from 1."""
    duplicate: bool
    """Whether the effect was held or settled before: nothing was counted, and `replay` says what to do."""
    replay: Replay
    idempotency_key: str
    """The effect's name."""
    upstream_idempotency_key: str
    """The Idempotency-Key to send to the vendor."""
    object_id: str
    """The vendor's object that the effect made or changed, when known."""
    amount: Money | None
    """What the first call with this effect asked for, with a duplicate."""
    caps: tuple[Cap, ...]
    """The caps that were consulted, tightest first."""
    expires_at: datetime | None
    """When the hold becomes unknown unless it is settled."""
    policy_version: int
    vault_key_id: str
    shadow_reason: str | None
    """In shadow mode, why the call would have been refused."""


class CallNames(TypedDict, total=False):
    """What more can be said of a call; `AuthorizeRequest` of the contract has the limits."""

    idempotency_key: str
    """Names the effect outright."""
    step: str
    """Names the effect together with the run."""
    request_fingerprint: str
    request_id: str
    """Names this very call; made up unless given."""
    validate_only: bool
    """Decide as usual but hold nothing and record nothing."""
    object_id: str
    """The vendor's object whose commitment the call changes; the amount is then its new total."""
    hold_ttl: timedelta
    """From 1 s to 24 h."""
    parameters: Mapping[str, str]
    """For the policy's parameter rules; leave card and bank details out."""
    moves_money: bool
    """The call moves money, also when no amount is given."""
    vendor_account: str
    absorbed_object_ids: Sequence[str]
    refunded_object_id: str
    unpriced: bool


def authorize_request(
    key: str | SecretText, endpoint: str, amount: Money | None, run_id: str, names: CallNames
) -> pb.AuthorizeRequest:
    """Return the question; raises `ValueError` for what is no vault key."""
    request = pb.AuthorizeRequest(
        vault_key=vault_key(key).get_secret_value(),
        endpoint=endpoint,
        amount=amount.to_proto() if amount is not None else None,
        run_id=run_id,
        # Its own name lets the same request be sent again after a lost reply.
        request_id=uuid.uuid4().hex,
    )
    request.MergeFrom(pb.AuthorizeRequest(**names))
    return request


def authorization(verdict: pb.AuthorizeResponse) -> Authorization:
    """Return the yes in a verdict, or raise the `Refused` that it is."""
    if verdict.decision != pb.DECISION_ALLOW:
        raise rpc.refusal(verdict)
    return Authorization(
        id=verdict.authorization_id,
        attempt=verdict.attempt,
        duplicate=verdict.duplicate,
        replay=_replay(verdict),
        idempotency_key=verdict.idempotency_key,
        upstream_idempotency_key=verdict.upstream_idempotency_key,
        object_id=verdict.object_id,
        amount=Money.from_proto(verdict.amount) if verdict.HasField("amount") else None,
        caps=tuple(Cap.from_proto(cap) for cap in verdict.caps),
        expires_at=verdict.expire_time.ToDatetime(UTC) if verdict.HasField("expire_time") else None,
        policy_version=verdict.policy_version,
        vault_key_id=verdict.vault_key_id,
        shadow_reason=reason_name(verdict.shadow_deny_reason) if verdict.shadow_deny_reason else None,
    )


def _replay(verdict: pb.AuthorizeResponse) -> Replay:
    known = {
        pb.REPLAY_UNSPECIFIED: Replay.JOIN if verdict.duplicate else Replay.NONE,
        pb.REPLAY_FORWARD: Replay.FORWARD,
        pb.REPLAY_FETCH: Replay.FETCH,
    }
    return known.get(verdict.replay, Replay.JOIN)


class SettlementFacts(TypedDict, total=False):
    """What more can be said of an outcome; `SettleRequest` of the contract has the limits."""

    object_id: str
    """The vendor's object that the call made or changed."""
    vendor_request_id: str
    http_status: int
    latency: timedelta
    stale: bool
    """The answer may tell of an earlier time; set by itself for a duplicate."""
    replayed: bool
    """The answer is the first try's own, given again; without it a duplicate that failed stays unknown."""
    counted_object_id: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a hold stands after it was settled."""

    state: HoldState
    overrun: bool
    """Whether more was committed than was held."""


_OUTCOMES = {
    Outcome.SUCCEEDED: pb.OUTCOME_SUCCEEDED,
    Outcome.FAILED: pb.OUTCOME_FAILED,
    Outcome.UNKNOWN: pb.OUTCOME_UNKNOWN,
}
_STATES = {
    pb.HOLD_STATE_HELD: HoldState.HELD,
    pb.HOLD_STATE_SETTLED: HoldState.SETTLED,
    pb.HOLD_STATE_RELEASED: HoldState.RELEASED,
}


def settle_request(
    held: Authorization, outcome: Outcome, amount: Money | None, facts: SettlementFacts
) -> pb.SettleRequest:
    """Return the report of an outcome."""
    request = pb.SettleRequest(
        authorization_id=held.id,
        attempt=held.attempt,
        outcome=_OUTCOMES[outcome],
        amount=amount.to_proto() if amount is not None else None,
        stale=held.duplicate,
    )
    request.MergeFrom(pb.SettleRequest(**facts))
    return request


def settlement(reply: pb.SettleResponse) -> Settlement:
    """Return how a hold stands."""
    return Settlement(_STATES.get(reply.state, HoldState.UNKNOWN), reply.overrun)
