"""Explains what would be decided on a call, rule by rule, without counting or recording anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from policy_server.core import vault_key
from policy_server.core.authorizer import DEFAULT_ACCOUNT, ROUNDS_MAX, Now
from policy_server.core.directory import Directory
from policy_server.core.effects import is_read
from policy_server.core.errors import FieldInvalid, SpendgateError, StoreUnavailable, VaultKeyNotFound
from policy_server.core.judging import (
    Case,
    Rule,
    call_cap_rules,
    cap_status,
    counted_caps,
    key_rules,
    pose,
    present,
    question_of_stranger,
    request_rules,
    sealed_rules,
    verdict_on,
)
from policy_server.core.ports import Answer, Ledger, OutOfSpan, Question, Registry, Stale
from policy_server.core.types import (
    DenyReason,
    ExaminedRule,
    Explanation,
    RuleVerdict,
    SpendCall,
    Verdict,
)
from policy_server.core.window import Calendar


class Explainer:
    """Asks what `Authorizer` asks, of records that it reads anew each time."""

    def __init__(self, ledger: Ledger, registry: Registry, now: Now, *, hold_ttl_ms: int) -> None:
        self._ledger = ledger
        self._registry = registry
        self._now = now
        self._hold_ttl_ms = hold_ttl_ms

    async def explain(self, call: SpendCall, vault_key_id: str) -> Explanation:
        """Say what would be decided on ``call``, made with its vault key, or else with that of the id.

        Raises `VaultKeyNotFound` for an unknown id, and whatever `Authorizer` finds wrong with the call.
        """
        if bool(call.vault_key) == bool(vault_key_id):
            raise FieldInvalid("vault_key_id", "or the vault key of the call must be given, and not both")
        call = replace(call, validate_only=True)
        ahead_ms = 0
        for _ in range(ROUNDS_MAX):
            case = await self._case(call, vault_key_id, self._now() + ahead_ms)
            if case is None:
                question = question_of_stranger(call, await self._registry.account(DEFAULT_ACCOUNT))
            else:
                question = replace(pose(case, calendar := Calendar()), caps=counted_caps(case, calendar))
            (answer,) = await self._ledger.decide([question])
            if isinstance(answer, OutOfSpan):
                ahead_ms = answer.now_ms - self._now()
            elif isinstance(answer, SpendgateError):
                raise answer
            elif not isinstance(answer, Stale):
                verdict = verdict_on(question, case.standing if case else None, answer)
                return Explanation(verdict, _examined(case, question, answer, verdict))
        raise StoreUnavailable("policy and clock kept changing while the call was explained; repeat it")

    async def _case(self, call: SpendCall, vault_key_id: str, now_ms: int) -> Case | None:
        presented, call = present(call)
        key_id = presented.key_id if presented else vault_key_id
        # A directory of its own remembers nothing from before.
        standing = await Directory(self._registry).standing(key_id) if vault_key.is_key_id(key_id) else None
        if standing is None and vault_key_id:
            raise VaultKeyNotFound(vault_key_id)
        return Case.of(call, presented, standing, now_ms, self._hold_ttl_ms) if standing else None


def _examined(
    case: Case | None, question: Question, answer: Answer, verdict: Verdict
) -> tuple[ExaminedRule, ...]:
    """Return every rule in order; those behind the one that refuses are not reached."""
    if case is None:
        return (ExaminedRule(DenyReason.VAULT_KEY_UNKNOWN, "", RuleVerdict.BROKEN),)
    found: list[ExaminedRule] = []
    refused = False
    for one in _in_order(case, question, answer, verdict):
        found.append(replace(one, verdict=RuleVerdict.NOT_REACHED) if refused else one)
        decides = one.reason is verdict.reason and one.rule in {verdict.rule, ""}
        refused |= decides and one.verdict is RuleVerdict.BROKEN
    return tuple(found)


def _in_order(case: Case, question: Question, answer: Answer, verdict: Verdict) -> Iterator[ExaminedRule]:
    yield from map(_judged, key_rules(case))
    if case.call.run_id and case.policy.repeated_refusals_max:
        is_frozen = DenyReason.RUN_FROZEN in {verdict.reason, verdict.shadow_reason}
        yield _decided(DenyReason.RUN_FROZEN, broken=is_frozen)
    yield from map(_judged, sealed_rules(case))
    for rule in request_rules(case):
        permitting = rule.reason is DenyReason.ENDPOINT_NOT_ALLOWED and not rule.broken
        name = case.standing.view.permitting(case.call.endpoint) if permitting else rule.name
        yield replace(_judged(rule), rule=name)
    if not is_read(case.call.endpoint):
        for reason in (DenyReason.IDEMPOTENCY_MISMATCH, DenyReason.EFFECT_TOO_OLD):
            yield _decided(reason, broken=verdict.reason is reason)
    if case.call.spends:
        yield _decided(
            DenyReason.AMOUNT_UNKNOWN,
            broken=verdict.reason is DenyReason.AMOUNT_UNKNOWN,
            reached=not verdict.duplicate,
        )
    for rule in call_cap_rules(case):
        yield _judged(rule) if not verdict.duplicate else _decided(rule.reason, rule.name, reached=False)
    yield from _caps(question, answer)


def _caps(question: Question, answer: Answer) -> Iterator[ExaminedRule]:
    for counted, (settled, held), known in zip(question.caps, answer.counts, answer.takes, strict=True):
        status = cap_status(counted, settled, held)
        reached, takes = known is not None, known or 0
        needed = takes if question.unpriced_in is None else int(reached)
        broken = needed > status.limit - settled - held
        left = max(0, status.remaining - takes)
        examined = _decided(
            DenyReason.CAP_EXCEEDED, status.rule, broken=needed > 0 and broken, reached=reached
        )
        yield replace(examined, cap=status, needed=needed, remaining_after=left)


def _judged(rule: Rule) -> ExaminedRule:
    return _decided(rule.reason, rule.name, broken=rule.broken is not None)


def _decided(
    reason: DenyReason, rule: str = "", *, broken: bool = False, reached: bool = True
) -> ExaminedRule:
    outcome = RuleVerdict.BROKEN if broken else RuleVerdict.PASSED
    return ExaminedRule(reason, rule, outcome if reached else RuleVerdict.NOT_REACHED)
