"""Reads whole trails out of the archive, to verify or export them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Select, select

from policy_server.archive.chain import genesis
from policy_server.archive.database import Database
from policy_server.archive.export import begin_line, checkpoint_line, end_line, event_line, loss_line
from policy_server.archive.schema import account, checkpoint, event, event_id, loss, sequence_of, signing_key
from policy_server.archive.signing import PublicKey
from policy_server.archive.verify import Loss, StoredEvent, StoredTrail
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
    with database.transaction() as connection:
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
    searched = (
        event.c.kind,
        event.c.decision,
        event.c.run_id,
        event.c.vault_key_id,
        event.c.idempotency_key,
        event.c.object_id,
        event.c.notable,
    )
    query = (
        select(event.c.id, event.c.hash, event.c.body, event.c.created_at_ms, *searched)
        .where(event.c.id >= event_id(account_id, 0), event.c.id < event_id(account_id + 1, 0))
        .order_by(event.c.id)
    )
    first = event_id(account_id, 0)
    for rows in connection.execution_options(yield_per=_CHUNK).execute(query).partitions():
        for id_, hash_, body, created_at_ms, *found_by in rows:
            yield StoredEvent(id_ - first, hash_, body.encode(), created_at_ms, tuple(found_by))


def _checkpoints(connection: Connection, account_id: int, name: str) -> list[Checkpoint]:
    query = select(checkpoint).where(checkpoint.c.account_id == account_id).order_by(checkpoint.c.sequence)
    return [
        Checkpoint(name, row.sequence, row.hash, row.created_at_ms, row.key_id, row.signature)
        for row in connection.execute(query)
    ]


def _losses(connection: Connection, account_id: int) -> list[Loss]:
    query = select(loss).where(loss.c.account_id == account_id).order_by(loss.c.first_sequence)
    return [Loss(row.first_sequence, row.last_sequence, row.last_hash) for row in connection.execute(query)]
