"""`python -m stripe_simulator`: listen on a loopback port until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

from stripe_simulator.api import StripeApi
from stripe_simulator.server import HOST, Server

DEFAULT_PORT = 12111


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stripe_simulator", description="A fake of api.stripe.com on a loopback port, kept in memory."
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free port")
    parser.add_argument("--ready-file", type=Path, help="write the base URL here once it listens")
    parser.add_argument(
        "--secret-key",
        action="append",
        default=[],
        metavar="KEY",
        help="accept only this API key (may be repeated); otherwise any sk_test_ or rk_test_ key",
    )
    return parser.parse_args()


def _write_ready_file(path: Path, url: str) -> None:
    """Appear complete or not at all: whoever waits for the file may read it at once."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(url, encoding="utf-8")
    unfinished.replace(path)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(StripeApi(frozenset(arguments.secret_key)))
    url = await server.start(arguments.port)
    print(f"stripe simulator listening on {url}", flush=True)
    if arguments.ready_file is not None:
        _write_ready_file(arguments.ready_file, url)
    await stop.wait()
    await server.stop()


def main() -> None:
    arguments = _read_arguments()
    # Nearly everything made here is kept; frequent collections would only walk the ledger again and again.
    gc.set_threshold(100_000, 50, 50)
    try:
        asyncio.run(_serve(arguments))
    except OSError as failure:
        sys.exit(f"stripe simulator cannot listen on {HOST}:{arguments.port}: {failure.strerror}")


if __name__ == "__main__":
    main()
