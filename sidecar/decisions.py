"""Asks the policy server: concurrent questions go together in one call.

A question is sent at once when fewer than two calls are under way; what comes
meanwhile waits for the next one. So a lone request waits for nobody, and under
load one call carries many.
"""

from __future__ import annotations

import asyncio
from collections import deque

import grpc

from sidecar.policy_link import PolicyLink
from sidecar.refusals import Refused, policy_unavailable
from spendgate.v1 import policy_service_pb2 as pb

_BATCH_MAX = 64
_UNDER_WAY_MAX = 2


class Decisions:
    """Asks for decisions on calls."""

    def __init__(self, policy: PolicyLink, *, timeout_s: float) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[pb.AuthorizeRequest, asyncio.Future[pb.AuthorizeResponse]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Return the decision on one call; raise `Refused` when there is none."""
        decided: asyncio.Future[pb.AuthorizeResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, decided))
        self._send()
        return await decided

    async def quiesce(self) -> None:
        """Wait until the calls that are under way now are answered."""
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    def _send(self) -> None:
        while self._waiting and len(self._under_way) < _UNDER_WAY_MAX:
            count = min(len(self._waiting), _BATCH_MAX)
            batch = [self._waiting.popleft() for _ in range(count)]
            task = asyncio.create_task(self._ask_together(batch))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    async def _ask_together(
        self, batch: list[tuple[pb.AuthorizeRequest, asyncio.Future[pb.AuthorizeResponse]]]
    ) -> None:
        try:
            reply = await self._policy.batch_authorize(
                pb.BatchAuthorizeRequest(requests=[request for request, _ in batch]),
                timeout_s=self._timeout_s,
            )
        except grpc.aio.AioRpcError as error:
            refused = policy_unavailable(f"the policy server answers {error.code().name}: {error.details()}")
            for _, decided in batch:
                decided.set_exception(refused) if not decided.done() else None
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
    return policy_unavailable(error.message)
