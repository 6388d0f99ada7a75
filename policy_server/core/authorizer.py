"""Decides on calls: everything but the counting itself, which the store does.

The order of reasons is fixed: key, account, endpoint, vendor account, currency
and parameters, run, idempotency, call cap, run caps, window caps, budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from policy_server.core import messages, vault_key
from policy_server.core.directory import Directory, Standing
from policy_server.core.effects import Effect, fingerprint_of, is_read, name_effect, upstream_key
from policy_server.core.errors import FieldInvalid, SpendgateError, StoreUnavailable
from policy_server.core.policy import EffectNaming, OwnedCap, PolicyMode, PolicyView, RefundRule, Terms
from policy_server.core.ports import (
    AccountRecord,
    Answer,
    CountedCap,
    Ledger,
    OutOfSpan,
    Question,
    Refusal,
    Registry,
    Stale,
)
from policy_server.core.strangers import Strangers
from policy_server.core.types import CapStatus, DenyReason, SpendCall, Verdict
from policy_server.core.window import Calendar, Window

DEFAULT_ACCOUNT = "default"

_ROUNDS_MAX = 4
"""How often a call is judged anew when key, account or clock moved meanwhile."""

_OF_STRANGERS = frozenset({DenyReason.VAULT_KEY_UNKNOWN, DenyReason.VAULT_KEY_REVOKED})
"""Refusals that nothing which changes later could turn into another answer."""

Now = Callable[[], int]
"""The time in milliseconds since 1970 UTC."""


class Authorizer:
    """Answers calls, many at once."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        directory: Directory,
        now: Now,
        *,
        strangers: Strangers,
        hold_ttl_ms: int,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._directory = directory
        self._now = now
        self._strangers = strangers
        self._hold_ttl_ms = hold_ttl_ms
        self._calendar = Calendar()
        self._store_ahead_ms = 0

    async def authorize(self, calls: Sequence[SpendCall]) -> list[Verdict | SpendgateError]:
        """Decide on each call by itself, in order.

        An error in the list means that no decision was made on that call.
        """
        results: list[Verdict | SpendgateError] = [
            StoreUnavailable("policy and clock kept changing while the call was decided; repeat it")
        ] * len(calls)
        waiting = list(range(len(calls)))
        for _ in range(_ROUNDS_MAX):
            questions: list[tuple[int, Question, Standing | None]] = []
            for index in waiting:
                try:
                    question, standing = await self._question(calls[index])
                except SpendgateError as error:
                    results[index] = error
                    continue
                if self._is_recorded(question):
                    questions.append((index, question, standing))
                else:
                    results[index] = _verdict(question, standing, _refused_unrecorded(question))
            waiting = []
            answers = await self._ledger.decide([question for _, question, _ in questions])
            for (index, question, standing), answer in zip(questions, answers, strict=True):
                if isinstance(answer, Stale | OutOfSpan):
                    self._catch_up(question, answer)
                    waiting.append(index)
                elif isinstance(answer, SpendgateError):
                    results[index] = answer
                else:
                    results[index] = _verdict(question, standing, answer)
            if not waiting:
                break
        return results

    def _is_recorded(self, question: Question) -> bool:
        """Tell whether the decision goes on record by itself; strangers' refusals do within limits."""
        if question.refusal is None or question.refusal.reason not in _OF_STRANGERS:
            return True
        return question.call.validate_only or self._strangers.are_recorded(
            question.account, question.vault_key_id
        )

    def _catch_up(self, question: Question, answer: Stale | OutOfSpan) -> None:
        if isinstance(answer, OutOfSpan):
            self._store_ahead_ms = answer.now_ms - self._now()
        else:
            presented = vault_key.parse(question.call.vault_key)
            if presented:
                self._directory.forget(presented.key_id)

    async def _question(self, call: SpendCall) -> tuple[Question, Standing | None]:
        _refuse_contradiction(call)
        presented = vault_key.parse(call.vault_key)
        standing = await self._directory.standing(presented.key_id) if presented else None
        if presented is None or standing is None:
            return await self._question_of_stranger(call), None
        now_ms = self._now() + self._store_ahead_ms
        terms = standing.view.terms(call.endpoint, refund=bool(call.refunded_object_id))
        refusal = _refusal_of_key(presented, standing, now_ms) or _refusal_of_account(standing.account)
        shadow_refusal = None
        policy = standing.key.policy
        shadow = policy.mode is PolicyMode.SHADOW
        if refusal is None:
            refusal = _refusal_of_request(call, standing, terms)
            if shadow:
                refusal, shadow_refusal = None, refusal
        effect: Effect | None = None
        if refusal is None and not is_read(call.endpoint):
            effect = name_effect(
                call, standing.key.key_id, by_parameters=policy.effects is EffectNaming.BY_PARAMETERS
            )
        counting = () if refusal else self._counting(call, terms, now_ms)
        return (
            Question(
                call=call,
                account=standing.account.account,
                vault_key_id=standing.key.key_id,
                key_version=standing.key.version,
                account_version=standing.account.version,
                effect=effect,
                fingerprint=fingerprint_of(call),
                hold_ttl_ms=call.hold_ttl_ms or self._hold_ttl_ms,
                caps=counting,
                refusal=refusal,
                call_refusal=_refusal_by_call_cap(call, terms),
                unpriced_in=_unpriced_in(call, standing.view, terms),
                restored_object_id=call.refunded_object_id if policy.refunds is RefundRule.RESTORE else "",
                shadow=shadow,
                shadow_refusal=shadow_refusal,
            ),
            standing,
        )

    async def _question_of_stranger(self, call: SpendCall) -> Question:
        account = await self._registry.account(DEFAULT_ACCOUNT)
        return Question(
            call=call,
            account=DEFAULT_ACCOUNT,
            vault_key_id="",
            key_version=0,
            account_version=account.version,
            effect=None,
            fingerprint="",
            hold_ttl_ms=0,
            caps=(),
            refusal=Refusal(DenyReason.VAULT_KEY_UNKNOWN),
            call_refusal=None,
            unpriced_in=None,
            restored_object_id="",
            shadow=False,
            shadow_refusal=None,
        )

    def _counting(self, call: SpendCall, terms: Terms, now_ms: int) -> tuple[CountedCap, ...]:
        """Return the caps that count this call, in the order in which they are tested."""
        return tuple(
            CountedCap(one, self._calendar.span(one.cap.window, one.cap.time_zone, now_ms))
            for one in terms.caps
            if one.cap.window is not Window.CALL and _counts(one, call, terms)
        )


