"""The archive when things break: killed drainers, full disks, hanging databases, and how health tells."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis as redis_client
from grpc_health.v1 import health_pb2, health_pb2_grpc

from policy_server.store.scripts import newest_event
from spendgate.v1 import audit_service_pb2 as pb
from tests.archives import Bench, postgres_server
from tests.processes import (
    Process,
    clean_environment,
    policy_server_address,
    policy_server_process,
    temporary_folder,
    wait_for,
)
from tests.rpc import calling, charge, day_cap, make_key

AUDIT_SERVICE = "spendgate.v1.AuditService"


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


def health_of(process: Process, service: str = AUDIT_SERVICE) -> str:
    """What a policy server says of one of its services."""
    with grpc.insecure_channel(policy_server_address(process)) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=10
        )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


class Operation:
    """A policy server under trouble, with an agent that goes on spending."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.stack = contextlib.ExitStack()
        self.admin = self.stack.enter_context(calling(process, "admin"))
        self.sidecar = self.stack.enter_context(calling(process, "sidecar"))
        self.key, _ = make_key(self.admin, day_cap(10**9))
        self.runs = 0

    def spend(self, count: int) -> None:
        """Ask for decisions, all of which must be had."""
        for _ in range(count):
            self.runs += 1
            request = charge(self.key, 1, f"run-{self.runs}")
            assert self.sidecar(self.sidecar.policy.Authorize, request).authorization_id

    def drainer(self) -> int:
        """The process id of the drainer."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task").glob("*/children")
        (drainer,) = {int(child) for one in children for child in one.read_text().split()}
        return drainer

    def progress(self) -> Any:
        """How far the archive is with the account."""
        reply = self.admin(self.admin.audit.GetAuditArchive, pb.GetAuditArchiveRequest())
        return reply, next(one for one in reply.accounts if one.account == "default")

    def wait_until_archived(self) -> None:
        """Wait until no event waits."""
        wait_for(lambda: self.progress()[1].backlog == 0, "all is archived", self.process)

    def wait_for_problem(self, words: str) -> None:
        """Wait until the server says what is wrong, and its health does."""
        wait_for(lambda: words in self.progress()[0].problem, f"it says {words!r}", self.process)
        wait_for(lambda: health_of(self.process) == "NOT_SERVING", "health says so", self.process)
        assert health_of(self.process, "spendgate.v1.PolicyService") == "SERVING"

    def wait_until_well(self) -> None:
        """Wait until nothing is wrong, and nothing was dropped."""
        self.wait_until_archived()
        wait_for(lambda: health_of(self.process) == "SERVING", "health is well again", self.process)
        found = []
        token = ""
        while True:
            page = self.admin(
                self.admin.audit.ListAuditEvents, pb.ListAuditEventsRequest(page_size=1000, page_token=token)
            )
            found += [event.sequence for event in page.audit_events]
            token = page.next_page_token
            if not token:
                break
        assert found == list(range(self.progress()[1].sequence, 0, -1))


@contextlib.contextmanager
def operation(redis: str, **env: str) -> Iterator[Operation]:
    """A policy server over an empty Redis."""
    with temporary_folder() as folder, policy_server_process(folder, redis, env=env) as process:
        running = Operation(process)
        with running.stack:
            yield running


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
            assert event.detail == "accepted that the archive has lost events 1 to 6: a test"
            with pytest.raises(grpc.RpcError, match="has all that was ever archived"):
                admin(admin.audit.AcceptAuditLoss, pb.AcceptAuditLossRequest(reason="again"))


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


class Relay:
    """Passes bytes between a client and a server, until it is told to hang."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Take what comes and pass nothing on, without an end."""
        self._flowing.clear()

    def go_on(self) -> None:
        """Pass on again."""
        self._flowing.set()

    def close(self) -> None:
        """Let go of everything."""
        self._ended = True
        self._flowing.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if self._ended:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_hanging_database_stops_no_decision_and_goes_on_by_itself(redis: str) -> None:
    """It neither answers nor ends the connection; what waits is archived when it is back."""
    with postgres_server() as url:
        relay = Relay(int(url.rpartition(":")[2].partition("/")[0]))
        address = f"postgresql://spendgate@127.0.0.1:{relay.port}/postgres"
        try:
            with operation(redis, SPENDGATE_ARCHIVE_URL=address) as running:
                running.spend(5)
                running.wait_until_archived()
                relay.hang()
                running.spend(5)
                running.wait_for_problem("the audit archive does not answer")
                running.spend(5)
                relay.go_on()
                running.wait_until_well()
        finally:
            relay.close()


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
