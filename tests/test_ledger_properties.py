"""The scripts do, step by step, what a ledger in plain Python does, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
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
from policy_server.core.policy import PolicyMode, RefundRule
from policy_server.core.types import Amount, AuditEvent, Outcome, SpendCall, Verdict
from policy_server.core.window import Window
from policy_server.store.images import SORTED_SETS, Ledger
from tests.ledger_model import Asked, Counter, Decision, Effect, LedgerModel, Report
from tests.processes import Process, redis_url
from tests.world import CHARGES, DAY, HOLD_TTL_MS, HOUR, MINUTE, World, calls, key_id, usd

T = TypeVar("T")

RUNS = st.sampled_from(["a", "b"])
STEPS = st.sampled_from(["", *map(str, range(20))])
OBJECTS = st.sampled_from(["", "pi_1", "pi_1", "pi_2", "pi_3"])
AMOUNTS = st.sampled_from([0, 1, 30, 50, 100])
CALLS = st.builds(
    Asked,
    amount=st.sampled_from([0, 1, 30, 50, 100, None]),
    object_id=OBJECTS,
    absorbed=st.just(()) | st.lists(st.sampled_from(["pi_1", "pi_2", "pi_3"]), max_size=2).map(tuple),
    refunded=st.just("") | OBJECTS,
)
OPEN = ("held", "unknown")
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
        self.limits = {"usd/run": 240, "calls/run": 12, "usd/day": 300, "usd/total": 600, "usd/hour": 250}
        self.highest = dict(self.limits)
        self.policy: dict[str, Any] = {
            "unpriced": (CHARGES,),
            "refunds": RefundRule.RESTORE,
            "budgets": ("team",),
            "repeated_refusals_max": 0,
        }
        self.run(self.world.server.administration.set_budget("", "team", [self.budget]))
        self.key = self.run(self.world.key(*self.caps, **self.policy))
        self.verdicts: dict[Effect, Verdict] = {}
        self.asked: dict[Effect, Asked] = {}

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

    @property
    def budget(self) -> Any:
        """What the key shares with others, tested after its own caps."""
        return usd(self.limits["usd/hour"], Window.HOUR)

    def _call(self, run: str, step: str, asked: Asked, *, validate_only: bool = False) -> SpendCall:
        return SpendCall(
            self.key,
            CHARGES,
            None if asked.amount is None else Amount(asked.amount, "USD"),
            run,
            step=step,
            object_id=asked.object_id,
            absorbed_object_ids=asked.absorbed,
            refunded_object_id=asked.refunded,
            moves_money=True,
            unpriced=asked.amount is None,
            validate_only=validate_only,
        )

    @rule(run=RUNS, step=STEPS, asked=CALLS)
    def authorize(self, run: str, step: str, asked: Asked) -> None:
        """Ask both; they decide alike."""
        verdict = self.run(self.world.server.decide(self._call(run, step, asked)))
        effect = (run, step)
        expected = self.model.authorize(self.world.now_ms, [*self.caps, self.budget], effect, asked)
        assert expected == _decision(verdict)
        if verdict.allowed:
            self.verdicts[effect] = verdict
            self.asked[effect] = asked

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Repeat a call that was allowed before, as it was."""
        effect = data.draw(st.sampled_from(sorted(self.asked)))
        self.authorize(*effect, self.asked[effect])

    @rule(run=RUNS, step=STEPS, asked=CALLS)
    def ask_what_if(self, run: str, step: str, asked: Asked) -> None:
        """Ask without meaning it: the answer is the same, and nothing changes, not even what is overdue."""
        before = self.run(self.world.dump())
        verdict = self.run(self.world.server.decide(self._call(run, step, asked, validate_only=True)))
        copy = deepcopy(self.model)
        expected = copy.authorize(self.world.now_ms, [*self.caps, self.budget], (run, step), asked)
        if expected.allowed and not expected.replay:
            expected = replace(expected, attempt=verdict.attempt, object_id=verdict.object_id)
        assert expected == _decision(verdict)
        assert self.run(self.world.dump()) == before

    @rule(really=RARELY)
    def freeze_or_end_the_freeze(self, really: bool) -> None:
        """Stop the account for a little while; what is under way can be settled all the same."""
        if not (really or self.model.frozen):
            return
        administration = self.world.server.administration
        if self.model.frozen:
            self.run(administration.unfreeze(""))
        else:
            self.run(administration.freeze("", "looked odd"))
        self.model.frozen = not self.model.frozen

    @rule(really=RARELY)
    def begin_or_end_shadow(self, really: bool) -> None:
        """Let caps refuse nothing for a little while."""
        if not (really or self.model.shadow):
            return
        self.model.shadow = not self.model.shadow
        self.policy["mode"] = PolicyMode.SHADOW if self.model.shadow else PolicyMode.ENFORCE
        self.run(self.world.change(self.key, *self.caps, **self.policy))

    @precondition(lambda self: self.counted)
    @rule(data=st.data(), run=RUNS, step=STEPS, amount=AMOUNTS, absorbs=st.booleans())
    def lean_on(self, data: st.DataObject, run: str, step: str, amount: int, absorbs: bool) -> None:
        """Refund an object that is counted, or make it part of another."""
        object_id = data.draw(st.sampled_from(self.counted))
        leaned_on = {"absorbed": (object_id,)} if absorbs else {"refunded": object_id}
        self.authorize(run, step, Asked(amount, **leaned_on))

    @property
    def counted(self) -> list[str]:
        """The objects that are counted for something."""
        return [name for name, exposure in sorted(self.model.exposures.items()) if exposure.total]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), object_id=st.sampled_from(["pi_1", "pi_2", "pi_3"]), other=st.none() | AMOUNTS)
    def finish(self, data: st.DataObject, object_id: str, other: int | None) -> None:
        """Let the vendor do what was asked, or say another total, as its calls mostly end."""
        effect = data.draw(st.sampled_from(self.under_way))
        asked = self.asked[effect]
        amount = asked.amount if other is None else other
        report = Report(self.verdicts[effect].attempt, "succeeded", amount, asked.object_id or object_id)
        self.report(effect, report)

    @property
    def under_way(self) -> list[Effect]:
        """The effects whose outcome is not known yet."""
        return [effect for effect in sorted(self.asked) if self.model.holds[effect].state in OPEN]

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
        amount = amount if outcome is not Outcome.UNKNOWN else None
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

    @precondition(lambda self: self.counted)
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
        cap=st.sampled_from(["usd/run", "calls/run", "usd/day", "usd/total", "usd/hour"]),
        factor=st.sampled_from([1, 2, 5]),
    )
    def change_a_cap(self, cap: str, factor: int) -> None:
        """Raise or lower one limit."""
        least = {"usd/run": 120, "calls/run": 6, "usd/day": 150, "usd/total": 300, "usd/hour": 120}
        self.limits[cap] = least[cap] * factor
        self.highest[cap] = max(self.highest[cap], self.limits[cap])
        self.run(self.world.server.administration.set_budget("", "team", [self.budget]))
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
    def events_tell_the_whole_ledger(self) -> None:
        """What was changed is in the events, so that from them alone comes what Redis has."""
        assert told_by_events(self.run(self.world.events())) == self.run(self._kept())

    async def _kept(self) -> dict[str, Any]:
        """What of the ledger is in Redis."""
        root = "spendgate:{default}:"
        everything = await self.world.dump(expiry=True)
        kept = {
            name.removeprefix(root): (value, _seconds(goes_at_ms))
            for name, (value, goes_at_ms) in everything.items()
            if name.startswith(root)
        }
        del kept["audit"]
        del kept["account"][0]["epoch"]
        if not kept["account"][0]:
            del kept["account"]
        return kept

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
        prefixes = [f"spendgate:{{default}}:count:{owner}:" for owner in (key_id(self.key), "budget:team")]
        found: dict[Counter, tuple[int, int]] = {}
        for name in await self.world.redis.keys("*:count:*"):
            (prefix,) = (one for one in prefixes if name.startswith(one))
            cap, _, span = name.removeprefix(prefix).partition(":")
            settled, held = await self.world.redis.hmget(name, ["settled", "held"])
            if int(settled or 0) or int(held or 0):
                found[cap, span] = (int(settled or 0), int(held or 0))
        return found


