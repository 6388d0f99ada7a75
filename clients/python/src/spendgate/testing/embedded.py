"""A whole Spendgate on free ports, for one session of tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 60.0
_SOCKET_FOLDER_MAX = 80
"""Sockets have short paths only."""


class SpendgateDidNotStart(RuntimeError):
    """The message has the end of the log."""


@dataclass(frozen=True)
class Addresses:
    """Where the parts of a running Spendgate are."""

    sidecar: str
    sidecar_root: str
    policy_server: str
    simulator: str
    admin_token_file: Path


class EmbeddedSpendgate:
    """`spendgate up` as a child of this process, with a private Redis and the Stripe simulator.

    It takes nothing from the environment and puts nothing there. It ends with
    `stop`, and on Linux also when this process is killed.
    """

    def __init__(self) -> None:
        self._folder = _short_folder()
        self._summary = self._folder / "summary.json"
        self._log = self._folder / "up.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Addresses:
        """Start it and wait until it serves; raises `SpendgateDidNotStart`."""
        data_dir = self._folder / "data"
        with self._summary.open("wb") as summary, self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "spendgate.cli.tied_child", str(os.getpid()), "spendgate.cli"),
                    *("up", "--json", "--no-demo-key", "--data-dir", str(data_dir)),
                    *("--policy-port", "0", "--sidecar-port", "0", "--sidecar-root-port", "0"),
                ],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=summary,
                stderr=log,
                # Ctrl-C is for the tests, which stop it afterwards.
                start_new_session=True,
            )
        try:
            return self._addresses()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and remove what it kept."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _addresses(self) -> Addresses:
        give_up_at = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                told = json.loads(self._summary.read_text())
            except ValueError:
                told = None  # not written, or not to its end
            if told is not None:
                return Addresses(
                    sidecar=told["sidecar"].removesuffix("/stripe"),
                    sidecar_root=told["sidecarRoot"],
                    policy_server=told["policyServer"],
                    simulator=told["simulator"],
                    admin_token_file=Path(told["adminTokenFile"]),
                )
            if self._child is None or self._child.poll() is not None or time.monotonic() > give_up_at:
                raise SpendgateDidNotStart(
                    "the Spendgate for these tests did not start; the end of its log:\n"
                    + self._log.read_text(errors="replace")[-3000:]
                )
            time.sleep(0.02)


def _short_folder() -> Path:
    usual = tempfile.gettempdir()
    short = usual if len(usual) <= _SOCKET_FOLDER_MAX else "/tmp"  # noqa: S108 - mkdtemp makes a private one
    return Path(tempfile.mkdtemp(prefix="spendgate-", dir=short))


def _environment() -> dict[str, str]:
    foreign = ("SPENDGATE_", "STRIPE_", "TWILIO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # A busy machine is not a policy server that hangs.
    return {**environment, "SPENDGATE_DECISION_TIMEOUT_MS": "5000"}
