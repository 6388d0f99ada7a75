"""Appends events to the archive: each sequence number once, whoever else appends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, func, insert, select, update

from policy_server.archive.chain import body_of, genesis, link
from policy_server.archive.database import Database
from policy_server.archive.schema import account, checkpoint, event, loss, signing_key
from policy_server.archive.signing import Checkpoint, SigningKey
from policy_server.core.errors import ArchiveUnavailable
from policy_server.core.types import AuditKind

_NOTABLE_KINDS = {AuditKind.REFUSAL, AuditKind.ADMINISTRATION}


class HeadMoved(Exception):
    """Somebody else has appended meanwhile; look again."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of an account's chain."""

    account: str
    sequence: int
    hash: bytes
    previous_hash: bytes
    reached_ms: int = 0
    set_back_ms: int = 0
    epoch: str = ""
    checkpoint: int = 0
    """Sequence of the newest checkpoint."""

    @classmethod
    def first(cls, name: str) -> Tip:
        """Return the beginning of a chain without an event."""
        return cls(name, 0, genesis(name), b"")


class ArchiveWriter:
    """Appends to the archive."""

    def __init__(self, database: Database, key: SigningKey) -> None:
        self._database = database
        self._key = key

    def accounts(self) -> list[str]:
        """Return the accounts that the archive knows."""
        with self._database.transaction() as connection:
            return list(connection.scalars(select(account.c.name)))

    def tip(self, name: str) -> Tip:
        """Return the end of an account's chain."""
        with self._database.transaction() as connection:
            return _tip(connection, name)

    def append(
        self, tip: Tip, entries: Sequence[tuple[int, Mapping[str, str]]], *, checkpoint_at_ms: int = 0
    ) -> Tip:
        """Append events after ``tip`` and return the new end, with a checkpoint unless that is at 0.

        All of it is durable when this returns. Raises `HeadMoved` when ``tip``
        is not the end any more, and `ArchiveUnavailable`; then it may be there
        or not, and the next look tells.
        """
        rows, end = _chained(tip, entries)
        with self._database.transaction(writes=True) as connection:
            account_id = _lock(connection, tip)
            values = [(account_id, *row) for row in rows]
            _insert_events(connection, values)
            if checkpoint_at_ms:
                end = self._add_checkpoint(connection, account_id, end, checkpoint_at_ms)
            _move(connection, account_id, end)
        return end

    def add_checkpoint(self, tip: Tip, now_ms: int) -> Tip:
        """Sign the end of a chain; raises as `append`."""
        with self._database.transaction(writes=True) as connection:
            return self._add_checkpoint(connection, _lock(connection, tip), tip, now_ms)

    def accept_loss(self, tip: Tip, last: int, last_hash: bytes, now_ms: int, reason: str) -> Tip:
        """Let the chain go on after event ``last``, and note that those from ``tip`` to it are lost."""
        end = replace(tip, sequence=last, hash=last_hash, previous_hash=b"")
        with self._database.transaction(writes=True) as connection:
            account_id = _lock(connection, tip)
            connection.execute(
                insert(loss).values(
                    account_id=account_id,
                    first_sequence=tip.sequence + 1,
                    last_sequence=last,
                    last_hash=last_hash,
                    accepted_at_ms=now_ms,
                    reason=reason,
                )
            )
            _move(connection, account_id, end)
        return end

    def _add_checkpoint(self, connection: Connection, account_id: int, tip: Tip, now_ms: int) -> Tip:
        public = self._key.public
        if not connection.scalar(select(signing_key.c.id).where(signing_key.c.id == public.id)):
            connection.execute(insert(signing_key).values(id=public.id, public_key=public.raw))
        signed = self._key.sign(tip.account, tip.sequence, tip.hash, now_ms)
        if tip.checkpoint != tip.sequence:
            connection.execute(insert(checkpoint).values(account_id=account_id, **_checkpoint_values(signed)))
        return replace(tip, checkpoint=tip.sequence)


def _checkpoint_values(signed: Checkpoint) -> dict[str, Any]:
    return {
        "sequence": signed.sequence,
        "hash": signed.hash,
        "created_at_ms": signed.created_at_ms,
        "key_id": signed.key_id,
        "signature": signed.signature,
    }


