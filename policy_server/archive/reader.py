"""Reads the archive: single accounts' trails, whole or searched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from policy_server.archive.chain import fields_of
from policy_server.archive.database import Database
from policy_server.archive.schema import SEARCHED, account, event, event_id, sequence_of
from policy_server.core.ports import ArchivedEvent, ArchiveHead
from policy_server.core.types import AuditEvent, AuditFilter, AuditKind

T = TypeVar("T")

_SCAN_MAX = 10_000
"""How many events one page looks at, when no index singles out the wanted ones."""

_THREADS = 4
_LAST_CHARACTER = "\U0010ffff"
_NOTABLE_KINDS = {AuditKind.REFUSAL, AuditKind.ADMINISTRATION}


class ArchiveReader:
    """Reads the archive, each method in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest event of each account that has any."""
        query = select(account).where(account.c.sequence > 0)
        with self._database.transaction() as connection:
            rows = connection.execute(query).all()
            return {
                row.name: ArchiveHead(
                    row.sequence, row.hash, row.epoch, _tip(connection, row.id, row.sequence)
                )
                for row in rows
            }

    def head(self, name: str) -> int:
        """Return the sequence of an account's newest event; 0 when it has none."""
        query = select(account.c.sequence).where(account.c.name == name)
        with self._database.transaction() as connection:
            return connection.scalar(query) or 0

    def read(self, name: str, after: int, limit: int) -> list[ArchivedEvent]:
        """Return events above sequence ``after``, oldest first."""
        query = (
            select(event.c.id, event.c.created_at_ms, event.c.body, event.c.hash)
            .order_by(event.c.id)
            .limit(limit)
        )
        with self._database.transaction() as connection:
            account_id = connection.scalar(select(account.c.id).where(account.c.name == name))
            if account_id is None:
                return []
            first, end = event_id(account_id, after + 1), event_id(account_id + 1, 0)
            rows = connection.execute(query.where(event.c.id >= first, event.c.id < end)).all()
        return [
            ArchivedEvent(sequence_of(row.id), row.created_at_ms, name, fields_of(row.body), row.hash)
            for row in rows
        ]

    def page(
        self, name: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on."""
        with self._database.transaction() as connection:
            row = connection.execute(select(account).where(account.c.name == name)).one_or_none()
            if row is None:
                return [], None
            first, end = _span(connection, row.id, row.set_back_ms, wanted)
            if before is not None:
                end = min(end, event_id(row.id, before))
            most = _SCAN_MAX if _needs_a_closer_look(wanted) else limit
            query = _query(wanted, first, end, most)
            found: list[AuditEvent] = []
            looked_at, lowest = 0, first
            for lowest, body in connection.execution_options(yield_per=500).execute(query):
                looked_at += 1
                one = AuditEvent.recorded(name, sequence_of(lowest), fields_of(body))
                if wanted.matches(one):
                    found.append(one)
                    if len(found) == limit:
                        break
        more = lowest > first and (looked_at == most or len(found) == limit)
        return found, sequence_of(lowest) if more else None


def _query(wanted: AuditFilter, first: int, end: int, most: int) -> Select[int, str]:
    """Return the question for events by the index that singles out most, newest first."""
    newest = select(event.c.id, event.c.body).order_by(event.c.id.desc()).limit(most)
    conditions = _indexed(wanted)
    column = next((one for one in SEARCHED if one in conditions), "")
    if column == "idempotency_key":
        # A range of names is not in the order of ids. SQLite would rather go through all ids that
        # could be: adding 0 keeps it from that. And only ids are sorted, without their bodies.
        id_ = event.c.id + 0
        ids = select(event.c.id).where(conditions[column], id_ >= first, id_ < end)
        return newest.where(event.c.id.in_(ids.order_by(event.c.id.desc()).limit(most)))
    within = newest.where(event.c.id >= first, event.c.id < end)
    return within.where(conditions[column]) if column else within


def _indexed(wanted: AuditFilter) -> dict[str, ColumnElement[bool]]:
    """Return the conditions that an index serves, by column."""
    conditions: dict[str, ColumnElement[bool]] = {}
    if wanted.object_id:
        conditions["object_id"] = event.c.object_id == wanted.object_id
    if wanted.idempotency_key_prefix:
        prefix = wanted.idempotency_key_prefix
        conditions["idempotency_key"] = and_(
            event.c.idempotency_key >= prefix, event.c.idempotency_key < prefix + _LAST_CHARACTER
        )
    if wanted.run_id:
        conditions["run_id"] = event.c.run_id == wanted.run_id
    if wanted.vault_key_id:
        conditions["vault_key_id"] = event.c.vault_key_id == wanted.vault_key_id
    if wanted.kind in _NOTABLE_KINDS or wanted.decision == "deny":
        conditions["notable"] = event.c.notable == 1
    return conditions


def _needs_a_closer_look(wanted: AuditFilter) -> bool:
    """Whether more must match than what the index serves, so that most of what it finds may not be wanted."""
    parts = (
        wanted.object_id,
        wanted.idempotency_key_prefix,
        wanted.run_id,
        wanted.vault_key_id,
        wanted.kind,
        wanted.decision,
    )
    set_parts = sum(map(bool, parts))
    return (
        set_parts > 1
        or bool(wanted.kind or wanted.decision)
        or wanted.start_ms is not None
        or wanted.end_ms is not None
    )


def _tip(connection: Connection, account_id: int, sequence: int) -> str:
    """Return the tip of an event; empty when it is not there, having been accepted as lost."""
    body = connection.scalar(select(event.c.body).where(event.c.id == event_id(account_id, sequence)))
    return fields_of(body).get("tip", "") if body is not None else ""


def _span(connection: Connection, account_id: int, set_back_ms: int, wanted: AuditFilter) -> tuple[int, int]:
    """Return the first id that can be in the wanted time, and the one after the last."""
    first, end = event_id(account_id, 1), event_id(account_id + 1, 0)
    return (
        first if wanted.start_ms is None else _first_reaching(connection, first, end, wanted.start_ms),
        end
        if wanted.end_ms is None
        else _first_reaching(connection, first, end, wanted.end_ms + set_back_ms),
    )


def _first_reaching(connection: Connection, first: int, end: int, time_ms: int) -> int:
    """Return the first id from ``first`` on at which the clock had reached a time, by halving; or ``end``."""
    points = select(event.c.id, event.c.reached_ms)
    newest = points.where(event.c.id >= first, event.c.id < end).order_by(event.c.id.desc()).limit(1)
    last = connection.execute(newest).one_or_none()
    if last is None or last.reached_ms < time_ms:
        return end
    low, high = first, last.id
    while low < high:
        middle = (low + high) // 2
        # Lost events leave gaps: the next one there is stands for them.
        next_one = points.where(event.c.id >= middle).order_by(event.c.id).limit(1)
        at = connection.execute(next_one).one()
        if at.reached_ms >= time_ms:
            high = middle
        else:
            low = at.id + 1
    return int(low)


class ThreadedArchive:
    """The archive for a program that must not wait for it: in threads of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = ArchiveReader(database)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="archive")

    async def migrate(self) -> None:
        """Bring the tables to this version; make a database that is not there."""
        await self._run(self._database.migrate)

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest event of each account that has any."""
        return await self._run(self._reader.heads)

    async def head(self, name: str) -> int:
        """Return the sequence of an account's newest event; 0 when it has none."""
        return await self._run(lambda: self._reader.head(name))

    async def read(self, name: str, after: int, limit: int) -> list[ArchivedEvent]:
        """Return events above sequence ``after``, oldest first."""
        return await self._run(lambda: self._reader.read(name, after, limit))

    async def page(
        self, name: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on."""
        return await self._run(lambda: self._reader.page(name, wanted, before, limit))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
