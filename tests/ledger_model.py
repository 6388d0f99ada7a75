"""The ledger in plain Python, as one would explain it: no Redis, no scripts, one currency, days in UTC.

Tests run it beside the real one and compare every counter, state and decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policy_server.core.policy import Cap
from policy_server.core.window import Window
from tests.world import DAY, HOUR

Counter = tuple[str, str]
"""A cap and the span in which it counts: a day's first millisecond, a run, or "0" for ever."""

Effect = tuple[str, str]
"""A run and what is named in it."""


@dataclass
class Count:
    """What one cap has counted in one span."""

    settled: int = 0
    held: int = 0


@dataclass
class Hold:
    """Money set aside for one attempt at one effect."""

    state: str
    attempt: int
    fingerprint: tuple[int | None, str]
    amount: int
    counters: list[Counter]
    object_id: str
    held_at: int
    deadline: int
    unpriced: bool = False
    overrun: bool = False


@dataclass
class Exposure:
    """What one object commits, and in which counters each part of it stands."""

    total: int = 0
    bookings: list[tuple[int, list[Counter]]] = field(default_factory=list)
    open: int = 0
    """How many steps of the object are under way."""
    contended: bool = False
    """Whether several were at once, so that nobody knows which the vendor did last."""


@dataclass(frozen=True)
class Report:
    """What the caller says about one attempt."""

    attempt: int
    outcome: str
    amount: int | None
    """What the object commits now; None when nobody said it."""
    object_id: str = ""
    counted_object_id: str = ""
    """The object under which the amount counts, when it is another."""
    stale: bool = False
    """Whether the answer may tell of an earlier time."""


@dataclass(frozen=True)
class Decision:
    """The answer to one call."""

    allowed: bool
    reason: str = ""
    rule: str = ""
    attempt: int = 0
    replay: str = ""
    object_id: str = ""