def _refuse_contradiction(call: SpendCall) -> None:
    if is_read(call.endpoint) and call.spends:
        raise FieldInvalid("amount", "can't go with a read, which moves no money")
    if call.unpriced and call.amount is not None:
        raise FieldInvalid("amount", "can't go with unpriced, which says that nobody can tell it")


def _counts(owned: OwnedCap, call: SpendCall, terms: Terms) -> bool:
    currency = owned.cap.currency
    if not currency:
        return True
    if call.unpriced:
        return terms.unpriced
    return call.amount is not None and call.amount.minor_units > 0 and call.amount.currency == currency


def _refusal_of_key(presented: vault_key.VaultKey, standing: Standing, now_ms: int) -> Refusal | None:
    key = standing.key
    if not presented.opens(key.secret_hash):
        return Refusal(DenyReason.VAULT_KEY_UNKNOWN)
    if key.revoked_at_ms is not None:
        return Refusal(DenyReason.VAULT_KEY_REVOKED)
    if key.policy.expires_at_ms is not None and now_ms >= key.policy.expires_at_ms:
        return Refusal(DenyReason.VAULT_KEY_EXPIRED)
    return None


def _refusal_of_account(account: AccountRecord) -> Refusal | None:
    if account.freeze_reason is None:
        return None
    return Refusal(DenyReason.ACCOUNT_FROZEN, detail=account.freeze_reason)


