"""The archive when things break: killed drainers, full disks, hanging databases, and how health tells."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis as redis_client
from pydantic import SecretStr

from policy_server.store.scripts import newest_event
from spendgate.v1 import audit_service_pb2 as pb
from tests.archives import Bench
from tests.operation import Operation, health_of, operation
from tests.postgres import Postgres, postgres_server
from tests.processes import (
    clean_environment,
    policy_server_address,
    policy_server_process,
    temporary_folder,
    wait_for,
)
from tests.rpc import calling
from tests.tap import Tap
from tests.test_cli import Operator


def test_three_drainers_that_are_killed_between_steps_archive_every_event_once(
    redis: str, tmp_path: Path
) -> None:
    """They take no turns, die by SIGKILL at any step and start again, while events are written."""
    bench = Bench(redis, tmp_path)
    environment = clean_environment() | {
        "SPENDGATE_REDIS_URL": redis,
        "SPENDGATE_DATA_DIR": str(tmp_path),
        "SPENDGATE_LOG_LEVEL": "CRITICAL",
    }
    seeds = iter(range(1_000))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.archive_victim", str(next(seeds))], env=environment
        )

    running = [start() for _ in range(3)]
    deaths = 0
    try:
        while deaths < 12:
            bench.write(7)
            time.sleep(0.01)
            for slot, victim in enumerate(running):
                if victim.poll() is not None:
                    assert victim.returncode == -signal.SIGKILL
                    deaths += 1
                    running[slot] = start()
    finally:
        for victim in running:
            victim.kill()
            victim.wait()
    bench.open()
    while bench.drainer.drain():
        pass
    newest, _ = newest_event(bench.redis.get("spendgate:{default}:sequence"))
    assert bench.archived() == list(range(1, newest + 1))
    assert bench.marked() == newest
    assert bench.verify().findings == []
    bench.close()


def test_a_vanished_file_does_not_stop_decisions_and_is_told(redis: str) -> None:
    """Put back, it is filled again by itself."""
    with operation(redis) as running:
        running.spend(5)
        running.wait_until_archived()
        folder = running.process.folder
        away = folder / "away"
        away.mkdir()
        for path in list(folder.glob("audit.sqlite*")):
            path.rename(away / path.name)
        running.spend(5)
        running.wait_for_problem("has vanished")
        running.spend(5)
        page = running.admin(running.admin.audit.ListAuditEvents, pb.ListAuditEventsRequest(page_size=3))
        assert len(page.audit_events) == 3, "what Redis still has can be read"
        for path in list(away.iterdir()):
            path.rename(folder / path.name)
        running.wait_until_well()


def test_an_archive_that_was_removed_is_told_and_filled_again_when_that_is_accepted(redis: str) -> None:
    """Not before; and the acceptance is on record."""
    with temporary_folder() as folder:
        with policy_server_process(folder, redis, name="before") as process:
            running = Operation(process)
            with running.stack:
                running.spend(5)
                running.wait_until_archived()
        for path in folder.glob("audit.sqlite*"):
            path.unlink()
        with (
            policy_server_process(folder, redis, name="after") as process,
            calling(process, "admin") as admin,
        ):

            def progress() -> pb.GetAuditArchiveResponse:
                return admin(admin.audit.GetAuditArchive, pb.GetAuditArchiveRequest())

            words = "the archive is empty, but event 6 had been archived"
            wait_for(lambda: words in progress().problem, "it says what is wrong", process)
            wait_for(lambda: health_of(process) == "NOT_SERVING", "health says so", process)
            accepted = admin(admin.audit.AcceptAuditLoss, pb.AcceptAuditLossRequest(reason="a test"))
            assert (accepted.first_sequence, accepted.last_sequence) == (1, 6)
            wait_for(lambda: not progress().problem, "all is well", process)
            wait_for(lambda: progress().accounts[0].archived_sequence == 7, "it is filled again", process)
            wait_for(lambda: health_of(process) == "SERVING", "health says so", process)
            (event,) = admin(admin.audit.ListAuditEvents, pb.ListAuditEventsRequest()).audit_events
            words = "accepted that the archive has lost events 1 to 6 of the account default: a test"
            assert event.detail == words
            with pytest.raises(grpc.RpcError, match="has all that was ever archived"):
                admin(admin.audit.AcceptAuditLoss, pb.AcceptAuditLossRequest(reason="again"))


def test_a_loss_whose_acceptance_was_not_recorded_is_accepted_once_more(redis: str) -> None:
    """The policy server was killed between the note in the archive and the event."""
    with temporary_folder() as folder:
        with policy_server_process(folder, redis, name="before") as process:
            running = Operation(process)
            with running.stack:
                running.spend(5)
                running.wait_until_archived()
        for path in folder.glob("audit.sqlite*"):
            path.unlink()
        bench = Bench(redis, folder)
        lost = bench.note_loss()
        assert bench.writer.unaccepted_loss("default") == lost
        with (
            policy_server_process(folder, redis, name="after") as process,
            calling(process, "admin") as admin,
        ):
            request = pb.AcceptAuditLossRequest(reason="once more")
            accepted = admin(admin.audit.AcceptAuditLoss, request)
            assert (accepted.first_sequence, accepted.last_sequence) == (lost.first, lost.last)
            wait_for(lambda: bench.archived() == [lost.last + 1], "the event is archived", process)
            with pytest.raises(grpc.RpcError, match="has all that was ever archived"):
                admin(admin.audit.AcceptAuditLoss, request)
            report = bench.verify()
            assert (report.findings, report.lost) == ([], 6)
        bench.close()


def test_a_full_disk_keeps_events_in_redis_and_drops_none(redis: str, tmp_path: Path) -> None:
    """Decisions go on; when there is room again, all of it is archived."""
    bench = Bench(redis, tmp_path)
    bench.write(20)
    bench.drainer.drain()
    bench.write(2_000, run_id="x" * 500)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        for _ in range(3):
            with pytest.raises(Exception, match="the audit archive does not answer"):
                bench.drainer.drain()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert bench.marked() == 20
    assert bench.redis.xlen("spendgate:{default}:audit") >= 2_000
    while bench.drainer.drain():
        pass
    assert bench.archived() == list(range(1, 2_021))
    assert bench.verify().findings == []
    bench.close()


def test_a_disk_without_room_stops_no_decision_and_is_told(redis: str) -> None:
    """A real one, of four megabytes; when something is removed from it, it goes on by itself."""
    with temporary_folder() as folder:
        disk = folder / "disk"
        disk.mkdir()
        env = {"SPENDGATE_ARCHIVE_URL": f"sqlite:///{disk}/audit.sqlite"}
        process = policy_server_process(folder, redis, env=env)
        # In a mount namespace of its own, so that nothing is mounted for anybody else.
        alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if subprocess.run([*alone, f"mount -t tmpfs tmpfs {disk}"], check=False).returncode:
            pytest.skip("no file system can be mounted here, not even in a namespace of its own")
        mounted = f'mount -t tmpfs -o size=4m tmpfs {disk} && exec "$0" "$@"'
        process.argv = [*alone, mounted, *process.argv]
        with process:
            inside = Path(f"/proc/{process.pid}/root{disk}")
            running = Operation(process)
            with running.stack:
                running.spend(5)
                running.wait_until_archived()
                fill = inside / "fill"
                with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                running.spend(300)
                running.wait_for_problem("disk is full")
                running.spend(5)
                fill.unlink()
                running.wait_until_well()


@contextlib.contextmanager
def folder_away(archive: Path) -> Iterator[None]:
    """Something else stands where the archive's folder was, as with a disk that was not mounted."""
    away = archive.parent.rename(archive.parent.with_suffix(".away"))
    archive.parent.touch()
    yield
    archive.parent.unlink()
    away.rename(archive.parent)


