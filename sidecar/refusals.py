"""Every way in which the sidecar says no, as status, code and one sentence."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from sidecar import exchange
from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.verdict import deciding_cap, reason_name


class Refused(Exception):
    """The call is not made, or its outcome is not known."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        parameter: str = "",
        retryable: bool = False,
        retry_after_s: int | None = None,
        decided: bool = False,
        again: str | None = None,
        **detail: Any,
    ) -> None:
        """``again`` says whether repeating the call can help, where ``retryable`` does not say it all."""
        closing = exchange.again(retryable=retryable) if again is None else again
        self.message = f"{message} {closing}".rstrip()
        super().__init__(self.message)
        self.status = status
        self.code = code
        self.parameter = parameter
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.decided = decided
        """Whether the policy server knows of it, so that it is on record already."""
        self.detail = detail
        """What the body says beyond this, such as remaining and resets_at."""


_BY_REASON: dict[int, tuple[int, str]] = {
    pb.DENY_REASON_VAULT_KEY_UNKNOWN: (401, "vault_key_invalid"),
    pb.DENY_REASON_VAULT_KEY_REVOKED: (401, "vault_key_invalid"),
    pb.DENY_REASON_VAULT_KEY_EXPIRED: (401, "vault_key_invalid"),
    pb.DENY_REASON_ACCOUNT_FROZEN: (403, "account_frozen"),
    pb.DENY_REASON_RUN_NOT_ALLOWED: (403, "run_not_allowed"),
    pb.DENY_REASON_RUN_FROZEN: (403, "run_frozen"),
    pb.DENY_REASON_ENDPOINT_NOT_ALLOWED: (403, "endpoint_not_allowed"),
    pb.DENY_REASON_VENDOR_ACCOUNT_NOT_ALLOWED: (403, "vendor_account_not_allowed"),
    pb.DENY_REASON_CURRENCY_NOT_ALLOWED: (403, "currency_not_allowed"),
    pb.DENY_REASON_PARAMETER_NOT_ALLOWED: (403, "parameter_not_allowed"),
    pb.DENY_REASON_RUN_ID_REQUIRED: (400, "run_id_required"),
    pb.DENY_REASON_IDEMPOTENCY_MISMATCH: (400, "idempotency_key_reused"),
    pb.DENY_REASON_EFFECT_TOO_OLD: (400, "effect_too_old"),
    pb.DENY_REASON_AMOUNT_UNKNOWN: (400, "amount_unknown"),
    pb.DENY_REASON_CAP_EXCEEDED: (429, "spend_cap_exceeded"),
}


def denied(verdict: pb.AuthorizeResponse, *, unpriced: str = "") -> Refused:
    """Return the refusal for a call that the policy server denied.

    ``unpriced`` says why nobody can tell what the call moves.
    """
    status, code = _BY_REASON.get(verdict.deny_reason, (403, "refused"))
    message = verdict.message
    if unpriced and verdict.deny_reason == pb.DENY_REASON_AMOUNT_UNKNOWN:
        message = (
            f"What this call moves can't be told before it is made: {unpriced}. Only a policy that names the "
            "endpoint as unpriced lets it pass, so repeating the call can't help."
        )
    cap = deciding_cap(verdict)
    retryable = verdict.HasField("retry_time")
    retry_after_s = _seconds_until(verdict.retry_time) if retryable else None
    return Refused(
        status,
        code,
        message,
        parameter=verdict.rule if code == "parameter_not_allowed" else "",
        retryable=retryable,
        retry_after_s=retry_after_s,
        decided=True,
        again="",  # the policy server's sentence says it
        reason=reason_name(verdict.deny_reason),
        remaining=cap.remaining if cap is not None else None,
        currency=cap.currency_code.lower() or None if cap is not None else None,
        cap=verdict.rule if code == "spend_cap_exceeded" else None,
        resets_at=resets_at(cap) if cap is not None else None,
        retry_after=retry_after_s,
        allowed_endpoints=list(verdict.allowed_endpoints) or None,
        authorization_id=verdict.authorization_id or None,
        run_frozen=verdict.run_frozen or None,
    )


def malformed(parameter: str, message: str, *, code: str = "parameter_invalid", status: int = 400) -> Refused:
    """Return the refusal for a request that could be read in more than one way, or not at all."""
    return Refused(status, code, message, parameter=parameter)


def policy_unavailable(why: str) -> Refused:
    """Return the refusal for a call that nobody could decide on."""
    return Refused(
        503,
        "policy_unavailable",
        f"No decision could be made, so the call was not sent: {why}.",
        retryable=True,
    )


def ledger_lost(why: str) -> Refused:
    """Return the refusal for a call while the counters are not the ones that were counted in."""
    return Refused(503, "ledger_lost", f"No decision can be made, so the call was not sent: {why}.")


def audit_backlog_full(why: str) -> Refused:
    """Return the refusal for a call that could not be recorded for good."""
    return Refused(
        503,
        "audit_backlog_full",
        f"The call could not be recorded for good, so it was not sent: {why}. Try again later.",
        retryable=True,
    )


def in_flight_elsewhere(name: str) -> Refused:
    """Return the refusal for a repeat while the first of the two equal calls is under way."""
    return Refused(
        409,
        "idempotency_key_in_use",
        f"The call {name!r} is under way already and its outcome is not known yet.",
        again="Repeating it is safe and can help: it is answered once the first is done, never made twice.",
        retryable=True,
        decided=True,
    )


def never_repeated(verdict: pb.AuthorizeResponse) -> Refused:
    """Return the refusal for a repeat whose first outcome only a second, real call could show."""
    return Refused(
        409,
        "outcome_unknown",
        f"The call {verdict.idempotency_key!r} was sent before and its outcome is not known. This vendor "
        "has no way to repeat it safely, so it is not sent again; an operator must look.",
        decided=True,
        authorization_id=verdict.authorization_id,
    )


def not_sent(verdict: pb.AuthorizeResponse, why: str) -> Refused:
    """Return the answer for an allowed call that could not be sent."""
    kept = (
        "The first try of it stays as it is"
        if verdict.duplicate
        else "Nothing is held, and repeating it is safe"
    )
    return Refused(
        503,
        "vendor_unavailable",
        f"The vendor can't be reached ({why}), so the call was not sent. {kept}.",
        retryable=True,
        decided=True,
        authorization_id=verdict.authorization_id,
    )


def outcome_unknown(verdict: pb.AuthorizeResponse, why: str, *, repeatable: bool) -> Refused:
    """Return the answer for a call that was sent and whose outcome is not known.

    ``repeatable`` says whether a repeat can find out.
    """
    what_now = (
        "Repeating the same call is safe and can help: it finds out what happened and never pays twice."
        if repeatable
        else "Repeating the call is safe, but is not sent and can't help: an operator must look."
    )
    return Refused(
        504,
        "outcome_unknown",
        f"The call was sent and its outcome is not known: {why}. Its amount stays held.",
        again=what_now,
        retryable=repeatable,
        decided=True,
        authorization_id=verdict.authorization_id,
    )


def resets_at(cap: policy_pb2.CapStatus) -> str | None:
    """Return when the cap resets, in RFC 3339; None when it does not."""
    return _rfc3339(cap.reset_time.seconds) if cap.HasField("reset_time") else None


@lru_cache(maxsize=256)
def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds_until(moment: Timestamp) -> int:
    return max(1, moment.seconds - int(time.time()) + 1)
