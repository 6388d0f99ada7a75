"""Verification names what was changed, removed, inserted or cut off, in an archive and in an export."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policy_server.archive.chain import body_of, genesis, link
from policy_server.archive.export import Export
from policy_server.archive.losses import Loss
from policy_server.archive.signing import SigningKey
from policy_server.archive.stored import export_chunks
from policy_server.archive.verify import Known, Report, verify_trails
from tests.archives import Bench
from tests.processes import clean_environment

EVENTS = 30
FIRST = 1 << 40
Tamper = Callable[[sqlite3.Connection], object]


@pytest.fixture
def bench(redis: str, tmp_path: Path) -> Iterator[Bench]:
    """An archive of 30 events with checkpoints at 20 and 30."""
    bench = Bench(redis, tmp_path)
    bench.write(20)
    bench.drainer.drain()
    bench.writer.add_checkpoint(bench.writer.tip("default"), 1)
    bench.write(10)
    bench.drainer.drain()
    bench.writer.add_checkpoint(bench.writer.tip("default"), 2)
    yield bench
    bench.close()


def _run(sql: str, *values: object) -> Tamper:
    return lambda file: file.execute(sql, values)


def _rehash(file: sqlite3.Connection, first: int) -> None:
    """Make the chain anew from an event on, with its end, as one would who can write to the archive."""
    before = file.execute("SELECT hash FROM event WHERE id = ?", (FIRST + first - 1,)).fetchone()
    here = before[0] if before else genesis("default")
    rows = file.execute("SELECT id, body FROM event WHERE id >= ? ORDER BY id", (FIRST + first,)).fetchall()
    sequence = 0
    for number, body in rows:
        sequence = number - FIRST
        here = link(here, sequence, body.encode())
        file.execute("UPDATE event SET hash = ? WHERE id = ?", (here, number))
    file.execute("UPDATE account SET sequence = ?, hash = ?", (sequence, here))


def _change_and_rehash(file: sqlite3.Connection) -> None:
    file.execute("UPDATE event SET body = replace(body, 'allow', 'ALLOW') WHERE id = ?", (FIRST + 12,))
    _rehash(file, 12)


def _cut_off(file: sqlite3.Connection) -> None:
    _cut_off_but_for_the_checkpoint(file)
    file.execute("DELETE FROM checkpoint WHERE sequence > 25")


def _cut_off_but_for_the_checkpoint(file: sqlite3.Connection) -> None:
    file.execute("DELETE FROM event WHERE id > ?", (FIRST + 25,))
    newest, before = FIRST + 25, FIRST + 24
    file.execute(
        "UPDATE account SET sequence = 25, hash = (SELECT hash FROM event WHERE id = ?), "
        "previous_hash = (SELECT hash FROM event WHERE id = ?), "
        "reached_ms = (SELECT reached_ms FROM event WHERE id = ?)",
        (newest, before, newest),
    )


def _remove_and_renumber(file: sqlite3.Connection) -> None:
    file.execute("DELETE FROM event WHERE id = ?", (FIRST + 10,))
    for number in range(11, EVENTS + 1):
        file.execute("UPDATE event SET id = id - 1 WHERE id = ?", (FIRST + number,))


def _append_forged(file: sqlite3.Connection) -> None:
    body, here = file.execute("SELECT body, hash FROM event WHERE id = ?", (FIRST + 30,)).fetchone()
    forged = link(here, 31, body.encode())
    file.execute(
        "INSERT INTO event SELECT id + 1, ?, body, created_at_ms, reached_ms, kind, decision, run_id, "
        "vault_key_id, idempotency_key, object_id, notable FROM event WHERE id = ?",
        (forged, FIRST + 30),
    )


def _remove_all_events(file: sqlite3.Connection) -> None:
    file.execute("DELETE FROM event")
    file.execute("UPDATE account SET sequence = 0, hash = ?, previous_hash = x''", (genesis("default"),))


def _remove_and_note_as_lost(file: sqlite3.Connection) -> None:
    (last_hash,) = file.execute("SELECT hash FROM event WHERE id = ?", (FIRST + 15,)).fetchone()
    file.execute("DELETE FROM event WHERE id BETWEEN ? AND ?", (FIRST + 12, FIRST + 15))
    file.execute("INSERT INTO loss VALUES (1, 12, 15, ?, 1, 'no backup')", (last_hash,))


TAMPERINGS: dict[str, tuple[Tamper, list[str]]] = {
    "an event is changed": (
        _run("UPDATE event SET body = replace(body, 'allow', 'deny') WHERE id = ?", FIRST + 7),
        ["event 7 was changed", "event 7 is found by what it does not say: decision, notable changed"],
    ),
    "the time of an event is changed where it is searched": (
        _run("UPDATE event SET created_at_ms = 1 WHERE id = ?", FIRST + 7),
        ["event 7 is found by what it does not say: created_at_ms changed"],
    ),
    "an event is hidden from searches": (
        _run("UPDATE event SET run_id = 'another' WHERE id = ?", FIRST + 7),
        ["event 7 is found by what it does not say: run_id changed"],
    ),
    "a hash is changed": (
        _run("UPDATE event SET hash = zeroblob(32) WHERE id = ?", FIRST + 7),
        ["event 7 was changed", "event 8 was changed, or event 7 with its hash"],
    ),
    "the first event is changed": (
        _run("UPDATE event SET body = replace(body, 'allow', 'allow ') WHERE id = ?", FIRST + 1),
        ["event 1 was changed", "event 1 is found by what it does not say: decision changed"],
    ),
    "a body is no body": (
        _run("UPDATE event SET body = '[' WHERE id = ?", FIRST + 7),
        ["event 7 was changed", "event 7 can't be read"],
    ),
    "an event is removed": (
        _run("DELETE FROM event WHERE id = ?", FIRST + 7),
        ["event 7 is missing"],
    ),
    "the first events are removed": (
        _run("DELETE FROM event WHERE id <= ?", FIRST + 3),
        ["events 1 to 3 are missing"],
    ),
    "the last events are removed": (
        _run("DELETE FROM event WHERE id > ?", FIRST + 28),
        ["events 29 to 30 are missing", "the trail ends at event 28, but event 30 was signed"],
    ),
    "a signed event is removed": (
        _run("DELETE FROM event WHERE id = ?", FIRST + 20),
        ["event 20 is missing", "event 20 was signed, and is missing or was moved"],
    ),
    "an event is removed and those after it renumbered": (
        _remove_and_renumber,
        ["event 10 was changed"],
    ),
    "an event is added after the end": (_append_forged, ["event 31 is added after the end"]),
    "an event is changed and the chain made anew": (
        _change_and_rehash,
        [
            "events up to 20 were rewritten",
            "events up to 30 were rewritten",
            "event 12 is found by what it does not say",
        ],
    ),
    "the end is cut off and set back": (
        _cut_off_but_for_the_checkpoint,
        ["the trail ends at event 25, but event 30 was signed: events 26 to 30 are cut off"],
    ),
    "the latest time of events is changed": (
        _run("UPDATE event SET reached_ms = reached_ms + 5000 WHERE id = ?", FIRST + 7),
        [
            "event 7 is found by what it does not say: reached_ms changed",
            "event 8 is found by what it does not say: reached_ms changed",
        ],
    ),
    "how far the clock was set back is changed": (
        _run("UPDATE account SET set_back_ms = 9000"),
        ["what the archive keeps of the whole trail is not what its events say: set_back_ms changed"],
    ),
    "what the trail goes on from is changed": (
        _run("UPDATE account SET epoch = 'x', reached_ms = 5, previous_hash = zeroblob(32)"),
        [
            "what the archive keeps of the whole trail is not what its events say: "
            "previous_hash, reached_ms, epoch changed"
        ],
    ),
    "all events are removed and the end set back": (
        _remove_all_events,
        ["there is no event in it", "the trail ends at event 0, but event 20 was signed"],
    ),
    "events are removed and noted as lost": (
        _remove_and_note_as_lost,
        ["events 12 to 15 are missing, and claimed to be lost, which is not confirmed: no later event"],
    ),
    "events that are there are noted as lost": (
        _run("INSERT INTO loss VALUES (1, 12, 15, zeroblob(32), 1, 'x')"),
        ["events 12 to 15 are claimed to be lost, but they are not what is missing"],
    ),
    "a checkpoint is changed": (
        _run("UPDATE checkpoint SET created_at_ms = 3 WHERE sequence = 20"),
        ["the checkpoint at event 20 has a bad signature"],
    ),
    "a checkpoint is signed by another": (
        _run("UPDATE checkpoint SET key_id = 'unknown' WHERE sequence = 20"),
        ["the checkpoint at event 20 is signed by the unknown key unknown"],
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_every_tampering_of_an_archive_is_named(bench: Bench, tampering: str) -> None:
    """What was done, and to which event; an untouched archive has no findings."""
    assert bench.verify().findings == []
    tamper, expected = TAMPERINGS[tampering]
    bench.database.close()
    file = sqlite3.connect(bench.folder / "audit.sqlite")
    with file:
        tamper(file)
    file.close()
    findings = bench.verify().findings
    for text in expected:
        assert any(finding.startswith(text) for finding in findings), (text, findings)
    if len(expected) == 1:
        named = [f for f in findings if not f.startswith(expected[0])]
        allowed = ("event", "events up to", "the trail ends", "the checkpoint", "what the archive keeps")
        assert all(one.startswith(allowed) for one in named)


def _tamper(bench: Bench, tamper: Tamper) -> None:
    bench.database.close()
    with contextlib.closing(sqlite3.connect(bench.folder / "audit.sqlite")) as file, file:
        tamper(file)


def test_a_loss_is_not_believed_for_an_event_that_nothing_vouches_for(bench: Bench) -> None:
    """A forger writes the event too, and makes the chain anew up to the next gap, before the checkpoint."""
    bench.write(1)
    bench.accept(Loss(26, 28, b""))  # of events that were lost indeed
    bench.drainer.drain()
    bench.writer.add_checkpoint(bench.writer.tip("default"), 3)

    def lose(file: sqlite3.Connection, first: int, last: int) -> None:
        (hash_,) = file.execute("SELECT hash FROM event WHERE id = ?", (FIRST + last,)).fetchone()
        file.execute("DELETE FROM event WHERE id BETWEEN ? AND ?", (FIRST + first, FIRST + last))
        file.execute("INSERT INTO loss VALUES (1, ?, ?, ?, 1, 'no backup')", (first, last, hash_))

    _tamper(bench, lambda file: lose(file, 26, 28))
    assert bench.verify().findings == []
    assert bench.verify().lost == 3

    def forge(file: sqlite3.Connection) -> None:
        lose(file, 5, 8)
        detail = Loss(5, 8, b"").acceptance("default", "no backup")
        said = json.dumps({"detail": detail})
        body = body_of(
            [b"time", b"1900000009000", b"kind", b"administration", b"call", said.encode()]
        ).decode()
        file.execute(
            "UPDATE event SET body = ?, kind = 'administration', decision = NULL, run_id = NULL, "
            "vault_key_id = NULL, notable = 1, created_at_ms = 1900000009000, reached_ms = 1900000009000 "
            "WHERE id = ?",
            (body, FIRST + 9),
        )
        here = file.execute("SELECT last_hash FROM loss WHERE last_sequence = 8").fetchone()[0]
        for number in range(9, 26):
            (text,) = file.execute("SELECT body FROM event WHERE id = ?", (FIRST + number,)).fetchone()
            here = link(here, number, text.encode())
            file.execute("UPDATE event SET hash = ? WHERE id = ?", (here, FIRST + number))
        file.execute("DELETE FROM checkpoint WHERE sequence < 26")

    _tamper(bench, forge)
    (finding,) = bench.verify().findings
    assert finding.startswith(
        "events 5 to 8 are missing, and claimed to be lost, which is not confirmed: event 9 says that an "
        "operator accepted it, but no checkpoint vouches for that event"
    )


@pytest.mark.parametrize(
    "said",
    [
        {"account": "another"},
        {"last": 14},
        {"first": 11},
        {"kind": "refusal"},
        {"before": "froze it: "},
    ],
)
def test_a_loss_is_accepted_only_by_an_event_of_administration_that_names_just_it(
    redis: str, tmp_path: Path, said: dict[str, str | int]
) -> None:
    """The account, and the first and the last event."""
    bench = Bench(redis, tmp_path)
    bench.write(20)
    named = Loss(int(said.get("first", 12)), int(said.get("last", 15)), b"")
    words = str(said.get("before", "")) + named.acceptance(str(said.get("account", "default")), "no backup")
    bench.write(1, kind=str(said.get("kind", "administration")), decision="", detail=words)
    bench.drainer.drain()
    _tamper(bench, _remove_and_note_as_lost)
    (finding,) = bench.verify().findings
    assert "claimed to be lost, which is not confirmed: no later event says" in finding
    bench.close()


def test_a_loss_in_an_export_is_believed_only_for_the_event_that_accepts_it(bench: Bench) -> None:
    """A line that says so is nothing."""
    lines = exported(bench)
    (at,) = [n for n, line in enumerate(lines) if line.startswith('{"sequence":7,')]
    forged = json.dumps({"loss": {"first": 7, "last": 7, "last_hash": json.loads(lines[at])["hash"]}})
    (finding,) = checked([lines[0], forged, *lines[1:at], *lines[at + 1 :]])
    assert finding.startswith("event 7 is missing, and claimed to be lost, which is not confirmed")


def test_a_cut_off_trail_whose_checkpoints_went_too_does_not_have_what_is_expected(bench: Bench) -> None:
    """A checkpoint that is kept elsewhere finds what can't be seen in the archive itself."""
    end = bench.reader.heads()["default"]
    assert bench.verify((end.sequence, end.hash)).findings == []
    bench.database.close()
    file = sqlite3.connect(bench.folder / "audit.sqlite")
    with file:
        _cut_off(file)
    file.close()
    assert bench.verify().findings == []
    (finding,) = bench.verify((end.sequence, end.hash)).findings
    assert finding == "the trail ends at event 25, but event 30 is expected: events 26 to 30 are cut off"


