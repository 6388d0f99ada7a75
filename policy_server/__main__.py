"""``python -m policy_server``: runs one policy server until SIGTERM or SIGINT."""

from __future__ import annotations

import os

# gRPC reads this once, when it is first imported; docs/adr/0016-grpc-on-one-machine.md tells why.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import asyncio
import logging
import signal
import sys
import zoneinfo

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp

from policy_server.app import PolicyServer
from policy_server.core.errors import SpendgateError
from policy_server.settings import PolicyServerSettings
from spendgate.process_memory import collect_seldom, keep_private
from spendgate.setting_errors import problems


class PolicyServerOptions(
    PolicyServerSettings,
    cli_prog_name="spendgate policy-server",
    cli_kebab_case=True,
    cli_implicit_flags=True,
):
    """Decide what agents may spend. Every option can also be set as SPENDGATE_<NAME>."""


async def _serve(settings: PolicyServerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    server = PolicyServer(settings)
    collect_seldom()
    await server.run(stop)


def main() -> None:
    """Run the policy server."""
    keep_private()
    # Not the system's zones, which differ between machines: two servers must not open two windows.
    zoneinfo.reset_tzpath(to=())
    try:
        settings = CliApp.run(PolicyServerOptions)
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        uvloop.run(_serve(settings))
    except ValidationError as error:
        lines = [f"  {problem}" for problem in problems(PolicyServerOptions, error)]
        sys.exit("the settings can't be used:\n" + "\n".join(lines) + "\nSee docs/settings.md.")
    except SpendgateError as error:
        sys.exit(f"the policy server can't start: {error.message}")


if __name__ == "__main__":
    main()