def _refusal_of_request(call: SpendCall, standing: Standing, terms: Terms) -> Refusal | None:
    if not terms.allowed:
        return Refusal(DenyReason.ENDPOINT_NOT_ALLOWED)
    if call.vendor_account and call.vendor_account not in standing.key.policy.vendor_accounts:
        return Refusal(DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED, rule=call.vendor_account)
    missing = standing.view.missing_budgets
    if missing:
        return Refusal(DenyReason.CURRENCY_NOT_ALLOWED, rule=f"budget {missing[0]}", detail="budget is gone")
    if refusal := _refusal_of_currency(call, standing.view, terms):
        return refusal
    for rule in terms.rules:
        if rule.broken_by(call.parameters):
            return Refusal(DenyReason.PARAMETER_NOT_ALLOWED, rule=rule.parameter)
    if not call.run_id and any(
        one.cap.window is Window.RUN and _counts(one, call, terms) for one in terms.caps
    ):
        return Refusal(DenyReason.RUN_ID_REQUIRED)
    return None


def _unpriced_in(call: SpendCall, view: PolicyView, terms: Terms) -> tuple[str, ...] | None:
    """Return in which currencies the call may move money without an amount; None when it needs one."""
    return view.counted_currencies(terms.caps) if call.unpriced and terms.unpriced else None


def _refusal_of_currency(call: SpendCall, view: PolicyView, terms: Terms) -> Refusal | None:
    own_caps = bool(call.refunded_object_id) and view.policy.refunds is RefundRule.OWN_CAP
    detail = "Its refunds need a cap of their own, one that names this endpoint." if own_caps else ""
    if _unpriced_in(call, view, terms) == ():
        return Refusal(DenyReason.CURRENCY_NOT_ALLOWED, detail=detail)
    moves = call.amount is not None and call.amount.minor_units > 0
    if moves and call.amount and not view.allows_currency(call.amount.currency, terms.caps):
        return Refusal(DenyReason.CURRENCY_NOT_ALLOWED, rule=call.amount.currency, detail=detail)
    return None


def _refusal_by_call_cap(call: SpendCall, terms: Terms) -> Refusal | None:
    for one in terms.caps:
        if (
            one.cap.window is Window.CALL
            and _counts(one, call, terms)
            and call.amount is not None
            and call.amount.minor_units > one.cap.limit
        ):
            return Refusal(DenyReason.CAP_EXCEEDED, rule=one.id)
    return None


def _verdict(question: Question, standing: Standing | None, answer: Answer) -> Verdict:
    statuses = tuple(
        sorted(
            (
                cap_status(counted, settled, held)
                for counted, (settled, held) in zip(question.caps, answer.counts, strict=True)
            ),
            key=lambda status: status.remaining,
        )
    )
    effect = question.effect
    forwards = answer.allowed and (answer.duplicate or not question.call.validate_only)
    verdict = Verdict(
        allowed=answer.allowed,
        reason=answer.reason,
        rule=answer.rule,
        authorization_id=effect.authorization_id if effect and answer.attempt else "",
        attempt=answer.attempt,
        duplicate=answer.duplicate,
        replay=answer.replay,
        effect_name=effect.name if effect else "",
        upstream_key=upstream_key(effect, answer.attempt) if effect and forwards else "",
        object_id=answer.object_id,
        caps=statuses,
        expires_at_ms=answer.expires_at_ms,
        policy_version=question.key_version,
        vault_key_id=question.vault_key_id,
        shadow_reason=answer.shadow_reason,
        asked=answer.asked,
    )
    if answer.allowed:
        return verdict
    allowed_endpoints = (
        standing.key.policy.allow if standing and answer.reason is DenyReason.ENDPOINT_NOT_ALLOWED else ()
    )
    return replace(
        verdict,
        message=messages.refusal(question, verdict),
        allowed_endpoints=allowed_endpoints,
    )


def _refused_unrecorded(question: Question) -> Answer:
    return Answer(
        allowed=False,
        reason=question.refusal.reason if question.refusal else None,
        rule="",
        attempt=0,
        duplicate=False,
        replay=None,
        object_id="",
        expires_at_ms=0,
        shadow_reason=None,
        asked=None,
        counts=(),
    )


def cap_status(counted: CountedCap, settled: int, held: int) -> CapStatus:
    """Say how full a cap is."""
    cap = counted.owned.cap
    return CapStatus(
        cap=counted.owned.id,
        budget=counted.owned.budget,
        currency=cap.currency,
        limit=cap.limit,
        settled=settled,
        held=held,
        resets_at_ms=counted.span.end_ms or None,
    )
