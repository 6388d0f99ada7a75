"""One sentence for each refusal, for people and for models.

It says what happened, whether and when repeating the call can help, and what
is allowed or left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from policy_server.core.ports import Question
from policy_server.core.types import CapStatus, DenyReason, Verdict

_NAMED_MAX = 12
"""How many endpoints or values a sentence names at most."""

_IN_VAIN = "so repeating the call can't help"

_KEY_OF_ANY_RUN = (
    "This key was derived for one run, and an idempotency_key names the same effect in every run, "
    f"{_IN_VAIN}; leave the idempotency_key out, and tell calls apart by steps (header Spendgate-Step)."
)

_SENTENCES = {
    DenyReason.VAULT_KEY_UNKNOWN: "This vault key is not known, {in_vain}; ask the operator for another.",
    DenyReason.VAULT_KEY_REVOKED: "This vault key was revoked and allows nothing any more, {in_vain}.",
    DenyReason.VAULT_KEY_EXPIRED: "This vault key has expired and allows nothing any more, {in_vain}.",
    DenyReason.ACCOUNT_FROZEN: "The account is frozen and allows nothing until an operator ends that "
    "({detail}), {in_vain}.",
    DenyReason.RUN_NOT_ALLOWED: "This key was derived for the run {rule} and allows nothing in another, "
    "{in_vain} unless it names that run.",
    DenyReason.RUN_FROZEN: "This run is frozen and allows nothing until an operator lifts that, because the "
    "same call was refused in it again and again ({rule}), {in_vain}; end the run and report it.",
    DenyReason.ENDPOINT_NOT_ALLOWED: "This vault key may not call {endpoint}, {in_vain}; it may call "
    "{allowed}.",
    DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED: "This vault key may not act for the account {rule}, {in_vain}; "
    "leave the account out, or ask the operator to allow it.",
    DenyReason.PARAMETER_NOT_ALLOWED: "The policy does not allow the parameter {rule} as it is, {in_vain}; "
    "{detail}.",
    DenyReason.RUN_ID_REQUIRED: "The policy of this vault key counts by run and the call names none, "
    "{in_vain} unless it names its run (header Spendgate-Run-Id, or run_id).",
    DenyReason.IDEMPOTENCY_MISMATCH: "The effect {effect!r} was asked for before with other parameters and "
    "is done once only, {in_vain}; to make a second, different call in the same run, give it another step or "
    "idempotency key.",
    DenyReason.EFFECT_TOO_OLD: "This effect is so old that doing it again could pay twice, and what became "
    "of it is not known, {in_vain}; an operator must reconcile it.",
}


def refusal(question: Question, verdict: Verdict) -> str:
    """Return the sentence for a refused call."""
    match verdict.reason:
        case None:
            return ""
        case DenyReason.CAP_EXCEEDED:
            return _cap_exceeded(question, verdict)
        case DenyReason.CURRENCY_NOT_ALLOWED:
            return _currency_not_allowed(question)
        case DenyReason.AMOUNT_UNKNOWN:
            return _amount_unknown(question)
        case DenyReason.RUN_NOT_ALLOWED if verdict.rule == "idempotency_key":
            return _KEY_OF_ANY_RUN
    return _SENTENCES[verdict.reason].format(
        in_vain=_IN_VAIN,
        detail=question.refusal.detail if question.refusal else "",
        rule=verdict.rule,
        endpoint=question.call.endpoint,
        allowed=_some(verdict.allowed_endpoints),
        effect=verdict.effect_name,
    )


def run_frozen(why: DenyReason) -> str:
    """Return the sentence for a call in a run that is frozen because calls were refused for this reason."""
    return _SENTENCES[DenyReason.RUN_FROZEN].format(rule=why.value, in_vain=_IN_VAIN)


def named(values: Sequence[str]) -> str:
    """Name the values that a parameter may have, for the sentence."""
    return f"it may be {_some(values, 'or')}" if values else "leave it out"


def moved(currencies: Sequence[str]) -> str:
    """Name the currencies that may be moved, for the sentence."""
    return f"it may move {_some(currencies)}" if currencies else ""


def _some(values: Sequence[str], word: str = "and") -> str:
    shown = list(values[:_NAMED_MAX])
    if len(values) > _NAMED_MAX:
        shown.append(f"{len(values) - _NAMED_MAX} more")
    return f" {word} ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def _currency_not_allowed(question: Question) -> str:
    call = question.call
    rule, detail = (question.refusal.rule, question.refusal.detail) if question.refusal else ("", "")
    if rule.startswith("budget "):
        what = f"The {rule} that this vault key draws from does not exist and the operator must set it"
    elif call.unpriced:
        what = "The policy of this vault key has no cap on money at this endpoint and lets it move none"
    else:
        what = f"The policy of this vault key has no cap for {rule} here and lets it move none"
    return f"{what}, {_IN_VAIN}{f'; {detail}' if detail else ''}."


def _amount_unknown(question: Question) -> str:
    call = question.call
    if call.unpriced:
        return (
            "Nobody can tell what this call costs before it is made, and the policy of this vault key does "
            f"not allow that at {call.endpoint}, {_IN_VAIN}."
        )
    return f"This call moves money and nobody said how much, {_IN_VAIN} unless it names the amount."


def _cap_exceeded(question: Question, verdict: Verdict) -> str:
    amount = question.call.amount
    asked = f"{amount.minor_units} (in the smallest unit of {amount.currency})" if amount else "This call"
    status = next((one for one in verdict.caps if one.rule == verdict.rule), None)
    if status is None:
        most = question.call_refusal.detail if question.call_refusal else ""
        return (
            f"{asked} is more than the {most} that the cap {verdict.rule} allows for one call, {_IN_VAIN}; "
            f"ask for at most {most}."
        )
    left = f"{asked} would exceed the cap {verdict.rule}, with {status.remaining} of {status.limit} left"
    less = f"ask for at most {status.remaining}" if status.currency and status.remaining else ""
    if verdict.retry_at_ms is not None:
        moment = _moment(verdict.retry_at_ms)
        before = less or "nothing more is possible"
        return f"{left} until it resets at {moment}, when repeating the call can help; {before} before."
    now = less or "nothing more is possible"
    return f"{left}{_until(status)}, {_IN_VAIN}; {now}, or ask the operator for more."


def _until(status: CapStatus) -> str:
    if status.resets_at_ms is None:
        return " and no reset"
    return f" and never more than {status.limit}"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
