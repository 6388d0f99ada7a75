"""Starts the real programs as child processes, and stops them by their process id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

REPOSITORY = Path(__file__).resolve().parents[1]
START_S = 30.0
STOP_S = 20.0

RUNNING: list[Process] = []
"""What runs now, so that a failing test can show its logs."""


class ProcessFailed(Exception):
    """A program did not start or stop as it should; the message has its log."""


class Process:
    """One program: started when entered, stopped when left.

    ``ready`` is asked until it says yes; it may look at the log with `found`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        folder: Path,
        ready: Callable[[Process], bool],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.folder = folder
        self.env = dict(env or {})
        self.log_path = folder / f"{name}.log"
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the program has written to stdout and stderr so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the program has started and not ended."""
        return self._child is not None and self._child.poll() is None

    def found(self, pattern: str) -> str | None:
        """Return the first group of ``pattern`` in the log, if it is there."""
        match = re.search(pattern, self.log)
        return match[1] if match else None

    def launch(self) -> None:
        """Start the program without waiting until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=clean_environment() | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        RUNNING.append(self)

    def start(self) -> Self:
        """Start the program and wait until it is ready."""
        self.launch()
        try:
            wait_for(lambda: not self.running or self._ready(self), f"{self.name} is ready", self)
            if not self.running:
                raise ProcessFailed(f"{self.name} ended at once\n{self.log}")
        except BaseException:
            self.kill()
            raise
        return self

    def signal(self, which: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        if self.running:
            os.kill(self.pid, which)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait until the program ends by itself, and return its status."""
        assert self._child is not None
        try:
            status = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.name} still runs after {timeout_s} s\n{self.log}") from None
        if self in RUNNING:
            RUNNING.remove(self)
        return status

    def stop(self) -> int:
        """Ask the program to end (SIGTERM), wait for it, and return its status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except ProcessFailed:
            self.kill()
            raise

    def kill(self) -> None:
        """End the program without letting it do anything more (SIGKILL)."""
        self.signal(signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()


def clean_environment() -> dict[str, str]:
    """Return the environment without what would set up our programs or the vendors' libraries."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPENDGATE_", "STRIPE_", "TWILIO_"))
    }


def wait_for(condition: Callable[[], object], what: str, process: Process | None = None) -> None:
    """Return once ``condition`` holds; give up after a generous time."""
    give_up_at = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > give_up_at:
            log = f"\n{process.log}" if process else ""
            raise ProcessFailed(f"waited {START_S} s in vain until {what}{log}")
        time.sleep(0.02)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="spendgate-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


IN_TIME = {"SPENDGATE_REDIS_TIMEOUT_MS": "250"}
"""For a policy server whose Redis will be away: as by default, so that calls are refused in time."""


def redis_process(folder: Path) -> Process:
    """The private Redis, as ``spendgate up`` starts it."""
    return Process(
        "redis",
        [sys.executable, "-m", "policy_server.embedded_redis", str(folder)],
        folder=folder,
        ready=lambda process: _answers(redis_url(process)),
    )


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client, contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def redis_url(process: Process) -> str:
    """Where `redis_process` listens."""
    return f"unix://{process.folder}/redis.sock"


def policy_server_process(
    folder: Path,
    redis: str | None,
    *options: str,
    name: str = "policy-server",
    env: Mapping[str, str] | None = None,
) -> Process:
    """A policy server on a free port, with its tokens in ``folder``."""
    settings = {
        "SPENDGATE_DATA_DIR": str(folder),
        "SPENDGATE_POLICY_PORT": "0",
        # A busy machine is not a Redis that is away; tests of that take the default.
        "SPENDGATE_REDIS_TIMEOUT_MS": "5000",
    }
    if redis is not None:
        settings["SPENDGATE_REDIS_URL"] = redis
    return Process(
        name,
        [sys.executable, "-m", "policy_server", *options],
        folder=folder,
        env=settings | dict(env or {}),
        ready=lambda process: process.found(_LISTENS) is not None,
    )


_LISTENS = r"policy server listens on (\S+:\d+)"


def policy_server_address(process: Process) -> str:
    """Where a `policy_server_process` that is ready listens."""
    address = process.found(_LISTENS)
    assert address is not None, process.log
    return address


def token(process: Process, which: str) -> str:
    """The ``admin`` or ``sidecar`` token of a policy server."""
    return (process.folder / f"{which}.token").read_text().strip()
