"""Calls the policy server with the sidecar's token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
from pydantic import SecretStr

from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1.policy_service_pb2_grpc import PolicyServiceStub

if TYPE_CHECKING:
    from spendgate.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub


class PolicyLink:
    """The decision service, each call with the token and a time limit in seconds.

    Every method raises `grpc.aio.AioRpcError` when there is no answer.
    """

    def __init__(self, channel: grpc.aio.Channel, token: SecretStr) -> None:
        self._stub = cast("PolicyServiceAsyncStub", PolicyServiceStub(cast(Any, channel)))
        self._metadata = (("authorization", f"Bearer {token.get_secret_value()}"),)

    async def batch_authorize(
        self, request: pb.BatchAuthorizeRequest, *, timeout_s: float
    ) -> pb.BatchAuthorizeResponse:
        """Ask for decisions."""
        return await self._stub.BatchAuthorize(request, timeout=timeout_s, metadata=self._metadata)

    async def batch_settle(
        self, request: pb.BatchSettleRequest, *, timeout_s: float
    ) -> pb.BatchSettleResponse:
        """Report outcomes."""
        return await self._stub.BatchSettle(request, timeout=timeout_s, metadata=self._metadata)

    async def batch_record_refusals(
        self, request: pb.BatchRecordRefusalsRequest, *, timeout_s: float
    ) -> pb.BatchRecordRefusalsResponse:
        """Report what was refused here."""
        return await self._stub.BatchRecordRefusals(request, timeout=timeout_s, metadata=self._metadata)
