"""The audit archive: every event once, nothing dropped, nothing begun again in silence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text

from policy_server.archive import columns
from policy_server.archive.chain import body_of, fields_of, genesis, link
from policy_server.archive.database import ArchiveGone, ArchiveUrlInvalid, Database
from policy_server.archive.drain import BATCH, CHECKPOINT_MS, READ, TrailBroken
from policy_server.archive.schema import metadata, sequence_of
from policy_server.archive.signing import SigningKey, SigningKeyUnsafe
from policy_server.archive.writer import HeadMoved
from policy_server.core.errors import ArchiveUnavailable
from policy_server.core.ports import ArchiveHead, Waiting
from policy_server.core.types import AuditFilter
from policy_server.settings import PolicyServerSettings
from policy_server.store.keys import AccountKeys
from tests.archives import Bench
from tests.postgres import postgres_server

AUDIT = AccountKeys("default").audit


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL for all tests."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, redis: str, tmp_path: Path) -> Iterator[Bench]:
    """An empty Redis and an empty archive, of each kind."""
    url = None
    if request.param == "postgresql":
        url = SecretStr(request.getfixturevalue("postgres"))
        database = Database(url, tmp_path)
        with database.transaction(writes=True) as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        database.close()
    bench = Bench(redis, tmp_path, url)
    yield bench
    bench.close()


@pytest.fixture
def on_file(redis: str, tmp_path: Path) -> Iterator[Bench]:
    """An empty Redis and an empty SQLite file."""
    bench = Bench(redis, tmp_path)
    yield bench
    bench.close()


def test_every_event_is_archived_unchanged_and_redis_keeps_the_newest(bench: Bench) -> None:
    """Of each account by itself; what was archived is let go of, but for the newest."""
    bench.write(250)
    bench.write(3, account="other")
    before = bench.redis.xrange(AUDIT)
    assert bench.drainer.drain() == 253
    archived = bench.reader.read("default", 0, 1000)
    assert [(f"{one.sequence}-0", dict(one.fields)) for one in archived] == before
    assert bench.archived("other") == [1, 2, 3]
    assert bench.marked() == 250
    assert bench.marked("other") == 3
    assert 10 <= bench.redis.xlen(AUDIT) < 250
    assert bench.redis.xrevrange(AUDIT, count=1)[0][0] == "250-0"
    assert bench.drainer.drain() == 0
    head = bench.reader.heads()["default"]
    assert (head.sequence, head.hash, head.epoch) == (250, archived[-1].hash, "1-test")
    assert bench.verify().findings == []


def test_what_no_database_can_keep_is_archived_all_the_same(bench: Bench) -> None:
    """Neither NUL nor bytes that are no UTF-8 hold up what comes after them."""
    bench.write(1, run_id="a\0b")
    bench.redis.xadd(
        AUDIT,
        {"time": "1900000000000", "kind": "decision", "call": "{}", "object_id": b"\xff\xfe", "x": "\0é€"},
        id="2-0",
    )
    bench.redis.set(AccountKeys("default").sequence, 2)
    bench.write()
    assert bench.drainer.drain() == 3
    first, second, _ = bench.reader.read("default", 0, 10)
    assert json.loads(first.fields["call"])["run_id"] == "a\0b"
    assert second.fields["object_id"].encode(errors="surrogateescape") == b"\xff\xfe"
    assert second.fields["x"] == "\0é€"
    assert bench.verify().findings == []


def test_two_drainers_at_once_never_archive_an_event_twice(bench: Bench) -> None:
    """The one that comes second finds the end moved, and appends nothing."""
    bench.write(5)
    tip = bench.writer.tip("default")
    entries = bench.backlog.look("default", 1, 10).entries
    first = bench.writer.append(tip, entries)
    with pytest.raises(HeadMoved):
        bench.writer.append(tip, entries)
    with pytest.raises(HeadMoved):
        bench.writer.add_checkpoint(tip, 1)
    bench.write(2)
    assert bench.drainer.drain() == 2
    assert bench.writer.tip("default").previous_hash != first.previous_hash
    assert bench.archived() == [1, 2, 3, 4, 5, 6, 7]
    assert bench.verify().findings == []


@pytest.mark.parametrize("step", ["append", "mark", "trim"])
def test_a_drain_cut_off_after_any_step_goes_on_where_it_stopped(bench: Bench, step: str) -> None:
    """Whatever was done when a drainer died is neither done again nor left out."""
    bench.write(30)
    tip = bench.writer.tip("default")
    end = bench.writer.append(tip, bench.backlog.look("default", 1, 20).entries)
    if step != "append":
        bench.drainer._backlog.mark("default", bench.reader.heads()["default"])
    if step == "trim":
        bench.backlog.trim("default", 11)
    bench.write(5)
    bench.open()
    assert bench.drainer.drain() == 15
    assert bench.archived() == list(range(1, 36))
    assert (bench.marked(), end.sequence) == (35, 20)
    assert bench.verify().findings == []


def test_a_redis_that_does_not_go_on_where_the_archive_ends_is_not_drained(bench: Bench) -> None:
    """Emptied, older, or another one: its events would stand in the wrong place of the chain."""
    bench.write(5)
    bench.drainer.drain()
    kept = bench.redis.xrange(AUDIT)
    for spoil in ("empty", "older", "other"):
        bench.redis.flushall()
        if spoil == "older":
            for number, fields in kept[:3]:
                bench.redis.xadd(AUDIT, fields, id=number)
            bench.redis.set(AccountKeys("default").sequence, 3)
        if spoil == "other":
            bench.write(7, run_id="another")
        for _ in range(2):
            with pytest.raises(TrailBroken, match=r"account default: .*Redis"):
                bench.drainer.drain()
        assert bench.archived() == [1, 2, 3, 4, 5], spoil


def test_a_ledger_that_was_made_anew_goes_on_in_the_same_chain(bench: Bench) -> None:
    """A rebuild begins with an empty stream, and a mark that has the archive's own hash."""
    bench.write(5)
    bench.drainer.drain()
    head = bench.reader.heads()["default"]
    bench.redis.flushall()
    bench.redis.set(AccountKeys("default").sequence, 5)
    bench.backlog.mark("default", head)
    bench.write(2)
    assert bench.drainer.drain() == 2
    assert bench.archived() == [1, 2, 3, 4, 5, 6, 7]
    assert bench.verify().findings == []


