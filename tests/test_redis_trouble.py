"""Whatever is wrong with Redis: each charge is refused in time, none is forwarded, and service comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import redis as redis_client

from tests.processes import IN_TIME, Process, redis_process, redis_url, temporary_folder, wait_for
from tests.redis_relay import RedisRelay
from tests.stack import CHARGE, Stack, VaultKey, cap, running_stack

PROMISED_S = 0.5
BACK_WITHIN_S = 5.0


@dataclass
class Site:
    """A running Spendgate whose Redis can be troubled."""

    stack: Stack
    redis: Process
    relay: RedisRelay
    key: VaultKey
    charged: int = 0
    runs: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    @property
    def client(self) -> Any:
        """A connection straight to Redis."""
        return redis_client.Redis.from_url(redis_url(self.redis), socket_timeout=30)

    def charge(self) -> httpx.Response:
        """Let an agent charge 19 dollars, in a run of its own."""
        with self.stack.agent(self.key, f"run-{next(self.runs)}") as agent:
            answer = agent.post("/charges", data=CHARGE)
        self.charged += answer.status_code == 200
        return answer


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """One Spendgate for all troubles: each must leave it well."""
    with (
        temporary_folder() as folder,
        redis_process(folder) as redis,
        RedisRelay(folder / "redis.sock") as relay,
        running_stack(folder, redis_at=relay.url, server_settings=IN_TIME) as stack,
    ):
        yield Site(stack, redis, relay, stack.key(caps=[cap(100_000_000)]))


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    """Redis does not run for a while."""
    site.redis.signal(signal.SIGSTOP)
    yield
    site.redis.signal(signal.SIGCONT)


@contextmanager
def killed(site: Site) -> Iterator[None]:
    """Redis is killed and started again."""
    site.redis.kill()
    yield
    site.redis.start()


@contextmanager
def blackholed(site: Site) -> Iterator[None]:
    """Nothing comes through any more, and nothing says so."""
    site.relay.swallow()
    yield
    site.relay.carry()


@contextmanager
def slow(site: Site) -> Iterator[None]:
    """Every reply takes a second."""
    with slow_by(site.relay, 1.0):
        yield


@contextmanager
def slow_by(relay: RedisRelay, delay_s: float) -> Iterator[None]:
    """Every reply takes so much longer."""
    relay.delay_s = delay_s
    yield
    relay.delay_s = 0.0


@contextmanager
def read_only(site: Site) -> Iterator[None]:
    """The Redis has become a replica."""
    with site.client as client:
        client.replicaof("127.0.0.1", 1)
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def out_of_memory(site: Site) -> Iterator[None]:
    """Redis has no memory left for more."""
    with site.client as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def busy(site: Site) -> Iterator[None]:
    """A script of somebody else does not end."""

    def loop() -> None:
        with site.client as client, suppress(redis_client.RedisError):
            client.eval("while true do end", 0)

    with site.client as client:
        client.config_set("lua-time-limit", 10)
        endless = threading.Thread(target=loop)
        endless.start()

        def is_busy() -> bool:
            try:
                client.ping()
            except redis_client.RedisError as error:
                return "BUSY" in str(error).upper()
            return False

        wait_for(is_busy, "Redis is busy")
        yield
        client.script_kill()
        endless.join()


TROUBLES: list[Callable[[Site], Any]] = [
    *(stopped, killed, blackholed, slow, read_only, out_of_memory, busy),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_redis_in_trouble_is_neither_free_money_nor_a_long_wait(
    shared_site: Site, trouble: Callable[[Site], Any]
) -> None:
    """Failure 8: 503 with a reason within half a second, nothing at Stripe, and back within five seconds."""
    site = shared_site
    assert site.charge().status_code == 200
    posts = len(site.stack.simulator.posts())
    with trouble(site):
        for _ in range(3):
            answer = site.charge()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "policy_unavailable")
            assert "No decision could be made, so the call was not sent" in answer.json()["error"]["message"]
            # The promise is half a second; a machine with much else to do gets as much again.
            assert answer.elapsed.total_seconds() < 2 * PROMISED_S
        assert len(site.stack.simulator.posts()) == posts
    ended_at = time.monotonic()
    wait_for(lambda: site.charge().status_code == 200, "service is back")
    assert time.monotonic() - ended_at < BACK_WITHIN_S
    assert len(site.stack.simulator.executed()) == site.charged


def test_a_forgotten_script_is_sent_anew(shared_site: Site) -> None:
    """SCRIPT FLUSH costs a round trip, and no call."""
    with shared_site.client as client:
        for _ in range(3):
            client.script_flush()
            assert shared_site.charge().status_code == 200
    assert len(shared_site.stack.simulator.executed()) == shared_site.charged


def test_a_slow_redis_is_waited_for_as_long_as_is_set() -> None:
    """One that answers later than by default it may is used, where both programs are told to wait."""
    patient = {"SPENDGATE_REDIS_TIMEOUT_MS": "5000"}
    with (
        temporary_folder() as folder,
        redis_process(folder),
        RedisRelay(folder / "redis.sock") as relay,
        running_stack(
            folder, redis_at=relay.url, server_settings=patient, decision_timeout_ms="10000"
        ) as stack,
    ):
        key = stack.key()
        with slow_by(relay, 0.3), stack.agent(key, "run-1") as agent:
            assert agent.post("/charges", data=CHARGE).status_code == 200
