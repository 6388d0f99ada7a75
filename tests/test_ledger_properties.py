"""The scripts do, step by step, what a ledger in plain Python does, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from policy_server.core.errors import HoldClosed
from policy_server.core.types import Amount, Outcome, SpendCall, Verdict
from policy_server.core.window import Window
from tests.ledger_model import Counter, Decision, Effect, LedgerModel, Report
from tests.processes import Process, redis_url
from tests.world import CHARGES, DAY, HOLD_TTL_MS, HOUR, MINUTE, World, calls, key_id, usd

T = TypeVar("T")

RUNS = st.sampled_from(["a", "b"])
STEPS = st.sampled_from(["", "1", "2", "3", "4"])
OBJECTS = st.sampled_from(["", "pi_1", "pi_1", "pi_2"])
AMOUNTS = st.sampled_from([0, 1, 30, 50, 100])
ASKED = st.sampled_from([0, 1, 30, 50, 100, None])
"""What a call asks for; None when nobody can tell."""
RARELY = st.sampled_from([False] * 9 + [True])


class LedgerMachine(RuleBasedStateMachine):
    """One vault key, a few runs and objects, and a clock that moves over deadlines and days."""

    def __init__(self, url: str) -> None:
        super().__init__()
        with redis.Redis.from_url(url) as client:
            client.flushall()
        self.runner = asyncio.Runner()
        self.world = self.run(self._world(url))
        self.model = LedgerModel(HOLD_TTL_MS)
        self.limits = {"usd/run": 120, "calls/run": 6, "usd/day": 150, "usd/total": 300}
        self.highest = dict(self.limits)
        self.policy: dict[str, Any] = {"unpriced": (CHARGES,)}
        self.key = self.run(self.world.key(*self.caps, **self.policy))
        self.verdicts: dict[Effect, Verdict] = {}
        self.asked: dict[Effect, tuple[int | None, str]] = {}

    async def _world(self, url: str) -> World:
        return World(url)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the real ledger."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Give back what an example used."""
        self.run(self.world.close())
        self.runner.close()

    @property
    def caps(self) -> list[Any]:
        """The caps as they are now, in the order in which they are tested."""
        return [
            usd(self.limits["usd/run"], Window.RUN),
            calls(self.limits["calls/run"], Window.RUN),
            usd(self.limits["usd/day"]),
            usd(self.limits["usd/total"], Window.TOTAL),
        ]

    @rule(run=RUNS, step=STEPS, amount=ASKED, object_id=OBJECTS)
    def authorize(self, run: str, step: str, amount: int | None, object_id: str) -> None:
        """Ask both; they decide alike."""
        money = None if amount is None else Amount(amount, "USD")
        call = SpendCall(
            self.key,
            CHARGES,
            money,
            run,
            step=step,
            object_id=object_id,
            moves_money=True,
            unpriced=money is None,
        )
        verdict = self.run(self.world.server.decide(call))
        effect = (run, step)
        expected = self.model.authorize(
            self.world.now_ms, self.caps, effect, amount=amount, object_id=object_id
        )
        assert expected == Decision(
            verdict.allowed,
            str(verdict.reason or ""),
            verdict.rule,
            verdict.attempt,
            str(verdict.replay or ""),
            verdict.object_id,
        )
        if verdict.allowed:
            self.verdicts[effect] = verdict
            self.asked[effect] = (amount, object_id)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Repeat a call that was allowed before, as it was."""
        effect = data.draw(st.sampled_from(sorted(self.asked)))
        self.authorize(*effect, *self.asked[effect])

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), amount=AMOUNTS)
    def finish_at(self, data: st.DataObject, amount: int) -> None:
        """Let the vendor answer with a total for the object, as its calls mostly end."""
        effect = data.draw(st.sampled_from(sorted(self.asked)))
        self.report(effect, Report(self.verdicts[effect].attempt, "succeeded", amount, "pi_1"))

    @precondition(lambda self: self.verdicts)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(Outcome),
        amount=st.none() | AMOUNTS,
        object_id=OBJECTS,
        counted_object_id=st.just("") | OBJECTS,
        late=RARELY,
        stale=RARELY,
    )
    def settle(
        self, data: st.DataObject, outcome: Outcome, amount: int | None, late: bool, **more: Any
    ) -> None:
        """Report to both, at times about another attempt; they come to the same state."""
        effect = data.draw(st.sampled_from(sorted(self.verdicts)))
        attempt = self.verdicts[effect].attempt
        if late:
            attempt = attempt - 1 or attempt + 1
        amount = amount if outcome is Outcome.SUCCEEDED else None
        self.report(effect, Report(attempt, str(outcome), amount, **more))

    def report(self, effect: Effect, report: Report) -> None:
        """Settle on both sides."""
        expected = self.model.settle(effect, report)
        more = asdict(report)
        outcome, amount = Outcome(more.pop("outcome")), more.pop("amount")
        try:
            result = self.run(self.world.settle(self.verdicts[effect], amount, outcome, **more))
            assert (str(result.state), result.overrun) == expected
        except HoldClosed:
            assert expected is None

    @rule(object_id=st.sampled_from(["pi_1", "pi_2", "pi_3"]), amount=AMOUNTS)
    def observe(self, object_id: str, amount: int) -> None:
        """Tell both what an object commits for good; a change is recorded with whether it is an overrun."""
        expected = self.model.observe(object_id, amount)
        recorded = self.run(self.world.observe(self.key, object_id, amount))
        assert recorded == ([] if expected is None else [expected])

    @rule(by_ms=st.sampled_from([1, MINUTE, HOLD_TTL_MS, HOUR, 23 * HOUR, DAY]))
    def let_time_pass(self, by_ms: int) -> None:
        """Move the clock, over deadlines, days and the vendor's memory."""
        self.world.now_ms += by_ms

    @rule()
    def go_to_midnight(self) -> None:
        """Move the clock to the last millisecond of the day."""
        self.world.now_ms += DAY - self.world.now_ms % DAY - 1

    @rule()
    def sweep(self) -> None:
        """Let the sweeper mark overdue holds."""
        assert self.run(self.world.server.settler.expire_holds()) == self.model.expire(self.world.now_ms)

    @rule(
        cap=st.sampled_from(["usd/run", "calls/run", "usd/day", "usd/total"]),
        factor=st.sampled_from([1, 2, 5]),
    )
    def change_a_cap(self, cap: str, factor: int) -> None:
        """Raise or lower one limit."""
        self.limits[cap] = {"usd/run": 60, "calls/run": 3, "usd/day": 75, "usd/total": 150}[cap] * factor
        self.highest[cap] = max(self.highest[cap], self.limits[cap])
        self.run(self.world.change(self.key, *self.caps, **self.policy))

    @invariant()
    def counts_are_equal(self) -> None:
        """Every counter that either side keeps is the same on the other."""
        expected = {
            counter: (count.settled, count.held)
            for counter, count in self.model.counts.items()
            if count.settled or count.held
        }
        assert self._real_counts() == expected

    @invariant()
    def holds_are_equal(self) -> None:
        """Every effect is in the same state on both sides."""
        for effect, verdict in self.verdicts.items():
            real, expected = self.run(self.world.hold(verdict)), self.model.holds[effect]
            assert (real["state"], int(real["attempt"]), int(real["amount"])) == (
                expected.state,
                expected.attempt,
                expected.amount,
            )

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        """Settled and held stay within the highest limit there was, but for what is flagged."""
        for (cap, span), (settled, held) in self._real_counts().items():
            assert settled >= 0
            assert held >= 0
            excess = self.model.excess.get((cap, span), 0)
            assert settled + held <= self.highest[cap] + excess

    def _real_counts(self) -> dict[Counter, tuple[int, int]]:
        return self.run(self._read_counts())

    async def _read_counts(self) -> dict[Counter, tuple[int, int]]:
        prefix = f"spendgate:{{default}}:count:{key_id(self.key)}:"
        found: dict[Counter, tuple[int, int]] = {}
        for name in await self.world.redis.keys("*:count:*"):
            assert name.startswith(prefix)
            cap, _, span = name.removeprefix(prefix).partition(":")
            settled, held = await self.world.redis.hmget(name, ["settled", "held"])
            if int(settled or 0) or int(held or 0):
                found[cap, span] = (int(settled or 0), int(held or 0))
        return found


@pytest.mark.timeout(400)  # a failure is made small before it is shown, which takes its time
def test_the_scripts_do_what_the_model_does(redis_server: Process) -> None:
    """Counters, holds and decisions are those of the model after every step, and no cap is exceeded."""

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(redis_url(redis_server))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
