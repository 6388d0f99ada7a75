"""Judges a call by what is on record: which rule refuses it, which caps count it, what the store is asked.

Nothing here waits or counts. The order of the rules is fixed: key, account,
frozen run, endpoint, vendor account, currency and parameters, run,
idempotency, amount, call cap, run caps, window caps, budgets. The store's
script looks at those in between that need a counter or a hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from policy_server.core import derived_key, messages, vault_key
from policy_server.core.derived_key import DerivedKey
from policy_server.core.directory import Standing
from policy_server.core.effects import (
    Effect,
    fingerprint_of,
    is_read,
    name_effect,
    same_call,
    upstream_key,
)
from policy_server.core.errors import FieldInvalid
from policy_server.core.policy import (
    EffectNaming,
    OwnedCap,
    ParameterRule,
    Policy,
    PolicyMode,
    PolicyView,
    RefundRule,
    Terms,
)
from policy_server.core.ports import AccountRecord, Answer, CountedCap, KeyRecord, Loop, Question, Refusal
from policy_server.core.types import CapStatus, DenyReason, SpendCall, Verdict
from policy_server.core.window import Calendar, Window

_BEFORE_EXPIRY = frozenset({DenyReason.VAULT_KEY_UNKNOWN, DenyReason.VAULT_KEY_REVOKED})
"""Refusals that don't depend on when the key expires."""


@dataclass(frozen=True, slots=True)
class Case:
    """A call with everything that it is judged by."""

    call: SpendCall
    presented: vault_key.VaultKey | DerivedKey | None
    """None when an operator asks by the key's id, so that there is no secret to check."""
    standing: Standing
    now_ms: int
    hold_ttl_ms: int
    """For how long it is held, unless the call says it."""
    terms: Terms
    """What the policy says about the endpoint."""

    @classmethod
    def of(
        cls,
        call: SpendCall,
        presented: vault_key.VaultKey | DerivedKey | None,
        standing: Standing,
        now_ms: int,
        hold_ttl_ms: int,
    ) -> Case:
        """Return the case of a call."""
        terms = standing.view.terms(call.endpoint, refund=bool(call.refunded_object_id))
        return cls(call, presented, standing, now_ms, hold_ttl_ms, terms)

    @property
    def derived(self) -> DerivedKey | None:
        """The derived key that makes the call, if it is one."""
        return self.presented if isinstance(self.presented, DerivedKey) else None

    @property
    def caps(self) -> tuple[OwnedCap, ...]:
        """Every cap at this endpoint, in the order in which they are tested: those of derived keys first."""
        return (*self.derived.caps, *self.terms.caps) if self.derived else self.terms.caps

    @property
    def expires_at_ms(self) -> int | None:
        """When the first of vault key and derived keys expires; None for never."""
        moments = (self.policy.expires_at_ms, self.derived.expires_at_ms if self.derived else None)
        return min((at for at in moments if at is not None), default=None)

    @property
    def policy(self) -> Policy:
        """The policy of the key."""
        return self.standing.key.policy


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing for which a call may be refused."""

    reason: DenyReason
    name: str
    """A parameter, an endpoint pattern; empty when the reason says it all."""
    broken: Refusal | None
    """How the call breaks it; None when it does not."""


def key_rules(case: Case) -> Iterator[Rule]:
    """Yield what a key and its account may be refused for as a whole, in order."""
    key, account, derived = case.standing.key, case.standing.account, case.derived
    yield _rule(DenyReason.VAULT_KEY_UNKNOWN, broken=not _opens(case.presented, key))
    revoked = derived is not None and not set(derived.derived_key_ids).isdisjoint(key.revoked_derived)
    yield _rule(DenyReason.VAULT_KEY_REVOKED, broken=revoked or key.revoked_at_ms is not None)
    expired = case.expires_at_ms is not None and case.now_ms >= case.expires_at_ms
    yield _rule(DenyReason.VAULT_KEY_EXPIRED, broken=expired)
    frozen = account.freeze_reason
    yield _rule(DenyReason.ACCOUNT_FROZEN, broken=frozen is not None, detail=frozen or "")
    if derived:
        other = next((run for run in derived.run_ids if run != case.call.run_id), "")
        yield _rule(DenyReason.RUN_NOT_ALLOWED, other, broken=bool(other))


def sealed_rules(case: Case) -> Iterator[Rule]:
    """Yield what a derived key is refused for by its own caveats, whatever the policy's mode."""
    derived, call = case.derived, case.call
    if derived and not derived.allows(call.endpoint):
        yield _rule(DenyReason.ENDPOINT_NOT_ALLOWED, broken=True)
    # An idempotency key names one effect in all runs, so with it a key of one run would act on others.
    names_any_run = derived and derived.run_ids and call.idempotency_key and not is_read(call.endpoint)
    if names_any_run:
        yield _rule(DenyReason.RUN_NOT_ALLOWED, "idempotency_key", broken=True)


