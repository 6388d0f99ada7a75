"""One sentence for each refusal, for people and for models.

It says what happened, whether trying again can help, and what is left.
"""

from __future__ import annotations

from datetime import UTC, datetime

from policy_server.core.ports import Question
from policy_server.core.types import CapStatus, DenyReason, Verdict

_FIXED = {
    DenyReason.VAULT_KEY_UNKNOWN: "This vault key is not known; ask the operator for one. "
    "Trying again can't help.",
    DenyReason.VAULT_KEY_REVOKED: "This vault key was revoked. Trying again can't help.",
    DenyReason.VAULT_KEY_EXPIRED: "This vault key has expired. Trying again can't help.",
    DenyReason.RUN_ID_REQUIRED: "The policy of this vault key counts by run: name the run "
    "(header Spendgate-Run-Id, or run_id) and send the call again.",
    DenyReason.AMOUNT_UNKNOWN: "This call moves money and nobody said how much. Name the amount.",
    DenyReason.EFFECT_TOO_OLD: "This effect is so old that repeating it could pay twice, and what "
    "became of it is not known. Trying again can't help; an operator must reconcile it.",
}


def refusal(question: Question, verdict: Verdict) -> str:
    """Return the sentence for a refused call."""
    reason = verdict.reason
    if reason is None:
        return ""
    if reason is DenyReason.AMOUNT_UNKNOWN and question.call.unpriced:
        return (
            "Nobody can tell what this call costs before it is made, and the policy of this vault key does "
            f"not allow that at {question.call.endpoint}. Trying again can't help."
        )
    if reason in _FIXED:
        return _FIXED[reason]
    if reason is DenyReason.CAP_EXCEEDED:
        return _cap_exceeded(question, verdict)
    if reason is DenyReason.ACCOUNT_FROZEN:
        detail = question.refusal.detail if question.refusal else ""
        return f"The account is frozen: {detail}. Nothing is allowed until an operator ends the freeze."
    if reason is DenyReason.ENDPOINT_NOT_ALLOWED:
        return f"This vault key may not call {question.call.endpoint}. Trying again can't help."
    if reason is DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED:
        return (
            f"This vault key may not act for the account {verdict.rule}. Leave the account out, or ask the "
            "operator to allow it."
        )
    if reason is DenyReason.CURRENCY_NOT_ALLOWED:
        return _currency_not_allowed(question)
    if reason is DenyReason.PARAMETER_NOT_ALLOWED:
        return f"The policy does not allow the parameter {verdict.rule} with this value, or wants it given."
    return (
        f"The effect {verdict.effect_name!r} was asked for before with other parameters, so this call is not "
        "made. To make a second, different call in the same run, give it another step or idempotency key."
    )


def _currency_not_allowed(question: Question) -> str:
    rule, detail = (question.refusal.rule, question.refusal.detail) if question.refusal else ("", "")
    if rule.startswith("budget "):
        return f"The {rule} that this vault key draws from does not exist. Tell the operator."
    if question.call.unpriced:
        why = "The policy of this vault key has no cap on money at this endpoint, so it may not move any."
    else:
        currency = question.call.amount.currency if question.call.amount else ""
        why = f"The policy of this vault key has no cap for {currency}, so it may not move {currency}."
    return f"{why} {detail}".rstrip()


def _cap_exceeded(question: Question, verdict: Verdict) -> str:
    amount = question.call.amount
    asked = f"{amount.minor_units} (in the smallest unit of {amount.currency})" if amount else "This call"
    status = next((one for one in verdict.caps if one.cap == verdict.rule.partition(": ")[2]), None) or next(
        (one for one in verdict.caps if one.cap == verdict.rule), None
    )
    if status is None:
        return f"{asked} is more than the cap {verdict.rule} allows for one call. Ask for less."
    left = f"{status.remaining} of {status.limit} left"
    return f"{asked} would exceed the cap {verdict.rule}: {left}. {_reset(status)}"


def _reset(status: CapStatus) -> str:
    if status.resets_at_ms is None:
        return "It does not reset; ask for less, or ask the operator for more."
    moment = datetime.fromtimestamp(status.resets_at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if status.remaining == 0:
        return f"It resets at {moment}; nothing more is possible before."
    return f"It resets at {moment}; before, only less can help."
