"""The ledger in plain Python, as one would explain it: no Redis, no scripts, one currency, days in UTC.

Tests run it beside the real one and compare every counter, state and decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from policy_server.core.policy import Cap
from policy_server.core.window import Window
from tests.world import DAY, HOUR

Counter = tuple[str, str]
"""A cap and the span in which it counts: a day's or hour's first millisecond, a run, or "0" for ever."""

Effect = tuple[str, str]
"""A run and what is named in it."""


@dataclass
class Count:
    """What one cap has counted in one span."""

    settled: int = 0
    held: int = 0


@dataclass(frozen=True)
class Asked:
    """One call."""

    amount: int | None
    """None when nobody can tell it."""
    object_id: str = ""
    absorbed: tuple[str, ...] = ()
    """Objects that become part of the one that the call makes or changes."""
    refunded: str = ""
    """The object whose money it gives back."""


@dataclass(frozen=True)
class Link:
    """What another object has promised to a call: to be taken over, or to be given back."""

    object_id: str
    promised: int
    changes: int
    restores: bool


@dataclass
class Hold:
    """Money set aside for one attempt at one effect."""

    state: str
    attempt: int
    fingerprint: tuple[int | None, str, str]
    amount: int
    counters: list[Counter]
    object_id: str
    held_at: int
    deadline: int
    links: list[Link]
    unpriced: bool
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
    promised: int = 0
    """How much of the total calls under way will give back or take over."""
    changes: int = 0
    """How often a step or an observation has set the total."""
    restored: int = 0
    """What refunds gave back, which the vendor's totals still have in them."""
    unpriced: bool = False
    """Whether a call counts here whose amount nobody could tell before."""

    @property
    def unpromised(self) -> int:
        """What another call may still count on."""
        return max(0, self.total - self.promised)


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
        """What flagged overruns have counted above their holds, and what passed in shadow."""
        self.frozen = False
        self.shadow = False
        """Whether caps refuse nothing."""

    def authorize(self, now: int, caps: list[Cap], effect: Effect, asked: Asked) -> Decision:
        """Decide on one call, and hold its money when it is allowed; without an amount it holds nothing."""
        if self.frozen:
            return Decision(False, "account_frozen")
        self.expire(now, only=effect)
        run, _ = effect
        known = self.holds.get(effect)
        attempt = known.attempt if known else 0
        fingerprint = (asked.amount, asked.object_id, asked.refunded)
        if known and known.state != "released":
            if known.fingerprint != fingerprint:
                return Decision(False, "idempotency_mismatch", attempt=attempt)
            return self._repeat(now, known)

        unpriced = asked.amount is None
        new_money, links = self._new_money(asked)
        counting = [cap for cap in caps if unpriced or asked.amount or not cap.currency]
        for cap in counting:
            count = self.count(_counter(cap, run, now))
            need = new_money if cap.currency and not unpriced else 1
            if need and count.settled + count.held + need > cap.limit:
                if not self.shadow:
                    return Decision(False, "cap_exceeded", cap.id, attempt)
                self._exceed([_counter(cap, run, now)], new_money if cap.currency else 1)

        for cap in counting:
            if cap.currency:
                self.count(_counter(cap, run, now)).held += new_money
            else:
                self.count(_counter(cap, run, now)).settled += 1
        self.holds[effect] = Hold(
            state="held",
            attempt=attempt + 1,
            fingerprint=fingerprint,
            amount=new_money,
            counters=[_counter(cap, run, now) for cap in counting if cap.currency],
            object_id=asked.object_id,
            held_at=now,
            deadline=now + self.hold_ttl_ms,
            links=links,
            unpriced=unpriced,
        )
        for link in links:
            self.exposures[link.object_id].promised += link.promised
        if asked.object_id:
            exposure = self.exposures.setdefault(asked.object_id, Exposure())
            exposure.open += 1
            exposure.contended |= exposure.open > 1
        return Decision(True, attempt=attempt + 1, object_id=asked.object_id)

    def _new_money(self, asked: Asked) -> tuple[int, list[Link]]:
        """Return what the call must hold, and what other objects promise it."""
        need = max(0, (asked.amount or 0) - self._exposure(asked.object_id).unpromised)
        links: list[Link] = []
        absorbed = [one for one in dict.fromkeys(asked.absorbed) if one != asked.object_id]
        for object_id in absorbed:
            links += self._lean_on(object_id, math.inf, restores=False)
        need = max(0, need - sum(link.promised for link in links))
        if asked.refunded and asked.refunded not in {asked.object_id, *absorbed}:
            most = math.inf if asked.amount is None else need
            restoring = self._lean_on(asked.refunded, most, restores=True)
            need = max(0, need - sum(link.promised for link in restoring))
            links += restoring
        return need, links

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
        if after == "released" and report.stale:
            # That a repeat was turned away says nothing of the first try.
            after, report = "unknown", replace(report, outcome="unknown", amount=None)
        if report.attempt != hold.attempt:
            return None
        if hold.state == after or (hold.state, after) == ("settled", "unknown"):
            return hold.state, hold.overrun
        if hold.state == "settled" or (hold.state, after) == ("released", "unknown"):
            return None

        was_released = hold.state == "released"
        object_id = report.object_id or hold.object_id
        counted_object_id = report.counted_object_id or object_id
        links: list[Link] = []
        if after != "unknown" and not was_released:
            for counter in hold.counters:
                self.count(counter).held -= hold.amount
            links = self._end_promises(hold, counted_object_id)
        counts = after == "settled" or (after == "released" and report.amount is not None)
        hold.overrun = counts and self._settle(hold, report, counted_object_id, links)
        if after != "unknown":
            if hold.object_id and not was_released:
                self._close_step(hold.object_id)
            hold.object_id = object_id
        hold.state = after
        return hold.state, hold.overrun

    def _settle(self, hold: Hold, report: Report, object_id: str, links: list[Link]) -> bool:
        """Count what the object commits now; return whether that is more than was held."""
        was_released = hold.state == "released"
        exposure = self._exposure(object_id)
        if hold.unpriced and report.amount is None and not exposure.bookings:
            return True  # nobody knows how much it moved, or in which currency
        own_step = object_id == hold.object_id
        others = exposure.open - (1 if own_step and not was_released else 0)
        may_lower = report.amount is not None and not (report.stale or exposure.contended or others > 0)
        before = 0 if own_step else exposure.total
        for link in links:
            if not link.restores:
                self._absorb(exposure, link.object_id)
        total = hold.amount + exposure.total - before
        if report.amount is not None:
            # A call that made the object does not know what later steps counted.
            total = max(report.amount - exposure.restored, before)
        above = max(0, total - exposure.total)
        uncounted = above > 0 and not hold.counters
        if uncounted:
            above = 0
        if above or (not exposure.bookings and hold.counters):
            restored = 0
            if report.amount is not None:
                restored = sum(self._restore(link.object_id, above) for link in links if link.restores)
            if restored:
                self._book(exposure, restored, [])
            above -= restored
            self._book(exposure, above, hold.counters)
        elif may_lower and total < exposure.total:
            self._give_back(exposure, exposure.total - total)
        if object_id and exposure.bookings:
            exposure.changes += 1
            exposure.unpriced |= hold.unpriced
            self.exposures[object_id] = exposure
        self._exceed(hold.counters, above - (0 if was_released else hold.amount))
        if hold.unpriced:
            return was_released or report.amount is None
        return was_released or above > hold.amount or (uncounted and not (own_step and object_id))

    def _lean_on(self, object_id: str, most: float, *, restores: bool) -> list[Link]:
        """Promise a call what an object has counted, unless a step on it is under way."""
        exposure = self._exposure(object_id)
        promised = min(most, exposure.unpromised)
        if exposure.open or exposure.contended or promised <= 0:
            return []
        return [Link(object_id, int(promised), exposure.changes, restores)]

    def _end_promises(self, hold: Hold, counted_object_id: str) -> list[Link]:
        """Take promises back; return those of objects that nothing has touched since they were made."""
        for link in hold.links:
            self.exposures[link.object_id].promised -= link.promised
        return [link for link in hold.links if self._untouched(link) and link.object_id != counted_object_id]

    def _untouched(self, link: Link) -> bool:
        exposure = self.exposures[link.object_id]
        return not exposure.open and not exposure.contended and exposure.changes == link.changes

    def _absorb(self, exposure: Exposure, object_id: str) -> int:
        """Make what another object has counted part of this one; return how much."""
        other = self.exposures[object_id]
        if other.promised:
            return 0
        moved = other.total
        exposure.total += moved
        exposure.bookings += other.bookings
        other.total, other.bookings = 0, []
        other.changes += 1
        return moved

    def _restore(self, object_id: str, most: int) -> int:
        """Give back for a refund what its object has counted; return how much."""
        other = self.exposures[object_id]
        back = min(most, other.unpromised)
        self._give_back(other, back)
        other.restored += back
        return back

    def observe(self, object_id: str, total: int) -> bool | None:
        """Count what an object commits for good; return whether it is more, or None when nothing changes."""
        exposure = self._exposure(object_id)
        total = max(0, total - exposure.restored)
        if not exposure.bookings or total == exposure.total:
            return None
        if total > exposure.total:
            _, counters = exposure.bookings[-1]
            self._exceed(counters, total - exposure.total)
            self._book(exposure, total - exposure.total, counters)
            exposure.changes += 1
            return not exposure.unpriced
        if exposure.open > 0 or exposure.contended or exposure.promised:
            return None
        self._give_back(exposure, exposure.total - total)
        exposure.changes += 1
        return False

    def _exceed(self, counters: list[Counter], amount: int) -> None:
        """Remember what is counted above its hold: by an overrun, or without a price."""
        for counter in counters:
            self.excess[counter] = self.excess.get(counter, 0) + max(0, amount)

    def _close_step(self, object_id: str) -> None:
        step = self.exposures[object_id]
        step.open -= 1
        step.contended &= step.open > 0

    def _book(self, exposure: Exposure, amount: int, counters: list[Counter]) -> None:
        """Count more for an object; a booking of nothing remembers where to count what is found later."""
        exposure.total += amount
        exposure.bookings.append((amount, counters))
        for counter in counters:
            self.count(counter).settled += amount

    def _give_back(self, exposure: Exposure, surplus: int) -> None:
        """Count less for an object, the newest booking first; one that says where to count stays."""
        exposure.total -= surplus
        for index in reversed(range(len(exposure.bookings))):
            booked, where = exposure.bookings[index]
            back = min(surplus, booked)
            for counter in where:
                self.count(counter).settled -= back
            surplus -= back
            if back == booked and index and exposure.bookings[index - 1][1]:
                del exposure.bookings[index]
            else:
                exposure.bookings[index] = (booked - back, where)
            if not surplus:
                return

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
        case Window.HOUR:
            return cap.id, str(now - now % HOUR)
        case _:
            return cap.id, "0"
