"""``python -m sidecar``: runs one sidecar until SIGTERM or SIGINT."""

from __future__ import annotations

import os

# gRPC reads this once, when it is first imported; docs/adr/0016-grpc-on-one-machine.md tells why.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import asyncio
import logging
import signal
import sys

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp

from sidecar.app import Sidecar
from sidecar.backends import CannotStart
from sidecar.settings import SidecarSettings
from spendgate.process_memory import collect_seldom, keep_private
from spendgate.setting_errors import problems


class SidecarOptions(SidecarSettings, cli_prog_name="spendgate sidecar", cli_kebab_case=True):
    """Forward to Stripe and Twilio what the policy allows. Each option can be set as SPENDGATE_<NAME> too."""


async def _serve(settings: SidecarSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    sidecar = Sidecar(settings)
    collect_seldom()
    await sidecar.run(stop)


def main() -> None:
    """Run the sidecar."""
    keep_private()
    try:
        settings = CliApp.run(SidecarOptions)
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        uvloop.run(_serve(settings))
    except ValidationError as error:
        lines = [f"  {problem}" for problem in problems(SidecarOptions, error)]
        sys.exit("the settings can't be used:\n" + "\n".join(lines) + "\nSee docs/settings.md.")
    except CannotStart as error:
        sys.exit(f"the sidecar can't start: {error}")


if __name__ == "__main__":
    main()
