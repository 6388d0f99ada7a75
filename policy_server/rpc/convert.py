"""Messages of the contract to words of the core and back, and every check of a request's fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from policy_server.core.authorizer import DEFAULT_ACCOUNT
from policy_server.core.effects import Effect, upstream_key
from policy_server.core.errors import FieldInvalid
from policy_server.core.policy import (
    REPEATED_REFUSALS_MAX,
    Cap,
    EffectNaming,
    ParameterRule,
    Policy,
    PolicyMode,
    RefundRule,
    check_currency,
    check_name,
)
from policy_server.core.ports import AccountRecord, Checkpoint, KeyRecord, Progress
from policy_server.core.types import (
    MAX_MINOR_UNITS,
    Amount,
    AuditEvent,
    AuditFilter,
    AuditKind,
    CapStatus,
    DenyReason,
    ExaminedRule,
    Explanation,
    FrozenRun,
    HoldState,
    LocalRefusal,
    Observation,
    Outcome,
    Replay,
    Settlement,
    SettleResult,
    SpendCall,
    UnresolvedCursor,
    UnresolvedHold,
    UnresolvedPage,
    VaultKeyState,
    Verdict,
)
from policy_server.core.window import Window
from spendgate.v1 import (
    account_service_pb2,
    amount_pb2,
    audit_service_pb2,
    policy_pb2,
    policy_service_pb2,
    vault_key_service_pb2,
)

_ENDPOINT = re.compile(r"[A-Z]{3,7} (?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~:@+=,{}-]+)+")
"""A plain path: what it says is what it means to everybody, with no '..', '//' or '%' for one to resolve.

The sidecar sends an object's place as in ``/v1/charges/{charge}``."""

_HOLD_TTL_MAX_MS = 24 * 3_600_000
_TIME_MAX_MS = 253_402_300_799_999  # the last moment that a Timestamp can name
_BATCH_MAX = 256
_NAMES_MAX = 255
_ABSORBED_MAX = 100

# Enum values by name, which every message constructor takes.
_DENY_REASONS = {reason: f"DENY_REASON_{reason.name}" for reason in DenyReason}
_REPLAYS = {replay: f"REPLAY_{replay.name}" for replay in Replay}
_HOLD_STATES = {state: f"HOLD_STATE_{state.name}" for state in HoldState}
_KEY_STATES = {state: f"VAULT_KEY_STATE_{state.name}" for state in VaultKeyState}
_OUTCOMES = {policy_service_pb2.Outcome.Value(f"OUTCOME_{outcome.name}"): outcome for outcome in Outcome}
_WINDOWS = {policy_pb2.Window.Value(f"WINDOW_{window.name}"): window for window in Window}
_MODES = {
    policy_pb2.POLICY_MODE_UNSPECIFIED: PolicyMode.ENFORCE,
    policy_pb2.POLICY_MODE_ENFORCE: PolicyMode.ENFORCE,
    policy_pb2.POLICY_MODE_SHADOW: PolicyMode.SHADOW,
}
_EFFECTS = {
    policy_pb2.EFFECT_NAMING_UNSPECIFIED: EffectNaming.BY_ENDPOINT,
    policy_pb2.EFFECT_NAMING_BY_ENDPOINT: EffectNaming.BY_ENDPOINT,
    policy_pb2.EFFECT_NAMING_BY_PARAMETERS: EffectNaming.BY_PARAMETERS,
}
_REFUNDS = {
    policy_pb2.REFUND_RULE_UNSPECIFIED: RefundRule.COUNTED,
    policy_pb2.REFUND_RULE_COUNTED: RefundRule.COUNTED,
    policy_pb2.REFUND_RULE_OWN_CAP: RefundRule.OWN_CAP,
    policy_pb2.REFUND_RULE_RESTORE: RefundRule.RESTORE,
}
_KINDS = {audit_service_pb2.AuditEventKind.Value(f"AUDIT_EVENT_KIND_{kind.name}"): kind for kind in AuditKind}

T = TypeVar("T")


