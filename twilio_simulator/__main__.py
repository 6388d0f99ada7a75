"""`python -m twilio_simulator`: listen on a loopback port until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from twilio_simulator.server import HOST, Server

DEFAULT_PORT = 12112
ACCOUNT_SID = "AC" + "0" * 31 + "1"
AUTH_TOKEN = "simulated"  # noqa: S105 - opens nothing but this simulator


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="twilio_simulator", description="A fake of api.twilio.com on a loopback port, kept in memory."
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free port")
    parser.add_argument(
        "--account-sid", default=ACCOUNT_SID, help=f"the one account; {ACCOUNT_SID} unless said"
    )
    parser.add_argument("--auth-token", default=AUTH_TOKEN, help=f"its token; {AUTH_TOKEN} unless said")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(arguments.account_sid, arguments.auth_token)
    url = await server.start(arguments.port)
    print(f"twilio simulator listening on {url}", flush=True)
    await stop.wait()
    await server.stop()


def main() -> None:
    """Run the simulator."""
    arguments = _read_arguments()
    try:
        asyncio.run(_serve(arguments))
    except OSError as failure:
        sys.exit(f"twilio simulator cannot listen on {HOST}:{arguments.port}: {failure.strerror}")


if __name__ == "__main__":
    main()
