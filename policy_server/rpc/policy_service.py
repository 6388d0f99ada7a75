"""PolicyService: convert, ask the core, convert."""

from __future__ import annotations

from typing import TypeVar

from policy_server.core.authorizer import Authorizer
from policy_server.core.errors import SpendgateError
from policy_server.core.settler import Settler
from policy_server.rpc import convert
from policy_server.rpc.status import Context, item_error
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1 import policy_service_pb2_grpc

T = TypeVar("T")


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Decides, settles and records."""

    def __init__(self, authorizer: Authorizer, settler: Settler) -> None:
        self._authorizer = authorizer
        self._settler = settler

    async def Authorize(self, request: pb.AuthorizeRequest, context: Context) -> pb.AuthorizeResponse:
        """Decide on one call."""
        (verdict,) = await self._authorizer.authorize([convert.spend_call(request)])
        return convert.authorize_response(_unless_error(verdict))

    async def BatchAuthorize(
        self, request: pb.BatchAuthorizeRequest, context: Context
    ) -> pb.BatchAuthorizeResponse:
        """Decide on many calls."""
        results = [pb.AuthorizeResult() for _ in convert.batch(request.requests)]
        calls = []
        for item, result in zip(request.requests, results, strict=True):
            try:
                calls.append((convert.spend_call(item), result))
            except SpendgateError as error:
                result.error.CopyFrom(item_error(error))
        verdicts = await self._authorizer.authorize([call for call, _ in calls])
        for (_, result), verdict in zip(calls, verdicts, strict=True):
            if isinstance(verdict, SpendgateError):
                result.error.CopyFrom(item_error(verdict))
            else:
                result.response.CopyFrom(convert.authorize_response(verdict))
        return pb.BatchAuthorizeResponse(results=results)

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:
        """Close one hold."""
        (result,) = await self._settler.settle([convert.settlement(request)])
        return convert.settle_response(_unless_error(result))

    async def BatchSettle(self, request: pb.BatchSettleRequest, context: Context) -> pb.BatchSettleResponse:
        """Close many holds."""
        results = [pb.SettleResult() for _ in convert.batch(request.requests)]
        settlements = []
        for item, result in zip(request.requests, results, strict=True):
            try:
                settlements.append((convert.settlement(item), result))
            except SpendgateError as error:
                result.error.CopyFrom(item_error(error))
        answers = await self._settler.settle([settlement for settlement, _ in settlements])
        for (_, result), answer in zip(settlements, answers, strict=True):
            if isinstance(answer, SpendgateError):
                result.error.CopyFrom(item_error(answer))
            else:
                result.response.CopyFrom(convert.settle_response(answer))
        return pb.BatchSettleResponse(results=results)

    async def BatchRecordRefusals(
        self, request: pb.BatchRecordRefusalsRequest, context: Context
    ) -> pb.BatchRecordRefusalsResponse:
        """Record what the sidecar refused by itself."""
        await self._settler.record_refusals(
            [convert.local_refusal(refusal) for refusal in convert.batch(request.refusals)]
        )
        return pb.BatchRecordRefusalsResponse()


def _unless_error(result: T | SpendgateError) -> T:
    if isinstance(result, SpendgateError):
        raise result
    return result