def request_rules(case: Case) -> Iterator[Rule]:
    """Yield what the policy may refuse this call for, whatever was counted, in order."""
    call, terms, view = case.call, case.terms, case.standing.view
    yield _rule(DenyReason.ENDPOINT_NOT_ALLOWED, broken=not terms.allowed)
    acts_for = call.vendor_account
    yield _rule(
        DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED,
        acts_for,
        broken=bool(acts_for) and acts_for not in case.policy.vendor_accounts,
    )
    for budget in case.policy.budgets:
        missing = budget in view.missing_budgets
        yield _rule(DenyReason.CURRENCY_NOT_ALLOWED, f"budget {budget}", broken=missing)
    yield _currency_rule(call, view, terms)
    for rule in terms.rules:
        yield _parameter_rule(rule, call)
    counts_by_run = any(one.cap.window is Window.RUN and _counts(one, call, terms) for one in case.caps)
    yield _rule(DenyReason.RUN_ID_REQUIRED, broken=counts_by_run and not call.run_id)


def present(call: SpendCall) -> tuple[vault_key.VaultKey | DerivedKey | None, SpendCall]:
    """Return the key that makes the call, and the call with the run that the key names for it."""
    derived = derived_key.parse(call.vault_key)
    if derived and derived.run_ids and not call.run_id:
        call = replace(call, run_id=derived.run_ids[0])
    return derived or vault_key.parse(call.vault_key), call


def first_refusal(rules: Iterator[Rule]) -> Refusal | None:
    """Return the refusal by the first rule that is broken."""
    return next((rule.broken for rule in rules if rule.broken), None)


def pose(case: Case, calendar: Calendar) -> Question:
    """Ask the store what is left to decide; raises `FieldInvalid` when the call makes no sense."""
    call, policy, terms = case.call, case.policy, case.terms
    _refuse_nonsense(call)
    refusal = first_refusal(key_rules(case))
    loop = _loop(call, policy) if refusal is None else None
    shadow = policy.mode is PolicyMode.SHADOW
    shadow_refusal = None
    if refusal is None:
        refusal = first_refusal(sealed_rules(case))
    if refusal is None:
        refusal = first_refusal(request_rules(case))
        if shadow:
            refusal, shadow_refusal = None, refusal
    effect: Effect | None = None
    if refusal is None and not is_read(call.endpoint):
        effect = name_effect(
            call, case.standing.key.key_id, by_parameters=policy.effects is EffectNaming.BY_PARAMETERS
        )
    return Question(
        call=call,
        account=case.standing.account.account,
        vault_key_id=case.standing.key.key_id,
        key_version=case.standing.key.version,
        account_version=case.standing.account.version,
        epoch=case.standing.epoch,
        effect=effect,
        fingerprint=fingerprint_of(call),
        hold_ttl_ms=call.hold_ttl_ms or case.hold_ttl_ms,
        caps=() if refusal else counted_caps(case, calendar),
        refusal=refusal,
        call_refusal=first_refusal(call_cap_rules(case)),
        unpriced_in=_unpriced_in(call, case.standing.view, terms),
        restored_object_id=call.refunded_object_id if policy.refunds is RefundRule.RESTORE else "",
        shadow=shadow,
        shadow_refusal=shadow_refusal,
        derived_key_id="/".join(case.derived.derived_key_ids) if case.derived and _is_known(refusal) else "",
        expires_at_ms=None if refusal and refusal.reason in _BEFORE_EXPIRY else case.expires_at_ms,
        loop=loop,
    )