def test_trouble_with_one_account_does_not_hold_up_the_others(bench: Bench) -> None:
    """The others are archived; the trouble is told."""
    bench.write(3)
    bench.redis.xdel(AUDIT, "2-0")
    bench.write(4, account="zebra")
    with pytest.raises(TrailBroken, match="account default: event 2 is missing in Redis"):
        bench.drainer.drain()
    assert bench.archived("zebra") == [1, 2, 3, 4]
    assert bench.archived() == []


def test_a_vanished_file_is_noticed_and_nothing_is_noted_as_archived(on_file: Bench) -> None:
    """An open file that was unlinked takes writes in silence; they must not count. Put back, it goes on."""
    bench = on_file
    bench.write(3)
    bench.drainer.drain()
    away = bench.folder / "away"
    away.mkdir()
    bench.write(2)
    for name in ("audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"):
        if (bench.folder / name).exists():
            shutil.move(bench.folder / name, away / name)
    for _ in range(2):
        with pytest.raises(ArchiveGone, match="vanished: it is not there any more"):
            bench.drainer.drain()
        assert not (bench.folder / "audit.sqlite").exists(), "no new file in its place"
    assert bench.marked() == 3
    for path in away.iterdir():
        shutil.move(path, bench.folder / path.name)
    bench.drainer.drain()
    assert bench.archived() == [1, 2, 3, 4, 5]
    assert bench.verify().findings == []


def test_a_new_file_in_place_of_a_lost_one_is_not_filled_in_silence(on_file: Bench) -> None:
    """An empty archive where one had events: a chain begun again would look whole."""
    bench = on_file
    bench.write(3)
    bench.drainer.drain()
    bench.database.close()
    for path in bench.folder.glob("audit.sqlite*"):
        path.unlink()
    bench.open()
    bench.write(1)
    with pytest.raises(TrailBroken, match="the archive is empty, but event 3 had been archived"):
        bench.drainer.drain()
    assert bench.archived() == []


def _restore_older(bench: Bench, more: int) -> None:
    """Archive three events, keep a copy, archive more, and put the copy back."""
    bench.write(3)
    bench.drainer.drain()
    bench.database.close()
    with sqlite3.connect(bench.folder / "audit.sqlite") as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    shutil.copy(bench.folder / "audit.sqlite", bench.folder / "copy")
    bench.open()
    bench.write(more)
    bench.drainer.drain()
    bench.database.close()
    for path in bench.folder.glob("audit.sqlite*"):
        path.unlink()
    shutil.copy(bench.folder / "copy", bench.folder / "audit.sqlite")
    bench.open()
    bench.write(1)


