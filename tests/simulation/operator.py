"""The operator: makes keys and budgets, changes and stops them, and restores a ledger that was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
from pydantic import SecretStr

from policy_server.composition import Core
from policy_server.core.continuity import OTHERS_LOOK_S
from policy_server.core.errors import SpendgateError
from policy_server.core.policy import Cap, Policy, RefundRule
from policy_server.core.window import Window
from spendgate.derived_keys import DerivationFailed, DerivedCap, derive_key, derived_key_id
from spendgate.v1 import ledger_service_pb2, ledger_service_pb2_grpc
from tests.simulation.loop import SimulatedProcess
from tests.simulation.losses import Snapshot

if TYPE_CHECKING:
    from tests.simulation.history import World

ADMIN_TOKEN = SecretStr("admin-token")
_REBUILD_TIMEOUT_S = 60.0
_REBUILDS_MAX = 30


@dataclass(frozen=True)
class Change:
    """What an operator changed. Each has one event of administration, in the same order."""

    kind: str
    key_id: str = ""
    policy: Policy | None = None
    budgets: dict[str, tuple[Cap, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Caveats:
    """What a key leaves of what its parent may do."""

    run_id: str
    expires_at_s: int | None
    allow: tuple[str, ...]
    caps: tuple[DerivedCap, ...]

    @classmethod
    def drawn(cls, chance: random.Random, now_ms: int) -> Caveats:
        """Draw some."""
        caps = [DerivedCap(window, chance.choice([100, 300, 1000]), "USD") for window in ("run", "total")] + [
            DerivedCap("total", chance.randint(1, 6)),
            DerivedCap("call", 250, "USD"),
        ]
        return cls(
            chance.choice(["", "run-1-agent-1", "run-2-agent-1", "run-1-agent-2"]),
            chance.choice([None, now_ms // 1000 + chance.randint(1, 40)]),
            chance.choice([(), ("* /v1/charges",), ("* /v1/charges/*", "* /v1/charges", "GET /v1/*")]),
            tuple(chance.sample(caps, chance.randint(0, 2))),
        )

    def derive(self, parent: str, number: int) -> str:
        """Return the key; the number makes it another one than any before."""
        return derive_key(
            parent, run_id=self.run_id, expires_at=self.expires_at_s, allow=self.allow, caps=self.caps,
            label=f"key {number}",
        )  # fmt: skip


class Operator:
    """Does one thing at a time, over a policy server of its own to which nothing happens."""

    def __init__(self, world: World, core: Core) -> None:
        self._world = world
        self._core = core
        self._administration = core.administration
        self.changes: list[Change] = []
        """What is in force, unless the ledger is lost: what was lost with one is taken out."""
        self.keys: list[str] = []
        """The vault keys, as agents hold them."""
        self.derived: dict[str, Caveats] = {}
        """What each derived key may do, by its public id."""
        self._key_ids: list[str] = []

    async def set_up(self, chance: random.Random) -> None:
        """Make a key or two, and perhaps a budget."""
        budget = chance.random() < 0.4
        if budget:
            await self._set_budget(chance)
        for number in range(chance.randint(1, 2)):
            policy = _draw_policy(chance, budget=budget)
            made = await self._administration.create_key(f"key-{number}", "default", policy)
            self.changes.append(Change("policy", made.key.key_id, policy))
            self.keys.append(made.key.text)
            self._key_ids.append(made.key.key_id)
        if chance.random() < 0.4:
            for _ in range(chance.randint(1, 3)):
                self._derive(chance)

    def _derive(self, chance: random.Random) -> None:
        """Derive a key from one that there is, as its holder could do anywhere."""
        caveats = Caveats.drawn(chance, self._world.now())
        try:
            text = caveats.derive(chance.choice(self.keys), len(self.keys))
        except DerivationFailed:
            return
        self.keys.append(text)
        self.derived[derived_key_id(text)] = caveats

    async def _set_budget(self, chance: random.Random) -> None:
        window = chance.choice([Window.DAY, Window.TOTAL])
        caps = (Cap(chance.choice([500, 1200, 4000]), window, "USD"),)
        await self._administration.set_budget("default", "team", caps)
        self.changes.append(Change("budgets", budgets={"team": caps}))

    async def act(self, kind: str, chance: random.Random) -> None:
        """Change or stop something."""
        acts = {"change a cap": self._change_a_cap, "freeze": self._freeze, "revoke": self._revoke,
                "let runs go on": self._let_runs_go_on}  # fmt: skip
        await acts[kind](chance)

    async def _change_a_cap(self, chance: random.Random) -> None:
        """Halve or double the caps of a key."""
        key_id = chance.choice(self._key_ids)
        if self._is_revoked(key_id):
            return
        old = next(one.policy for one in reversed(self.changes) if one.key_id == key_id and one.policy)
        caps = tuple(Cap(max(2, round(one.limit * chance.choice([0.5, 2]))), one.window, one.currency,
                         endpoints=one.endpoints) for one in old.caps)  # fmt: skip
        policy = replace(old, caps=caps)
        await self._administer(
            self._administration.update_policy(key_id, policy, 0), Change("policy", key_id, policy)
        )

    async def _freeze(self, chance: random.Random) -> None:
        """Stop everything for a while."""
        if await self._administer(self._administration.freeze("default", "looked odd"), Change("freeze")):
            await asyncio.sleep(chance.random() * 5)
            for _ in range(10):
                if await self._administer(self._administration.unfreeze("default"), Change("unfreeze")):
                    break
                await asyncio.sleep(1)

    async def _revoke(self, chance: random.Random) -> None:
        """End a key, or rather not; or a derived one alone."""
        if self.derived and chance.random() < 0.5:
            derived = chance.choice([key for key in self.keys if derived_key_id(key)])
            key_id, alone = derived[3:15], derived_key_id(derived)
            if not self._is_revoked(key_id) and not self._is_revoked(alone):
                work = self._administration.revoke_derived_key(key_id, alone)
                await self._administer(work, Change("revoke", alone))
        elif chance.random() < 0.3:
            key_id = chance.choice(self._key_ids)
            if not self._is_revoked(key_id):
                await self._administer(self._administration.revoke_key(key_id), Change("revoke", key_id))

    async def _let_runs_go_on(self, chance: random.Random) -> None:
        """Lift the freeze of some runs."""
        try:
            frozen = await self._administration.frozen_runs("default", 0, 100)
        except SpendgateError:
            return
        for run in frozen:
            if chance.random() < 0.7:
                work = self._administration.unfreeze_run(run.vault_key_id, run.run_id)
                await self._administer(work, Change("let a run go on"))

    def _is_revoked(self, key_id: str) -> bool:
        return any(one.kind == "revoke" and one.key_id == key_id for one in self.changes)

    async def _administer(self, work: Coroutine[Any, Any, object], change: Change) -> bool:
        """Change something; tell whether it was changed."""
        try:
            await self._core.continuity.watch()
            await work
        except SpendgateError as error:
            work.close()
            self._world.tell("operator", f"is told: {error.message}")
            return False
        self.changes.append(change)
        return True

    async def lose(self, kept: Snapshot | None, chance: random.Random) -> None:
        """Redis loses its data, somebody notices it sooner or later, and restores the ledger."""
        self._forget_lost(kept)
        lost_at_s = self._world.loop.time()
        await asyncio.sleep(chance.choice([0, 0.2, 2, 8]))
        losses = self._world.losses
        for _ in range(_REBUILDS_MAX):
            if not losses.is_lost:
                break
            at_once = [asyncio.ensure_future(self._rebuild()) for _ in range(chance.choice([1, 1, 2, 3]))]
            if losses.generation < 3 and chance.random() < 0.1:
                await asyncio.sleep(chance.random() * 0.1)
                self._forget_lost(None)
            all_have_looked = self._world.loop.time() - lost_at_s > 2 * OTHERS_LOOK_S
            codes = await asyncio.gather(*at_once)
            present = grpc.StatusCode.FAILED_PRECONDITION in codes
            if present and all_have_looked and not losses.all[-1].is_noticeable:
                losses.give_up()
            await asyncio.sleep(chance.choice([0, 0.2, 1, 3]))

    def _forget_lost(self, kept: Snapshot | None) -> None:
        loss = self._world.losses.lose(kept)
        if kept is not None:
            # It is another Redis, and the first connection to it says so.
            self._world.redis.replaced()
            for node in self._world.servers:
                node.core.continuity.store_changed()
        what = "is emptied" if kept is None else f"is set back to event {kept.number}"
        numbers = ", ".join(str(event.number) for event in loss.lost) or "none"
        self._world.tell("Redis", f"{what}; lost for good: {numbers}")
        changes = sum(event.changes_rules for event in loss.lost)
        del self.changes[len(self.changes) - changes :]

    async def _rebuild(self) -> grpc.StatusCode | None:
        """Ask some policy server for a rebuild; return what went wrong."""
        channel = self._world.policy.channel(SimulatedProcess("operator"))
        stub: Any = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        try:
            rebuilt = await stub.RebuildLedger(
                ledger_service_pb2.RebuildLedgerRequest(),
                timeout=_REBUILD_TIMEOUT_S,
                metadata=(("authorization", f"Bearer {ADMIN_TOKEN.get_secret_value()}"),),
            )
        except grpc.aio.AioRpcError as error:
            self._world.tell("operator", f"hears of a rebuild: {error.code().name}: {error.details()}")
            return error.code()
        self._world.tell(
            "operator", f"hears of a rebuild up to {rebuilt.sequence}, {rebuilt.lost_events} lost"
        )
        return None


def _draw_policy(chance: random.Random, *, budget: bool) -> Policy:
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
    return Policy(
        allow=("* /v1/*",),
        caps=tuple(caps),
        refunds=rule,
        budgets=budgets,
        repeated_refusals_max=chance.choice([0, 2, 3, 10]),
    )
