"""Appends events to the archive: each sequence number once, whoever else appends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, delete, func, insert, select, update

from policy_server.archive import columns
from policy_server.archive.chain import body_of, fields_of, genesis, link
from policy_server.archive.database import Database
from policy_server.archive.losses import WORDS, Loss
from policy_server.archive.schema import account, checkpoint, event, event_id, loss, signing_key
from policy_server.archive.signing import SigningKey
from policy_server.core.errors import ArchiveUnavailable
from policy_server.core.ports import Checkpoint

Entry = tuple[int, Sequence[bytes]]
"""Sequence of an event, and its field names and values in turn."""


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
    after_loss: bool = False
    """Whether it is the end of events accepted as lost; then what stands before it is not known."""

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

    def append(self, tip: Tip, entries: Sequence[Entry], *, checkpoint_at_ms: int = 0) -> Tip:
        """Append events after ``tip`` and return the new end, with a checkpoint unless that is at 0.

        All of it is durable when this returns. Raises `HeadMoved` when ``tip``
        is not the end any more, and `ArchiveUnavailable`; then it may be there
        or not, and the next look tells.
        """
        with self._database.transaction(writes=True) as connection:
            account_id = _lock(connection, tip)
            rows, end = _chained(account_id, tip, entries)
            _insert_events(connection, rows)
            if checkpoint_at_ms:
                self._keep_signed(connection, account_id, end, checkpoint_at_ms)
                end = replace(end, checkpoint=end.sequence)
            _move(connection, account_id, end)
        return end

    def add_checkpoint(self, tip: Tip, now_ms: int) -> Tip:
        """Sign the end of a chain; raises as `append`."""
        with self._database.transaction(writes=True) as connection:
            self._keep_signed(connection, _lock(connection, tip), tip, now_ms)
        return replace(tip, checkpoint=tip.sequence)

    def sign(self, name: str, sequence: int, hash_: bytes, now_ms: int) -> Checkpoint:
        """Sign an event with the hash that it was archived with; `HeadMoved` unless the archive has it so."""
        with self._database.transaction(writes=True) as connection:
            account_id = connection.scalar(select(account.c.id).where(account.c.name == name))
            if account_id is None or _hash_at(connection, account_id, sequence) != hash_:
                raise HeadMoved
            return self._keep_signed(connection, account_id, Tip(name, sequence, hash_, b""), now_ms)

    def accept_loss(self, tip: Tip, lost: Loss, now_ms: int, reason: str) -> Tip:
        """Let the chain go on after lost events, which begin after ``tip``, and note that they are lost.

        The event that accepts it is to be recorded then: without it nobody believes the note.
        """
        end = replace(tip, sequence=lost.last, hash=lost.last_hash, previous_hash=b"", after_loss=True)
        with self._database.transaction(writes=True) as connection:
            account_id = _lock(connection, tip)
            connection.execute(
                insert(loss).values(
                    account_id=account_id,
                    first_sequence=lost.first,
                    last_sequence=lost.last,
                    last_hash=lost.last_hash,
                    accepted_at_ms=now_ms,
                    reason=reason,
                )
            )
            _move(connection, account_id, end)
        return end

    def unaccepted_loss(self, name: str) -> Loss | None:
        """Return the newest loss, if no archived event accepts it; None when one does, or there is none."""
        with self._database.transaction() as connection:
            account_id = connection.scalar(select(account.c.id).where(account.c.name == name))
            newest = select(loss).where(loss.c.account_id == account_id).order_by(loss.c.last_sequence.desc())
            row = connection.execute(newest.limit(1)).one_or_none()
            if row is None:
                return None
            lost = Loss(row.first_sequence, row.last_sequence, row.last_hash)
            after = (event.c.id > event_id(row.account_id, lost.last)) & (
                event.c.id < event_id(row.account_id + 1, 0)
            )
            bodies = connection.scalars(
                select(event.c.body).where(event.c.notable == 1, after, event.c.body.contains(WORDS))
            )
            accepted = any(lost.is_accepted_by(fields_of(body), name) for body in bodies)
        return None if accepted else lost

    def _keep_signed(self, connection: Connection, account_id: int, tip: Tip, now_ms: int) -> Checkpoint:
        public = self._key.public
        if not connection.scalar(select(signing_key.c.id).where(signing_key.c.id == public.id)):
            connection.execute(insert(signing_key).values(id=public.id, public_key=public.raw))
        signed = self._key.sign(tip.account, tip.sequence, tip.hash, now_ms)
        connection.execute(
            delete(checkpoint).where(
                checkpoint.c.account_id == account_id, checkpoint.c.sequence == tip.sequence
            )
        )
        connection.execute(
            insert(checkpoint).values(
                account_id=account_id,
                sequence=signed.sequence,
                hash=signed.hash,
                created_at_ms=signed.created_at_ms,
                key_id=signed.key_id,
                signature=signed.signature,
            )
        )
        return signed


def _hash_at(connection: Connection, account_id: int, sequence: int) -> bytes | None:
    """Return the hash of an event, also of the last one of a loss."""
    archived = select(event.c.hash).where(event.c.id == event_id(account_id, sequence))
    lost = select(loss.c.last_hash).where(loss.c.account_id == account_id, loss.c.last_sequence == sequence)
    return connection.scalar(archived) or connection.scalar(lost)


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
        after_loss=not row.previous_hash and _ends_with_loss(connection, row.id, row.sequence),
    )


def _ends_with_loss(connection: Connection, account_id: int, sequence: int) -> bool:
    at_end = (loss.c.account_id == account_id) & (loss.c.last_sequence == sequence)
    return connection.scalar(select(loss.c.first_sequence).where(at_end)) is not None


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


def _chained(account_id: int, tip: Tip, entries: Sequence[Entry]) -> tuple[list[tuple[Any, ...]], Tip]:
    """Return the rows of events, and the end that they lead to."""
    rows, before_first = [], event_id(account_id, 0)
    previous, here = tip.previous_hash, tip.hash
    reached_ms, set_back_ms, sequence = tip.reached_ms, tip.set_back_ms, tip.sequence
    epoch = tip.epoch
    for sequence, entry in entries:
        body = body_of(entry)
        previous, here = here, link(here, sequence, body)
        created_at_ms, *searched = columns.of_entry(entry)
        if created_at_ms >= reached_ms:
            reached_ms = created_at_ms
        elif reached_ms - created_at_ms > set_back_ms:
            set_back_ms = reached_ms - created_at_ms
        rows.append((before_first + sequence, here, body.decode(), created_at_ms, reached_ms, *searched))
    if entries:
        newest = entries[-1][1]
        epoch = dict(zip(newest[::2], newest[1::2], strict=True)).get(b"epoch", b"").decode()
    end = replace(
        tip,
        sequence=sequence,
        hash=here,
        previous_hash=previous,
        reached_ms=reached_ms,
        set_back_ms=set_back_ms,
        epoch=epoch,
        after_loss=tip.after_loss and not rows,
    )
    return rows, end


def _insert_events(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        # COPY, within the same transaction: a third of the time that INSERT takes.
        driver: Any = connection.connection.driver_connection
        names = ", ".join(column.name for column in event.columns)
        with driver.cursor() as cursor, cursor.copy(f"COPY event ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    # The compiled statement by itself: what Core would do for each row takes longer than SQLite does.
    connection.exec_driver_sql(_insert_statement(connection.dialect), rows)


@cache
def _insert_statement(dialect: Dialect) -> str:
    return str(insert(event).compile(dialect=dialect))
