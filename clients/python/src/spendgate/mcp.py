"""An MCP server with the payment tools. Needs ``spendgate[mcp]``; ``spendgate mcp`` runs it.

Over stdio it serves one client with one vault key, as one run. Over HTTP it
holds no key: each client sends its own with every request, and its run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

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
_SESSION_HEADER = "Mcp-Session-Id"
_SCOPE_TIMEOUT_S = 10.0


def stdio_server(deps: VaultDeps) -> Server[Any]:
    """Return the server of one client, whose run ``deps`` names."""

    async def deps_of(_context: Context) -> VaultDeps:
        return deps

    return _server(deps_of)


def http_server(sidecar: str = DEFAULT_SIDECAR) -> Server[Any]:
    """Return the server of many clients; its `streamable_http_app` is an ASGI application.

    A client sends ``Authorization: Bearer vk_…``, and ``Spendgate-Run-Id``; without
    that its session is the run.
    """

    safe_sidecar(sidecar)

    async def deps_of(context: Context) -> VaultDeps:
        headers = context.request.headers if context.request is not None else {}
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        run_id = headers.get(RUN_HEADER) or headers.get(_SESSION_HEADER) or ""
        if scheme.lower() != "bearer" or not key:
            raise ValueError("send the vault key with each request: 'Authorization: Bearer vk_…'")
        deps = VaultDeps(key, run_id, sidecar=sidecar)
        if not run_id:
            raise ValueError(
                f"name the run: send the header {RUN_HEADER}, the same for every call of one run"
            )
        return deps

    return _server(deps_of)


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

    return Server("spendgate", instructions=_INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


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
            types.INTERNAL_ERROR, f"the sidecar at {run.deps.sidecar} does not answer; try again later"
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
