"""`spendgate mcp`: payment tools for any MCP client."""

from __future__ import annotations

import asyncio
import importlib.util
import uuid
from typing import Annotated

import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from spendgate import transport
from spendgate.cli import probes
from spendgate.cli.connection import read_settings
from spendgate.cli.failure import CommandFailed, UsageWrong
from spendgate.run import DEFAULT_SIDECAR

_LOOK_S = 2.0


class McpSettings(BaseSettings):
    """Settings of the MCP server, as SPENDGATE_<NAME> in the environment."""

    model_config = SettingsConfigDict(env_prefix="SPENDGATE_", frozen=True, extra="forbid")

    vault_key: SecretStr | None = None
    """Over stdio, whose limits hold. Over HTTP, clients send their own."""

    run_id: str | None = None
    """Over stdio, the name of the run; else the one that the key is for, else a new one for each start."""

    sidecar_url: str = DEFAULT_SIDECAR
    """Where the sidecar is."""


def mcp(  # noqa: PLR0917 - typer passes by name
    sidecar_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Where the sidecar is; else SPENDGATE_SIDECAR_URL, else {DEFAULT_SIDECAR}.",
            show_default=False,
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the run, which a restart continues; else SPENDGATE_RUN_ID, else the run that the "
            "key is for, else a new one for each start. Not with --port.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What the run may pay for, once for each; without any, one payment. Not with --port.",
        ),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A parameter that the model neither sees nor changes: customer=cus_1. Not with --port.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="Serve streamable HTTP at /mcp of this port; without it, one client on stdin and stdout.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run an MCP server with tools to charge, pay and refund, through the sidecar.

    Over stdio it uses the vault key in SPENDGATE_VAULT_KEY, and works in one run:
    started again with the same name, it continues it. Over HTTP each client sends
    its own key and the name of its run.
    """
    if importlib.util.find_spec("mcp") is None:
        raise CommandFailed("the MCP SDK is not installed; install spendgate[mcp]")
    settings = read_settings(McpSettings, sidecar_url=sidecar_url, run_id=run_id)
    try:
        if port is None:
            _serve_stdio(settings, purpose or [], _parameters(fixed or []))
        elif run_id or purpose or fixed:
            raise UsageWrong(
                "--run-id, --purpose and --fixed are for stdio; over HTTP each client names its run itself"
            )
        else:
            _serve_http(settings, host, port)
    except ValueError as error:
        raise UsageWrong(str(error)) from None


def _serve_stdio(settings: McpSettings, purposes: list[str], fixed: dict[str, str]) -> None:
    from mcp.server.stdio import stdio_server as streams  # noqa: PLC0415 - only this command needs the SDK

    from spendgate.mcp import stdio_server  # noqa: PLC0415
    from spendgate.vault_deps import VaultDeps  # noqa: PLC0415

    if settings.vault_key is None:
        raise UsageWrong("set SPENDGATE_VAULT_KEY to the vault key whose limits shall hold")
    deps = VaultDeps(
        settings.vault_key,
        settings.run_id or "",
        purposes=purposes,
        fixed=fixed,
        sidecar=settings.sidecar_url,
    )
    if not deps.run_id:
        deps.run_id = str(uuid.uuid4())
        typer.echo(
            f"this start is a run of its own, and a restart would be another one and pay again: set "
            f"SPENDGATE_RUN_ID={deps.run_id} to continue it",
            err=True,
        )
    server = stdio_server(deps)

    _say_whether_it_answers(settings.sidecar_url)

    async def serve() -> None:
        async with streams() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(serve())


def _serve_http(settings: McpSettings, host: str, port: int) -> None:
    import uvicorn  # noqa: PLC0415 - comes with the SDK

    from spendgate.mcp import http_app  # noqa: PLC0415

    if not transport.is_loopback(host) and not transport.plaintext_is_allowed():
        raise UsageWrong(
            f"at {host} vault keys would cross the network unencrypted: listen on 127.0.0.1 behind a proxy "
            "with TLS; SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
        )
    if problem := probes.port_problem(host, port):
        raise CommandFailed(f"{problem}; stop what listens there, or choose another with --port")
    _say_whether_it_answers(settings.sidecar_url)
    app = http_app(settings.sidecar_url, host=host)
    typer.echo(f"MCP server listens on http://{host}:{port}/mcp", err=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def _say_whether_it_answers(sidecar_url: str) -> None:
    """Say on standard error what to do when the sidecar is away; the server works as soon as it is there."""
    import httpx  # noqa: PLC0415 - comes with the SDK

    try:
        answer = httpx.get(f"{sidecar_url.rstrip('/')}/healthz", timeout=_LOOK_S, trust_env=False)
        problem = "" if answer.is_success else f"answers {answer.status_code} and is no sidecar"
    except httpx.TransportError as error:
        problem = f"does not answer ({error})"
    if problem:
        typer.echo(
            f"spendgate: {sidecar_url} {problem}, so every tool call fails: start the sidecar with "
            "'spendgate up', or say where it is with --sidecar-url or SPENDGATE_SIDECAR_URL; 'spendgate "
            "doctor' tells more",
            err=True,
        )


def _parameters(fixed: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in fixed]
    for name, equals, value in pairs:
        if not name or not equals or not value:
            raise UsageWrong(f"--fixed {name}{equals}{value} is no NAME=VALUE, such as customer=cus_1")
    return {name: value for name, _, value in pairs}
