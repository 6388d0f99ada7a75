"""Reads whole trails out of the archive, to verify or export them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, LargeBinary, Select, cast, func, select

from policy_server.archive import columns
from policy_server.archive.chain import genesis
from policy_server.archive.database import Database
from policy_server.archive.export import begin_line, checkpoint_line, end_line, event_line, loss_line
from policy_server.archive.losses import Loss
from policy_server.archive.schema import (
    SEQUENCE_BITS,
    account,
    checkpoint,
    event,
    event_id,
    loss,
    sequence_of,
    signing_key,
)
from policy_server.archive.signing import PublicKey
from policy_server.archive.verify import Head, StoredEvent, StoredTrail
from policy_server.core.errors import FieldInvalid
from policy_server.core.ports import Checkpoint

_CHUNK = 500


@contextmanager
def stored_trails(database: Database, only: str = "") -> Iterator[Iterator[StoredTrail]]:
    """Read the trails of all accounts, or of one, as they are at one moment."""
    with database.transaction(deadline_s=None, snapshot=True) as connection:
        query = select(account).order_by(account.c.name)
        if only:
            query = query.where(account.c.name == only)
        yield (
            StoredTrail(
                account=row.name,
                after=0,
                previous_hash=genesis(row.name),
                events=_events(connection, row.id),
                end=(row.sequence, row.hash),
                head=Head(row.previous_hash, row.reached_ms, row.set_back_ms, row.epoch),
                checkpoints=_checkpoints(connection, row.id, row.name),
                losses=_losses(connection, row.id),
            )
            for row in connection.execute(query).all()
        )


def own_keys(database: Database) -> dict[str, PublicKey]:
    """Return the public keys that the archive says its checkpoints are signed with, by their ids."""
    with database.transaction() as connection:
        rows = connection.execute(select(signing_key.c.public_key)).all()
    keys = (PublicKey.from_bytes(row.public_key) for row in rows)
    return {key.id: key for key in keys}


def export_chunks(database: Database, name: str, after: int) -> Iterator[list[str]]:
    """Yield the lines of an export in chunks, each read by itself: events are only ever added.

    Raises `FieldInvalid` when event ``after`` is not in the archive.
    """
    keys = own_keys(database)
    with database.transaction(snapshot=True) as connection:
        row = connection.execute(select(account).where(account.c.name == name)).one_or_none()
        end = (row.sequence, row.hash) if row else (0, genesis(name))
        previous_hash = genesis(name)
        if after:
            before = select(event.c.hash).where(event.c.id == event_id(row.id if row else 0, after))
            previous_hash = connection.scalar(before) or b""
        if not previous_hash:
            raise FieldInvalid("after_sequence", "must be the number of an archived event")
        lines = [begin_line(name, after, previous_hash)]
        if row:
            lines += [loss_line(one) for one in _losses(connection, row.id) if one.first > after]
            lines += [
                checkpoint_line(one, keys.get(one.key_id))
                for one in _checkpoints(connection, row.id, name)
                if after <= one.sequence <= end[0]
            ]
    yield lines
    while row is not None and after < end[0]:
        query = _slice(event_id(row.id, after + 1), event_id(row.id, end[0] + 1)).limit(_CHUNK)
        with database.transaction() as connection:
            rows = connection.execute(query).all()
        if not rows:
            break
        yield [event_line(sequence_of(one.id), one.hash, one.body) for one in rows]
        after = sequence_of(rows[-1].id)
    yield [end_line(*end)]


def _slice(first: int, end: int) -> Select[int, bytes, str]:
    return (
        select(event.c.id, event.c.hash, event.c.body)
        .where(event.c.id >= first, event.c.id < end)
        .order_by(event.c.id)
    )


def _events(connection: Connection, account_id: int) -> Iterator[StoredEvent]:
    # The body as bytes: to decode it only to encode it again would take as long as to hash it.
    body = func.convert_to(event.c.body, "UTF8") if connection.dialect.name == "postgresql" else event.c.body
    first = event_id(account_id, 0)
    query = (
        select(event.c.id - first, event.c.hash, cast(body, LargeBinary), event.c.reached_ms)
        .add_columns(*(event.c[name] for name in columns.NAMES))
        .where(event.c.id >= first, event.c.id < event_id(account_id + 1, 0))
        .order_by(event.c.id)
    )
    for rows in connection.execution_options(yield_per=_CHUNK).execute(query).partitions():
        yield from map(tuple, rows)


def orphans(database: Database) -> list[str]:
    """Return what is wrong with rows that belong to no account: theirs was removed, or they were added."""
    with database.transaction(deadline_s=None, snapshot=True) as connection:
        present = set(connection.scalars(select(account.c.id)))
        found = [
            f"event {sequence} and maybe more of account number {number} belong to no account: the account "
            "was removed, or they were added"
            for number, sequence in _firsts(connection)
            if number not in present
        ]
        for table in (checkpoint, loss):
            numbers = connection.scalars(select(table.c.account_id).distinct().order_by(table.c.account_id))
            found += [
                f"a {table.name} of account number {number} belongs to no account: the account was removed, "
                "or it was added"
                for number in numbers
                if number not in present
            ]
    return found


def _firsts(connection: Connection) -> Iterator[tuple[int, int]]:
    """Yield the number of each account that has events, and the sequence of the first one."""
    first = connection.scalar(select(func.min(event.c.id)))
    while first is not None:
        number = first >> SEQUENCE_BITS
        yield number, sequence_of(first)
        first = connection.scalar(select(func.min(event.c.id)).where(event.c.id >= event_id(number + 1, 0)))


def _checkpoints(connection: Connection, account_id: int, name: str) -> list[Checkpoint]:
    query = select(checkpoint).where(checkpoint.c.account_id == account_id).order_by(checkpoint.c.sequence)
    return [
        Checkpoint(name, row.sequence, row.hash, row.created_at_ms, row.key_id, row.signature)
        for row in connection.execute(query)
    ]


def _losses(connection: Connection, account_id: int) -> list[Loss]:
    query = select(loss).where(loss.c.account_id == account_id).order_by(loss.c.first_sequence)
    return [Loss(row.first_sequence, row.last_sequence, row.last_hash) for row in connection.execute(query)]
