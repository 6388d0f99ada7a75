"""Runs the drainer as a child process, and starts it again when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

from policy_server.settings import PolicyServerSettings

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_STOP_S = 5.0
"""How long the drainer may take for its last round. What is left waits in Redis for the next start."""


class DrainerProcess:
    """The drainer of one policy server."""

    def __init__(self, settings: PolicyServerSettings) -> None:
        self._environment = {
            "SPENDGATE_REDIS_URL": settings.redis_url.get_secret_value(),
            "SPENDGATE_DATA_DIR": str(settings.data_dir),
            "SPENDGATE_LOG_LEVEL": settings.log_level,
        }
        if settings.archive_url:
            self._environment["SPENDGATE_ARCHIVE_URL"] = settings.archive_url.get_secret_value()
        files = (settings.redis_ca, settings.redis_cert, settings.redis_key)
        names = ("SPENDGATE_REDIS_CA", "SPENDGATE_REDIS_CERT", "SPENDGATE_REDIS_KEY")
        self._environment |= {name: str(file) for name, file in zip(names, files, strict=True) if file}
        self._process: subprocess.Popen[bytes] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it running until ``stop`` is set."""
        while not stop.is_set():
            process = self._process = self._start()
            status = await asyncio.to_thread(process.wait)
            if not stop.is_set():
                log.error("the drainer of audit events ended (%s); it is started again", status)
                await asyncio.sleep(_AGAIN_S)

    def _start(self) -> subprocess.Popen[bytes]:
        # Not by the event loop: uvloop would fork, which gRPC can't bear.
        return subprocess.Popen(
            [sys.executable, "-m", "policy_server.drainer"],
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
        )

    async def stop(self) -> None:
        """Let it archive what has come in by now, and end it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
