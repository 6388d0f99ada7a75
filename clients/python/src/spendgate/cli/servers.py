"""`spendgate policy-server`, `sidecar` and `reconcile`: become one of the servers' programs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn, TypedDict

import typer

from spendgate.cli.failure import CommandFailed


class CommandSettings(TypedDict):
    """How a command is declared that hands its arguments on."""

    add_help_option: bool
    context_settings: dict[str, bool]


PASS_THROUGH = CommandSettings(
    add_help_option=False,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
)

_TITLES = {"policy_server": "policy server", "sidecar": "sidecar", "stripe_simulator": "Stripe simulator"}


def policy_server(context: typer.Context) -> None:
    """Run a policy server; all options are its own, see `spendgate policy-server --help`."""
    become("policy_server", context.args)


def sidecar(context: typer.Context) -> None:
    """Run a sidecar; all options are its own, see `spendgate sidecar --help`."""
    become("sidecar", context.args)


def reconcile(context: typer.Context) -> None:
    """Find out unknown outcomes and report what nobody explains, see `spendgate reconcile --help`."""
    become("sidecar.reconcile", context.args)


def require_module(module: str) -> None:
    """Raise `CommandFailed` unless the server that `module` is can be started here."""
    if importlib.util.find_spec(module) is None:
        raise CommandFailed(
            f"the {_TITLES[module]} is not installed in this Python ({sys.executable}); "
            "install the distribution spendgate-server there"
        )


def become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as another program of ours; raises `CommandFailed` when it is not installed."""
    require_module(module.partition(".")[0])
    # Replaced, not started, so that signals and the exit code need no passing on.
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own program


def endpoint_remarks(patterns: Sequence[str]) -> list[str]:
    """Return what the sidecar's tables say against endpoints of a policy; nothing where it is missing."""
    if importlib.util.find_spec("sidecar") is None:
        return []
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.known_endpoints", *patterns],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()
