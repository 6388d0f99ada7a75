"""Programs are killed at each step of a call, under load, and started again.

A tap keeps the message of a step on its way while the program is killed, so
that the moment is chosen and not hit by chance. Afterwards nothing was paid
twice or beyond the cap, all of it is on record, and the count is what moved.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client

from policy_server.store.scripts import script
from tests.processes import (
    Process,
    ProcessFailed,
    policy_server_address,
    policy_server_process,
    redis_process,
    redis_url,
    temporary_folder,
    wait_for,
)
from tests.stack import Stack, VaultKey, cap, sidecar_process, simulator_process
from tests.tap import Tap

AGENTS = 4
CALLS_EACH = 6
AMOUNT = 100
CAP = 1_700
"""Less than all calls together, so that some are refused whatever happens."""

CHARGES = b"POST /v1/charges"
DECIDE, COUNT = script("authorize").sha.encode(), script("settle").sha.encode()

STEPS: dict[str, tuple[str, bytes, bool]] = {
    # What is kept: on which line, with which mark, and whether it is the reply to that.
    "before the policy server is asked": ("policy", CHARGES, False),
    "before Redis decides": ("redis", DECIDE, False),
    "after Redis has decided": ("redis", DECIDE, True),
    "after the hold": ("policy", CHARGES, True),
    "before Stripe is asked": ("stripe", CHARGES, False),
    "after send": ("stripe", CHARGES, True),
    "after reply": ("policy", b"az_", False),
    "before settle": ("redis", COUNT, False),
    "after settle": ("redis", COUNT, True),
}
PROGRAMS = ("sidecar", "policy server", "redis")

_numbers = itertools.count(1)


@dataclass
class Part:
    """A program that can be killed and is started again, behind a tap that knows where it is."""

    process: Process
    made: Any
    taps: list[Tap]

    def kill_and_start(self) -> None:
        """SIGKILL, and a new one in its place."""
        self.process.kill()
        self.process, target = self.made()
        for tap in self.taps:
            tap.target = target


class Lines:
    """Spendgate with a tap on every line between its programs."""

    def __init__(self, folder: Path, started: ExitStack) -> None:
        self.folder = folder
        self._started = started
        simulator = started.enter_context(simulator_process(folder))
        origin = simulator.found(r"listening on http://(\S+)")
        assert origin is not None
        self.taps = {"stripe": self._tapped(_address(origin))}
        self.parts = {
            name: self._part(line, made)
            for name, line, made in (
                ("redis", "redis", self._redis),
                ("policy server", "policy", self._policy_server),
                ("sidecar", "agents", self._sidecar),
            )
        }
        policy_server = self.parts["policy server"]
        self.stack = Stack(
            simulator,
            [policy_server.process],
            [self.parts["sidecar"].process],
            policy_address=policy_server.taps[1].address,
        )
        started.callback(self.stack.close)

    def _part(self, line: str, made: Any) -> Part:
        process, target = made()
        self.taps[line] = self._tapped(target, unix=line == "redis")
        part = Part(process, made, [self.taps[line]])
        if line == "policy":
            # Operators come by another line, on which nothing is kept.
            part.taps.append(self._tapped(target))
        self._started.callback(lambda: part.process.stop() if part.process.running else None)
        return part

    def _tapped(self, target: Any, *, unix: bool = False) -> Tap:
        listen = self.folder / "tap.sock" if unix else None
        return self._started.enter_context(Tap(target, listen=listen))

    def _redis(self) -> tuple[Process, Path]:
        return redis_process(self.folder).start(), self.folder / "redis.sock"

    def _policy_server(self) -> tuple[Process, tuple[str, int]]:
        while True:
            process = policy_server_process(
                self.folder,
                f"unix://{self.folder}/tap.sock",
                name=f"policy-server-{next(_numbers)}",
                env={"SPENDGATE_HOLD_TTL_S": "3"},
            )
            try:
                return process.start(), _address(policy_server_address(process))
            except ProcessFailed as failed:
                # It does not start while Redis is slow, which a busy machine makes it; one tries again.
                if "Redis does not answer" not in str(failed):
                    raise

    def _sidecar(self) -> tuple[Process, tuple[str, int]]:
        process = sidecar_process(
            self.folder,
            self.taps["policy"].address,
            f"http://{self.taps['stripe'].address}",
            name=f"sidecar-{next(_numbers)}",
            decision_timeout_ms="2000",
            stripe_timeout_s="2",
            reconcile_every_s="0.3",
            reconcile_quiet_s="1",
            reconcile_reads_per_s="20",
        ).start()
        origin = process.found(r"sidecar listens on http://(\S+) for")
        assert origin is not None
        return process, _address(origin)

    def agents(self, key: VaultKey) -> Load:
        """Agents that begin to pay."""
        return Load(self.agents_base, key)

    @property
    def agents_base(self) -> str:
        """Where agents find Stripe."""
        return f"http://{self.taps['agents'].address}/stripe/v1"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


class Load:
    """Agents that each make one call after the other, and repeat each until it is answered for good."""

    def __init__(self, base: str, key: VaultKey) -> None:
        self._base = base
        self._key = key
        self._prefix = f"load-{next(_numbers)}"
        self.paid: Counter[str] = Counter()
        """How often each run was told that it has paid."""
        self._threads = [
            threading.Thread(target=self._agent, args=(number,), daemon=True) for number in range(AGENTS)
        ]
        self._giving_up = threading.Event()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait until every agent has its answers."""
        for thread in self._threads:
            thread.join(60)
        if any(thread.is_alive() for thread in self._threads):
            self._giving_up.set()
            raise AssertionError("agents still wait for an answer")

    def _agent(self, number: int) -> None:
        for call in range(CALLS_EACH):
            self._until_answered(f"{self._prefix}-{number}-{call}")

    def _until_answered(self, run: str) -> None:
        headers = {"Authorization": f"Bearer {self._key.text}", "Spendgate-Run-Id": run}
        form = {"amount": str(AMOUNT), "currency": "usd", "source": "tok_visa"}
        while not self._giving_up.wait(0.05):
            try:
                answer = httpx.post(f"{self._base}/charges", headers=headers, data=form, timeout=10)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                self.paid[run] += 1
                return
            if answer.status_code == 429:
                return


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    """One Spendgate for all steps."""
    with temporary_folder() as folder, ExitStack() as started:
        yield Lines(folder, started)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("step", STEPS)