@contextlib.contextmanager
def corrupted(archive: Path) -> Iterator[None]:
    """The file has lost its first page; the operator puts back what there was."""
    whole = archive.read_bytes()
    archive.write_bytes(random.Random(1).randbytes(4096) + whole[4096:])
    yield
    archive.write_bytes(whole)


@contextlib.contextmanager
def unreachable(postgres: Postgres) -> Iterator[None]:
    """Nobody listens at the address of the database."""
    postgres.kill()
    yield
    postgres.start()


@pytest.mark.parametrize(
    ("trouble", "refusal", "problem"),
    [
        (folder_away, "is not there any more", "can't be made"),
        (corrupted, "file is not a database", "file is not a database"),
        (unreachable, "Connection refused", "Connection refused"),
    ],
    ids=["folder away", "corrupted", "unreachable"],
)
def test_what_starts_without_its_archive_decides_nothing_says_why_and_goes_on_by_itself(
    redis: str, trouble: Callable[[Any], contextlib.AbstractContextManager[None]], refusal: str, problem: str
) -> None:
    """Nobody could know whether Redis still has what was spent; when the archive is back, all is there."""
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(temporary_folder())
        archive: Any = folder / "archive" / "audit.sqlite"
        url = f"sqlite:///{archive}"
        if trouble is unreachable:
            archive = opened.enter_context(postgres_server())
            url = archive.url
        env = {"SPENDGATE_ARCHIVE_URL": url}
        with policy_server_process(folder, redis, env=env, name="before") as process:
            before = Operation(process)
            with before.stack:
                before.spend(5)
                before.wait_until_archived()
        with trouble(archive):
            process = opened.enter_context(policy_server_process(folder, redis, env=env, name="after"))
            running = Operation(process, before.key)
            opened.enter_context(running.stack)
            reason, message = running.refused()
            assert reason == "ARCHIVE_UNAVAILABLE"
            assert "nothing is decided before the audit archive has told which ledgers there were" in message
            assert refusal in message
            running.wait_for_problem(problem, decides=False)
            asked = Operator(
                folder,
                {
                    "SPENDGATE_POLICY_ADDRESS": policy_server_address(process),
                    "SPENDGATE_DATA_DIR": str(folder),
                },
            )("doctor", "--json")
            found = {check["name"]: check for check in json.loads(asked.out)["checks"]}
            assert found["policy server"]["result"] == "wrong"
            assert problem in found["audit archive"]["detail"]
        wait_for(running.is_decided, "it goes on by itself", process)
        running.wait_until_well()