def question_of_stranger(call: SpendCall, account: AccountRecord) -> Question:
    """Ask the store to record the refusal of a call with a vault key that nobody knows."""
    _refuse_nonsense(call)
    return Question(
        call=call,
        account=account.account,
        vault_key_id="",
        key_version=0,
        account_version=account.version,
        epoch=account.epoch,
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


def counted_caps(case: Case, calendar: Calendar) -> tuple[CountedCap, ...]:
    """Return the caps that count the call, in the order in which they are tested."""
    return tuple(
        CountedCap(one, calendar.span(one.cap.window, one.cap.time_zone, case.now_ms))
        for one in case.caps
        if one.cap.window is not Window.CALL and _counts(one, case.call, case.terms)
    )


def call_cap_rules(case: Case) -> Iterator[Rule]:
    """Yield the caps of one call that count this one, in order."""
    amount = case.call.amount
    for one in case.caps:
        if amount and one.cap.window is Window.CALL and _counts(one, case.call, case.terms):
            yield _rule(
                DenyReason.CAP_EXCEEDED,
                one.rule,
                broken=amount.minor_units > one.cap.limit,
                detail=str(one.cap.limit),
                sealed=bool(one.derived_key_id),
            )


def _rule(
    reason: DenyReason, name: str = "", *, broken: bool, detail: str = "", sealed: bool = False
) -> Rule:
    return Rule(reason, name, Refusal(reason, name, detail, sealed)) if broken else _kept(reason, name)


@lru_cache(maxsize=1024)
def _kept(reason: DenyReason, name: str) -> Rule:
    return Rule(reason, name, None)


def _opens(presented: vault_key.VaultKey | DerivedKey | None, key: KeyRecord) -> bool:
    if isinstance(presented, DerivedKey):
        return presented.opens(key.root_public_key)
    return presented is None or presented.opens(key.secret_hash)


def _is_known(refusal: Refusal | None) -> bool:
    return refusal is None or refusal.reason is not DenyReason.VAULT_KEY_UNKNOWN


def _parameter_rule(rule: ParameterRule, call: SpendCall) -> Rule:
    broken = rule.broken_by(call.parameters)
    detail = messages.named(rule.one_of) if broken else ""
    return _rule(DenyReason.PARAMETER_NOT_ALLOWED, rule.parameter, broken=broken, detail=detail)


def _currency_rule(call: SpendCall, view: PolicyView, terms: Terms) -> Rule:
    amount = call.amount if call.amount and call.amount.minor_units > 0 else None
    broken = _unpriced_in(call, view, terms) == () or (
        amount is not None and not view.allows_currency(amount.currency, terms.caps)
    )
    detail = ""
    if broken and call.refunded_object_id and view.policy.refunds is RefundRule.OWN_CAP:
        detail = "its refunds need a cap of their own, one that names this endpoint"
    elif broken:
        detail = messages.moved(view.counted_currencies(terms.caps))
    return _rule(
        DenyReason.CURRENCY_NOT_ALLOWED, amount.currency if amount else "", broken=broken, detail=detail
    )


def _refuse_nonsense(call: SpendCall) -> None:
    if is_read(call.endpoint) and call.spends:
        raise FieldInvalid("amount", "can't go with a read, which moves no money")
    if call.unpriced and call.amount is not None:
        raise FieldInvalid("amount", "can't go with unpriced, which says that nobody can tell it")
    if not is_read(call.endpoint) and not call.run_id and not call.idempotency_key:
        raise FieldInvalid("run_id", "or idempotency_key must be given, so that a repeat can be recognised")


def _loop(call: SpendCall, policy: Policy) -> Loop | None:
    if not call.run_id or not policy.repeated_refusals_max:
        return None
    by_parameters = policy.effects is EffectNaming.BY_PARAMETERS
    return Loop(same_call(call, by_parameters=by_parameters), policy.repeated_refusals_max)


def _counts(owned: OwnedCap, call: SpendCall, terms: Terms) -> bool:
    currency = owned.cap.currency
    if not currency:
        return True
    if call.unpriced:
        return terms.unpriced
    return call.amount is not None and call.amount.minor_units > 0 and call.amount.currency == currency


def _unpriced_in(call: SpendCall, view: PolicyView, terms: Terms) -> tuple[str, ...] | None:
    """Return in which currencies the call may move money without an amount; None when it needs one."""
    return view.counted_currencies(terms.caps) if call.unpriced and terms.unpriced else None


def refused_unrecorded(question: Question) -> Answer:
    """Refuse as the question says, without the store."""
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
        froze=False,
        counts=(),
        takes=(),
    )


def verdict_on(question: Question, standing: Standing | None, answer: Answer) -> Verdict:
    """Turn the store's answer to a question into the answer to the call."""
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
    allowed_endpoints: tuple[str, ...] = ()
    if standing and answer.reason is DenyReason.ENDPOINT_NOT_ALLOWED:
        derived = derived_key.parse(question.call.vault_key)
        allowed_endpoints = (derived.allow if derived else ()) or standing.key.policy.allow
    if answer.froze and answer.reason:
        return replace(
            verdict,
            allowed_endpoints=allowed_endpoints,
            message=messages.run_frozen(answer.reason),
            run_frozen=True,
        )
    refused = replace(
        verdict,
        allowed_endpoints=allowed_endpoints,
        retry_at_ms=_retry_at_ms(question, verdict),
        run_frozen=answer.reason is DenyReason.RUN_FROZEN,
    )
    return replace(refused, message=messages.refusal(question, refused))


def _retry_at_ms(question: Question, verdict: Verdict) -> int | None:
    """Return when the same call may succeed by itself: after the reset of a cap that it can fit in."""
    call = question.call
    full = next((one for one in verdict.caps if one.rule == verdict.rule), None)
    if verdict.reason is not DenyReason.CAP_EXCEEDED or full is None:
        return None
    # A step on an object, or a call that takes others over, holds less than it asks for.
    leans = call.object_id or call.absorbed_object_ids or question.restored_object_id
    asked = call.amount.minor_units if call.amount and full.currency else 1
    return full.resets_at_ms if leans or asked <= full.limit else None


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
        derived_key_id=counted.owned.derived_key_id,
    )