def test_an_older_archive_catches_up_from_what_redis_still_has(on_file: Bench) -> None:
    """The events come again, and their hashes must be those that were noted."""
    bench = on_file
    _restore_older(bench, 4)
    assert bench.drainer.drain() == 5
    assert bench.archived() == list(range(1, 9))
    assert bench.verify().findings == []


def test_an_older_archive_does_not_take_events_that_were_changed_meanwhile(on_file: Bench) -> None:
    """The mark in Redis has the hash that they led to."""
    bench = on_file
    _restore_older(bench, 4)
    entries = bench.redis.xrange(AUDIT)
    bench.redis.xtrim(AUDIT, maxlen=0)
    for number, fields in entries:
        changed = {**fields, "rule": "x"} if number == "5-0" else fields
        bench.redis.xadd(f"{AUDIT}2", changed, id=number)
    bench.redis.rename(f"{AUDIT}2", AUDIT)
    with pytest.raises(TrailBroken, match="the events up to 7 in Redis are not those that had been archived"):
        bench.drainer.drain()
    assert bench.archived() == [1, 2, 3]


def test_an_accepted_loss_stays_visible_and_the_chain_holds_across_it(on_file: Bench) -> None:
    """The archive goes on with the noted hash; verify counts what is missing."""
    bench = on_file
    _restore_older(bench, 300)
    with pytest.raises(TrailBroken, match="the archive ends at event 3, but event 303 had been archived"):
        bench.drainer.drain()
    lost = bench.note_loss()
    assert bench.drainer.drain() == 1
    assert bench.archived() == [1, 2, 3, 304]
    (claimed,) = bench.verify().findings
    assert claimed.startswith(
        "events 4 to 303 are missing, and claimed to be lost, which is not confirmed: no"
    )
    bench.accept(lost)
    assert bench.drainer.drain() == 1
    report = bench.verify()
    assert (report.findings, report.lost, report.events) == ([], 300, 5)
    found, _ = bench.reader.page("default", AuditFilter(start_ms=1_900_000_002_000), None, 10)
    assert [event.sequence for event in found] == [305, 304, 3, 2]
    bench.write(1)
    assert bench.drainer.drain() == 1
    assert bench.verify().findings == []


def test_losses_that_stand_side_by_side_are_accepted_one_by_one(on_file: Bench) -> None:
    """The archive was lost again before an event came between."""
    bench = on_file
    _restore_older(bench, 300)
    first = bench.note_loss()
    bench.redis.hset(AccountKeys("default").archived, mapping={"sequence": 304, "hash": "00" * 32})
    second = bench.note_loss()
    assert (second.first, second.last) == (304, 304)
    bench.write(1)
    bench.accept(first)
    bench.drainer.drain()
    (claimed,) = bench.verify().findings
    assert claimed.startswith("event 304 is missing, and claimed to be lost")
    bench.accept(second)
    bench.drainer.drain()
    report = bench.verify()
    assert (report.findings, report.lost) == ([], 301)


REHASH = """
    UPDATE event SET body = replace(body, 'allow', 'ALLOW') WHERE id = (SELECT min(id) + 1 FROM event)
"""


def _rewrite(bench: Bench) -> None:
    """Change event 2, make the chain and its end anew, and remove the checkpoints, while all goes on."""
    with contextlib.closing(sqlite3.connect(bench.folder / "audit.sqlite")) as file, file:
        file.execute(REHASH)
        before = here = genesis("default")
        for number, body in file.execute("SELECT id, body FROM event ORDER BY id").fetchall():
            before, here = here, link(here, sequence_of(number), body.encode())
            file.execute("UPDATE event SET hash = ? WHERE id = ?", (here, number))
        file.execute("UPDATE account SET hash = ?, previous_hash = ?", (here, before))
        file.execute("DELETE FROM checkpoint")


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("marked", [0, 3, 5])
def test_a_rewritten_archive_is_neither_gone_on_with_nor_signed(
    on_file: Bench, marked: int, restarted: bool
) -> None:
    """Redis has the hash that the chain had come to, or the events that lead to it."""
    bench = on_file
    moment = 1_000_000
    bench.clock = lambda: moment
    bench.write(5)
    bench.drainer.drain()
    if marked < 5:  # a drainer died before it noted the last ones
        bench.redis.delete(AccountKeys("default").archived)
    if marked == 3:
        third = bench.reader.read("default", 2, 1)[0]
        bench.backlog.mark("default", ArchiveHead(3, third.hash, ""))
    _rewrite(bench)
    if restarted:
        bench.open()
    moment += CHECKPOINT_MS
    bench.write(2)
    with pytest.raises(TrailBroken, match=r"the archive was rewritten|one of the two was changed"):
        for _ in range(3):
            bench.drainer.drain()
    assert bench.archived() == [1, 2, 3, 4, 5]
    assert bench.verify().checkpoints == 0