def spend_call(message: policy_service_pb2.AuthorizeRequest, *, by_key_id: bool = False) -> SpendCall:
    """Check and convert a request of Authorize; it may lack the vault key when its id is given beside it."""
    if not message.vault_key and not by_key_id:
        raise FieldInvalid("vault_key", "must be given")
    endpoint = message.endpoint
    if len(endpoint) > 256 or not _ENDPOINT.fullmatch(endpoint):
        raise FieldInvalid(
            "endpoint",
            "must be a method and a plain path such as 'POST /v1/charges', without '..', '//', '%' or a "
            f"query, not {endpoint[:80]!r}",
        )
    return SpendCall(
        vault_key=message.vault_key,
        endpoint=endpoint,
        amount=amount(message.amount) if message.HasField("amount") else None,
        run_id=_short("run_id", message.run_id, 128),
        idempotency_key=_short("idempotency_key", message.idempotency_key, _NAMES_MAX),
        fingerprint=_short("request_fingerprint", message.request_fingerprint, 128),
        step=_short("step", message.step, 128),
        validate_only=message.validate_only,
        request_id=_short("request_id", message.request_id, 64),
        object_id=_short("object_id", message.object_id, _NAMES_MAX),
        hold_ttl_ms=_hold_ttl_ms(message.hold_ttl) if message.HasField("hold_ttl") else 0,
        parameters=message.parameters,
        moves_money=message.moves_money,
        vendor_account=_short("vendor_account", message.vendor_account, _NAMES_MAX),
        unpriced=message.unpriced,
        absorbed_object_ids=_absorbed(message.absorbed_object_ids) if message.absorbed_object_ids else (),
        refunded_object_id=_short("refunded_object_id", message.refunded_object_id, _NAMES_MAX),
        sender=_short("sender", message.sender, 64),
    )


def _absorbed(object_ids: Sequence[str]) -> tuple[str, ...]:
    if len(object_ids) > _ABSORBED_MAX:
        raise FieldInvalid("absorbed_object_ids", f"may have at most {_ABSORBED_MAX} entries")
    if not all(object_ids):
        raise FieldInvalid("absorbed_object_ids", "must each name an object")
    return tuple(_short("absorbed_object_ids", one, _NAMES_MAX) for one in object_ids)


def amount(message: amount_pb2.Amount) -> Amount:
    """Check and convert an amount."""
    if not 0 <= message.minor_units <= MAX_MINOR_UNITS:
        raise FieldInvalid("amount.minor_units", f"must be from 0 to {MAX_MINOR_UNITS}")
    check_currency("amount.currency_code", message.currency_code)
    return Amount(message.minor_units, message.currency_code)


def batch(messages: Sequence[T]) -> Sequence[T]:
    """Check how many requests a batch has."""
    if not 1 <= len(messages) <= _BATCH_MAX:
        raise FieldInvalid("requests", f"must have 1 to {_BATCH_MAX} entries, not {len(messages)}")
    return messages


def authorize_response(verdict: Verdict) -> policy_service_pb2.AuthorizeResponse:
    """Convert the answer to one call."""
    message = policy_service_pb2.AuthorizeResponse(
        decision=policy_service_pb2.DECISION_ALLOW if verdict.allowed else policy_service_pb2.DECISION_DENY,
        message=verdict.message,
        authorization_id=verdict.authorization_id,
        attempt=verdict.attempt,
        duplicate=verdict.duplicate,
        idempotency_key=verdict.effect_name,
        upstream_idempotency_key=verdict.upstream_key,
        object_id=verdict.object_id,
        caps=[cap_status(status) for status in verdict.caps],
        policy_version=verdict.policy_version,
        rule=verdict.rule,
        allowed_endpoints=verdict.allowed_endpoints,
        vault_key_id=verdict.vault_key_id,
        deny_reason=_DENY_REASONS[verdict.reason] if verdict.reason else None,
        run_frozen=verdict.run_frozen,
        replay=_REPLAYS[verdict.replay] if verdict.replay else None,
        shadow_deny_reason=_DENY_REASONS[verdict.shadow_reason] if verdict.shadow_reason else None,
    )
    if verdict.asked is not None:
        message.amount.minor_units = verdict.asked.minor_units
        message.amount.currency_code = verdict.asked.currency
    if verdict.expires_at_ms:
        message.expire_time.FromMilliseconds(verdict.expires_at_ms)
    if verdict.retry_at_ms is not None:
        message.retry_time.FromMilliseconds(verdict.retry_at_ms)
    return message


def explanation(explained: Explanation) -> vault_key_service_pb2.ExplainAuthorizationResponse:
    """Convert what would be answered, and why."""
    return vault_key_service_pb2.ExplainAuthorizationResponse(
        answer=authorize_response(explained.verdict), rules=[_examined(one) for one in explained.rules]
    )