def exported(bench: Bench, after: int = 0) -> list[str]:
    """The lines of an export."""
    return [line for chunk in export_chunks(bench.database, "default", after) for line in chunk]


def report_on(lines: list[str], known: Known) -> Report:
    """Verify an export."""
    export = Export([f"{line}\n".encode() for line in lines])
    (report,) = verify_trails([export.trail], export.keys, known)
    return report


def checked(lines: list[str], *, after: int = 0) -> list[str]:
    """What is wrong with an export."""
    return report_on(lines, Known(after=after)).findings


def test_an_export_can_be_verified_and_so_can_one_that_goes_on(bench: Bench) -> None:
    """Whole, and from an event on."""
    lines = exported(bench)
    assert checked(lines) == []
    assert sum('"body"' in line for line in lines) == EVENTS
    later = exported(bench, 25)
    assert checked(later, after=25) == []
    assert sum('"body"' in line for line in later) == 5


def test_where_an_export_begins_is_said_by_whoever_verifies_it(bench: Bench) -> None:
    """A beginning that was cut off looks like an export that goes on; also when a checkpoint is there."""
    for after in (20, 25):
        later = exported(bench, after)
        (finding,) = checked(later)
        assert finding == (
            f"the trail says that it begins after event {after}, so events 1 to {after} are not in it: "
            f"if it was exported so, say it with --after {after}; else they are cut off"
        )
        assert report_on(later, Known(after=after)).begins_with_known_hash
    (finding,) = checked(later, after=24)
    assert finding == "the trail begins after event 25, and not after event 24"
    (finding,) = checked(exported(bench), after=24)
    assert finding == "the trail begins after event 0, and not after event 24"
    hash_ = bench.reader.read("default", 24, 1)[0].hash
    unsigned = [line for line in later if "checkpoint" not in line]
    assert not report_on(unsigned, Known(after=25)).begins_with_known_hash
    known = report_on(unsigned, Known(after=25, after_hash=hash_))
    assert (known.findings, known.begins_with_known_hash) == ([], True)
    (finding,) = report_on(unsigned, Known(after=25, after_hash=bytes(32))).findings
    assert finding.startswith("the trail does not go on from the known event 25")


