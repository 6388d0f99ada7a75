"""Everything that Spendgate says no with, as exceptions, whether it came over gRPC or HTTP.

    SpendGateError
    ├── Refused             a decision: no. One class for each DenyReason, and RequestInvalid
    ├── NoDecision          no answer, nothing decided or changed. One class for each ErrorReason
    ├── DuplicateEffect     the effect was asked for before; EffectInFlight while that is under way
    ├── VendorUnavailable   allowed, and not sent
    └── OutcomeUnknown      sent, and nobody knows what became of it

After each of them the caller must not spend. None has a secret in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, TypeVar

from spendgate.money import Money


class SpendGateError(Exception):
    """The call was not made, or its outcome is not known; the message is for people and models."""

    reason: ClassVar[str] = ""
    """What this class stands for: a DenyReason or ErrorReason in lower case, or a code of the sidecar."""

    retries_help: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        said: str = "",
        retryable: bool | None = None,
        authorization_id: str | None = None,
        cap: str | None = None,
        remaining: int | None = None,
        currency: str | None = None,
        resets_at: datetime | None = None,
        allowed_endpoints: Sequence[str] = (),
        parameter: str | None = None,
        run_frozen: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.said = said or self.reason
        """The reason as the server gave it, which may be newer than this version."""
        self.retryable = self.retries_help if retryable is None else retryable
        """Whether the same call can succeed later without anybody changing anything."""
        self.authorization_id = authorization_id
        """The authorization, as the audit trail has it."""
        self.cap = cap
        """The cap that would be exceeded, such as "usd/day"."""
        self.remaining = remaining
        """What that cap has left, in minor units of `currency`, or in calls."""
        self.currency = currency
        """Currency of `remaining`, in upper case; None when it counts calls."""
        self.resets_at = resets_at
        """When that cap resets; None when it does not."""
        self.allowed_endpoints = tuple(allowed_endpoints)
        """What the vault key may call, when the endpoint was refused."""
        self.parameter = parameter
        """The parameter or field at fault, when there is one."""
        self.run_frozen = run_frozen
        """Whether the run is frozen, by this refusal or before it: nothing more is allowed in it."""

    @property
    def remaining_money(self) -> Money | None:
        """What is left under the cap, when that is money and known."""
        if self.remaining is None or not self.currency:
            return None
        return Money(self.remaining, self.currency)


class Refused(SpendGateError):
    """A decision was made, and it is no."""


class VaultKeyRefused(Refused):
    """The vault key is missing, unknown, revoked or expired, or it is a raw Stripe key."""


class VaultKeyUnknown(VaultKeyRefused):
    """No vault key has this id, or its secret is another."""

    reason = "vault_key_unknown"


class VaultKeyRevoked(VaultKeyRefused):
    """The vault key was revoked."""

    reason = "vault_key_revoked"


class VaultKeyExpired(VaultKeyRefused):
    """The vault key's policy has expired."""

    reason = "vault_key_expired"


class AccountFrozen(Refused):
    """An operator stopped the account."""

    reason = "account_frozen"


class EndpointNotAllowed(Refused):
    """No pattern of the policy allows this endpoint."""

    reason = "endpoint_not_allowed"


class VendorAccountNotAllowed(Refused):
    """The policy does not name the vendor account that the call acts for."""

    reason = "vendor_account_not_allowed"


class CurrencyNotAllowed(Refused):
    """The policy does not allow this currency, or no cap covers it."""

    reason = "currency_not_allowed"


class ParameterNotAllowed(Refused):
    """A parameter rule is broken; `parameter` names it."""

    reason = "parameter_not_allowed"


class RunIdRequired(Refused):
    """The policy counts by run, or the call has no name, and no run is given."""

    reason = "run_id_required"


class RunFrozen(Refused):
    """The run asked for the same in vain again and again, and is stopped."""

    reason = "run_frozen"


class RunNotAllowed(Refused):
    """The vault key is for another run."""

    reason = "run_not_allowed"


class IdempotencyMismatch(Refused):
    """The effect was named before with another request. A second, wanted one needs another step."""

    reason = "idempotency_mismatch"


class EffectTooOld(Refused):
    """Repeating the effect could pay twice; look at the vendor what became of it."""

    reason = "effect_too_old"


