"""One history: who takes part, what happens to them, and what is left to look at afterwards."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from pydantic import SecretStr

from policy_server.composition import Core
from policy_server.core.errors import SpendgateError
from policy_server.core.policy import Cap, Policy, RefundRule
from policy_server.core.window import Window
from policy_server.rpc.interceptors import Guard
from policy_server.rpc.policy_service import PolicyServicer
from policy_server.store.connection import TIMEOUT_MS
from policy_server.store.scripts import newest_event
from sidecar import gate
from sidecar.decisions import Decisions
from sidecar.exchange import Answer, Request
from sidecar.gate import SEND_WITHIN_S, Gate
from sidecar.outbox import Outbox
from sidecar.paced import PacedReads
from sidecar.policy_link import PolicyLink
from sidecar.reconciler import Reconciler
from sidecar.stripe.vendor import Stripe
from spendgate.v1 import policy_service_pb2_grpc
from stripe_simulator.api import StripeApi
from stripe_simulator.clock import Clock
from tests.simulation.agents import Agent
from tests.simulation.archive_link import ArchiveFile, DrainerNode
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimulatedLoop, SimulatedProcess
from tests.simulation.policy_link import PolicyNetwork, RpcServer
from tests.simulation.redis_link import RedisLink, Store
from tests.simulation.stripe_link import STRIPE_KEY, StripeNetwork
from tests.world import DAY, HOUR, MINUTE, NOON, RETENTION_MS, SECOND, NothingArchived

HOLD_TTL_MS = 30 * SECOND
STRIPE_TIMEOUT_S = 20.0
DECISION_TIMEOUT_S = 0.45
QUIET_S = 600.0
READS_PER_S = 5.0
AGENTS_MAX = 4
_SIDECAR_TOKEN, _ADMIN_TOKEN = SecretStr("sidecar-token"), SecretStr("admin-token")
_SKEW_MAX_MS = 20 * MINUTE
"""By how much the store's clock may be wrong; a step of twice as much is far more than the quiet time."""

_EXPIRE_EVERY_S = 4.0
_RECONCILE_EVERY_S = 10.0
_RECONCILE_PAUSE_MAX_S = 1.5 * 900
"""How long a reconciler waits at most that could not ask Stripe."""

_STRIPE = Stripe()

SEQUENCE = "spendgate:{default}:sequence"
AUDIT = "spendgate:{default}:audit"