def test_an_export_is_not_taken_for_that_of_another_account(bench: Bench) -> None:
    """What its first event stands after has the name of its account in it."""
    lines = [line for line in exported(bench) if "checkpoint" not in line]
    named = [lines[0].replace("default", "another"), *lines[1:]]
    assert checked(named) == ["the beginning was changed: it is not that of a trail of this account"]


def test_the_command_finds_an_account_that_is_gone(bench: Bench, tmp_path: Path) -> None:
    """Its events and checkpoints are left over; or nothing is."""
    bench.write(3, "other")
    bench.drainer.drain()
    archive, end = str(bench.folder / "audit.sqlite"), bench.reader.heads()["other"]
    expected = ("--expect", f"{end.sequence}:{end.hash.hex()}")
    bench.database.close()
    done = verify_command(archive, "--data-dir", str(bench.folder), *expected)
    assert done.returncode == 0, "what is expected is of one account, and not of all"
    _tamper(bench, lambda file: file.execute("DELETE FROM account WHERE name = 'other'"))
    done = verify_command(archive, "--data-dir", str(bench.folder))
    assert done.returncode == 1
    assert "event 1 and maybe more of account number 2 belong to no account" in done.stdout
    assert "account default: 30 events are complete and unchanged" in done.stdout
    done = verify_command(archive, "--data-dir", str(bench.folder), "--account", "other", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["intact"], said["accounts"]) == (False, [])
    assert said["findings"][-1] == "there is no trail of the account other"
    done = verify_command(archive, "--data-dir", str(bench.folder), *expected)
    assert done.returncode == 1
    assert "event 3 does not have the expected hash" in done.stdout
    _tamper(bench, lambda file: file.executescript("DELETE FROM account; DELETE FROM event WHERE id > 0"))
    done = verify_command(archive, "--data-dir", str(bench.folder))
    assert done.returncode == 1
    assert "a checkpoint of account number 1 belongs to no account" in done.stdout
    assert "there is no trail at all: nothing was archived yet, or all were removed" in done.stdout


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_changed_in_an_export_is_found(bench: Bench, seed: int) -> None:
    """A line removed, repeated, swapped with another, cut off, or any one character changed."""
    chance = random.Random(seed)
    lines = exported(bench)
    at = chance.randrange(3, len(lines))
    match chance.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            other = chance.choice([n for n in range(3, len(lines)) if n != at])
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at][: chance.randrange(len(lines[at]))]
        case _:
            where = chance.randrange(len(lines[at]))
            new = chance.choice([c for c in '0123456789abcdefxyz"{}' if c != lines[at][where]])
            lines[at] = lines[at][:where] + new + lines[at][where + 1 :]
    assert checked(lines)


