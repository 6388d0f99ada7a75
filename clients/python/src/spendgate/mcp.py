"""An MCP server with the payment tools. Needs ``spendgate[mcp]``; ``spendgate mcp`` runs it.

Over stdio it serves one client with one vault key, as one run. Over HTTP it
holds no key: each client sends its own with every request, and its run. Nothing
here makes a run up: who connects or starts anew continues the run that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httpx
import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spendgate.http import RunAuth
from spendgate.payment_tools import PaymentTool, RunTools
from spendgate.run import DEFAULT_SIDECAR, RUN_HEADER, safe_sidecar
from spendgate.vault_deps import VaultDeps

Context = ServerRequestContext[Any, Any]

_INSTRUCTIONS = (
    "Tools to charge, pay and refund within the limits of a vault key. Amounts are in the currency's "
    "smallest unit. Within a run each payment is made once, however often it is asked for. When a tool says "
    "that trying again can't help, stop and tell the user."
)
_KEY_HEADER = "Authorization"
_SESSION_HEADER = "Mcp-Session-Id"
_SCOPE_TIMEOUT_S = 10.0


def stdio_server(deps: VaultDeps) -> Server[Any]:
    """Return the server of one client, whose run ``deps`` names."""

    async def deps_of(_context: Context) -> VaultDeps:
        return deps

    return _server(deps_of)


def http_app(sidecar: str = DEFAULT_SIDECAR, *, host: str = "127.0.0.1") -> Starlette:
    """Return an ASGI application that serves many clients at ``/mcp`` and holds no key.

    A client sends ``Authorization: Bearer vk_…`` with each request, and
    ``Spendgate-Run-Id`` unless the key is for one run; a session belongs to the
    key and the run that it began with. ``host`` is where it listens.
    """
    safe_sidecar(sidecar)

    async def deps_of(context: Context) -> VaultDeps:
        headers = context.request.headers if context.request is not None else Headers()
        keys, runs = (headers.getlist(name) for name in (_KEY_HEADER, RUN_HEADER))
        scheme, _, key = keys[0].partition(" ") if len(keys) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not key:
            raise ValueError("send the vault key with each request, once: 'Authorization: Bearer vk_…'")
        deps = VaultDeps(key, runs[0] if len(runs) == 1 else "", sidecar=sidecar)
        if not deps.run_id or len(runs) > 1:
            # No run is made up: a client that connects anew would be another run, and pay again.
            raise ValueError(
                f"name the run with each request, once: '{RUN_HEADER}: order-42'. Choose the name, keep it "
                "with the task, and send it again after every reconnect: within a run nothing is paid twice"
            )
        return deps

    app = _server(deps_of).streamable_http_app(host=host)
    app.add_middleware(_OwnedSessions)
    return app


class _OwnedSessions:
    """Tells the SDK whose each request is: it keeps every session to the key and the run it began with."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        owner = repr([headers.getlist(name) for name in (_KEY_HEADER, RUN_HEADER)])
        digest = hashlib.sha256(owner.encode()).hexdigest()
        scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=digest, scopes=[]))
        refused = False

        async def explain(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NOT_FOUND:
                refused = True
                await _no_session()(scope, receive, send)
            elif not refused:
                await send(message)

        await self._app(scope, receive, explain if _SESSION_HEADER in headers else send)


def _no_session() -> Response:
    told = types.ErrorData(
        code=types.INVALID_REQUEST,
        message=(
            "there is no such session for this vault key and run: it has ended, or it began with another "
            f"vault key or run. Begin a new session; {RUN_HEADER} says which run it continues"
        ),
    )
    error = types.JSONRPCError(jsonrpc="2.0", id=None, error=told)
    return Response(
        error.model_dump_json(by_alias=True, exclude_unset=True),
        HTTPStatus.NOT_FOUND,
        media_type="application/json",
    )


def _server(deps_of: Callable[[Context], Awaitable[VaultDeps]]) -> Server[Any]:
    async def run_of(context: Context) -> RunTools:
        try:
            return RunTools(await deps_of(context))
        except ValueError as error:
            raise MCPError(types.INVALID_REQUEST, str(error)) from None

    async def list_tools(
        context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        run = await run_of(context)
        allowed = await allowed_endpoints(run)
        tools = [_described(tool, run) for tool in run.tools.values() if tool.endpoint in allowed]
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        run = await run_of(context)
        if params.name not in run.tools:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r}")
        answer = await run.call(params.name, params.arguments or {})
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=answer.text)], is_error=not answer.done
        )

    async def begin(ctx: Context, call_next: CallNext) -> HandlerResult:
        # A client without key or run is told when it connects, and not at its first payment.
        if ctx.request_id is not None:
            await run_of(ctx)
        return await call_next(ctx)

    server = Server("spendgate", instructions=_INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)
    server.middleware.append(begin)
    return server


async def allowed_endpoints(run: RunTools) -> set[str]:
    """Ask the sidecar which endpoints of the tools the vault key may call; raises `MCPError`."""
    asked = [tool.endpoint for tool in run.tools.values()]
    auth = RunAuth(run.deps.vault_key, run.run_id, sidecar=run.deps.sidecar)
    try:
        async with httpx.AsyncClient(**run.connection(), auth=auth) as http:
            answer = await http.get(
                "/spendgate/allowed", params={"endpoint": asked}, timeout=_SCOPE_TIMEOUT_S
            )
        body = answer.json()
    except (httpx.TransportError, ValueError):
        raise MCPError(
            types.INTERNAL_ERROR,
            f"the sidecar at {run.deps.sidecar} does not answer; start it with 'spendgate up', or say "
            "where it is with SPENDGATE_SIDECAR_URL",
        ) from None
    if not answer.is_success:
        raise MCPError(types.INVALID_REQUEST, str(body["error"]["message"]))
    return set(body["allowed"])


def _described(tool: PaymentTool, run: RunTools) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema(run.deps),
        annotations=types.ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
        ),
    )
