"""Puts the commands together and runs one."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from spendgate.cli import (
    account,
    audit,
    budgets,
    doctor,
    explain,
    keys,
    ledger,
    mcp,
    runs,
    servers,
    up,
    usage,
)
from spendgate.cli.failure import CommandFailed

app = typer.Typer(
    name="spendgate",
    help="Give AI agents spending limits instead of Stripe keys.\n\n"
    "Start everything on this machine with `spendgate up`, then make a key for an agent with "
    "`spendgate keys create`.\n\n"
    "Every command exits with 0 when it did its work, 1 when that was refused or failed, and 2 when the "
    "command line is wrong.",
    rich_markup_mode="markdown",
    # A traceback with local variables would show tokens and vault keys.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_RUN = "Run Spendgate"
app.command("up", rich_help_panel=_RUN)(up.up)
app.command("doctor", rich_help_panel=_RUN)(doctor.doctor)
app.command("policy-server", rich_help_panel=_RUN, **servers.PASS_THROUGH)(servers.policy_server)
app.command("sidecar", rich_help_panel=_RUN, **servers.PASS_THROUGH)(servers.sidecar)
app.command("mcp", rich_help_panel=_RUN)(mcp.mcp)

_OPERATE = "Operate Spendgate"
app.command("reconcile", rich_help_panel=_OPERATE, **servers.PASS_THROUGH)(servers.reconcile)
app.add_typer(keys.app, name="keys", rich_help_panel=_OPERATE)
app.command("explain", rich_help_panel=_OPERATE)(explain.explain_call)
app.command("usage", rich_help_panel=_OPERATE)(usage.show_usage)
app.add_typer(audit.app, name="audit", rich_help_panel=_OPERATE)
app.add_typer(ledger.app, name="ledger", rich_help_panel=_OPERATE)
app.add_typer(runs.app, name="runs", rich_help_panel=_OPERATE)
app.add_typer(account.app, name="account", rich_help_panel=_OPERATE)
app.add_typer(budgets.app, name="budgets", rich_help_panel=_OPERATE)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spendgate {importlib.metadata.version('spendgate')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _spendgate(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command and exit; failures are one sentence on standard error."""
    try:
        app()
    except CommandFailed as failure:
        typer.echo(f"spendgate: {failure}", err=True)
        sys.exit(failure.exit_code)