@dataclass(frozen=True)
class Wanted:
    """Which history to tell, and how much of it."""

    seed: int
    faults: frozenset[str] | None = None
    """Only these; None for all that are drawn."""
    agents: frozenset[int] | None = None
    """Only these of those that are drawn, by number; None for all."""
    unusual: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Change:
    """What an operator changed. Each has one event of administration, in the same order."""

    kind: str
    key_id: str = ""
    policy: Policy | None = None
    budgets: dict[str, tuple[Cap, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of the timeline."""

    at_s: float
    who: str
    what: str


class ServerNode:
    """A policy server that is started again whenever it has died."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"server-{number}"
        self.clock_ms = 0
        """By how much its clock is wrong."""
        self.start()

    def start(self) -> None:
        """Begin with nothing in memory."""
        world = self.world
        self.process = SimulatedProcess(self.name)
        self.process.when_killed.append(self._died)
        client = world.redis.client(self.process)
        core = Core(
            *(client, NothingArchived(), self._now),
            hold_ttl_ms=HOLD_TTL_MS,
            retention_ms=RETENTION_MS,
            store_clock=world.store_now,
        )
        self._settler = core.settler
        guard = Guard(admin_token=_ADMIN_TOKEN, sidecar_token=_SIDECAR_TOKEN)
        self.rpc: Any = RpcServer(self.process, guard)
        servicer = PolicyServicer(core.authorizer, core.settler, store_timeout_ms=TIMEOUT_MS)
        policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, self.rpc)
        self.process.spawn(self._expire_holds())
        self.process.spawn(DrainerNode(world.archive, world.faults, world.now).run())
        world.policy.servers = [node.rpc for node in [*world.servers, self] if node.process.alive]

    def _now(self) -> int:
        return self.world.now() + self.clock_ms

    async def _expire_holds(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRE_EVERY_S)
            try:
                await self._settler.expire_holds()
            except SpendgateError:
                continue

    def _died(self) -> None:
        self.world.tell(self.name, "is killed")
        self.world.loop.later(self.world.chance.choice([0.05, 1, 8]), self._start_again)

    def _start_again(self) -> None:
        self.world.tell(self.name, "starts again")
        self.start()


class SidecarNode:
    """A sidecar that is started again whenever it has died."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"sidecar-{number}"
        self.start()

    def start(self) -> None:
        """Begin with nothing in memory."""
        world = self.world
        self.process = SimulatedProcess(self.name)
        self.process.when_killed.append(self._died)
        link = PolicyLink(world.policy.channel(self.process), _SIDECAR_TOKEN)
        self.outbox = Outbox(link)
        decisions = Decisions(link, timeout_s=DECISION_TIMEOUT_S)
        upstream = world.stripe.upstream(self.process, STRIPE_TIMEOUT_S)
        self._gate = Gate(_STRIPE, decisions, self.outbox, upstream)
        self.handling: set[asyncio.Task[Answer]] = set()
        self.process.spawn(self.outbox.run())
        reads = PacedReads(world.stripe.upstream(self.process, STRIPE_TIMEOUT_S), per_second=READS_PER_S)
        vendors = [(_STRIPE, reads, upstream.sender)]
        self.process.spawn(
            Reconciler(link, vendors, quiet_s=QUIET_S, clock_s=world.loop.time).run(_RECONCILE_EVERY_S)
        )

    def handle(self, request: Request, answered: Callable[[asyncio.Future[Answer]], None]) -> None:
        """Take a request in."""
        task = self.process.spawn(self._gate.handle(request))
        self.handling.add(task)
        task.add_done_callback(self.handling.discard, context=self.process.context)
        task.add_done_callback(answered, context=self.process.context)

    def _died(self) -> None:
        self.world.tell(self.name, "is killed")
        self.handling = set()
        self.world.loop.later(self.world.chance.choice([0.05, 1, 8]), self._start_again)

    def _start_again(self) -> None:
        self.world.tell(self.name, "starts again")
        self.start()


class World:
    """Everybody in one history."""

    def __init__(self, wanted: Wanted, loop: SimulatedLoop, store: Store, archive: ArchiveFile) -> None:
        self.wanted = wanted
        self.loop = loop
        self.store = store
        self.archive = archive
        seed = wanted.seed
        self.chance = random.Random(f"{seed} world")
        self.timeline: list[Line] = []
        self.faults = Faults(
            seed,
            tell=lambda name, kind: self.tell(f"  fault {name}", kind),
            only=wanted.faults,
            unusual=wanted.unusual,
        )
        self._begun_ms = NOON + self.chance.choice([0, 12 * HOUR - 10 * SECOND, HOUR - 2 * SECOND])
        self._passed_ms = 0
        self._store_ms = 0
        self.api = StripeApi(frozenset({STRIPE_KEY}), clock=Clock(lambda: self.now() / 1000), seed=seed)
        self.redis = RedisLink(store, self.faults, loop, seed, self.tell)
        self.policy = PolicyNetwork(self.faults, loop, seed)
        self.stripe = StripeNetwork(self.api, self.faults, loop, seed, self.tell)
        self.stripe.when_received = self._note_post
        self.recorded_before: dict[int, int] = {}
        """For each POST at Stripe the number of the newest audit event when it arrived."""
        self.servers: list[ServerNode] = []
        self.sidecars: list[SidecarNode] = []
        self.agents: list[Agent] = []
        self.changes: list[Change] = []
        self.key_ids: list[str] = []
        self._keys: list[str] = []
        calm = Faults(seed, tell=self.tell)
        link = RedisLink(store, calm, loop, seed, lambda who, what: None).client(SimulatedProcess("operator"))
        self._operator = Core(
            *(link, NothingArchived(), self.store_now),
            hold_ttl_ms=HOLD_TTL_MS,
            retention_ms=RETENTION_MS,
            store_clock=self.store_now,
        ).administration
        self._policies: dict[str, Policy] = {}
        self._over = False

    def tell(self, who: str, what: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(Line(self.loop.time(), who, what))

    def now(self) -> int:
        """The right time."""
        return self._begun_ms + self._passed_ms + round(self.loop.time() * 1000)

    def store_now(self) -> int:
        """The time by the store's clock."""
        return self.now() + self._store_ms

    def _note_post(self, number: int) -> None:
        self.recorded_before[number] = newest_event(self.store.ask("GET", SEQUENCE) or "0")[0]

    async def run(self) -> None:
        """Tell the whole history."""
        self.store.ask("FLUSHALL")
        self.store.ask("SCRIPT", "FLUSH")
        self.archive.empty()
        chance = self.chance
        for number in range(chance.randint(1, 2)):
            self.servers.append(ServerNode(self, number + 1))
        for number in range(chance.randint(1, 2)):
            self.sidecars.append(SidecarNode(self, number + 1))
        await self._set_up_keys()
        agents = [
            Agent(f"agent-{n + 1}", self.wanted.seed, self._keys, self._ask, self.tell)
            for n in range(AGENTS_MAX)
        ]
        drawn = agents[: chance.randint(1, AGENTS_MAX)]
        self.agents = [
            agent
            for n, agent in enumerate(drawn)
            if self.wanted.agents is None or n + 1 in self.wanted.agents
        ]
        self.faults.healed = False
        breaking = self.loop.create_task(self._break_things())
        living = [SimulatedProcess(agent.name).spawn(agent.live()) for agent in self.agents]
        await asyncio.gather(*living)
        self._over = True
        await breaking
        await self._calm_down()

    async def _calm_down(self) -> None:
        """Let nothing break any more, and wait until all is delivered and every deadline has passed."""
        self.tell("world", "nothing breaks any more")
        self.faults.healed = True
        await asyncio.sleep(40)
        for _ in range(100):
            if not any(node.outbox.waiting or node.handling for node in self.sidecars):
                break
            await asyncio.sleep(1)
        self._passed_ms += HOLD_TTL_MS + 2 * _SKEW_MAX_MS
        await asyncio.sleep(2 * _EXPIRE_EVERY_S)
        self.loop.skip(_RECONCILE_PAUSE_MAX_S)
        await asyncio.sleep(2 * _RECONCILE_EVERY_S)
        # Now each reconciler has seen all that is unresolved, and at the end of this absence counts.
        self.loop.skip(SEND_WITHIN_S + QUIET_S)
        await asyncio.sleep(4 * _RECONCILE_EVERY_S)

    async def _set_up_keys(self) -> None:
        chance = self.chance
        budget = chance.random() < 0.4
        if budget:
            await self._set_budget()
        for number in range(chance.randint(1, 2)):
            policy = self._draw_policy(budget=budget)
            made = await self._operator.create_key(f"key-{number}", "default", policy)
            self._policies[made.key.key_id] = policy
            self.changes.append(Change("policy", made.key.key_id, policy))
            self._keys.append(made.key.text)
            self.key_ids.append(made.key.key_id)

    def _draw_policy(self, *, budget: bool) -> Policy:
        chance = self.chance
        limits = [300, 600, 1500, 5000]
        windows = chance.sample([Window.DAY, Window.RUN, Window.HOUR, Window.TOTAL], chance.randint(1, 3))
        caps = [Cap(chance.choice(limits), window, "USD") for window in windows]
        if chance.random() < 0.3:
            caps.append(Cap(chance.randint(2, 12), chance.choice([Window.RUN, Window.DAY])))
        if chance.random() < 0.2:
            caps.append(Cap(chance.choice([100, 400]), Window.CALL, "USD"))
        rule = RefundRule.COUNTED
        if chance.random() < 0.3:
            rule = RefundRule.OWN_CAP
            caps.append(Cap(chance.choice(limits), Window.DAY, "USD", endpoints=("POST /v1/refunds",)))
        budgets = ("team",) if budget and chance.random() < 0.8 else ()
        return Policy(allow=("* /v1/*",), caps=tuple(caps), refunds=rule, budgets=budgets)

    async def _set_budget(self) -> None:
        window = self.chance.choice([Window.DAY, Window.TOTAL])
        caps = (Cap(self.chance.choice([500, 1200, 4000]), window, "USD"),)
        await self._operator.set_budget("default", "team", caps)
        self.changes.append(Change("budgets", budgets={"team": caps}))

    async def _ask(self, request: Request) -> Answer:
        """Bring an agent's request to some sidecar, and the answer back."""
        node = self.chance.choice(self.sidecars)
        fault = self.faults.draw("agent")
        kind = fault.kind if fault else ""
        reply: asyncio.Future[Answer] = self.loop.create_future()
        there = self.chance.random() * 0.01
        if fault and kind == "send late":
            there += fault.chance.choice([0.5, 5, 60])
        if kind == "lose the request":
            self.loop.later(there, _break, reply)
        else:
            self.loop.later(there, self._arrive, node, request, reply, fault)
        if fault and kind == "deliver twice":
            again = there + fault.chance.choice([0, 0.3, 20])
            self.loop.later(again, self._arrive, node, request, self.loop.create_future(), None)
        if fault and kind == "hang up":
            self.loop.later(there + fault.chance.choice([0.001, 0.05, 0.3]), _break, reply)
        return await reply

    def _arrive(
        self, node: SidecarNode, request: Request, reply: asyncio.Future[Answer], fault: Fault | None
    ) -> None:
        if not node.process.alive:
            _break(reply)
            return
        back = self.chance.random() * 0.01
        if fault and fault.kind == "answer late":
            back += fault.chance.choice([0.5, 5, 60])

        def answered(task: asyncio.Future[Answer]) -> None:
            if task.cancelled():
                return
            if fault and fault.kind == "lose the reply":
                self.loop.later(back, _break, reply)
            else:
                self.loop.later(back, _resolve, reply, task.result())

        node.process.when_killed.append(lambda: self.loop.later(0.001, _break, reply))
        node.handle(request, answered)

    async def _break_things(self) -> None:
        while not self._over:
            await asyncio.sleep(self.chance.random() * 3)
            fault = self.faults.draw("world", min(0.5, self.faults.rate * 3))
            if fault is not None:
                await self._happen(fault)

    async def _happen(self, fault: Fault) -> None:
        chance = fault.chance
        match fault.kind:
            case "kill a sidecar":
                _kill(chance.choice(self.sidecars).process)
            case "kill a server":
                _kill(chance.choice(self.servers).process)
            case "move the store's clock":
                await self._move_the_store_s_clock(chance)
            case "move a server's clock":
                chance.choice(self.servers).clock_ms = chance.choice(
                    [-DAY, -HOUR, -SECOND, SECOND, HOUR, DAY]
                )
            case "let hours pass":
                await self._let_hours_pass(chance.choice([1, 12, 22, 23, 25, 49]))
            case "change a cap":
                await self._change_a_cap(chance)
            case "freeze":
                await self._freeze(chance)
            case "revoke":
                if chance.random() < 0.3:
                    key_id = chance.choice(self.key_ids)
                    if not any(one.kind == "revoke" and one.key_id == key_id for one in self.changes):
                        await self._administer(self._operator.revoke_key(key_id), Change("revoke", key_id))
            case "flush the store":
                self.store.ask("FLUSHALL")

    async def _move_the_store_s_clock(self, chance: random.Random) -> None:
        """Anyhow, or where it hurts most: forward, while a call is on its way to Stripe."""
        if chance.random() < 0.5:
            self._store_ms = chance.randint(-_SKEW_MAX_MS, _SKEW_MAX_MS)
            return
        self._store_ms = -_SKEW_MAX_MS
        for _ in range(200):
            if self.stripe.late:
                break
            await asyncio.sleep(0.1)
        self.tell("world", "the store's clock is set forward")
        self._store_ms = _SKEW_MAX_MS

    async def _let_hours_pass(self, hours: int) -> None:
        """Only while nothing is on its way to Stripe: no network keeps a packet for hours."""
        for _ in range(200):
            if not self.stripe.on_their_way and not any(node.handling for node in self.sidecars):
                self.tell("world", f"{hours} hours pass")
                self.loop.skip(hours * HOUR / 1000)
                return
            await asyncio.sleep(0.1)

    async def _change_a_cap(self, chance: random.Random) -> None:
        key_id = chance.choice(self.key_ids)
        if any(one.kind == "revoke" and one.key_id == key_id for one in self.changes):
            return
        old = self._policies[key_id]
        caps = tuple(Cap(max(2, round(one.limit * chance.choice([0.5, 2]))), one.window, one.currency,
                         endpoints=one.endpoints) for one in old.caps)  # fmt: skip
        policy = Policy(allow=old.allow, caps=caps, refunds=old.refunds, budgets=old.budgets)
        work = self._operator.update_policy(key_id, policy, 0)
        if await self._administer(work, Change("policy", key_id, policy)):
            self._policies[key_id] = policy

    async def _freeze(self, chance: random.Random) -> None:
        if await self._administer(self._operator.freeze("default", "looked odd"), Change("freeze")):
            await asyncio.sleep(chance.random() * 5)
            for _ in range(10):
                if await self._administer(self._operator.unfreeze("default"), Change("unfreeze")):
                    break
                await asyncio.sleep(1)

    async def _administer(self, work: Coroutine[Any, Any, object], change: Change) -> bool:
        """Let an operator change something; tell whether it was changed."""
        try:
            await work
        except SpendgateError as error:
            self.tell("operator", f"is told: {error.message}")
            return False
        self.changes.append(change)
        return True


def _kill(process: SimulatedProcess) -> None:
    if process.alive:
        process.kill()


def _break(reply: asyncio.Future[Answer]) -> None:
    if not reply.done():
        reply.set_exception(ConnectionResetError())
        reply.exception()


def _resolve(reply: asyncio.Future[Answer], answer: Answer) -> None:
    if not reply.done():
        reply.set_result(answer)


@contextmanager
def _nothing_from_outside(seed: int) -> Iterator[None]:
    """Make what programs draw for names and secrets come from the seed, and keep their logs quiet."""
    chance = random.Random(f"{seed} secrets")
    logging.disable(logging.CRITICAL)
    drawn = random.getstate()
    random.seed(seed)
    with (
        mock.patch.object(secrets, "token_bytes", lambda size=32: chance.randbytes(size)),
        mock.patch.object(gate, "_clock_s", lambda: asyncio.get_running_loop().time()),
        mock.patch.object(secrets, "token_hex", lambda size=32: chance.randbytes(size).hex()),
    ):
        try:
            yield
        finally:
            random.setstate(drawn)
            logging.disable(logging.NOTSET)


def tell(
    wanted: Wanted,
    store: Store,
    archive: ArchiveFile,
    check: Callable[[World], None],
    begun: Callable[[World], None] = lambda world: None,
) -> World:
    """Tell one history, and look at what is left with ``check``; ``begun`` is given its world at once."""
    loop = SimulatedLoop(wanted.seed)
    with _nothing_from_outside(wanted.seed):
        try:
            world = World(wanted, loop, store, archive)
            begun(world)
            asyncio.set_event_loop(loop)
            loop.run_until_complete(world.run())
            check(world)
            return world
        finally:
            loop.end()
            asyncio.set_event_loop(None)