def _examined(one: ExaminedRule) -> vault_key_service_pb2.ExaminedRule:
    message = vault_key_service_pb2.ExaminedRule(
        reason=_DENY_REASONS[one.reason],
        rule=one.rule,
        verdict=f"RULE_VERDICT_{one.verdict.name}",
        needed=one.needed,
    )
    if one.cap is not None:
        message.cap.CopyFrom(cap_status(one.cap))
        message.remaining_after = one.remaining_after
    return message


def cap_status(status: CapStatus) -> policy_pb2.CapStatus:
    """Convert how full a cap is."""
    message = policy_pb2.CapStatus(
        cap=status.cap,
        budget=status.budget,
        currency_code=status.currency,
        limit=status.limit,
        settled=status.settled,
        held=status.held,
        remaining=status.remaining,
        derived_key_id=status.derived_key_id,
    )
    if status.resets_at_ms is not None:
        message.reset_time.FromMilliseconds(status.resets_at_ms)
    return message


def settlement(message: policy_service_pb2.SettleRequest) -> Settlement:
    """Check and convert a request of Settle."""
    outcome = _OUTCOMES.get(message.outcome)
    if outcome is None:
        raise FieldInvalid("outcome", "must be OUTCOME_SUCCEEDED, OUTCOME_FAILED or OUTCOME_UNKNOWN")
    if message.attempt < 1:
        raise FieldInvalid("attempt", "must be the attempt that Authorize returned, from 1")
    has_amount = message.HasField("amount")
    if has_amount and outcome is Outcome.UNKNOWN:
        raise FieldInvalid("amount", "does not go with OUTCOME_UNKNOWN")
    return Settlement(
        authorization_id=_short("authorization_id", message.authorization_id, _NAMES_MAX),
        attempt=message.attempt,
        outcome=outcome,
        amount=amount(message.amount) if has_amount else None,
        object_id=_short("object_id", message.object_id, _NAMES_MAX),
        vendor_request_id=_short("vendor_request_id", message.vendor_request_id, _NAMES_MAX),
        http_status=message.http_status,
        latency_ms=_milliseconds("latency", message.latency) if message.HasField("latency") else 0,
        stale=message.stale,
        counted_object_id=_short("counted_object_id", message.counted_object_id, _NAMES_MAX),
        evidence=_short("evidence", message.evidence, _NAMES_MAX),
        unless_sent_after_ms=_milliseconds("unless_sent_after", message.unless_sent_after)
        if message.HasField("unless_sent_after")
        else None,
        replayed=message.replayed,
    )


def settle_response(result: SettleResult) -> policy_service_pb2.SettleResponse:
    """Convert what a settlement led to."""
    return policy_service_pb2.SettleResponse(state=_HOLD_STATES[result.state], overrun=result.overrun)


def observation(message: policy_service_pb2.Observation) -> Observation:
    """Check and convert one observation."""
    for field in ("vault_key_id", "object_id", "amount"):
        if not (message.HasField(field) if field == "amount" else getattr(message, field)):
            raise FieldInvalid(field, "must be given")
    return Observation(
        vault_key_id=_short("vault_key_id", message.vault_key_id, 64),
        object_id=_short("object_id", message.object_id, _NAMES_MAX),
        amount=amount(message.amount),
    )


def unresolved_cursor(token: str) -> UnresolvedCursor | None:
    """Return where a page of unresolved holds begins; None for the first."""
    if not token:
        return None
    account, _, place = token.partition(" ")
    score, _, authorization_id = place.partition(" ")
    if not account or not re.fullmatch(r"[0-9]{1,17}", score):
        raise FieldInvalid("page_token", "must be the next_page_token of the page before")
    check_name("page_token", account)
    return UnresolvedCursor(account, int(score), authorization_id)


def unresolved_page_size(asked: int) -> int:
    """Return how many unresolved holds a page has."""
    if asked < 0:
        raise FieldInvalid("page_size", "must not be negative")
    return min(asked or 100, _BATCH_MAX)


def unresolved_page(page: UnresolvedPage) -> policy_service_pb2.ListUnresolvedHoldsResponse:
    """Convert some unresolved holds."""
    after = page.next
    return policy_service_pb2.ListUnresolvedHoldsResponse(
        holds=[_unresolved_hold(hold) for hold in page.holds],
        next_page_token=f"{after.account} {after.score} {after.authorization_id}" if after else "",
        read_time=_timestamp(page.read_at_ms),
    )


