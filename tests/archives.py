"""Archives for tests: databases to drain into, and events to drain."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis
from pydantic import SecretStr

from policy_server.archive.database import Database
from policy_server.archive.drain import Drainer
from policy_server.archive.losses import Loss
from policy_server.archive.reader import ArchiveReader
from policy_server.archive.signing import SigningKey
from policy_server.archive.stored import own_keys, stored_trails
from policy_server.archive.verify import Known, Report, verify_trails
from policy_server.archive.writer import ArchiveWriter
from policy_server.store.backlog import RedisBacklog
from policy_server.store.keys import ACCOUNTS, AccountKeys


def now_ms() -> int:
    """The time."""
    return time.time_ns() // 1_000_000


@dataclass
class Bench:
    """A Redis with audit events, and an archive that they go to."""

    redis_url: str
    folder: Path
    url: SecretStr | None = None
    kept: int = 10
    clock: Callable[[], int] = now_ms
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.redis = redis.Redis.from_url(self.redis_url, decode_responses=True)
        self._open()

    def open(self) -> None:
        """Open the archive anew, as a drainer does that starts."""
        self._close()
        self._open()

    def _open(self) -> None:
        self.database = Database(self.url, self.folder)
        self.database.migrate()
        self.writer = ArchiveWriter(self.database, SigningKey.read_or_make(self.folder))
        self.backlog = RedisBacklog(self.redis_url)
        self.drainer = Drainer(self.backlog, self.writer, self._now_ms, kept=self.kept)
        self.reader = ArchiveReader(self.database)

    def close(self) -> None:
        """Give all connections back."""
        self._close()
        self.redis.close()

    def _close(self) -> None:
        self.database.close()
        self.backlog.close()

    def _now_ms(self) -> int:
        return self.clock()

    def write(self, count: int = 1, account: str = "default", **call: str) -> None:
        """Record events as the scripts do."""
        names = AccountKeys(account)
        self.redis.sadd(ACCOUNTS, account)
        newest = int(self.redis.incrby(names.sequence, count))
        pipeline = self.redis.pipeline(transaction=False)
        for number in range(newest - count + 1, newest + 1):
            facts = {"run_id": f"run-{number}", "vault_key_id": "key", **call}
            kind, decision = facts.pop("kind", "decision"), facts.pop("decision", "allow")
            said = {
                "time": str(1_900_000_000_000 + number * 1000),
                "kind": kind,
                "call": json.dumps(facts),
                "epoch": "1-test",
                "decision": decision,
            }
            pipeline.xadd(names.audit, {k: v for k, v in said.items() if v}, id=f"{number}-0")
        pipeline.execute()

    def archived(self, account: str = "default") -> list[int]:
        """The sequences of the archived events."""
        return [one.sequence for one in self.reader.read(account, 0, 1_000_000)]

    def marked(self, account: str = "default") -> int:
        """How far Redis says that the archive is."""
        return int(self.redis.hget(AccountKeys(account).archived, "sequence") or 0)

    def note_loss(self) -> Loss:
        """Let the archive go on after what it has lost; return what."""
        tip, mark = self.writer.tip("default"), self.backlog.look("default", 1, 1)
        lost = Loss(tip.sequence + 1, mark.marked, mark.marked_hash)
        self.writer.accept_loss(tip, lost, 1, "no backup")
        return lost

    def accept(self, lost: Loss, account: str = "default") -> None:
        """Record that an operator accepts a loss."""
        said = lost.acceptance(account, "no backup")
        self.write(1, account, kind="administration", decision="", detail=said)

    def verify(self, expected: tuple[int, bytes] | None = None) -> Report:
        """Verify the account "default"."""
        with stored_trails(self.database, "default") as trails:
            (report,) = verify_trails(trails, own_keys(self.database), Known(expected=expected))
        return report