def _tip(connection: Connection, name: str, *, lock: bool = False) -> Tip:
    query = select(account).where(account.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return Tip.first(name)
    newest = select(func.max(checkpoint.c.sequence)).where(checkpoint.c.account_id == row.id)
    return Tip(
        account=name,
        sequence=row.sequence,
        hash=row.hash,
        previous_hash=row.previous_hash,
        reached_ms=row.reached_ms,
        set_back_ms=row.set_back_ms,
        epoch=row.epoch,
        checkpoint=connection.scalar(newest) or 0,
    )


def _lock(connection: Connection, tip: Tip) -> int:
    """Lock the account's row, made when there is none, and return its id; `HeadMoved` unless it is at tip."""
    present = _tip(connection, tip.account, lock=True)
    if (present.sequence, present.hash) != (tip.sequence, tip.hash):
        raise HeadMoved
    by_name = select(account.c.id).where(account.c.name == tip.account)
    found = connection.scalar(by_name)
    if found is None:
        # Two who both make the first row: the name is unique, so one of them fails and looks again.
        connection.execute(
            insert(account).values(
                name=tip.account,
                sequence=0,
                hash=tip.hash,
                previous_hash=b"",
                reached_ms=0,
                set_back_ms=0,
                epoch="",
            )
        )
        found = connection.scalar(by_name)
    if found is None:
        raise ArchiveUnavailable("the audit archive did not keep what was written to it")
    return int(found)


def _move(connection: Connection, account_id: int, end: Tip) -> None:
    connection.execute(
        update(account)
        .where(account.c.id == account_id)
        .values(
            sequence=end.sequence,
            hash=end.hash,
            previous_hash=end.previous_hash,
            reached_ms=end.reached_ms,
            set_back_ms=end.set_back_ms,
            epoch=end.epoch,
        )
    )


def _chained(tip: Tip, entries: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[list[tuple[Any, ...]], Tip]:
    """Return the rows of events, without the account, and the end that they lead to."""
    rows = []
    previous, here = tip.previous_hash, tip.hash
    reached_ms, set_back_ms, sequence = tip.reached_ms, tip.set_back_ms, tip.sequence
    for sequence, fields in entries:
        body = body_of(fields)
        previous, here = here, link(here, sequence, body)
        created_at_ms = int(fields["time"])
        reached_ms = max(reached_ms, created_at_ms)
        set_back_ms = max(set_back_ms, reached_ms - created_at_ms)
        rows.append((sequence, here, body, created_at_ms, reached_ms, *searched(fields)))
    end = replace(
        tip,
        sequence=sequence,
        hash=here,
        previous_hash=previous,
        reached_ms=reached_ms,
        set_back_ms=set_back_ms,
        epoch=entries[-1][1].get("epoch", "") if entries else tip.epoch,
    )
    return rows, end


def searched(fields: Mapping[str, str]) -> tuple[Any, ...]:
    """Return what the columns to search by have, for an event with these fields: ``kind`` to ``notable``."""
    call = json.loads(fields["call"])
    kind, decision = fields["kind"], _text(fields.get("decision") or call.get("decision"))
    return (
        kind,
        decision,
        _text(fields.get("run_id") or call.get("run_id")),
        _text(fields.get("vault_key_id") or call.get("vault_key_id")),
        _text(fields.get("idempotency_key") or call.get("idempotency_key")),
        _text(fields.get("object_id") or call.get("object_id")),
        1 if decision == "deny" or kind in _NOTABLE_KINDS else None,
    )


def _text(value: str | None) -> str | None:
    """Return what every database can keep of a value: neither NUL nor what is no UTF-8."""
    if not value:
        return None
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()


def _insert_events(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        # COPY, within the same transaction: a third of the time that INSERT takes.
        driver: Any = connection.connection.driver_connection
        columns = ", ".join(column.name for column in event.columns)
        with driver.cursor() as cursor, cursor.copy(f"COPY event ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    # The compiled statement by itself: what Core would do for each row takes longer than SQLite does.
    connection.exec_driver_sql(_insert_statement(connection.dialect), rows)


@cache
def _insert_statement(dialect: Dialect) -> str:
    return str(insert(event).compile(dialect=dialect))