def test_a_program_killed_at_a_step_breaks_no_promise(lines: Lines, step: str, program: str) -> None:
    """While its message is kept the program is killed; the message is lost, and all goes on."""
    key = lines.stack.key(caps=[cap(CAP)], account=f"killed-{next(_numbers)}")
    lines.stack.simulator.reset()
    line, mark, reply = STEPS[step]
    with lines.taps[line].keeping(mark, reply=reply) as trap:
        load = lines.agents(key)
        trap.wait()
        lines.parts[program].kill_and_start()
    load.end()
    check_promises(lines, key, load)


@pytest.mark.parametrize("step", STEPS)
def test_agents_that_hang_up_at_a_step_break_no_promise(lines: Lines, step: str) -> None:
    """All of them hang up while a message is kept; it then goes on as if nothing had happened."""
    key = lines.stack.key(caps=[cap(CAP)], account=f"hung-up-{next(_numbers)}")
    lines.stack.simulator.reset()
    line, mark, reply = STEPS[step]
    with lines.taps[line].keeping(mark, reply=reply) as trap:
        load = lines.agents(key)
        trap.wait()
        lines.taps["agents"].cut()
        trap.lost = False
    load.end()
    check_promises(lines, key, load)


def test_a_decision_whose_reply_was_lost_belongs_to_the_repeat(lines: Lines) -> None:
    """The sidecar sent nothing for it, so the same call takes its hold over at once, and pays once."""
    key = lines.stack.key(caps=[cap(CAP)], account=f"lost-{next(_numbers)}")
    lines.stack.simulator.reset()
    base = lines.agents_base
    headers = {"Authorization": f"Bearer {key.text}", "Spendgate-Run-Id": "run-1"}
    form = {"amount": str(AMOUNT), "currency": "usd", "source": "tok_visa"}
    with httpx.Client(base_url=base, headers=headers, timeout=30) as agent:
        with lines.taps["policy"].keeping(CHARGES, reply=True):
            first = agent.post("/charges", data=form)
            assert first.status_code == 503
            assert lines.stack.usage(key).held == AMOUNT
        again = agent.post("/charges", data=form)
        while again.status_code == 503:  # a busy machine
            again = agent.post("/charges", data=form)
    assert (again.status_code, again.headers["Spendgate-Duplicate"]) == (200, "false")
    assert len(lines.stack.simulator.posts("/v1/charges")) == 1
    lines.stack.settled(key, AMOUNT)