class AmountUnknown(Refused):
    """The call moves money and its amount is not known."""

    reason = "amount_unknown"


class CapExceeded(Refused):
    """A cap has no room: ask for at most `remaining`, or wait until `resets_at`."""

    reason = "cap_exceeded"


class RequestInvalid(Refused):
    """The request is malformed, could be read in two ways, or names nothing that there is."""


class NoDecision(SpendGateError):
    """Nothing was decided or changed."""


class PolicyUnavailable(NoDecision):
    """No policy server answered."""

    reason = "policy_unavailable"
    retries_help = True


class StoreUnavailable(PolicyUnavailable):
    """The counter store did not answer in time or not well."""

    reason = "store_unavailable"


class DeadlineExceeded(NoDecision):
    """No answer came in time. The call may have been decided: only the same request may be sent again."""

    reason = "deadline_exceeded"
    retries_help = True


class FieldInvalid(NoDecision):
    """A field is missing or malformed; `parameter` names it."""

    reason = "field_invalid"


class TokenInvalid(NoDecision):
    """The call has no token, or an unknown one."""

    reason = "token_invalid"


class TokenNotSufficient(NoDecision):
    """The token is good, but not for this method."""

    reason = "token_not_sufficient"


class VaultKeyNotFound(NoDecision):
    """No vault key has this id."""

    reason = "vault_key_not_found"


class NameTaken(NoDecision):
    """A working vault key has this name."""

    reason = "name_taken"


class VersionConflict(NoDecision):
    """The policy version is not the expected one."""

    reason = "version_conflict"


class RunNotFrozen(NoDecision):
    """The run is not frozen for this vault key."""

    reason = "run_not_frozen"


class HoldNotFound(NoDecision):
    """No hold has this authorization id."""

    reason = "hold_not_found"


class HoldClosed(NoDecision):
    """The hold was closed with another outcome, or a later attempt took its place."""

    reason = "hold_closed"


class BudgetNotFound(NoDecision):
    """The account has no such budget."""

    reason = "budget_not_found"


class VaultKeyUnchangeable(NoDecision):
    """The vault key is revoked and can't be changed."""

    reason = "vault_key_revoked"


class ArchiveUnavailable(NoDecision):
    """The archive of the audit trail did not answer."""

    reason = "archive_unavailable"
    retries_help = True


class ArchiveBroken(NoDecision):
    """The archive lacks an event or has changed one, so no ledger can be made from it."""

    reason = "archive_broken"


class AuditBacklogFull(PolicyUnavailable):
    """Too many audit events wait for the archive."""

    reason = "audit_backlog_full"


class LedgerLost(PolicyUnavailable):
    """The store lost what was counted: nothing is allowed until an operator has rebuilt it."""

    reason = "ledger_lost"
    retries_help = False


class LedgerPresent(NoDecision):
    """The ledger is not lost, so it is not rebuilt."""

    reason = "ledger_present"


class NothingLost(NoDecision):
    """There is nothing to rebuild: nothing that was ever archived is lost."""

    reason = "nothing_lost"


class DuplicateEffect(SpendGateError):
    """The effect was held or settled before: it must not be made again."""

    reason = "duplicate"


class EffectInFlight(DuplicateEffect):
    """The first of two equal calls is under way; repeating it is safe, and answered once that is done."""

    reason = "idempotency_key_in_use"
    retries_help = True


class VendorUnavailable(SpendGateError):
    """The vendor could not be reached, so nothing was changed. Repeating the call is safe."""

    reason = "vendor_unavailable"
    retries_help = True


class OutcomeUnknown(SpendGateError):
    """The call was sent and no answer came. Its amount stays held; only the same call may be repeated."""

    reason = "outcome_unknown"
    retries_help = True


_Kind = TypeVar("_Kind", bound=SpendGateError)


def _by_reason(base: type[_Kind]) -> dict[str, type[_Kind]]:
    found: dict[str, type[_Kind]] = {}
    for kind in base.__subclasses__():
        found |= _by_reason(kind)
        if kind.reason:
            found[kind.reason] = kind
    return found


REFUSALS = _by_reason(Refused)
"""The class of each DenyReason, by its name in lower case without DENY_REASON_."""

FAILURES = _by_reason(NoDecision)
"""The class of each ErrorReason, by its name in lower case without ERROR_REASON_."""