def test_the_exact_event_is_named_in_an_export(bench: Bench) -> None:
    """By its number."""
    lines = exported(bench)
    (seventh,) = [n for n, line in enumerate(lines) if line.startswith('{"sequence":7,')]
    changed = [*lines[:seventh], lines[seventh].replace("run-7", "run-8"), *lines[seventh + 1 :]]
    assert checked(changed) == [
        "event 7 was changed, or event 6 with its hash: it does not follow from the one before it"
    ]
    removed = lines[:seventh] + lines[seventh + 1 :]
    assert checked(removed) == ["event 7 is missing"]
    twice = [*lines[: seventh + 1], lines[seventh], *lines[seventh + 1 :]]
    assert checked(twice) == ["event 7 stands after event 7: one was inserted"]
    assert checked(lines[:-1]) == ["the end is missing: there may be events after 30"]


def verify_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without any server."""
    return subprocess.run(
        [sys.executable, "-m", "spendgate.cli", "audit", "verify", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_verifies_files_offline_and_exits_by_what_it_found(bench: Bench, tmp_path: Path) -> None:
    """0 when all is well, 1 when something was changed, 2 when it can't be read."""
    goes_on = exported(bench, 25)
    bench.database.close()
    archive = str(bench.folder / "audit.sqlite")
    export = tmp_path / "trail.jsonl"
    export.write_text("".join(f"{line}\n" for line in exported(bench)))
    public = tmp_path / "key.pem"
    public.write_text(SigningKey.read_or_make(bench.folder).public.pem)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments in (
        (archive, "--data-dir", str(elsewhere)),
        ("--data-dir", str(bench.folder)),
        (str(export), "--public-key", str(public)),
        (str(export), "--data-dir", str(elsewhere)),
    ):
        done = verify_command(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "30 events are complete and unchanged" in done.stdout
        assert "2 checkpoints" in done.stdout
        assert ("--public-key" in done.stdout) == (str(elsewhere) in arguments)
    emptied = tmp_path / "emptied.sqlite"
    shutil.copy(archive, emptied)
    with contextlib.closing(sqlite3.connect(emptied, isolation_level=None)) as connection:
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"
        ).fetchall():
            connection.execute(f"DELETE FROM {table}")
    for of_none in (
        [str(emptied)],
        [str(emptied), "--expect", f"30:{'0' * 64}"],
        [archive, "--account", "x"],
    ):
        done = verify_command(*of_none)
        assert (done.returncode, done.stderr) == (1, ""), done
        assert done.stdout.startswith("there is no trail")
    later = tmp_path / "later.jsonl"
    later.write_text("".join(f"{line}\n" for line in goes_on))
    done = verify_command(str(later), "--data-dir", str(bench.folder))
    assert done.returncode == 1
    assert "say it with --after 25" in done.stdout
    done = verify_command(str(later), "--data-dir", str(bench.folder), "--after", "25")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 events after event 25 are complete and unchanged" in done.stdout
    stranger = SigningKey.read_or_make(elsewhere).public.pem
    public.write_text(stranger)
    done = verify_command(str(export), "--public-key", str(public))
    assert done.returncode == 1
    assert "signed by the unknown key" in done.stdout
    export.write_text(export.read_text().replace("run-7", "run-9"))
    done = verify_command(str(export), "--json", "--data-dir", str(bench.folder))
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert not said["intact"]
    assert "event 7 was changed" in said["accounts"][0]["findings"][0]
    for arguments in (
        ("nowhere",),
        (str(public),),
        (archive, "--expect", "nonsense"),
        (archive, "--after", "x"),
        (archive, "--after", "5:00"),
        (str(export), "--account", "x"),
        ("--data-dir", str(tmp_path / "nowhere")),
    ):
        done = verify_command(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith("spendgate: ")


def test_the_chain_is_what_the_documentation_says() -> None:
    """Anybody can compute it without our code."""

    before = hashlib.sha256(b"spendgate audit chain 1\ndefault").digest()
    body = '["time","5","kind","decision","x","é\\""]'.encode()
    assert body_of([b"time", b"5", b"kind", b"decision", b"x", 'é"'.encode()]) == body
    assert genesis("default") == before
    assert link(before, 1, body) == hashlib.sha256(before + b"\0\0\0\0\0\0\0\1" + body).digest()