def test_a_frozen_database_stops_decisions_only_when_as_many_events_wait_as_may(redis: str) -> None:
    """It neither answers nor ends a connection, also not to a drainer that starts meanwhile."""
    with (
        postgres_server() as postgres,
        operation(redis, SPENDGATE_ARCHIVE_URL=postgres.url, SPENDGATE_AUDIT_BACKLOG_MAX="100") as running,
    ):
        running.spend(5)
        running.wait_until_archived()
        postgres.freeze()
        running.spend(40)
        os.kill(running.drainer(), signal.SIGKILL)
        running.wait_for_problem("the audit archive does not answer")
        running.spend(50)
        wait_for(lambda: not running.is_decided(), "as many events wait as may")
        assert running.refused()[0] == "AUDIT_BACKLOG_FULL"
        running.wait_for_problem(
            "as many events as may wait for the archive (100) do so, and calls are refused"
        )
        postgres.resume()
        wait_for(running.is_decided, "it goes on by itself")
        running.wait_until_well()


@pytest.mark.parametrize("reply", [False, True], ids=["before it is done", "before it is told"])
def test_a_database_that_is_killed_while_it_commits_has_every_event_once(
    redis: str, tmp_path: Path, reply: bool
) -> None:
    """Whether the events were in or not, the drainer finds where to go on."""
    with (
        postgres_server() as postgres,
        Tap(("127.0.0.1", postgres.port)) as tap,
        operation(redis, SPENDGATE_ARCHIVE_URL=at(tap)) as running,
    ):
        running.spend(5)
        running.wait_until_archived()
        with tap.keeping(b"COMMIT", reply=reply) as trap:
            running.spend(20)
            trap.wait()
            postgres.kill()
        running.spend(20)
        postgres.start()
        running.wait_until_well()
        newest = running.progress()[1].sequence
        bench = Bench(redis, tmp_path, SecretStr(postgres.url))
        assert bench.archived() == list(range(1, newest + 1))
        assert bench.verify().findings == []
        bench.close()


def at(tap: Tap) -> str:
    """The address of a PostgreSQL behind a tap."""
    return Postgres.url_at(int(tap.address.rpartition(":")[2]))


def test_health_tells_when_as_many_events_wait_as_may(redis: str) -> None:
    """Though nothing else is said to be wrong."""
    with operation(redis, SPENDGATE_AUDIT_BACKLOG_MAX="100") as running:
        drainer = running.drainer()
        os.kill(drainer, signal.SIGSTOP)
        try:
            running.spend(99)
            running.wait_for_problem("as many events as may wait for the archive (100) do so")
            assert running.progress()[1].backlog == 100
        finally:
            os.kill(drainer, signal.SIGCONT)
        running.wait_until_well()


def test_a_killed_drainer_is_started_again_and_a_killed_server_takes_its_drainer_along(redis: str) -> None:
    """Nobody has to look after it."""
    with operation(redis) as running:
        running.spend(3)
        first = running.drainer()
        os.kill(first, signal.SIGKILL)
        running.spend(3)
        running.wait_until_well()
        second = running.drainer()
        assert second != first
        running.process.kill()
        wait_for(lambda: not _runs(second), "the drainer ended too")


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_pages_and_watchers_see_one_trail_while_events_move_to_the_archive(redis: str) -> None:
    """No event twice, none left out, from the first on, though Redis let go of most."""
    with operation(redis) as running:
        running.spend(60)
        running.wait_until_archived()
        _let_go_of_all_but_the_newest(redis, 5)
        seen: list[int] = []
        token = ""
        while True:
            page = running.admin(
                running.admin.audit.ListAuditEvents, pb.ListAuditEventsRequest(page_size=7, page_token=token)
            )
            seen += [event.sequence for event in page.audit_events]
            running.spend(2)
            token = page.next_page_token
            if not token:
                break
        assert seen == list(range(61, 0, -1))
        stream = running.admin(
            running.admin.audit.WatchAuditEvents, pb.WatchAuditEventsRequest(after_sequence=10), 30
        )
        newest = running.progress()[1].sequence
        watched = []
        for message in stream:
            if message.HasField("audit_event"):
                watched.append(message.audit_event.sequence)
            if message.sequence == newest:
                break
        stream.cancel()
        assert watched == list(range(11, newest + 1))
        found = running.admin(
            running.admin.audit.ListAuditEvents,
            pb.ListAuditEventsRequest(filter=pb.AuditFilter(run_id="run-2")),
        )
        assert [event.sequence for event in found.audit_events] == [3]
        checkpoint = running.admin(
            running.admin.audit.CreateAuditCheckpoint, pb.CreateAuditCheckpointRequest()
        )
        assert checkpoint.audit_checkpoint.sequence >= 61


def _let_go_of_all_but_the_newest(redis: str, count: int) -> None:
    with redis_client.Redis.from_url(redis) as client:
        client.xtrim("spendgate:{default}:audit", maxlen=count, approximate=False)