def check_promises(lines: Lines, key: VaultKey, load: Load) -> None:
    """Check everything, once what is unknown was found out."""
    stack = lines.stack
    with redis_client.Redis.from_url(redis_url(lines.parts["redis"].process), decode_responses=True) as store:
        wait_for(lambda: not open_holds(store, key), "no hold is without an outcome")
        assert owned_holds(store, key) == set()
    spend_the_rest(lines, key)
    charges = [one for one in stack.simulator.executed("/v1/charges") if one["money"]]
    moved = AMOUNT * len(charges)
    assert moved == stack.simulator.committed <= CAP, "never over the cap"
    effects = Counter(one["idempotency_key"].partition("~")[0] for one in charges)
    assert set(effects.values()) <= {1}, "never twice"
    paid = {f"{run}:POST-/v1/charges" for run in load.paid}
    assert paid <= effects.keys(), "nobody was told of a payment that is none"
    usage = stack.usage(key)
    assert (usage.held, usage.settled) == (0, moved), "the count is what moved"
    assert moved == CAP, "what was not spent can be: no refusal while there is room"
    check_recorded(stack, key)


def spend_the_rest(lines: Lines, key: VaultKey) -> None:
    """Pay as long as the cap has room."""
    with lines.stack.agent(key) as agent:
        agent.base_url = httpx.URL(lines.agents_base)
        for number in itertools.count(1):
            agent.headers["Spendgate-Run-Id"] = f"rest-{number}"
            form = {"amount": str(AMOUNT), "currency": "usd", "source": "tok_visa"}
            answer = agent.post("/charges", data=form)
            if answer.status_code == 429:
                break
            assert answer.status_code == 200
    lines.stack.settled(key, CAP)


def check_recorded(stack: Stack, key: VaultKey) -> None:
    """Check that for every POST there is an earlier record that allowed it."""
    allowed: dict[tuple[str, int], float] = {}
    for event in stack.events(key):
        if event.decision == "allow" and not event.duplicate:
            allowed[event.authorization_id, event.attempt] = event.create_time.ToMilliseconds() / 1000
    for post in stack.simulator.posts("/v1/charges"):
        _, authorization, attempt = post["idempotency_key"].split("~")
        # The simulator's clock counts whole seconds.
        assert allowed[authorization, int(attempt)] < post["time"] + 1, "never unrecorded"


def open_holds(store: Any, key: VaultKey) -> set[str]:
    """The holds of a key's account that count, as the holds themselves say."""
    root = f"spendgate:{{{key.account}}}:hold:"
    return {
        name.removeprefix(root)
        for name in store.scan_iter(f"{root}*", count=1000)
        if store.hget(name, "state") in {"held", "unknown"}
    }


def owned_holds(store: Any, key: VaultKey) -> set[str]:
    """The holds of a key's account that somebody will look for."""
    return set(store.zrange(f"spendgate:{{{key.account}}}:deadlines", 0, -1))
