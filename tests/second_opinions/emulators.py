"""Starts the emulators of others, each as a process of its own on a free loopback port.

None is imported, and none is needed: `make second-opinions` gets them where Go,
npm and a network are.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.processes import REPOSITORY, Process

_HERE = REPOSITORY / "tests" / "second_opinions"
_TOOLS = REPOSITORY / ".tools" / "bin"
_NODE = shutil.which("node")
_GUNICORN = REPOSITORY / ".venv-second-opinions" / "bin" / "gunicorn"
STRIPE_MOCK = shutil.which("stripe-mock", path=f"{_TOOLS}{os.pathsep}{os.environ['PATH']}")
HAS_LOCALSTRIPE = _GUNICORN.exists()
HAS_STATEFUL_MOCK = _NODE is not None and (_HERE / "node_modules" / "stripe-stateful-mock").is_dir()
HOW = "`make second-opinions` gets it where Go, npm and a network are"


def stripe_mock(folder: Path) -> Process:
    """Stripe's own mock: checks the shape of requests, answers with fixtures, remembers nothing."""
    return _emulator(
        "stripe-mock",
        [str(STRIPE_MOCK), "-http-addr", "127.0.0.1:", "-https-addr", "127.0.0.1:"],
        folder,
        r"Listening for HTTP at address: (\S+)",
    )


def localstripe(folder: Path) -> Process:
    """localstripe, served by gunicorn, because its own command listens on every interface."""
    options = ["--bind", "127.0.0.1:0", "--worker-class", "aiohttp.GunicornWebWorker", "--no-control-socket"]
    return _emulator(
        "localstripe",
        [str(_GUNICORN), *options, "localstripe.server:app"],
        folder,
        r"Listening at: http://(\S+)",
        # It writes its state to one path in the folder for temporary files.
        TMPDIR=str(folder),
    )


def stateful_mock(folder: Path) -> Process:
    """stripe-stateful-mock: remembers idempotency keys, charges and refunds."""
    script = str(_HERE / "stateful_mock.js")
    return _emulator("stateful-mock", [str(_NODE), script], folder, r"listening on (\S+)", LOG_LEVEL="silent")


def origin_of(emulator: Process) -> str:
    """Where an emulator that is ready listens."""
    found = emulator.found(_PATTERNS[emulator.name])
    assert found is not None, emulator.log
    return f"http://{found}"


_PATTERNS: dict[str, str] = {}


def _emulator(name: str, argv: list[str], folder: Path, pattern: str, **env: str) -> Process:
    _PATTERNS[name] = pattern
    return Process(
        name, argv, folder=folder, env=env, ready=lambda process: process.found(pattern) is not None
    )