def told_by_events(events: Sequence[AuditEvent]) -> dict[str, Any]:
    """The ledger as its events tell it: the value of each key, and when it goes."""
    ledger = Ledger()
    for event in events:
        ledger.apply(event.sequence, event.fields)
    told: dict[str, Any] = {
        name: (image.fields, _seconds(image.goes_at_ms))
        for name, image in ledger.keys.items()
        if image.fields
    }
    for name in SORTED_SETS:
        if name in told:
            told[name] = (_sorted(told[name][0]), 0)
    told["sequence"] = (f"{ledger.sequence} {ledger.tip}", 0)
    if ledger.deadlines:
        told["deadlines"] = (_sorted(ledger.deadlines), 0)
    return told


def _sorted(scores: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The members of a sorted set as Redis tells them."""
    return sorted(((member, float(score)) for member, score in scores.items()), key=lambda one: one[::-1])


def _seconds(time_ms: int) -> int:
    """Near enough: Redis tells only how long a key still stays, while time goes on."""
    return round(time_ms / 10_000)


def _decision(verdict: Verdict) -> Decision:
    """A verdict in the model's words; its rules have no budget before them."""
    return Decision(
        verdict.allowed,
        str(verdict.reason or ""),
        verdict.rule.removeprefix("team: "),
        verdict.attempt,
        str(verdict.replay or ""),
        verdict.object_id,
    )


@pytest.mark.timeout(400)  # a failure is made small before it is shown, which takes its time
def test_the_scripts_do_what_the_model_does(redis_server: Process) -> None:
    """Counters, holds and decisions are those of the model after every step, and no cap is exceeded."""

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(redis_url(redis_server))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
