"""The ledger on Redis: turns questions into script runs and answers into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from redis.exceptions import RedisError

from policy_server.core.effects import vault_key_id_of
from policy_server.core.errors import HoldClosed, HoldNotFound, SpendgateError
from policy_server.core.ports import Answer, CountedCap, OutOfSpan, Question, Stale
from policy_server.core.types import (
    Amount,
    DenyReason,
    HoldState,
    LocalRefusal,
    Observation,
    Replay,
    Settlement,
    SettleResult,
)
from policy_server.core.window import Window
from policy_server.store.connection import store_unavailable
from policy_server.store.keys import AccountKeys
from policy_server.store.scripts import Run, Scripts

REPLAY_WINDOW_MS = 23 * 3_600_000
"""How long the vendor surely remembers an idempotency key; Stripe keeps them 24 h."""


class RedisLedger:
    """Counts, holds and records in Redis."""

    def __init__(self, scripts: Scripts, *, retention_ms: int) -> None:
        self._scripts = scripts
        self._client = scripts.client
        self._retention_ms = retention_ms

    async def decide(
        self, questions: Sequence[Question]
    ) -> list[Answer | Stale | OutOfSpan | SpendgateError]:
        """Decide on each question by itself, in order."""
        runs = [self._question(question) for question in questions]
        replies = await self._scripts.run("authorize", runs, bounded=True)
        return [
            reply if isinstance(reply, SpendgateError) else _answer(question, reply)
            for question, reply in zip(questions, replies, strict=True)
        ]

    async def settle(
        self, settlements: Sequence[tuple[str, Settlement]]
    ) -> list[SettleResult | SpendgateError]:
        """Close each hold by itself, in order."""
        runs = [self._settlement(account, settlement) for account, settlement in settlements]
        replies = await self._scripts.run("settle", runs)
        return [
            reply if isinstance(reply, SpendgateError) else _settled(settlement, reply)
            for (_, settlement), reply in zip(settlements, replies, strict=True)
        ]

    async def observe(self, observations: Sequence[tuple[str, Observation]]) -> None:
        """Bring exposures to what was observed; raises the error of one that could not be."""
        runs = [self._observation(account, observation) for account, observation in observations]
        for reply in await self._scripts.run("observe", runs):
            if isinstance(reply, SpendgateError):
                raise reply

    async def record_refusals(self, refusals: Sequence[tuple[str, LocalRefusal]]) -> None:
        """Record refusals; raises the error of one that could not be."""
        runs = [
            Run(account, [], ["refusal", _facts(_refusal_facts(refusal))]) for account, refusal in refusals
        ]
        for reply in await self._scripts.run("record", runs, bounded=True):
            if isinstance(reply, SpendgateError):
                raise reply

    async def counts(
        self, account: str, vault_key_id: str, run_id: str, caps: Sequence[CountedCap]
    ) -> list[tuple[int, int]]:
        """Return settled and held of each cap."""
        if not caps:
            return []
        names = AccountKeys(account)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for counted in caps:
                    pipeline.hmget(_counter(names, counted, vault_key_id, run_id), ["settled", "held"])
                pairs = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise store_unavailable(error) from None
        return [(int(settled or 0), int(held or 0)) for settled, held in pairs]

    async def expire_holds(self, account: str, limit: int) -> int:
        """Mark overdue holds unknown; return how many there were."""
        names = AccountKeys(account)
        run = Run(account, [names.deadlines], [names.hold_prefix, str(limit)])
        *_, marked = await self._scripts.run_one("expire", run)
        return int(marked)

    def _question(self, question: Question) -> Run:
        names = AccountKeys(question.account)
        call, effect, refusal = question.call, question.effect, question.refusal
        authorization_id = effect.authorization_id if effect else ""
        asked: dict[str, Any] = {
            "key_version": question.key_version,
            "account_version": question.account_version,
            "effect": effect is not None,
            "authorization_id": authorization_id,
            "fingerprint": question.fingerprint,
            "request_id": call.request_id,
            "validate_only": call.validate_only,
            "shadow": question.shadow,
            "replay_ms": REPLAY_WINDOW_MS,
            "retention_ms": self._retention_ms,
            "hold_ttl_ms": question.hold_ttl_ms,
            "amount": str(call.amount.minor_units) if call.amount else "0",
            "currency": call.amount.currency if call.amount else "",
            "amount_unknown": call.spends and call.amount is None and question.unpriced_in is None,
            "object_id": call.object_id,
            "caps": [_cap(counted) for counted in question.caps],
        }
        if call.absorbed_object_ids or question.restored_object_id:
            asked |= _leaned_on(question)
            asked["exposure_prefix"] = names.exposure(question.vault_key_id, "")
        if question.unpriced_in is not None:
            asked["unpriced_in"] = question.unpriced_in
        if refusal:
            asked["reason"], asked["rule"] = refusal.reason, refusal.rule
        if question.shadow_refusal:
            asked["shadow_reason"] = question.shadow_refusal.reason
            asked["shadow_rule"] = question.shadow_refusal.rule
        if question.call_refusal:
            asked["call_rule"] = question.call_refusal.rule
        keys = [
            names.key(question.vault_key_id or "none"),
            names.hold(authorization_id or "none"),
            names.exposure(question.vault_key_id, call.object_id),
            names.deadlines,
            *(_counter(names, counted, question.vault_key_id, call.run_id) for counted in question.caps),
        ]
        return Run(question.account, keys, [to_json(asked), _call_facts(question, authorization_id)])

    def _settlement(self, account: str, settlement: Settlement) -> Run:
        names = AccountKeys(account)
        said: dict[str, Any] = {
            "authorization_id": settlement.authorization_id,
            "attempt": settlement.attempt,
            "outcome": settlement.outcome,
            "object_id": settlement.object_id,
            "counted_object_id": settlement.counted_object_id,
            "stale": settlement.stale,
            "exposure_prefix": names.exposure(vault_key_id_of(settlement.authorization_id), ""),
            "retention_ms": self._retention_ms,
            "vendor_request_id": settlement.vendor_request_id,
            "http_status": str(settlement.http_status or ""),
            "latency_ms": str(settlement.latency_ms or ""),
        }
        if settlement.amount:
            said["amount"] = str(settlement.amount.minor_units)
            said["currency"] = settlement.amount.currency
        return Run(account, [names.hold(settlement.authorization_id), names.deadlines], [to_json(said)])

    def _observation(self, account: str, observation: Observation) -> Run:
        names = AccountKeys(account)
        seen = {
            "retention_ms": self._retention_ms,
            "amount": str(observation.amount.minor_units),
            "currency": observation.amount.currency,
        }
        facts = {"vault_key_id": observation.vault_key_id, "object_id": observation.object_id}
        exposure = names.exposure(observation.vault_key_id, observation.object_id)
        return Run(account, [exposure], [to_json(seen), _facts(facts)])


def _refusal_facts(refusal: LocalRefusal) -> dict[str, str]:
    return {
        "vault_key_id": refusal.vault_key_id,
        "run_id": refusal.run_id,
        "endpoint": refusal.endpoint,
        "decision": "deny",
        "reason": refusal.code,
        "http_status": str(refusal.http_status or ""),
        "refused_at": str(refusal.refused_at_ms or ""),
        "detail": refusal.detail,
    }


def _leaned_on(question: Question) -> dict[str, Any]:
    """Return the other objects whose counts the call may take over or give back, each once."""
    call, restored = question.call, question.restored_object_id
    absorbed = [one for one in dict.fromkeys(call.absorbed_object_ids) if one != call.object_id]
    own = {call.object_id, *absorbed}
    return {"absorbed": absorbed, "restored": restored if restored not in own else ""}


def _cap(counted: CountedCap) -> dict[str, Any]:
    owned = counted.owned
    return {
        "currency": owned.cap.currency,
        "lasting": owned.cap.window is Window.TOTAL,
        "limit": str(owned.cap.limit),
        "start_ms": counted.span.start_ms,
        "end_ms": counted.span.end_ms,
        "rule": f"{owned.budget}: {owned.id}" if owned.budget else owned.id,
    }


def _counter(names: AccountKeys, counted: CountedCap, vault_key_id: str, run_id: str) -> str:
    owned = counted.owned
    owner = f"budget:{owned.budget}" if owned.budget else vault_key_id
    span = f"run:{run_id}" if owned.cap.window is Window.RUN else str(counted.span.start_ms)
    return names.counter(owner, owned.id, span)


def _call_facts(question: Question, authorization_id: str) -> bytes:
    call = question.call
    return _facts(
        {
            "vault_key_id": question.vault_key_id,
            "run_id": call.run_id,
            "step": call.step,
            "endpoint": call.endpoint,
            "vendor_account": call.vendor_account,
            "amount": str(call.amount.minor_units) if call.amount else "",
            "currency": call.amount.currency if call.amount else "",
            "unpriced": "1" if call.unpriced else "",
            "idempotency_key": question.effect.name if question.effect else "",
            "authorization_id": authorization_id,
            "policy_version": str(question.key_version or ""),
        }
    )


def _facts(facts: dict[str, str]) -> bytes:
    return to_json({name: value for name, value in facts.items() if value})


def _answer(question: Question, reply: list[str]) -> Answer | Stale | OutOfSpan:
    status, _, *said = reply
    if status == "stale":
        return Stale()
    if status == "out_of_span":
        return OutOfSpan(int(said[0]))
    allowed, reason, rule, attempt, duplicate, replay, object_id, deadline, shadow_reason = said[:9]
    asked, currency = said[9:11]
    numbers = [int(number) for number in said[11:]]
    return Answer(
        allowed=bool(allowed),
        reason=DenyReason(reason) if reason else None,
        rule=rule,
        attempt=int(attempt),
        duplicate=bool(duplicate),
        replay=Replay(replay) if replay else None,
        object_id=object_id,
        expires_at_ms=int(deadline),
        shadow_reason=DenyReason(shadow_reason) if shadow_reason else None,
        asked=Amount(int(asked), currency) if asked else None,
        counts=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
    )


def _settled(settlement: Settlement, reply: list[str]) -> SettleResult | SpendgateError:
    status, _, state, overrun = reply
    if status == "not_found":
        return HoldNotFound(settlement.authorization_id)
    if status == "closed":
        return HoldClosed(settlement.authorization_id, state)
    return SettleResult(HoldState(state), overrun=bool(overrun))
