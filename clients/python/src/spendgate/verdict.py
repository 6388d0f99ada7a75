"""What a refusal says of the cap that decided."""

from __future__ import annotations

from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb


def cap_rule(cap: policy_pb2.CapStatus) -> str:
    """Return the name by which a verdict's rule names the cap."""
    owner = cap.budget or cap.derived_key_id
    return f"{owner}: {cap.cap}" if owner else cap.cap


def deciding_cap(verdict: pb.AuthorizeResponse) -> policy_pb2.CapStatus | None:
    """Return the cap that decided, if one did."""
    return next((cap for cap in verdict.caps if cap_rule(cap) == verdict.rule), None)


def reason_name(reason: int) -> str | None:
    """Return a reason for refusal in lower case, such as cap_exceeded; None for one newer than this."""
    known = pb.DenyReason.DESCRIPTOR.values_by_number.get(reason)
    return known.name.removeprefix("DENY_REASON_").lower() if known else None