def _unresolved_hold(hold: UnresolvedHold) -> policy_service_pb2.UnresolvedHold:
    effect = Effect(hold.effect_name, hold.authorization_id)
    message = policy_service_pb2.UnresolvedHold(
        authorization_id=hold.authorization_id,
        attempt=hold.attempt,
        account=hold.account,
        vault_key_id=hold.vault_key_id,
        run_id=hold.run_id,
        step=hold.step,
        endpoint=hold.endpoint,
        vendor_account=hold.vendor_account,
        idempotency_key=hold.effect_name,
        upstream_idempotency_key=upstream_key(effect, hold.attempt),
        object_id=hold.object_id,
        sender=hold.sender,
        hold_time=_timestamp(hold.held_at_ms),
        last_send_time=_timestamp(hold.last_send_ms),
    )
    for field, money in ((message.amount, hold.asked), (message.held_amount, hold.held)):
        if money is not None:
            field.minor_units, field.currency_code = money.minor_units, money.currency
    return message


def local_refusal(message: policy_service_pb2.Refusal) -> LocalRefusal:
    """Check and convert a refusal by the sidecar alone."""
    return LocalRefusal(
        vault_key_id=_short("vault_key_id", message.vault_key_id, 64),
        endpoint=_short("endpoint", message.endpoint, 256),
        run_id=_short("run_id", message.run_id, 128),
        code=_short("code", message.code, 64),
        http_status=message.http_status,
        refused_at_ms=_milliseconds("refuse_time", message.refuse_time),
    )


def policy(message: policy_pb2.Policy) -> Policy:
    """Check and convert a policy; what this server does not know is refused, never ignored."""
    refuse_unknown_fields(message, "policy")
    mode, effects = _MODES.get(message.mode), _EFFECTS.get(message.effects)
    refunds = _REFUNDS.get(message.refunds)
    if mode is None or effects is None or refunds is None:
        raise FieldInvalid(
            "policy", "has a mode, an effect naming or a refund rule that this server does not know"
        )
    return Policy(
        allow=tuple(message.allow),
        caps=caps(message.caps),
        currencies=tuple(message.currencies),
        parameter_rules=tuple(
            ParameterRule(rule.parameter, tuple(rule.one_of), rule.required, tuple(rule.endpoints))
            for rule in message.parameter_rules
        ),
        mode=mode,
        effects=effects,
        expires_at_ms=_milliseconds("expire_time", message.expire_time)
        if message.HasField("expire_time")
        else None,
        budgets=tuple(message.budgets),
        vendor_accounts=tuple(message.vendor_accounts),
        unpriced=tuple(message.unpriced),
        refunds=refunds,
        repeated_refusals_max=message.repeated_refusals_max
        if message.HasField("repeated_refusals_max")
        else REPEATED_REFUSALS_MAX,
    )


def caps(messages: Iterable[policy_pb2.Cap]) -> tuple[Cap, ...]:
    """Check and convert caps."""
    return tuple(_cap(message) for message in messages)


def vault_key(record: KeyRecord, state: VaultKeyState) -> vault_key_service_pb2.VaultKey:
    """Convert a vault key; its secret is not known here."""
    message = vault_key_service_pb2.VaultKey(
        vault_key_id=record.key_id,
        name=record.name,
        account=record.account,
        policy=_policy_message(record.policy),
        policy_version=record.version,
        state=_KEY_STATES[state],
        revoked_derived_key_ids=record.revoked_derived,
    )
    message.create_time.FromMilliseconds(record.created_at_ms)
    if record.revoked_at_ms is not None:
        message.revoke_time.FromMilliseconds(record.revoked_at_ms)
    return message


def account(record: AccountRecord) -> account_service_pb2.Account:
    """Convert an account."""
    return account_service_pb2.Account(
        account=record.account,
        frozen=record.freeze_reason is not None,
        freeze_reason=record.freeze_reason or "",
        budgets=[
            account_service_pb2.Budget(name=name, caps=[_cap_message(cap) for cap in caps])
            for name, caps in sorted(record.budgets.items())
        ],
    )


def frozen_run(run: FrozenRun) -> account_service_pb2.FrozenRun:
    """Convert a frozen run."""
    return account_service_pb2.FrozenRun(
        vault_key_id=run.vault_key_id,
        run_id=run.run_id,
        freeze_time=_timestamp(run.frozen_at_ms),
        reason=run.reason,
        endpoint=run.endpoint,
    )