@pytest.mark.parametrize("count", [READ + 5, BATCH + 5])
def test_an_archive_set_back_is_not_signed_before_it_is_at_the_mark_again(on_file: Bench, count: int) -> None:
    """Set back behind the batch that leads to the mark, a forged beginning could be signed in between."""
    bench = on_file
    moment = 1_000_000
    bench.clock, bench.kept = lambda: moment, 10_000
    bench.open()
    bench.write(count)
    while bench.drainer.drain():
        pass
    with contextlib.closing(sqlite3.connect(bench.folder / "audit.sqlite")) as file, file:
        file.execute("DELETE FROM event WHERE id > (SELECT min(id) + 2 FROM event)")
        file.execute("UPDATE account SET sequence = 3")
    _rewrite(bench)
    bench.open()
    bench.drainer._signed_at_ms["default"] = 0
    with pytest.raises(TrailBroken, match="are not those that had been archived"):
        for _ in range(3):
            bench.drainer.drain()
    assert bench.verify().checkpoints == 0


def test_many_events_are_read_in_parts_and_archived_in_one_transaction(on_file: Bench) -> None:
    """While a part is read, the store does nothing else."""
    bench = on_file
    bench.write(2 * READ + 5)
    assert bench.drainer.drain() == 2 * READ + 5
    assert bench.archived() == list(range(1, 2 * READ + 6))
    assert bench.verify().findings == []


