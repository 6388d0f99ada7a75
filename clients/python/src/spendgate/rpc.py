"""How callers reach the policy server, and what its errors say."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from spendgate import errors
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.verdict import deciding_cap, reason_name

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    # Straight to the server, without any proxy of the environment.
    ("grpc.enable_http_proxy", 0),
    # A server that restarts is found again within a call's deadline.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an RPC failed."""

    reason: str = ""
    """Name of the ErrorReason without its prefix; empty when the policy server gave none."""

    metadata: Mapping[str, str] = field(default_factory=dict)


def error_info(error: grpc.RpcError) -> ErrorInfo:
    """Return what the policy server says of an error."""
    # Both kinds of client raise errors that are calls, too, which the types of grpcio do not say.
    status = rpc_status.from_call(error)  # type: ignore[arg-type,unused-ignore]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return ErrorInfo(str(info.reason), dict(info.metadata))
    return ErrorInfo()


def failure(error: grpc.RpcError) -> errors.SpendGateError:
    """Return the exception for an RPC that failed."""
    code, info, details = error.code(), error_info(error), error.details() or ""
    if known := errors.FAILURES.get(info.reason.lower()):
        return known(details, parameter=info.metadata.get("field"))
    if code is grpc.StatusCode.UNAVAILABLE:
        return errors.PolicyUnavailable(f"No policy server answers: {details}.")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded("The policy server did not answer in time.")
    return errors.NoDecision(
        f"The policy server failed with {code.name}: {details}", said=info.reason.lower() or code.name.lower()
    )


def pause_s(error: grpc.RpcError, repeats: int) -> float | None:
    """Return how long to wait before the same request is sent again; None when that does not help."""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return None
    longest = min(_FIRST_PAUSE_S * 2 ** min(repeats, 10), _LONGEST_PAUSE_S)
    # Callers that failed together must not come back together.
    return float(longest * random.uniform(0.5, 1))  # noqa: S311


def refusal(verdict: pb.AuthorizeResponse) -> errors.Refused:
    """Return the exception for a decision that is no, or that this version does not know."""
    cap = deciding_cap(verdict)
    said = reason_name(verdict.deny_reason) or f"deny_reason_{verdict.deny_reason}"
    kind = errors.REFUSALS.get(said, errors.Refused)
    resets = cap is not None and cap.HasField("reset_time")
    return kind(
        verdict.message or "The call is refused.",
        said=said,
        retryable=verdict.HasField("retry_time"),
        authorization_id=verdict.authorization_id or None,
        cap=verdict.rule if cap is not None else None,
        remaining=cap.remaining if cap is not None else None,
        currency=(cap.currency_code or None) if cap is not None else None,
        resets_at=cap.reset_time.ToDatetime(UTC) if cap is not None and resets else None,
        allowed_endpoints=verdict.allowed_endpoints,
        parameter=verdict.rule if verdict.deny_reason == pb.DENY_REASON_PARAMETER_NOT_ALLOWED else None,
        run_frozen=verdict.run_frozen,
    )
