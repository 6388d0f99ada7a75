"""Spendgate on a Redis Cluster: a master is killed and a slot is moved under load, and no promise breaks."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from policy_server.store.scripts import newest_event
from spendgate.v1.ledger_service_pb2 import RebuildLedgerRequest
from tests.processes import temporary_folder, wait_for
from tests.redis_cluster import Cluster, redis_cluster
from tests.rpc import calling
from tests.stack import CHARGE, Stack, VaultKey, cap, running_stack

WORKERS = 4
ROOT = "spendgate:{default}:"

Site = tuple[Cluster, Stack]


@contextmanager
def running(**server_settings: str) -> Iterator[Site]:
    """Two policy servers, two sidecars and a cluster."""
    with (
        temporary_folder() as folder,
        redis_cluster(folder) as cluster,
        running_stack(
            folder, servers=2, sidecars=2, redis_at=cluster.url, server_settings=server_settings
        ) as stack,
    ):
        yield cluster, stack


def archived(nodes: Cluster) -> None:
    """Wait until every event is in the archive."""
    with nodes.client() as client:

        def is_so() -> bool:
            newest, _ = newest_event(client.get(f"{ROOT}sequence") or "0")
            return int(client.hget(f"{ROOT}archived", "sequence") or 0) == newest

        wait_for(is_so, "every event is archived")


class Load:
    """Agents that charge again and again, each with a name of its own for every charge."""

    def __init__(self, stack: Stack, key: VaultKey) -> None:
        self.stack = stack
        self.key = key
        self.answers: Counter[tuple[int, str]] = Counter()
        self.stopping = threading.Event()

    def work(self, worker: int) -> None:
        """Charge until told to stop, and each charge until it is decided."""
        number = 0
        while not self.stopping.is_set():
            number += 1
            with self.stack.agent(self.key, f"run-{worker}-{number}", sidecar=worker % 2) as agent:
                for _ in range(3):  # a repeat of one intention is no second charge
                    answer = agent.post("/charges", data=CHARGE)
                    code = "" if answer.status_code == 200 else answer.json()["error"]["code"]
                    self.answers[answer.status_code, code] += 1
                    if answer.status_code == 200:
                        break

    @property
    def charged(self) -> int:
        """How many charges went through so far."""
        return self.answers[200, ""]


@contextmanager
def load(stack: Stack, key: VaultKey) -> Iterator[Load]:
    """Charge as fast as it goes."""
    made = Load(stack, key)
    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(made.work, worker) for worker in range(WORKERS)]
        try:
            yield made
        finally:
            made.stopping.set()
        for worker in workers:
            worker.result()


def no_promise_is_broken(stack: Stack, key: VaultKey, limit: int) -> None:
    """No effect was carried out twice, all of them are counted, and together they are within the cap."""
    executed = stack.simulator.executed("/v1/charges")
    names = [request["idempotency_key"] for request in executed]
    assert len(names) == len(set(names))
    usage = stack.usage(key)
    assert len(executed) * 1900 <= usage.settled + usage.held <= limit


def test_a_slot_that_moves_under_load_breaks_no_promise() -> None:
    """While the account's keys are in two places calls are refused; then they go on at the other node."""
    with running() as (nodes, stack):
        key = stack.key(caps=[cap(100_000)])
        with load(stack, key) as under:
            for _ in range(3):
                before = under.charged
                wait_for(lambda before=before: under.charged > before + 2, "charges go through")
                source = nodes.master_of(f"{ROOT}account")
                target = next(node for node in nodes.masters() if node is not source)
                nodes.move(nodes.slot(f"{ROOT}account"), source, target)
            wait_for(lambda: under.answers[429, "spend_cap_exceeded"] > 0, "the cap is reached")
        assert set(under.answers) <= {
            *((200, ""), (503, "policy_unavailable"), (429, "spend_cap_exceeded")),
            (409, "idempotency_key_in_use"),
        }
        wait_for(lambda: settled_is_executed(stack, key), "all is settled")
        no_promise_is_broken(stack, key, 100_000)
        archived(nodes)


def settled_is_executed(stack: Stack, key: VaultKey) -> bool:
    """Whether what is settled is what moved."""
    return stack.usage(key).settled == 1900 * len(stack.simulator.executed("/v1/charges"))


def test_a_killed_master_loses_nothing_that_its_replica_had_to_have() -> None:
    """With WAIT no decision is answered that only one node has: a replica takes over, and calls go on."""
    with running(SPENDGATE_REDIS_WAIT_REPLICAS="1") as (nodes, stack):
        key = stack.key(caps=[cap(1_000_000_000)])
        with load(stack, key) as under:
            wait_for(lambda: under.charged > 10, "charges go through")
            master = nodes.master_of(f"{ROOT}account")
            master.process.kill()
            wait_for(lambda: nodes.master_has_moved(f"{ROOT}account", master), "the replica takes over")
            # It has no replica itself by now, so nothing can be decided.
            refused = under.answers[503, "policy_unavailable"]
            wait_for(lambda: under.answers[503, "policy_unavailable"] > refused + 5, "calls are refused")
            before = under.charged
            master.process.start()
            wait_for(lambda: under.charged > before + 3, "calls go on")
        assert not under.answers[503, "ledger_lost"]
        no_promise_is_broken(stack, key, 1_000_000_000)


def test_what_a_failover_lost_is_noticed_and_comes_back() -> None:
    """A replica that lacks decisions takes over: all is refused until the archive has restored them."""
    with running() as (nodes, stack):
        key = stack.key(caps=[cap(5_000)])
        with stack.agent(key, "run-1") as agent:
            assert agent.post("/charges", data=CHARGE).status_code == 200
        stack.settled(key, 1_900)
        master = nodes.master_of(f"{ROOT}account")
        replica = nodes.replica_of(master)
        replica.process.signal(signal.SIGSTOP)
        with master.client as client:  # else the replica finds what it lacks in its socket
            client.client_kill_filter(_type="replica")
        with stack.agent(key, "run-2") as agent:
            assert agent.post("/charges", data=CHARGE).status_code == 200
        stack.settled(key, 3_800)
        archived(nodes)
        master.process.kill()
        replica.process.signal(signal.SIGCONT)
        wait_for(lambda: nodes.master_has_moved(f"{ROOT}account", master), "the replica takes over")

        codes: set[str] = set()

        def is_noticed() -> bool:
            with stack.agent(key, "run-3") as agent:
                answer = agent.post("/charges", data=CHARGE)
            assert answer.status_code == 503
            codes.add(answer.json()["error"]["code"])
            return "ledger_lost" in codes

        wait_for(is_noticed, "what is missing is noticed")
        with calling(stack.policy_servers[0], "admin") as admin:
            rebuilt = admin(admin.ledgers.RebuildLedger, RebuildLedgerRequest(), 60)
        assert rebuilt.lost_events == 0
        assert stack.usage(key).settled == 3_800
        with stack.agent(key, "run-3") as agent:
            assert agent.post("/charges", data=CHARGE).status_code == 429
        archived(nodes)
