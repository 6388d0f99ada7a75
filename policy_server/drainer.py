"""``python -m policy_server.drainer``: moves audit events into the archive.

A policy server starts one as its child, and stops it last. It is a process of
its own, so that its work never delays a decision.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from policy_server.archive.database import Database
from policy_server.archive.drain import BATCH, Drainer
from policy_server.archive.signing import SigningKey
from policy_server.archive.writer import ArchiveWriter
from policy_server.core.errors import SpendgateError
from policy_server.store.backlog import RedisBacklog
from policy_server.store.connection import StoreTrust

log = logging.getLogger(__name__)

_PAUSE_S = 0.8
"""How long events gather for one transaction, unless there are many: small ones take more time an event."""

_ALLOCATIONS = 100_000
"""After how many objects cycles are looked for. A batch has no cycle, and tens of thousands of objects."""

_TROUBLE_PAUSE_S = 2.0


class DrainerSettings(BaseSettings):
    """The settings of the policy server that concern the drainer."""

    model_config = SettingsConfigDict(env_prefix="SPENDGATE_", frozen=True)

    redis_url: SecretStr
    redis_ca: Path | None = None
    redis_cert: Path | None = None
    redis_key: Path | None = None
    data_dir: Path
    archive_url: SecretStr | None = None
    log_level: str = "INFO"


class Drain:
    """Drains when it is its turn, until it is told to stop."""

    def __init__(self, settings: DrainerSettings) -> None:
        self._database = Database(settings.archive_url, settings.data_dir)
        trust = StoreTrust(settings.redis_ca, settings.redis_cert, settings.redis_key)
        self._backlog = RedisBacklog(settings.redis_url.get_secret_value(), trust)
        writer = ArchiveWriter(self._database, SigningKey.read_or_make(settings.data_dir))
        self._drainer = Drainer(self._backlog, writer, lambda: time.time_ns() // 1_000_000)
        self._me = secrets.token_hex(8)
        self._parent = os.getppid()
        self._stopping = threading.Event()
        self._problem = ""
        self._migrated = False

    def stop(self, which: int, frame: FrameType | None) -> None:
        """Stop after one more round."""
        self._stopping.set()

    def run(self) -> None:
        """Drain until `stop`, or until the process that started this one is gone."""
        while not self._stopping.is_set() and os.getppid() == self._parent:
            self._stopping.wait(self._round())
        if not self._problem:
            self._round()
        self._give_up_turn("")

    def _round(self) -> float:
        """Drain once; return how long to wait before the next time."""
        try:
            if not self._backlog.take_turn(self._me):
                return _PAUSE_S
            if not self._migrated:
                self._database.migrate()
                self._migrated = True
            moved = self._drainer.drain()
        except SpendgateError as error:
            self._tell(error.message)
            self._give_up_turn(error.message)
            return _TROUBLE_PAUSE_S
        self._tell("")
        return 0 if moved >= BATCH else _PAUSE_S

    def _tell(self, problem: str) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            log.error("audit events wait, because they do not reach the archive: %s", problem)
        else:
            log.warning("audit events reach the archive again")
            self._backlog.all_is_well()

    def _give_up_turn(self, problem: str) -> None:
        try:
            self._backlog.give_up_turn(problem)
        except SpendgateError as error:
            log.info("the turn ends by itself: %s", error.message)


def main() -> None:
    """Drain until SIGTERM."""
    settings = DrainerSettings.model_validate({})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        drain = Drain(settings)
    except SpendgateError as error:
        sys.exit(f"audit events can't be archived: {error.message}")
    # Ctrl-C reaches every process of the terminal; this one goes on until its parent is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, drain.stop)
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    drain.run()


if __name__ == "__main__":
    main()
