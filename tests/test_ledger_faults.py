"""A Redis that loses what was counted while agents pay: emptied, or replaced by a replica that lags."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis as redis_client

from policy_server.embedded_redis import redis_server
from policy_server.store.scripts import script
from spendgate.v1 import ledger_service_pb2
from tests.processes import Process, policy_server_process, redis_url, temporary_folder, wait_for
from tests.rpc import Caller, calling
from tests.stack import CHARGE, Stack, VaultKey, cap, running_stack
from tests.tap import Tap
from tests.test_cli import free_port
from tests.test_process_faults import AGENTS, CAP, DECIDE, Lines, check_promises

REBUILD_STEPS: dict[str, tuple[bytes, bool]] = {
    # Which message between the rebuilding server and Redis is kept: with which mark, and whether its reply.
    "before anything is touched": (script("claim").sha.encode(), False),
    "after the epoch is taken away": (script("claim").sha.encode(), True),
    "before counters and holds are written": (b"PEXPIREAT", False),
    "before the ledger may be used": (script("restore").sha.encode(), False),
    "after the ledger may be used": (script("restore").sha.encode(), True),
}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    """One Spendgate for all steps."""
    with temporary_folder() as folder, ExitStack() as started:
        yield Lines(folder, started)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


def rebuild_what_is_lost(admin: Caller) -> list[int]:
    """Restore every lost ledger; return how many events of each nobody has any more."""
    listed = admin(admin.ledgers.ListLedgers, ledger_service_pb2.ListLedgersRequest())
    return [
        admin(
            admin.ledgers.RebuildLedger,
            ledger_service_pb2.RebuildLedgerRequest(account=one.account),
            60,
        ).lost_events
        for one in listed.ledgers
        if one.lost
    ]


@contextmanager
def rebuilder(lines: Lines, redis: Tap) -> Iterator[tuple[Process, Caller]]:
    """Another policy server, which is told to rebuild; its line to Redis is ``redis``."""
    process = policy_server_process(
        lines.folder, f"redis://{redis.address}", name=f"rebuilder-{next(_numbers)}"
    )
    with process, calling(process, "admin") as admin:
        yield process, admin


@pytest.mark.parametrize("step", REBUILD_STEPS)
def test_a_flush_under_load_breaks_no_promise_wherever_the_rebuild_is_killed(lines: Lines, step: str) -> None:
    """Agents never stop asking, nor a server deciding; until the rebuild is done, all is refused."""
    key = lines.stack.key(caps=[cap(CAP)], account=f"flushed-{next(_numbers)}")
    simulator = lines.stack.simulator
    simulator.reset()
    simulator.fault("delay", seconds=120, times=None, match={"method": "POST"})
    load = lines.agents(key)
    wait_for(lambda: len(simulator.posts()) == AGENTS, "every agent has a charge under way")
    store_url = redis_url(lines.parts["redis"].process)
    with (
        Tap(lines.folder / "redis.sock") as to_redis,
        redis_client.Redis.from_url(store_url, decode_responses=True) as store,
    ):
        wait_for(lambda: is_archived(store, key.account), "every event is archived")
        store.flushall()
        simulator.heal()
        posts = len(simulator.posts())
        mark, reply = REBUILD_STEPS[step]
        with rebuilder(lines, to_redis) as (process, admin):
            check_refused(lines, key)
            with to_redis.keeping(mark, reply=reply) as trap, ThreadPoolExecutor(1) as pool:
                rebuilding = pool.submit(rebuild_what_is_lost, admin)
                trap.wait()
                process.kill()
                assert isinstance(rebuilding.exception(30), grpc.RpcError)
        if step != "after the ledger may be used":
            check_refused(lines, key)
            assert len(simulator.posts()) == posts, "nothing is sent"
        with rebuilder(lines, to_redis) as (_, admin):
            assert set(rebuild_what_is_lost(admin)) <= {0}
    load.end()
    check_promises(lines, key, load)


def is_archived(store: Any, account: str) -> bool:
    """Whether no event of an account waits for the archive."""
    newest, _, _ = (store.get(f"spendgate:{{{account}}}:sequence") or "").partition(" ")
    return bool(newest == store.hget(f"spendgate:{{{account}}}:archived", "sequence"))


def check_refused(lines: Lines, key: VaultKey) -> None:
    """Check that a call is refused because of the loss; a busy machine may first take too long."""

    def told() -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {key.text}", "Spendgate-Run-Id": f"probe-{next(_numbers)}"}
        answer = httpx.post(f"{lines.agents_base}/charges", headers=headers, data=CHARGE, timeout=30)
        assert answer.status_code == 503
        return refusal(answer)

    wait_for(lambda: told() == (503, "ledger_lost"), "it is told that the ledger is lost")


@contextmanager
def replicated_redis(folder: Path) -> Iterator[tuple[Process, Process]]:
    """A Redis that keeps every write, and a replica of it."""

    def made(name: str, port: int, *more: str) -> Process:
        keeps = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return Process(
            name,
            [redis_server(), "--port", str(port), "--dir", str(folder / name), *keeps, *more],
            folder=folder / name,
            ready=lambda process: "eady to accept connections" in process.log,
        )

    ports = free_port(), free_port()
    master = made("master", ports[0])
    replica = made("replica", ports[1], "--replicaof", "127.0.0.1", str(ports[0]))
    with master, replica:
        yield master, replica


def port_of(redis: Process) -> int:
    """The port of one of `replicated_redis`."""
    return int(redis.argv[redis.argv.index("--port") + 1])


def test_a_failover_in_the_middle_of_a_call_is_not_a_refill() -> None:
    """The replica lacks $50 and the call under way; nothing passes before they are back, then the rest."""
    with (
        temporary_folder() as folder,
        replicated_redis(folder) as (master, replica),
        Tap(("127.0.0.1", port_of(master))) as tap,
        running_stack(folder, redis_at=f"redis://{tap.address}", decision_timeout_ms="5000") as stack,
        redis_client.Redis(port=port_of(master), decode_responses=True) as first,
        redis_client.Redis(port=port_of(replica), decode_responses=True) as second,
    ):
        key = stack.key(caps=[cap(10_000)])
        assert charge(stack, key, 4_000, "run-1").status_code == 200
        stack.settled(key, 4_000)
        first.wait(1, 30_000)
        second.replicaof("127.0.0.1", "1")  # where nobody is: it gets nothing more
        assert charge(stack, key, 5_000, "run-2").status_code == 200
        stack.settled(key, 9_000)
        wait_for(lambda: is_archived(first, "default"), "every event is archived")
        with tap.keeping(DECIDE, reply=True) as trap, ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(charge, stack, key, 1_000, "run-3")
            trap.wait()
            second.replicaof("NO", "ONE")
            tap.move(("127.0.0.1", port_of(replica)))
            assert under_way.result().status_code == 503
        assert refusal(charge(stack, key, 6_000, "run-4")) == (503, "ledger_lost")
        assert len(stack.simulator.posts()) == 2
        with calling(stack.policy_servers[0], "admin") as admin:
            # Beyond the archive there was at most the decision that nobody was told of.
            assert rebuild_what_is_lost(admin) in ([0], [1])
        # Nothing is decided until every server has had time to look what the other Redis lacks.
        wait_for(
            lambda: refusal(charge(stack, key, 1_001, "run-4")) == (429, "spend_cap_exceeded"),
            "calls are decided again",
        )
        assert charge(stack, key, 1_000, "run-3").status_code == 200
        stack.settled(key, 10_000)
        assert stack.simulator.committed == 10_000


def charge(stack: Stack, key: VaultKey, amount: int, run: str) -> httpx.Response:
    """Let an agent charge a card."""
    with stack.agent(key, run) as agent:
        return agent.post("/charges", data={**CHARGE, "amount": str(amount)})
