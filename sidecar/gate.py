"""The one path of a request: read, decide, forward, settle, answer."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import secrets
import time
from dataclasses import replace

from sidecar import refusals, run_names
from sidecar.decisions import Decisions
from sidecar.exchange import Answer, Request
from sidecar.outbox import Outbox
from sidecar.refusals import Refused, resets_at
from sidecar.settlements import amount_of, fill
from sidecar.upstream import NoAnswer, NotSent, Upstream
from sidecar.vault_keys import holds_secret, key_id, key_text, masked, presented_key
from sidecar.vendor import Call, Failed, Money, Price, Succeeded, Unpriced, Vendor
from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.verdict import cap_rule

log = logging.getLogger(__name__)

_SETTLE_S = 0.5
"""How long an answer waits until its outcome is counted, where a next call needs that."""


SEND_WITHIN_S = 60.0
"""How old a question may be when its call is sent. Where a sidecar was suspended for longer, others may have
found out by then that nothing was sent, and the agent may have paid in another attempt. They count on it."""

_UNANSWERED_MAX = 10_000
"""How many questions without an answer are remembered; each is small, and goes with its repeat."""


class _Sent:
    """A call that was sent to the vendor: its answer, its outcome and whether that has arrived."""

    __slots__ = ("answer", "next_waits", "settled", "settlement")

    def __init__(self, verdict: pb.AuthorizeResponse) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.settled: asyncio.Future[None] = loop.create_future()
        self.settlement = pb.SettleRequest(
            authorization_id=verdict.authorization_id,
            attempt=verdict.attempt,
            outcome=pb.OUTCOME_UNKNOWN,
            stale=verdict.duplicate,
        )
        self.next_waits = False
        """Whether a next call needs this outcome to be counted first."""

    @property
    def ended_unknown(self) -> bool:
        """Whether the answer is there and does not say what became of the call."""
        return self.answer.done() and self.settlement.outcome == pb.OUTCOME_UNKNOWN


class Gate:
    """Governs the requests to one vendor."""

    def __init__(self, vendor: Vendor, decisions: Decisions, outbox: Outbox, upstream: Upstream) -> None:
        self._vendor = vendor
        self._decisions = decisions
        self._outbox = outbox
        self._upstream = upstream
        self._process = secrets.token_hex(12)
        self._questions = itertools.count(1)
        self._in_flight: dict[str, _Sent] = {}
        """Calls sent and not yet settled, by authorization id."""
        self._unanswered: dict[bytes, str] = {}
        """Questions that nobody answered, by their content, with the request_id that they had."""

    async def handle(self, request: Request) -> Answer:
        """Answer one request. Every failure is an answer too."""
        try:
            return await self._handle(request)
        except Refused as refused:
            if not refused.decided:
                self._record(request, refused)
            return self.refuse(refused)
        except Exception:
            request_id = _new_request_id()
            log.exception(
                "%s %s failed; request %s",
                request.method,
                masked(request.path, key_text(request)),
                request_id,
            )
            failed = Refused(
                500,
                "sidecar_failed",
                f"The sidecar failed; see its log for {request_id}. Repeating the same call is safe.",
                retryable=True,
            )
            return self._vendor.refusal(failed, request_id)

    def refuse(self, refused: Refused) -> Answer:
        """Write a refusal as the vendor's SDKs expect it."""
        refused.message = masked(refused.message)  # some tell the path
        return self._vendor.refusal(refused, _new_request_id())

    async def _handle(self, request: Request) -> Answer:
        vault_key = presented_key(request, self._vendor)
        call = self._vendor.read(request)
        _refuse_misplaced_keys(call, vault_key)
        run_id, step = run_names.read(request, vault_key, call.given_key, call.header_key)
        # No decision can be older than its question.
        send_by_s = _clock_s() + SEND_WITHIN_S
        call, verdict = await self._decide(call, vault_key, run_id, step)
        if not call.changes:
            return _with_verdict(await self._read(call, verdict), call, verdict)
        if not verdict.duplicate:
            return _with_verdict(await self._execute(call, verdict, send_by_s), call, verdict)
        return _with_verdict(await self._repeat(call, verdict, send_by_s), call, verdict)

    async def _decide(
        self, call: Call, vault_key: str, run_id: str, step: str
    ) -> tuple[Call, pb.AuthorizeResponse]:
        """Price the call where that is needed, and ask whether it may be made."""
        question = self._question(call, vault_key, run_id, step)
        unpriced = ""
        if call.asks and call.price is None:
            try:
                call = await self._priced(call, question)
            except Unpriced as error:
                unpriced = str(error)
        question.moves_money, question.unpriced = call.moves_money, bool(unpriced)
        if call.price is not None:
            question.amount.CopyFrom(amount_of(call.price.money))
            question.object_id = call.step_of
            question.absorbed_object_ids.extend(call.price.absorbed)
            question.refunded_object_id = call.price.refunded
            if call.price.refunded or call.price.absorbed:
                await self._outbox.catch_up(_SETTLE_S)
        verdict = await self._ask(question)
        if verdict.decision != pb.DECISION_ALLOW:
            raise refusals.denied(verdict, unpriced=unpriced)
        if call.price is None and verdict.HasField("amount"):
            # A repeat is not priced again: it is sent as the first call was decided on.
            asked = Money(verdict.amount.minor_units, verdict.amount.currency_code)
            call = replace(call, price=Price(asked))
        return call, verdict

    async def _ask(self, question: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Ask for the decision, under the same request_id when the same was asked and never answered.

        Nothing was sent for that one. If it was decided and only its answer was
        lost, its hold is now this call's; and no other's, because it is asked once.
        """
        if self._unanswered:
            question.request_id = self._unanswered.pop(_content(question), question.request_id)
        try:
            return await self._decisions.ask(question)
        except Refused as refused:
            if refused.code == "policy_unavailable" and len(self._unanswered) < _UNANSWERED_MAX:
                self._unanswered.setdefault(_content(question), question.request_id)
            raise

    def _question(self, call: Call, vault_key: str, run_id: str, step: str) -> pb.AuthorizeRequest:
        question = pb.AuthorizeRequest(
            vault_key=vault_key,
            endpoint=call.endpoint,
            run_id=run_id,
            step=step,
            # With a run, a header that SDKs make up anew for every call names nothing.
            idempotency_key=call.given_key or ("" if run_id else call.header_key),
            request_fingerprint=call.fingerprint,
            request_id=f"{self._process}-{next(self._questions)}",
            object_id=call.object_id,
            parameters=call.parameters,
            moves_money=call.moves_money,
            vendor_account=call.vendor_account,
            sender=self._upstream.sender,
        )
        if call.changes and not question.idempotency_key and not run_id:
            raise Refused(
                400,
                "run_id_required",
                "Name the run with the header Spendgate-Run-Id, or send an Idempotency-Key: without a name "
                "a repeat of this call could not be told from a new one.",
            )
        return question

    async def _priced(self, call: Call, question: pb.AuthorizeRequest) -> Call:
        """Ask the vendor what the call commits, unless the decision does not depend on it.

        A repeat counts nothing, and what may not be called at all is not worth
        a request to the vendor. Raises `Unpriced` when nobody can tell.
        """
        probe = pb.AuthorizeRequest()
        probe.CopyFrom(question)
        probe.validate_only = True
        verdict = await self._decisions.ask(probe)
        undecided = verdict.deny_reason == pb.DENY_REASON_AMOUNT_UNKNOWN
        if not undecided and (verdict.duplicate or verdict.decision != pb.DECISION_ALLOW):
            return call

        async def fetch(path: str) -> Answer:
            return await self._fetch(path, call)

        price = await self._vendor.price(call, fetch)
        return replace(call, price=price, moves_money=call.moves_money and price is not None)

    async def _fetch(self, path: str, call: Call) -> Answer:
        """GET an object that ``call`` is about, for the account that it acts for."""
        try:
            return await self._upstream.send(self._vendor.lookup(call, path))
        except (NotSent, NoAnswer) as error:
            raise Refused(
                503,
                "vendor_unavailable",
                f"What the call is about could not be asked of the vendor ({error}), so it was not sent.",
                retryable=True,
            ) from None

    async def _read(self, call: Call, verdict: pb.AuthorizeResponse) -> Answer:
        try:
            answer = await self._upstream.send(call.forward)
        except (NotSent, NoAnswer) as error:
            raise Refused(
                503,
                "vendor_unavailable",
                f"The vendor did not answer: {error}.",
                retryable=True,
                decided=True,
            ) from None
        self._observe(call, verdict, answer)
        return self._vendor.pass_back(answer)

    def _observe(self, call: Call, verdict: pb.AuthorizeResponse, answer: Answer) -> None:
        for seen in self._vendor.seen(call, answer):
            self._outbox.observe(
                pb.Observation(
                    vault_key_id=verdict.vault_key_id, object_id=seen.object_id, amount=amount_of(seen.money)
                )
            )

    async def _repeat(self, call: Call, verdict: pb.AuthorizeResponse, send_by_s: float) -> Answer:
        """Answer a call whose effect is known already."""
        first = self._in_flight.get(verdict.authorization_id)
        if first is None and verdict.replay == pb.REPLAY_JOIN:
            # The first call may be held and its reply still be on its way here.
            await self._decisions.quiesce()
            first = self._in_flight.get(verdict.authorization_id)
        if first is not None and not first.ended_unknown:
            return await asyncio.shield(first.answer)
        repeatable = self._vendor.replays or call.idempotent
        if repeatable and (first is not None or verdict.replay == pb.REPLAY_FORWARD):
            # The vendor knows the upstream key, and says what became of the first; or it does no harm.
            return await self._execute(call, verdict, send_by_s)
        path = self._vendor.object_path(verdict.object_id)
        if verdict.replay in {pb.REPLAY_FETCH, pb.REPLAY_FORWARD} and path is not None:
            answer = await self._fetch(path, call)
            self._observe(call, verdict, answer)
            return self._vendor.pass_back(answer)
        if repeatable or verdict.replay == pb.REPLAY_JOIN:
            raise refusals.in_flight_elsewhere(verdict.idempotency_key)
        raise refusals.never_repeated(verdict)

    async def _execute(self, call: Call, verdict: pb.AuthorizeResponse, send_by_s: float) -> Answer:
        """Send an allowed call, hand over its outcome, and let repeats share the answer."""
        sent = _Sent(verdict)
        self._in_flight[verdict.authorization_id] = sent
        try:
            answer = await self._send(call, verdict, sent, send_by_s)
            sent.answer.set_result(answer)
            return answer
        except Exception as error:
            sent.answer.set_exception(error)
            sent.answer.exception()  # taken note of, so that nobody has to join it
            raise
        finally:
            self._outbox.settle(sent.settlement, lambda: self._forget(sent), at_once=sent.next_waits)
            if sent.next_waits:
                await asyncio.wait([sent.settled], timeout=_SETTLE_S)

    async def _send(self, call: Call, verdict: pb.AuthorizeResponse, sent: _Sent, send_by_s: float) -> Answer:
        settlement = sent.settlement
        # Steps on one object follow each other; so does a fresh try after a release.
        sent.next_waits = bool(call.step_of)
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            left_s = send_by_s - _clock_s()
            if left_s <= 0:
                raise NotSent("the sidecar stood still for too long after the decision")
            named = self._vendor.named(call, verdict.upstream_idempotency_key)
            answer = await self._upstream.send(named, begin_within_s=left_s)
        except NotSent as error:
            if not verdict.duplicate:
                _fail(settlement, verdict)
                sent.next_waits = True
            raise refusals.not_sent(verdict, str(error)) from None
        except NoAnswer as error:
            repeatable = self._vendor.replays or call.idempotent
            raise refusals.outcome_unknown(verdict, str(error), repeatable=repeatable) from None
        finally:
            settlement.latency.FromNanoseconds(int((clock() - begun) * 1e9))
        # A repeat has failed only where its answer tells of the first try.
        settlement.replayed = verdict.duplicate
        reading = self._vendor.classify(call, answer, repeat=verdict.duplicate)
        sent.next_waits |= isinstance(reading, Failed) or (
            isinstance(reading, Succeeded) and reading.steps_follow
        )
        settlement.http_status = answer.status
        settlement.vendor_request_id = answer.header(self._vendor.request_id_header)[:255]
        fill(settlement, reading)
        if isinstance(reading, Failed) and not verdict.duplicate:
            _fail(settlement, verdict)
        return self._vendor.pass_back(answer)

    def _forget(self, sent: _Sent) -> None:
        sent.settled.set_result(None)

        def forget() -> None:
            if self._in_flight.get(sent.settlement.authorization_id) is sent:
                del self._in_flight[sent.settlement.authorization_id]

        # A repeat that was decided on before the settlement may yet come to join it.
        self._decisions.once_answered(forget)

    def _record(self, request: Request, refused: Refused) -> None:
        key = key_text(request)
        entry = pb.Refusal(
            vault_key_id=key_id(request),
            endpoint=_printable(f"{request.method} {masked(request.path, key)}", 256),
            run_id=_printable(masked(run_names.said(request), key), run_names.NAME_BYTES_MAX),
            code=refused.code,
            http_status=refused.status,
        )
        entry.refuse_time.GetCurrentTime()
        self._outbox.record(entry)


def _fail(settlement: pb.SettleRequest, verdict: pb.AuthorizeResponse) -> None:
    """Say that a first try failed, which says nothing of repeats that were allowed after its deadline."""
    settlement.outcome = pb.OUTCOME_FAILED
    settlement.unless_sent_after.CopyFrom(verdict.expire_time)


def _clock_s() -> float:
    """Return a clock that also goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _content(question: pb.AuthorizeRequest) -> bytes:
    """Return a digest of everything that a question says but its request_id."""
    content = pb.AuthorizeRequest()
    content.CopyFrom(question)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()


def _new_request_id() -> str:
    return f"req_sg_{secrets.token_hex(8)}"


def _refuse_misplaced_keys(call: Call, vault_key: str) -> None:
    """Refuse to send a secret key anywhere, whose it may be."""
    forward = call.forward
    text = "\n".join((forward.target, *forward.headers.values(), forward.body.decode("latin-1")))
    if holds_secret(text, vault_key):
        raise refusals.malformed(
            "",
            "The path, query, body or a header has a secret key in it; give it in Authorization only.",
        )


def _with_verdict(answer: Answer, call: Call, verdict: pb.AuthorizeResponse) -> Answer:
    """Add what the agent may want to know of the decision."""
    more = []
    if verdict.authorization_id:
        more.append((b"spendgate-authorization-id", verdict.authorization_id.encode()))
    if call.changes:
        more.append((b"spendgate-duplicate", b"true" if verdict.duplicate else b"false"))
    cap = _tightest(verdict)
    if cap is not None:
        more.append((b"spendgate-remaining", str(cap.remaining).encode()))
        more.append((b"spendgate-cap", cap_rule(cap).encode()))
        moment = resets_at(cap)
        if moment:
            more.append((b"spendgate-resets-at", moment.encode()))
    return answer.extended(*more)


def _tightest(verdict: pb.AuthorizeResponse) -> policy_pb2.CapStatus | None:
    """Return the money cap with the least left, else the tightest on calls."""
    money = [cap for cap in verdict.caps if cap.currency_code]
    return next(iter(money or verdict.caps), None)


def _printable(text: str, longest: int) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:longest]
