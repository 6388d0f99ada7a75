"""Calls the policy server with the sidecar's token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import grpc
from pydantic import SecretStr

from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1.policy_service_pb2_grpc import PolicyServiceStub

if TYPE_CHECKING:
    from spendgate.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

    _DecisionStream = grpc.aio.StreamStreamCall[pb.StreamAuthorizeRequest, pb.StreamAuthorizeResponse]

_PAUSE_S = 0.01


class PolicyLink:
    """The decision service, each call with the token and a time limit in seconds.

    Every method raises `grpc.aio.AioRpcError` when there is no answer.
    """

    def __init__(self, channel: grpc.aio.Channel, token: SecretStr) -> None:
        self._stub = cast("PolicyServiceAsyncStub", PolicyServiceStub(cast(Any, channel)))
        self._metadata = (("authorization", f"Bearer {token.get_secret_value()}"),)
        self._decisions: _DecisionStream | None = None

    async def authorize(
        self, request: pb.StreamAuthorizeRequest, *, timeout_s: float
    ) -> pb.StreamAuthorizeResponse:
        """Ask for decisions, one request at a time; raise `TimeoutError` when there are none in time.

        A server that stops ends its streams, and what it has not answered is
        asked of the next; it recognises by their request_id what was decided.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                fresh = self._decisions is None
                stream = self._decisions or self._stub.StreamAuthorize(metadata=self._metadata)
                # Only a stream that has answered is used again: a late answer must not meet another question.
                self._decisions = None
                try:
                    await stream.write(request)
                    reply = await stream.read()
                except BaseException as error:
                    stream.cancel()
                    if fresh or not isinstance(error, grpc.aio.AioRpcError | asyncio.InvalidStateError):
                        raise
                    continue
                if isinstance(reply, pb.StreamAuthorizeResponse):
                    self._decisions = stream
                    return reply
                if fresh:  # it is stopping, and does not refuse calls yet
                    await asyncio.sleep(_PAUSE_S)

    async def batch_settle(
        self, request: pb.BatchSettleRequest, *, timeout_s: float
    ) -> pb.BatchSettleResponse:
        """Report outcomes."""
        return await self._stub.BatchSettle(request, timeout=timeout_s, metadata=self._metadata)

    async def list_unresolved_holds(
        self, request: pb.ListUnresolvedHoldsRequest, *, timeout_s: float
    ) -> pb.ListUnresolvedHoldsResponse:
        """Ask for holds whose outcome nobody knows."""
        return await self._stub.ListUnresolvedHolds(request, timeout=timeout_s, metadata=self._metadata)

    async def batch_record_refusals(
        self, request: pb.BatchRecordRefusalsRequest, *, timeout_s: float
    ) -> pb.BatchRecordRefusalsResponse:
        """Report what was refused here."""
        return await self._stub.BatchRecordRefusals(request, timeout=timeout_s, metadata=self._metadata)

    async def batch_record_observations(
        self, request: pb.BatchRecordObservationsRequest, *, timeout_s: float
    ) -> pb.BatchRecordObservationsResponse:
        """Report what objects were seen to commit for good."""
        return await self._stub.BatchRecordObservations(request, timeout=timeout_s, metadata=self._metadata)
