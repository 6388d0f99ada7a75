"""What the sidecar's answers say, in words of `spendgate.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from spendgate import errors

_BY_CODE: dict[str, type[errors.SpendGateError]] = {
    "effect_too_old": errors.EffectTooOld,
    "endpoint_not_allowed": errors.EndpointNotAllowed,
    "idempotency_key_in_use": errors.EffectInFlight,
    "outcome_unknown": errors.OutcomeUnknown,
    "policy_unavailable": errors.PolicyUnavailable,
    "vault_key_invalid": errors.VaultKeyRefused,
    "vendor_unavailable": errors.VendorUnavailable,
}


def refusal(status: int, body: object) -> errors.SpendGateError | None:
    """Return what Spendgate refused an HTTP call with; None when the answer is the vendor's own.

    ``body`` is the answer's JSON: an ``error`` of Stripe's shape, or Twilio's.
    """
    error = _mapping(_mapping(body).get("error"))
    told = _mapping(error.get("spendgate"))
    if not told:
        error = _mapping(body)
        told = _mapping(_mapping(error.get("details")).get("spendgate"))
    if not told:
        return None
    return _error(status, error, told)


def _error(status: int, error: Mapping[str, Any], told: Mapping[str, Any]) -> errors.SpendGateError:
    reason = str(told.get("reason", ""))
    code = str(told.get("code") or error.get("code") or "")
    kind = errors.REFUSALS.get(reason) or _BY_CODE.get(code)
    if kind is None:
        kind = (
            errors.NoDecision if status >= 500 else errors.RequestInvalid if status != 403 else errors.Refused
        )
    return kind(
        str(error.get("message") or "The call is refused."),
        said=reason or code,
        retryable=told.get("retryable") is True,
        authorization_id=told.get("authorization_id"),
        cap=told.get("cap"),
        remaining=told.get("remaining"),
        currency=str(told["currency"]).upper() if told.get("currency") else None,
        resets_at=_moment(told.get("resets_at")),
        allowed_endpoints=told.get("allowed_endpoints") or (),
        parameter=error.get("param") or told.get("parameter"),
        run_frozen=told.get("run_frozen") is True,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None
