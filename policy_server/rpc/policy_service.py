"""PolicyService: convert, ask the core, convert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar, cast

from policy_server.core.authorizer import Authorizer
from policy_server.core.errors import SpendgateError, StoreUnavailable
from policy_server.core.settler import Settler
from policy_server.rpc import convert
from policy_server.rpc.status import Context, item_error
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1 import policy_service_pb2_grpc

T = TypeVar("T")

_ROUND_TRIPS = 1.4
"""How many times as long as one round trip to the store may take an answer may, which can need several.

By default this is 350 ms, and leaves a caller who must answer within 500 ms time to say so.
"""

_SHARE_OF_DEADLINE = 0.75
"""How much of the time that the caller gave may pass before it is told that there is no answer."""


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Decides, settles and records."""

    def __init__(self, authorizer: Authorizer, settler: Settler, *, store_timeout_ms: int) -> None:
        """``store_timeout_ms`` is how long one round trip to the store may take."""
        self._authorizer = authorizer
        self._settler = settler
        self._within_s = _ROUND_TRIPS * store_timeout_ms / 1000
        self._stopping = False
        self._idle_streams: set[asyncio.Task[Any]] = set()

    async def Authorize(self, request: pb.AuthorizeRequest, context: Context) -> pb.AuthorizeResponse:
        """Decide on one call."""
        (verdict,) = await self._in_time(context, self._authorizer.authorize([convert.spend_call(request)]))
        return convert.authorize_response(_unless_error(verdict))

    async def BatchAuthorize(
        self, request: pb.BatchAuthorizeRequest, context: Context
    ) -> pb.BatchAuthorizeResponse:
        """Decide on many calls."""
        return pb.BatchAuthorizeResponse(results=await self._decide(request.requests, context))

    async def StreamAuthorize(
        self, request_iterator: AsyncIterator[pb.StreamAuthorizeRequest], context: Context
    ) -> AsyncIterator[pb.StreamAuthorizeResponse]:
        """Decide on many calls, again and again, until the caller ends the stream or the server stops."""
        stream = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            while not self._stopping:
                self._idle_streams.add(stream)
                request = await anext(request_iterator, None)
                self._idle_streams.discard(stream)
                if request is None:
                    return
                yield pb.StreamAuthorizeResponse(results=await self._decide(request.requests, context))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._idle_streams.discard(stream)

    def end_streams(self) -> None:
        """End every stream that waits for its caller, and the others after the answer they work on."""
        self._stopping = True
        for stream in self._idle_streams:
            stream.cancel()

    async def _decide(
        self, requests: Sequence[pb.AuthorizeRequest], context: Context
    ) -> list[pb.AuthorizeResult]:
        results = [pb.AuthorizeResult() for _ in convert.batch(requests)]
        calls = []
        for item, result in zip(requests, results, strict=True):
            try:
                calls.append((convert.spend_call(item), result))
            except SpendgateError as error:
                result.error.CopyFrom(item_error(error))
        verdicts = await self._in_time(context, self._authorizer.authorize([call for call, _ in calls]))
        for (_, result), verdict in zip(calls, verdicts, strict=True):
            if isinstance(verdict, SpendgateError):
                result.error.CopyFrom(item_error(verdict))
            else:
                result.response.CopyFrom(convert.authorize_response(verdict))
        return results

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:
        """Close one hold."""
        (result,) = await self._in_time(context, self._settler.settle([convert.settlement(request)]))
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
        answers = await self._in_time(
            context, self._settler.settle([settlement for settlement, _ in settlements])
        )
        for (_, result), answer in zip(settlements, answers, strict=True):
            if isinstance(answer, SpendgateError):
                result.error.CopyFrom(item_error(answer))
            else:
                result.response.CopyFrom(convert.settle_response(answer))
        return pb.BatchSettleResponse(results=results)

    async def BatchRecordObservations(
        self, request: pb.BatchRecordObservationsRequest, context: Context
    ) -> pb.BatchRecordObservationsResponse:
        """Count what objects of the vendor commit for good."""
        observations = [convert.observation(one) for one in convert.batch(request.observations)]
        await self._in_time(context, self._settler.record_observations(observations))
        return pb.BatchRecordObservationsResponse()

    async def BatchRecordRefusals(
        self, request: pb.BatchRecordRefusalsRequest, context: Context
    ) -> pb.BatchRecordRefusalsResponse:
        """Record what the sidecar refused by itself."""
        refusals = [convert.local_refusal(refusal) for refusal in convert.batch(request.refusals)]
        await self._in_time(context, self._settler.record_refusals(refusals))
        return pb.BatchRecordRefusalsResponse()

    async def ListUnresolvedHolds(
        self, request: pb.ListUnresolvedHoldsRequest, context: Context
    ) -> pb.ListUnresolvedHoldsResponse:
        """List holds whose outcome nobody knows."""
        account = convert.account_name(request.account) if request.account else ""
        after = convert.unresolved_cursor(request.page_token)
        size = convert.unresolved_page_size(request.page_size)
        page = await self._in_time(context, self._settler.unresolved(account, after, size))
        return convert.unresolved_page(page)

    async def _in_time(self, context: Context, answer: Awaitable[T]) -> T:
        left_s = context.time_remaining()
        within_s = self._within_s if left_s is None else min(self._within_s, left_s * _SHARE_OF_DEADLINE)
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("the counter store did not answer in time") from None


def _unless_error(result: T | SpendgateError) -> T:
    if isinstance(result, SpendgateError):
        raise result
    return result
