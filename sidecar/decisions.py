"""Asks the policy server: concurrent questions go together in one call.

A question is sent at once when no call is under way; what comes meanwhile goes
together in the next one. So a lone request waits for nobody, and under load one
call carries many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import grpc

from sidecar.policy_link import PolicyLink
from sidecar.refusals import Refused, audit_backlog_full, ledger_lost, malformed, policy_unavailable
from spendgate.v1 import policy_service_pb2 as pb

_BATCH_MAX = 64
_BATCH_BYTES_MAX = 1024 * 1024
"""A quarter of what the policy server takes in one message, so that no call's size can fail another's."""

_QUESTION_BYTES_MAX = 256 * 1024

_BY_REASON = {"LEDGER_LOST": ledger_lost, "AUDIT_BACKLOG_FULL": audit_backlog_full}

Asked = tuple[pb.AuthorizeRequest, asyncio.Future[pb.AuthorizeResponse]]


class Decisions:
    """Asks for decisions on calls."""

    def __init__(self, policy: PolicyLink, *, timeout_s: float) -> None:
        """``timeout_s`` limits a decision as a whole, its wait for others included."""
        self._policy = policy
        self._timeout_s = timeout_s
        self._waiting: deque[Asked] = deque()
        self._under_way: asyncio.Task[None] | None = None

    async def ask(self, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Return the decision on one call; raise `Refused` when there is none in time."""
        if request.ByteSize() > _QUESTION_BYTES_MAX:
            raise malformed(
                "",
                "The parameters are too many or too long for a decision on them.",
                code="request_too_large",
                status=413,
            )
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[pb.AuthorizeResponse] = loop.create_future()
        self._waiting.append((request, decided))
        self._send()
        limit = loop.call_later(self._timeout_s, self._give_up, decided)
        try:
            return await decided
        finally:
            limit.cancel()

    async def quiesce(self) -> None:
        """Wait until the call that is under way now is answered."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])

    def once_answered(self, callback: Callable[[], None]) -> None:
        """Call back when everybody has the answer of the call that is under way now."""
        if self._under_way is None:
            callback()
        else:
            self._under_way.add_done_callback(lambda _: callback())

    def _give_up(self, decided: asyncio.Future[pb.AuthorizeResponse]) -> None:
        if not decided.done():
            late = f"the policy server did not answer within {self._timeout_s * 1000:.0f} ms"
            decided.set_exception(policy_unavailable(late))

    def _send(self) -> None:
        batch = self._next_batch() if self._under_way is None else []
        if batch:
            self._under_way = asyncio.create_task(self._ask_together(batch))
            self._under_way.add_done_callback(self._done)

    def _next_batch(self) -> list[Asked]:
        batch: list[Asked] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_MAX and size < _BATCH_BYTES_MAX:
            asked = self._waiting.popleft()
            # Nobody waits any more for one that is done; to decide on it would hold for nothing.
            if not asked[1].done():
                batch.append(asked)
                size += asked[0].ByteSize()
        return batch

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way = None
        self._send()

    async def _ask_together(self, batch: list[Asked]) -> None:
        try:
            reply = await self._policy.authorize(
                pb.StreamAuthorizeRequest(requests=[request for request, _ in batch]),
                timeout_s=self._timeout_s,
            )
        except TimeoutError:
            return  # each question has its own limit, which is no later
        except grpc.aio.AioRpcError as error:
            refused = policy_unavailable(f"the policy server answers {error.code().name}: {error.details()}")
            for _, decided in batch:
                if not decided.done():
                    decided.set_exception(refused)
            return
        for (_, decided), result in zip(batch, reply.results, strict=True):
            if decided.done():
                continue
            if result.WhichOneof("result") == "response":
                decided.set_result(result.response)
            else:
                decided.set_exception(_undecided(result.error))


def _undecided(error: pb.ItemError) -> Refused:
    if error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]:
        return Refused(400, "request_invalid", f"The policy server can't read the call: {error.message}.")
    return _BY_REASON.get(error.reason, policy_unavailable)(error.message)