def test_events_of_another_store_are_not_taken_for_those_that_follow(
    on_file: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis failed over to an older replica between two parts, and goes on with other events."""
    bench = on_file
    bench.write(READ + 20)
    look, looks = bench.backlog.look, []

    def fail_over(account: str, first: int, limit: int) -> Waiting:
        looks.append(first)
        if len(looks) == 2:
            names = AccountKeys("default")
            bench.redis.delete(names.audit)
            bench.redis.set(names.sequence, READ - 10)
            bench.write(50, run_id="another")
        return look(account, first, limit)

    monkeypatch.setattr(bench.backlog, "look", fail_over)
    moved = bench.drainer.drain()
    assert moved in {READ, READ + 1}
    with pytest.raises(TrailBroken, match="is not the one in the archive"):
        bench.drainer.drain()
    assert len(bench.archived()) == moved
    assert bench.verify().findings == []


def test_an_end_without_what_stands_before_it_is_an_error_unless_that_is_lost(on_file: Bench) -> None:
    """Without it nobody sees whether Redis has another event there."""
    bench = on_file
    bench.write(5)
    bench.drainer.drain()
    with contextlib.closing(sqlite3.connect(bench.folder / "audit.sqlite")) as file, file:
        file.execute("UPDATE account SET previous_hash = zeroblob(0)")
    bench.open()
    bench.write(1)
    with pytest.raises(TrailBroken, match="does not say what stands before event 5"):
        bench.drainer.drain()


def test_a_checkpoint_on_demand_is_of_what_was_archived(on_file: Bench) -> None:
    """And of nothing that somebody has written to the archive."""
    bench = on_file
    bench.write(5)
    bench.drainer.drain()
    head = bench.reader.heads()["default"]
    assert bench.writer.sign("default", 5, head.hash, 1).hash == head.hash
    _rewrite(bench)
    with pytest.raises(HeadMoved):
        bench.writer.sign("default", 5, head.hash, 1)
    assert bench.verify().checkpoints == 0


def test_checkpoints_are_signed_after_a_time_with_new_events_and_not_without(bench: Bench) -> None:
    """So that a trail that was cut off or rewritten does not fit."""
    moment = 1_000_000
    bench.clock = lambda: moment
    bench.write(2)
    bench.drainer.drain()
    assert bench.verify().checkpoints == 0
    moment += CHECKPOINT_MS
    bench.drainer.drain()
    assert bench.verify().checkpoints == 1
    moment += CHECKPOINT_MS
    bench.drainer.drain()
    assert bench.verify().checkpoints == 1
    bench.write(1)
    bench.drainer.drain()
    assert bench.verify().checkpoints == 2


def test_the_signing_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """As the tokens are."""
    key = SigningKey.read_or_make(tmp_path)
    path = tmp_path / "audit.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.read_or_make(tmp_path).public.id == key.public.id
    path.chmod(0o640)
    with pytest.raises(SigningKeyUnsafe, match="can be read by others"):
        SigningKey.read_or_make(tmp_path)
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(SigningKeyUnsafe, match="not an Ed25519 key"):
        SigningKey.read_or_make(tmp_path)


def test_an_address_that_cant_be_used_is_refused_without_showing_its_password(tmp_path: Path) -> None:
    """Nothing of it is told but how it must look."""
    for url in ("mysql://u:hunter2@h/d", "postgresql//u:hunter2@h", "sqlite://", "hunter2"):
        with pytest.raises(ArchiveUrlInvalid) as refused:
            Database(SecretStr(url), tmp_path)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://u@127.0.0.1/d", True),
        ("postgresql:///d?host=/run/postgresql", True),
        ("sqlite:////var/audit.sqlite", True),
        ("postgresql://u@db.example/d", False),
        ("postgresql://u@db.example/d?sslmode=require", False),
        ("postgresql://u@db.example/d?sslmode=verify-full&sslrootcert=/ca.pem", True),
        ("postgresql://u@localhost/d?host=db.example", False),
    ],
)
def test_an_archive_on_another_machine_needs_tls_that_verifies(url: str, safe: bool) -> None:
    """Unless somebody says that the way there is encrypted already."""
    common = {"redis_url": "redis://localhost", "archive_url": url}
    if safe:
        PolicyServerSettings(**common)
        return
    with pytest.raises(ValueError, match="ARCHIVE_URL leads to another machine"):
        PolicyServerSettings(**common)
    PolicyServerSettings(**common, allow_plaintext=True)


def test_the_migrations_make_the_tables_of_the_schema_and_can_run_again(bench: Bench) -> None:
    """What the code believes of the tables is what the steps have made."""
    bench.write(2)
    bench.drainer.drain()
    bench.database.migrate()
    assert bench.archived() == [1, 2]
    with bench.database.transaction() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


def test_tables_of_a_newer_version_are_refused(bench: Bench) -> None:
    """An older server would not know what it destroys."""
    with bench.database.transaction(writes=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ArchiveUnavailable, match="newer version of Spendgate"):
        bench.database.migrate()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write to read-only files")
def test_a_read_only_file_keeps_events_in_redis(on_file: Bench) -> None:
    """Until it can be written again."""
    on_file.write(2)
    (on_file.folder / "audit.sqlite").chmod(0o400)
    on_file.database.close()
    with pytest.raises(ArchiveUnavailable):
        on_file.drainer.drain()
    (on_file.folder / "audit.sqlite").chmod(0o600)
    on_file.drainer.drain()
    assert on_file.archived() == [1, 2]


ENTRIES = st.lists(
    st.dictionaries(st.binary(min_size=1, max_size=6), st.binary(max_size=12), max_size=4), max_size=6
)


@given(ENTRIES, st.data())
def test_any_change_of_a_chain_shows(entries: list[dict[bytes, bytes]], data: st.DataObject) -> None:
    """Whatever the fields are: a body says exactly them, and each hash depends on all before it."""
    bodies = [body_of([part for pair in entry.items() for part in pair]) for entry in entries]
    for entry, body in zip(entries, bodies, strict=True):
        back = {
            name.encode(errors="surrogateescape"): value.encode(errors="surrogateescape")
            for name, value in fields_of(body).items()
        }
        assert back == entry

    def chain(chained: list[bytes]) -> bytes:
        here = genesis("a")
        for number, body in enumerate(chained, 1):
            here = link(here, number, body)
        return here

    changed = data.draw(st.permutations(bodies)) if data.draw(st.booleans()) else bodies[:-1]
    assert (chain(bodies) == chain(changed)) == (bodies == changed)
    assert genesis("a") != genesis("b")


FIELDS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["decision", "refusal"]),
        "call": st.dictionaries(st.sampled_from(columns.NAMES[2:-1]), st.text(max_size=6)),
        "time": st.integers(0, 2**53).map(str),
    },
    optional={name: st.binary(max_size=6) for name in ("decision", "object_id")},
)


@given(FIELDS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_both_ways_to_the_columns_lead_to_the_same(given_fields: dict[str, object]) -> None:
    """The quick one, by which events are archived, and the one by which they are verified."""
    entry = [part for name, value in given_fields.items() for part in (name.encode(), _bytes(value))]
    found_by = columns.of_entry(entry)
    assert found_by == columns.of_body(body_of(entry))
    assert "\0" not in "".join(map(str, found_by))


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()