def audit_filter(message: audit_service_pb2.AuditFilter) -> AuditFilter:
    """Check and convert a filter of audit events."""
    if message.decision not in {"", "allow", "deny"}:
        raise FieldInvalid("filter.decision", f"must be 'allow' or 'deny', not {message.decision!r}")
    kind = ""
    if message.kind:
        if message.kind not in _KINDS:
            raise FieldInvalid("filter.kind", "is one that this server does not know")
        kind = str(_KINDS[message.kind])
    return AuditFilter(
        run_id=message.run_id,
        vault_key_id=message.vault_key_id,
        idempotency_key_prefix=message.idempotency_key_prefix,
        decision=message.decision,
        kind=kind,
        object_id=message.object_id,
        start_ms=_milliseconds("start_time", message.start_time) if message.HasField("start_time") else None,
        end_ms=_milliseconds("end_time", message.end_time) if message.HasField("end_time") else None,
    )


def audit_event(event: AuditEvent) -> audit_service_pb2.AuditEvent:
    """Convert one audit event."""
    fields = event.fields
    message = audit_service_pb2.AuditEvent(
        sequence=event.sequence,
        create_time=_timestamp(event.created_at_ms),
        kind=f"AUDIT_EVENT_KIND_{fields['kind'].upper()}",
        account=event.account,
        vault_key_id=fields.get("vault_key_id", ""),
        run_id=fields.get("run_id", ""),
        step=fields.get("step", ""),
        endpoint=fields.get("endpoint", ""),
        idempotency_key=fields.get("idempotency_key", ""),
        duplicate=bool(fields.get("duplicate")),
        decision=fields.get("decision", ""),
        reason=fields.get("reason", ""),
        rule=fields.get("rule", ""),
        authorization_id=fields.get("authorization_id", ""),
        attempt=int(fields.get("attempt") or 0),
        state=fields.get("state", ""),
        object_id=fields.get("object_id", ""),
        vendor_request_id=fields.get("vendor_request_id", ""),
        http_status=int(fields.get("http_status") or 0),
        overrun=bool(fields.get("overrun")),
        policy_version=int(fields.get("policy_version") or 0),
        detail=fields.get("detail", ""),
        vendor_account=fields.get("vendor_account", ""),
        unpriced=bool(fields.get("unpriced")),
        derived_key_id=fields.get("derived_key_id", ""),
    )
    currency = fields.get("currency", "")
    if fields.get("amount") and currency:
        message.amount.CopyFrom(amount_pb2.Amount(minor_units=int(fields["amount"]), currency_code=currency))
    settled_currency = fields.get("settled_currency", "")
    if fields.get("settled_amount") and settled_currency:
        message.settled_amount.minor_units = int(fields["settled_amount"])
        message.settled_amount.currency_code = settled_currency
    if fields.get("latency_ms"):
        message.latency.FromMilliseconds(int(fields["latency_ms"]))
    return message


def audit_archive(progress: Progress, public_key: str) -> audit_service_pb2.GetAuditArchiveResponse:
    """Convert how far the archive is."""
    return audit_service_pb2.GetAuditArchiveResponse(
        problem=progress.problem,
        backlog_max=progress.backlog_max,
        accounts=[
            audit_service_pb2.AuditArchiveProgress(
                account=one.account,
                sequence=one.newest,
                archived_sequence=one.archived,
                backlog=one.waiting,
                archived_hash=one.archived_hash.hex(),
            )
            for one in progress.accounts
        ],
        public_key=public_key,
    )


def audit_checkpoint(signed: Checkpoint) -> audit_service_pb2.AuditCheckpoint:
    """Convert a checkpoint."""
    return audit_service_pb2.AuditCheckpoint(
        account=signed.account,
        sequence=signed.sequence,
        hash=signed.hash.hex(),
        create_time=_timestamp(signed.created_at_ms),
        key_id=signed.key_id,
        signature=signed.signature.hex(),
    )


def loss_reason(reason: str) -> str:
    """Check why events are said to be lost."""
    if not reason:
        raise FieldInvalid("reason", "must be given")
    return _short("reason", reason, 500)


def account_name(name: str) -> str:
    """Return the account that a request names: "default" when it names none."""
    name = name or DEFAULT_ACCOUNT
    check_name("account", name)
    return name