class LedgerModel:
    """Counts what one vault key may spend."""

    def __init__(self, hold_ttl_ms: int) -> None:
        self.hold_ttl_ms = hold_ttl_ms
        self.counts: dict[Counter, Count] = {}
        self.holds: dict[Effect, Hold] = {}
        self.exposures: dict[str, Exposure] = {}
        self.excess: dict[Counter, int] = {}
        """What flagged overruns have counted above their holds."""

    def authorize(
        self, now: int, caps: list[Cap], effect: Effect, *, amount: int | None, object_id: str
    ) -> Decision:
        """Decide on one call, and hold its money when it is allowed; without an amount it holds nothing."""
        self.expire(now, only=effect)
        run, _ = effect
        known = self.holds.get(effect)
        attempt = known.attempt if known else 0
        if known and known.state != "released":
            if known.fingerprint != (amount, object_id):
                return Decision(False, "idempotency_mismatch", attempt=attempt)
            return self._repeat(now, known)

        unpriced = amount is None
        new_money = max(0, (amount or 0) - self._exposure(object_id).total)
        counting = [cap for cap in caps if unpriced or amount or not cap.currency]
        for cap in counting:
            count = self.count(_counter(cap, run, now))
            need = new_money if cap.currency and not unpriced else 1
            if need and count.settled + count.held + need > cap.limit:
                return Decision(False, "cap_exceeded", cap.id, attempt)

        for cap in counting:
            if cap.currency:
                self.count(_counter(cap, run, now)).held += new_money
            else:
                self.count(_counter(cap, run, now)).settled += 1
        self.holds[effect] = Hold(
            state="held",
            attempt=attempt + 1,
            fingerprint=(amount, object_id),
            amount=new_money,
            counters=[_counter(cap, run, now) for cap in counting if cap.currency],
            object_id=object_id,
            held_at=now,
            deadline=now + self.hold_ttl_ms,
            unpriced=unpriced,
        )
        if object_id:
            exposure = self.exposures.setdefault(object_id, Exposure())
            exposure.open += 1
            exposure.contended |= exposure.open > 1
        return Decision(True, attempt=attempt + 1, object_id=object_id)

    def _repeat(self, now: int, known: Hold) -> Decision:
        if known.state == "held":
            replay = "join"
        elif now - known.held_at < 23 * HOUR:
            replay = "forward"
        elif known.state == "settled" and known.object_id:
            replay = "fetch"
        else:
            return Decision(False, "effect_too_old", attempt=known.attempt)
        return Decision(True, attempt=known.attempt, replay=replay, object_id=known.object_id)

    def settle(self, effect: Effect, report: Report) -> tuple[str, bool] | None:
        """Close a hold; return its state and whether it overran, or None when that is refused."""
        hold = self.holds[effect]
        after = {"succeeded": "settled", "failed": "released", "unknown": "unknown"}[report.outcome]
        if report.attempt != hold.attempt:
            return None
        if hold.state == after or (hold.state, after) == ("settled", "unknown"):
            return hold.state, hold.overrun
        if hold.state == "settled" or (hold.state, after) == ("released", "unknown"):
            return None

        was_released = hold.state == "released"
        object_id = report.object_id or hold.object_id
        if after != "unknown" and not was_released:
            for counter in hold.counters:
                self.count(counter).held -= hold.amount
        hold.overrun = after == "settled" and self._settle(
            hold, report, report.counted_object_id or object_id
        )
        if after != "unknown":
            if hold.object_id and not was_released:
                self._close_step(hold.object_id)
            hold.object_id = object_id
        hold.state = after
        return hold.state, hold.overrun

    def _settle(self, hold: Hold, report: Report, object_id: str) -> bool:
        """Count what the object commits now; return whether that is more than was held."""
        was_released = hold.state == "released"
        exposure = self._exposure(object_id)
        own_step = object_id == hold.object_id
        total = report.amount
        if total is None:
            total = hold.amount + (exposure.total if own_step else 0)
        others = exposure.open - (1 if own_step and not was_released else 0)
        may_lower = report.amount is not None and not (report.stale or exposure.contended or others > 0)
        if not may_lower:
            total = max(total, exposure.total)
        above = self._bring_to(exposure, total, hold.counters)
        if object_id:
            self.exposures[object_id] = exposure
        self._exceed(hold.counters, above - (0 if was_released else hold.amount))
        if hold.unpriced:
            return was_released or report.amount is None
        return was_released or above > hold.amount

    def observe(self, object_id: str, total: int) -> bool | None:
        """Count what an object commits for good; return whether it is more, or None when nothing changes."""
        exposure = self._exposure(object_id)
        if not exposure.bookings or total == exposure.total:
            return None
        if total > exposure.total:
            _, counters = exposure.bookings[-1]
            self._exceed(counters, total - exposure.total)
            self._bring_to(exposure, total, counters)
            return True
        if exposure.open > 0 or exposure.contended:
            return None
        self._bring_to(exposure, total, [])
        return False

    def _exceed(self, counters: list[Counter], amount: int) -> None:
        """Remember what is counted above its hold: by an overrun, or without a price."""
        for counter in counters:
            self.excess[counter] = self.excess.get(counter, 0) + max(0, amount)

    def _close_step(self, object_id: str) -> None:
        step = self.exposures[object_id]
        step.open -= 1
        step.contended &= step.open > 0

    def _bring_to(self, exposure: Exposure, total: int, counters: list[Counter]) -> int:
        """Count what is above the exposure, or give back what is below; return what was counted."""
        above, exposure.total = max(0, total - exposure.total), total
        surplus = sum(booked for booked, _ in exposure.bookings) - total
        if above or not exposure.bookings:
            exposure.bookings.append((above, counters))
            for counter in counters:
                self.count(counter).settled += above
        while surplus > 0:
            booked, where = exposure.bookings.pop()
            back = min(surplus, booked)
            for counter in where:
                self.count(counter).settled -= back
            surplus -= back
            if booked > back or not exposure.bookings:
                exposure.bookings.append((booked - back, where))
        return above

    def expire(self, now: int, only: Effect | None = None) -> int:
        """Mark overdue holds unknown; they keep counting."""
        overdue = [
            hold
            for effect, hold in self.holds.items()
            if hold.state == "held" and hold.deadline <= now and only in (None, effect)
        ]
        for hold in overdue:
            hold.state = "unknown"
        return len(overdue)

    def count(self, counter: Counter) -> Count:
        """What a counter has counted."""
        return self.counts.setdefault(counter, Count())

    def _exposure(self, object_id: str) -> Exposure:
        return self.exposures.get(object_id) or Exposure()


def _counter(cap: Cap, run: str, now: int) -> Counter:
    match cap.window:
        case Window.RUN:
            return cap.id, f"run:{run}"
        case Window.DAY:
            return cap.id, str(now - now % DAY)
        case _:
            return cap.id, "0"
