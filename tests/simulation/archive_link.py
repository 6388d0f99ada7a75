"""The audit archive in a history: the real tables, drainer and reader, on one SQLite file.

A step of the drainer is carried out in one go, but may break off at each of its calls to store and archive,
before or after they have done their work, and another drainer may come between two of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from policy_server.archive.database import Database
from policy_server.archive.drain import Drainer
from policy_server.archive.reader import ArchiveReader
from policy_server.archive.schema import metadata
from policy_server.archive.signing import SigningKey
from policy_server.archive.writer import ArchiveWriter, Tip, fence
from policy_server.core.errors import ArchiveUnavailable, SpendgateError, StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead, Fence, Waiting
from policy_server.core.types import AuditEvent, AuditFilter
from policy_server.store.backlog import RedisBacklog
from tests.simulation.faults import Faults

T = TypeVar("T")

_KEPT = 20
_EVERY_S = 2.0


class ArchiveFile:
    """One archive, which each history begins anew."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.database = Database(None, folder)
        self.database.migrate()
        self.reader = ArchiveReader(self.database)
        self.writer = ArchiveWriter(self.database, SigningKey.read_or_make(folder))
        self.backlog = RedisBacklog(store_url)

    def empty(self) -> None:
        """Forget every event."""
        with self.database.transaction(writes=True) as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())

    def close(self) -> None:
        """Let go of the file and of the store."""
        self.backlog.close()
        self.database.close()


class ArchiveLink:
    """The archive as a policy server reads it, of which nothing is sure but what it has answered."""

    def __init__(self, file: ArchiveFile, faults: Faults) -> None:
        self._reader = file.reader
        self._database = file.database
        self._faults = faults

    async def heads(self) -> Mapping[str, ArchiveHead]:
        return await self._carry_out(self._reader.heads)

    async def head(self, account: str) -> int:
        return await self._carry_out(self._reader.head, account)

    async def read(self, account: str, after: int, limit: int) -> list[ArchivedEvent]:
        return await self._carry_out(self._reader.read, account, after, limit)

    async def fence(self, account: str, above: int) -> Fence:
        return await self._carry_out(fence, self._database, account, above)

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        return await self._carry_out(self._reader.page, account, wanted, before, limit)

    async def _carry_out(self, read: Callable[..., T], *arguments: Any) -> T:
        fault = self._faults.draw("archive")
        await asyncio.sleep(0.001)
        if fault and fault.kind == "fail":
            raise ArchiveUnavailable("simulated")
        found = read(*arguments)
        if fault and fault.kind == "answer late":
            await asyncio.sleep(fault.chance.choice([0.1, 0.5, 4]))
        return found


class DrainerNode:
    """Drains every now and then; one that was cut off begins again with nothing in memory."""

    def __init__(
        self, file: ArchiveFile, faults: Faults, now_ms: Callable[[], int], kept: int = _KEPT
    ) -> None:
        self._file = file
        self._faults = faults
        self._now_ms = now_ms
        self._kept = kept
        self._start()

    def _start(self) -> None:
        real = self._file
        other = Drainer(real.backlog, real.writer, self._now_ms, kept=self._kept)
        self._drainer = Drainer(
            _Backlog(real.backlog, self._faults, other), _Writer(real.writer, self._faults, other),
            self._now_ms, kept=self._kept,
        )  # fmt: skip

    async def run(self) -> None:
        """Drain for ever."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.drain()

    def drain(self) -> None:
        """Drain once."""
        try:
            _drain(self._drainer)
        except _Killed:
            self._start()


class _Killed(Exception):
    pass


class _Backlog:
    """The store as the drainer sees it."""

    def __init__(self, real: RedisBacklog, faults: Faults, other: Drainer) -> None:
        self._real = real
        self._faults = faults
        self._other = other

    def accounts(self) -> Sequence[str]:
        return self._carry_out(self._real.accounts)

    def look(self, account: str, first: int, limit: int) -> Waiting:
        return self._carry_out(self._real.look, account, first, limit)

    def mark(self, account: str, head: ArchiveHead) -> None:
        return self._carry_out(self._real.mark, account, head)

    def trim(self, account: str, first: int) -> None:
        return self._carry_out(self._real.trim, account, first)

    def _carry_out(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return _carry_out(self._faults, self._other, StoreUnavailable, act, *arguments)


class _Writer:
    """The archive as the drainer sees it."""

    def __init__(self, real: ArchiveWriter, faults: Faults, other: Drainer) -> None:
        self._real = real
        self._faults = faults
        self._other = other

    def accounts(self) -> list[str]:
        return self._carry_out(self._real.accounts)

    def tip(self, name: str) -> Tip:
        return self._carry_out(self._real.tip, name)

    def append(self, tip: Tip, entries: Any, *, checkpoint_at_ms: int = 0) -> Tip:
        return self._carry_out(lambda: self._real.append(tip, entries, checkpoint_at_ms=checkpoint_at_ms))

    def add_checkpoint(self, tip: Tip, now_ms: int) -> Tip:
        return self._carry_out(self._real.add_checkpoint, tip, now_ms)

    def _carry_out(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return _carry_out(self._faults, self._other, ArchiveUnavailable, act, *arguments)


def _carry_out(
    faults: Faults, other: Drainer, error: type[SpendgateError], act: Callable[..., Any], *arguments: Any
) -> Any:
    fault = faults.draw("drainer")
    kind = fault.kind if fault else ""
    if kind == "kill before":
        raise _Killed
    if kind == "fail before":
        raise error("simulated")
    if kind == "another drains before":
        _drain(other)
    result = act(*arguments)
    if kind == "kill after":
        raise _Killed
    if kind == "fail after":
        raise error("simulated")
    if kind == "another drains after":
        _drain(other)
    return result


def _drain(other: Drainer) -> None:
    with contextlib.suppress(SpendgateError):  # it is tried again
        other.drain()
