"""What stands before every method: the caller's token, and errors as statuses."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.rpc import code_pb2
from pydantic import SecretStr

from policy_server.core.errors import SpendgateError
from policy_server.rpc.status import Context, abort, abort_with
from spendgate.v1.error_reason_pb2 import ErrorReason

log = logging.getLogger(__name__)

Handler = Any  # grpc.RpcMethodHandler; grpcio's handlers are not typed
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Request = TypeVar("Request")

_OPEN_SERVICES = ("grpc.health.v1.", "grpc.reflection.")
_DATA_SERVICE = "spendgate.v1.PolicyService"


class Guard(grpc.aio.ServerInterceptor):
    """Checks the caller's token, and turns errors into statuses.

    Calls of the decision service need the sidecar token, all others the admin
    token; health and reflection are open. What nobody foresaw is logged and
    told as INTERNAL, without detail.
    """

    def __init__(self, *, admin_token: SecretStr, sidecar_token: SecretStr) -> None:
        self._admin = f"Bearer {admin_token.get_secret_value()}".encode()
        self._sidecar = f"Bearer {sidecar_token.get_secret_value()}".encode()
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the guarded method, or an answer in its place when the token is not the one it needs."""
        method = handler_call_details.method
        service = method.lstrip("/").partition("/")[0]
        if service.startswith(_OPEN_SERVICES):
            return await continuation(handler_call_details)
        presented = b""
        for name, value in handler_call_details.invocation_metadata or ():
            if name == "authorization":
                presented = value.encode() if isinstance(value, str) else value
        is_admin = hmac.compare_digest(presented, self._admin)
        is_sidecar = hmac.compare_digest(presented, self._sidecar)
        decides = service == _DATA_SERVICE
        if not (is_sidecar if decides else is_admin):
            handler = await continuation(handler_call_details)
            return handler and _refuse(handler, known=is_admin or is_sidecar, data=decides)
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            guarded = self._guarded[method] = _guarded(handler, method)
        return guarded


def _guarded(handler: Handler, name: str) -> Handler:
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _guard_stream(handler.stream_stream, name),
            handler.request_deserializer,
            handler.response_serializer,
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _guard_stream(handler.unary_stream, name),
            handler.request_deserializer,
            handler.response_serializer,
        )
    return grpc.unary_unary_rpc_method_handler(
        _guard(handler.unary_unary, name), handler.request_deserializer, handler.response_serializer
    )


def _guard(method: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
    async def guarded(request: Request, context: Context) -> Any:
        begun = time.perf_counter()
        try:
            return await method(request, context)
        except SpendgateError as error:
            log.info("%s: %s: %s", name, type(error).__name__, error.message)
            await abort(context, error)
        except Exception as error:
            await _abort_unforeseen(context, name, error)
        finally:
            log.debug("%s took %.1f ms", name, (time.perf_counter() - begun) * 1000)

    return guarded


def _guard_stream(method: Callable[..., AsyncIterator[Any]], name: str) -> Callable[..., AsyncIterator[Any]]:
    async def guarded(request: Request, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in method(request, context):
                yield response
        except SpendgateError as error:
            await abort(context, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await _abort_unforeseen(context, name, error)

    return guarded


async def _abort_unforeseen(context: Context, name: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    log.exception("%s failed; no decision was made", name)
    await context.abort(grpc.StatusCode.INTERNAL, "the policy server failed; nothing was decided")


def _refuse(handler: Handler, *, known: bool, data: bool) -> Handler:
    wanted = "sidecar" if data else "admin"
    hint = (
        f"this method needs the {wanted} token: send the metadata 'authorization: Bearer <token>' "
        f"with the content of {wanted}.token in the policy server's data directory"
    )

    async def refuse(request: Any, context: Context) -> None:
        if known:
            await abort_with(
                context, code_pb2.PERMISSION_DENIED, ErrorReason.ERROR_REASON_TOKEN_NOT_SUFFICIENT, hint
            )
        await abort_with(context, code_pb2.UNAUTHENTICATED, ErrorReason.ERROR_REASON_TOKEN_INVALID, hint)

    async def refuse_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        await refuse(request, context)
        yield  # makes this a generator; never reached

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            refuse_stream, handler.request_deserializer, handler.response_serializer
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            refuse_stream, handler.request_deserializer, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        refuse, handler.request_deserializer, handler.response_serializer
    )
