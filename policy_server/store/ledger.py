"""The ledger on Redis: turns questions into script runs and answers into words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from policy_server.core.effects import vault_key_id_of
from policy_server.core.errors import HoldClosed, HoldNotFound, SpendgateError
from policy_server.core.ports import Answer, CountedCap, OutOfSpan, Question, Stale
from policy_server.core.types import (
    Amount,
    DenyReason,
    FrozenRun,
    HoldState,
    LocalRefusal,
    Observation,
    Replay,
    Settlement,
    SettleResult,
    UnresolvedCursor,
    UnresolvedHold,
    UnresolvedPage,
)
from policy_server.core.window import Window
from policy_server.store.exchange import ask, time_ms
from policy_server.store.keys import UNKNOWN_FROM, AccountKeys
from policy_server.store.scripts import Run, Scripts

REPLAY_WINDOW_MS = 23 * 3_600_000
"""How long the vendor surely remembers an idempotency key; Stripe keeps them 24 h."""


REFUSALS_KEPT = 256
"""How many different refused calls of a run are counted apart; further ones count together."""


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
        names = AccountKeys(account)
        counters = [_counter(names, counted, vault_key_id, run_id) for counted in caps]
        pairs = await ask(self._client, [("HMGET", counter, "settled", "held") for counter in counters])
        return [(int(settled or 0), int(held or 0)) for settled, held in pairs]

    async def expire_holds(self, account: str, limit: int) -> int:
        """Mark overdue holds unknown; return how many there were."""
        names = AccountKeys(account)
        run = Run(account, [names.deadlines], [names.hold_prefix, str(limit)])
        *_, marked = await self._scripts.run_one("expire", run)
        return int(marked)

    async def frozen_runs(self, account: str, offset: int, limit: int) -> list[FrozenRun]:
        """Return frozen runs of the account, the latest first."""
        names = AccountKeys(account)
        last = offset + limit - 1
        (flat,) = await ask(self._client, [("ZREVRANGE", names.frozen_runs, offset, last, "WITHSCORES")])
        found = _scored(flat)
        refusals = [names.refusals(*_run_parts(run)) for run, _ in found]
        whys = await ask(
            self._client, [("HMGET", refused, "frozen_for", "frozen_at_endpoint") for refused in refusals]
        )
        return [
            FrozenRun(*_run_parts(run), frozen_at, reason, endpoint or "")
            for (run, frozen_at), (reason, endpoint) in zip(found, whys, strict=True)
            if reason is not None  # else it is forgotten, and no longer frozen
        ]

    async def unfreeze_run(self, account: str, vault_key_id: str, run_id: str) -> bool:
        """Let a frozen run go on, and record it; tell whether it was frozen."""
        names = AccountKeys(account)
        facts = {
            "vault_key_id": vault_key_id,
            "run_id": run_id,
            "detail": f"let the frozen run {run_id} go on",
        }
        run = Run(
            account,
            [names.frozen_runs, names.refusals(vault_key_id, run_id)],
            [_run(vault_key_id, run_id), _facts(facts)],
        )
        status, *_ = await self._scripts.run_one("unfreeze", run)
        return bool(status == "done")

    async def unresolved(self, after: UnresolvedCursor, limit: int) -> UnresolvedPage:
        """Return unknown holds of the cursor's account, the oldest first."""
        names = AccountKeys(after.account)
        # Read first: a hold can't seem older than it was when it was found.
        read_at_ms = self._scripts.now_ms() or await time_ms(self._client, names.deadlines)
        ids, more = await self._unresolved_ids(names, after, limit)
        found = await ask(self._client, [("HGETALL", names.hold(one)) for _, one in ids])
        holds = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in found]
        return UnresolvedPage(
            tuple(
                _unresolved(after.account, authorization_id, fields)
                for (_, authorization_id), fields in zip(ids, holds, strict=True)
                # It may have been closed since its id was read.
                if fields.get("state") == "unknown"
            ),
            read_at_ms,
            UnresolvedCursor(after.account, *ids[-1]) if more else None,
        )

    async def _unresolved_ids(
        self, names: AccountKeys, after: UnresolvedCursor, limit: int
    ) -> tuple[list[tuple[int, str]], bool]:
        """Return scores and ids behind the cursor, and whether there are more."""
        found: list[tuple[int, str]] = []
        lowest, offset = max(after.score, UNKNOWN_FROM), 0
        while len(found) <= limit:
            # Ids of equal scores are in their own order, so those before the cursor come first.
            scores = (names.deadlines, lowest, "+inf", "WITHSCORES")
            (flat,) = await ask(self._client, [("ZRANGEBYSCORE", *scores, "LIMIT", offset, limit + 1)])
            chunk = _scored(flat)
            offset += len(chunk)
            entries = [(score, authorization_id) for authorization_id, score in chunk]
            found += [entry for entry in entries if entry > (after.score, after.authorization_id)]
            if len(chunk) <= limit:
                break
        return found[:limit], len(found) > limit

    def _question(self, question: Question) -> Run:
        names = AccountKeys(question.account)
        call, effect, refusal = question.call, question.effect, question.refusal
        authorization_id = effect.authorization_id if effect else ""
        asked: dict[str, Any] = {
            "key_version": question.key_version,
            "account_version": question.account_version,
            "epoch": question.epoch,
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
        if question.expires_at_ms is not None:
            asked["expires_at_ms"] = question.expires_at_ms
            asked["expired"] = refusal is not None and refusal.reason is DenyReason.VAULT_KEY_EXPIRED
        if refusal:
            asked["reason"], asked["rule"] = refusal.reason, refusal.rule
        if question.shadow_refusal:
            asked["shadow_reason"] = question.shadow_refusal.reason
            asked["shadow_rule"] = question.shadow_refusal.rule
        if question.call_refusal:
            asked["call_rule"] = question.call_refusal.rule
            asked["call_sealed"] = question.call_refusal.sealed
        loop = question.loop
        if loop:
            asked |= {
                "repeated_refusals_max": loop.refusals_max,
                "refusals_kept": REFUSALS_KEPT,
                "same_call": loop.same_call,
                "endpoint": call.endpoint,
                "run": _run(question.vault_key_id, call.run_id),
            }
        keys = [
            names.key(question.vault_key_id or "none"),
            names.hold(authorization_id or "none"),
            names.exposure(question.vault_key_id, call.object_id),
            names.deadlines,
            *(_counter(names, counted, question.vault_key_id, call.run_id) for counted in question.caps),
            *((names.refusals(question.vault_key_id, call.run_id), names.frozen_runs) if loop else ()),
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
        if settlement.evidence:
            said["evidence"] = settlement.evidence
        if settlement.unless_sent_after_ms is not None:
            said["unless_sent_after"] = settlement.unless_sent_after_ms
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


def _scored(flat: list[str]) -> list[tuple[str, int]]:
    """Return the members of a sorted set with their scores, as Redis lists them in turn."""
    return [(member, int(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)]


def _run(vault_key_id: str, run_id: str) -> str:
    return f"{vault_key_id}:{run_id}"


def _run_parts(run: str) -> tuple[str, str]:
    vault_key_id, _, run_id = run.partition(":")
    return vault_key_id, run_id


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
        # A derived key is soon forgotten, and with it what its total has counted.
        "lasting": owned.cap.window is Window.TOTAL and not owned.derived_key_id,
        "sealed": bool(owned.derived_key_id),
        "limit": str(owned.cap.limit),
        "start_ms": counted.span.start_ms,
        "end_ms": counted.span.end_ms,
        "rule": owned.rule,
    }


def _counter(names: AccountKeys, counted: CountedCap, vault_key_id: str, run_id: str) -> str:
    owned = counted.owned
    owner = f"budget:{owned.budget}" if owned.budget else vault_key_id
    if owned.derived_key_id:
        owner = f"{vault_key_id}:{owned.derived_key_id}"
    span = f"run:{run_id}" if owned.cap.window is Window.RUN else str(counted.span.start_ms)
    return names.counter(owner, owned.id, span)


def _call_facts(question: Question, authorization_id: str) -> bytes:
    call = question.call
    return _facts(
        {
            "vault_key_id": question.vault_key_id,
            "derived_key_id": question.derived_key_id,
            "run_id": call.run_id,
            "step": call.step,
            "endpoint": call.endpoint,
            "vendor_account": call.vendor_account,
            "amount": str(call.amount.minor_units) if call.amount else "",
            "currency": call.amount.currency if call.amount else "",
            "unpriced": "1" if call.unpriced else "",
            "idempotency_key": question.effect.name if question.effect else "",
            "authorization_id": authorization_id,
            "sender": call.sender,
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
    asked, currency, froze = said[9:12]
    settled, held, takes = said[12::3], said[13::3], said[14::3]
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
        froze=bool(froze),
        counts=tuple(zip(map(int, settled), map(int, held), strict=True)),
        takes=tuple(int(one) if one else None for one in takes),
    )


def _unresolved(account: str, authorization_id: str, fields: dict[str, str]) -> UnresolvedHold:
    call: dict[str, str] = json.loads(fields["call"])
    currency = fields["currency"]
    return UnresolvedHold(
        authorization_id=authorization_id,
        attempt=int(fields["attempt"]),
        account=account,
        vault_key_id=call["vault_key_id"],
        run_id=call.get("run_id", ""),
        step=call.get("step", ""),
        endpoint=call["endpoint"],
        vendor_account=call.get("vendor_account", ""),
        asked=Amount(int(call["amount"]), call["currency"]) if "amount" in call else None,
        held=Amount(int(fields["amount"]), currency) if currency else None,
        effect_name=call["idempotency_key"],
        object_id=fields["object_id"],
        sender="" if "several_senders" in fields else call.get("sender", ""),
        held_at_ms=int(fields["held_at"]),
        last_send_ms=max(int(fields["deadline"]), int(fields.get("sent_at", 0))),
    )


def _settled(settlement: Settlement, reply: list[str]) -> SettleResult | SpendgateError:
    status, _, state, overrun = reply
    if status == "not_found":
        return HoldNotFound(settlement.authorization_id)
    if status == "sent_again":
        return HoldClosed(settlement.authorization_id, f"{state}, and its call was allowed again since")
    if status == "closed":
        return HoldClosed(settlement.authorization_id, state)
    return SettleResult(HoldState(state), overrun=bool(overrun))