def sequence(number: int) -> int:
    """Check the number of an audit event."""
    if number < 0:
        raise FieldInvalid("after_sequence", "must not be negative")
    return number


def page_size(asked: int) -> int:
    """Return how many results a page has: 50 for 0, at most 1000."""
    if asked < 0:
        raise FieldInvalid("page_size", "must not be negative")
    return min(asked or 50, 1000)


def page_token(token: str) -> int | None:
    """Return where a page begins; None for the first."""
    if not token:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,17}", token):
        raise FieldInvalid("page_token", "must be the next_page_token of the page before")
    return int(token)


def refuse_unknown_fields(message: Message, field: str) -> None:
    """Refuse a message with fields that a newer client knows and this server would ignore."""
    if len(UnknownFieldSet(message)):
        raise FieldInvalid(field, "has fields that this server does not know; it is older than the client")
    for descriptor, value in message.ListFields():
        if descriptor.message_type and not descriptor.message_type.GetOptions().map_entry:
            for part in value if descriptor.is_repeated else [value]:
                refuse_unknown_fields(part, f"{field}.{descriptor.name}")


def _cap(message: policy_pb2.Cap) -> Cap:
    window = _WINDOWS.get(message.window)
    if window is None:
        raise FieldInvalid("caps.window", "must be given, such as WINDOW_DAY")
    common = {"time_zone": message.time_zone or "UTC", "endpoints": tuple(message.endpoints)}
    kind = message.WhichOneof("limit")
    if kind == "amount":
        limit = amount(message.amount)
        return Cap(limit.minor_units, window, limit.currency, **common)  # type: ignore[arg-type]
    if kind == "calls":
        return Cap(message.calls, window, **common)  # type: ignore[arg-type]
    raise FieldInvalid("caps", "must each limit an amount or calls")


def _policy_message(stored: Policy) -> policy_pb2.Policy:
    message = policy_pb2.Policy(
        allow=stored.allow,
        caps=[_cap_message(cap) for cap in stored.caps],
        currencies=stored.currencies,
        parameter_rules=[
            policy_pb2.ParameterRule(
                parameter=rule.parameter,
                one_of=rule.one_of,
                required=rule.required,
                endpoints=rule.endpoints,
            )
            for rule in stored.parameter_rules
        ],
        mode=f"POLICY_MODE_{stored.mode.name}",
        effects=f"EFFECT_NAMING_{stored.effects.name}",
        budgets=stored.budgets,
        vendor_accounts=stored.vendor_accounts,
        unpriced=stored.unpriced,
        refunds=f"REFUND_RULE_{stored.refunds.name}",
        repeated_refusals_max=stored.repeated_refusals_max,
    )
    if stored.expires_at_ms is not None:
        message.expire_time.FromMilliseconds(stored.expires_at_ms)
    return message


def _cap_message(cap: Cap) -> policy_pb2.Cap:
    message = policy_pb2.Cap(
        window=f"WINDOW_{cap.window.name}", time_zone=cap.time_zone, endpoints=cap.endpoints
    )
    if cap.currency:
        message.amount.CopyFrom(amount_pb2.Amount(minor_units=cap.limit, currency_code=cap.currency))
    else:
        message.calls = cap.limit
    return message


def _short(field: str, value: str, longest: int) -> str:
    if len(value) > longest // 4 and len(value.encode()) > longest:
        raise FieldInvalid(field, f"must have at most {longest} bytes")
    if value and not value.isprintable():
        raise FieldInvalid(field, "must not have control characters")
    return value


def _hold_ttl_ms(message: Duration) -> int:
    ttl_ms = _milliseconds("hold_ttl", message)
    if not 1_000 <= ttl_ms <= _HOLD_TTL_MAX_MS:
        raise FieldInvalid("hold_ttl", "must be from 1 s to 24 h")
    return ttl_ms


def _milliseconds(field: str, message: Duration | Timestamp) -> int:
    try:
        milliseconds = message.ToMilliseconds()
    except ValueError:
        milliseconds = _TIME_MAX_MS + 1
    if abs(milliseconds) > _TIME_MAX_MS:
        raise FieldInvalid(field, "is out of range")
    return milliseconds


def _timestamp(milliseconds: int) -> Timestamp:
    message = Timestamp()
    message.FromMilliseconds(milliseconds)
    return message
