"""What must hold after every history, whatever broke in it.

Money is looked up in the books of Stripe's simulator, decisions in the audit trail. The counters are
recounted from the audit trail in plain Python, by other code than the scripts.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_server.archive.chain import linked
from policy_server.core.policy import Cap, Policy, RefundRule
from policy_server.core.ports import ArchivedEvent
from policy_server.core.window import Window
from policy_server.store.scripts import newest_event
from stripe_simulator.forms import flatten
from stripe_simulator.request_log import LoggedRequest
from tests.simulation.history import AUDIT, SEQUENCE, World
from tests.world import DAY, HOUR

REFUNDS = "POST /v1/refunds"
Span = tuple[str, str, str]
"""Whose cap it is, the cap, and the span in which it counts."""


class Violation(AssertionError):
    """A promise that did not hold; the first word names it."""


@dataclass(frozen=True)
class Event:
    """One audit event, as the stream has it."""

    number: int
    time: int
    fields: Mapping[str, str]

    def get(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def attempt(self) -> tuple[str, str]:
        """Which attempt at which effect it is about."""
        return self.get("authorization_id"), self.get("attempt")

    @property
    def begins(self) -> bool:
        """Whether it lets a changing call pass for the first time."""
        return (
            self.get("kind") == "decision"
            and self.get("decision") == "allow"
            and not self.get("duplicate")
            and bool(self.get("authorization_id"))
        )


def check(world: World) -> None:
    """Raise a `Violation` when a promise did not hold."""
    history = _Past(world)
    for promise in (
        _every_event_is_there,
        _the_archive_has_every_event_once,
        _nothing_is_sent_unrecorded,
        _each_effect_happens_once,
        _repeats_hear_the_same,
        _money_stays_within_the_caps,
        _nothing_is_allowed_while_it_may_not,
        _no_hold_is_forgotten,
        _what_a_sidecar_knows_is_counted,
        _nothing_overruns,
        _counters_are_what_the_trail_tells,
        _what_moved_is_counted,
    ):
        promise(history)


class _Past:
    """What is left of a history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = world.store
        self.archived = {
            one.sequence: _archived(one) for one in world.archive.reader.read("default", 0, 100_000)
        }
        self.stream = {
            event.number: event for event in map(_event, self.store.ask("XRANGE", AUDIT, "-", "+"))
        }
        self.events = [event for _, event in sorted((self.archived | self.stream).items())]
        self.posts = [entry for entry in world.api.log if entry.method == "POST"]
        self.began = {event.attempt: event for event in self.events if event.begins}
        self._rules = _Rules()
        self.rules_at: dict[int, _Rules] = {}
        changes = iter(world.changes)
        for event in self.events:
            if event.get("kind") == "administration":
                self._rules = self._rules.after(next(changes))
            self.rules_at[event.number] = self._rules

    def spans(self, event: Event) -> list[tuple[Span, Cap]]:
        """The caps that count a call, by the rules of that moment."""
        return self.rules_at[event.number].spans(event)


@dataclass(frozen=True)
class _Rules:
    """What an operator has set, at some moment."""

    policies: Mapping[str, Policy] = field(default_factory=dict)
    budgets: Mapping[str, tuple[Cap, ...]] = field(default_factory=dict)
    frozen: bool = False
    revoked: frozenset[str] = frozenset()

    def after(self, change: Any) -> _Rules:
        match change.kind:
            case "policy":
                policies = {**self.policies, change.key_id: change.policy}
                return _Rules(policies, self.budgets, self.frozen, self.revoked)
            case "budgets":
                return _Rules(self.policies, change.budgets, self.frozen, self.revoked)
            case "revoke":
                return _Rules(self.policies, self.budgets, self.frozen, self.revoked | {change.key_id})
            case _:
                return _Rules(self.policies, self.budgets, change.kind == "freeze", self.revoked)

    def spans(self, event: Event) -> list[tuple[Span, Cap]]:
        key_id, refund = event.get("vault_key_id"), event.get("endpoint") == REFUNDS
        policy = self.policies[key_id]
        owned = [(key_id, cap) for cap in policy.caps]
        owned += [(f"budget:{name}", cap) for name in policy.budgets for cap in self.budgets.get(name, ())]
        found = []
        for owner, cap in owned:
            named = not cap.endpoints or event.get("endpoint") in cap.endpoints
            own = refund and policy.refunds is RefundRule.OWN_CAP and not cap.endpoints
            if cap.window is not Window.CALL and named and not own:
                found.append(((owner, cap.id, _span(cap.window, event)), cap))
        return found


def _span(window: Window, event: Event) -> str:
    match window:
        case Window.RUN:
            return f"run:{event.get('run_id')}"
        case Window.DAY:
            return str(event.time - event.time % DAY)
        case Window.HOUR:
            return str(event.time - event.time % HOUR)
        case _:
            return "0"


def _event(entry: list[Any]) -> Event:
    number, flat = entry
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    told = {**json.loads(fields["call"]), **fields}
    return Event(int(number.partition("-")[0]), int(fields["time"]), told)


def _archived(event: ArchivedEvent) -> Event:
    told = {**json.loads(event.fields["call"]), **event.fields}
    return Event(event.sequence, event.created_at_ms, told)


def _every_event_is_there(past: _Past) -> None:
    numbers = [event.number for event in past.events]
    newest, _ = newest_event(past.store.ask("GET", SEQUENCE) or "0")
    if numbers != list(range(1, newest + 1)):
        raise Violation(f"gapless: the audit trail has {numbers}, and {newest} were counted")


def _the_archive_has_every_event_once(past: _Past) -> None:
    """Once nothing breaks any more, each is there as the store had it, and the chain has no break."""
    if sorted(past.archived) != [event.number for event in past.events]:
        raise Violation(f"archive: it has {sorted(past.archived)} of {len(past.events)} events")
    other = [number for number, event in past.stream.items() if past.archived[number] != event]
    if other:
        raise Violation(f"archive: under {other} it has other events than the store")
    link = None
    for event in past.world.archive.reader.read("default", 0, 100_000):
        link = linked(link, event)
        if link != event.hash:
            raise Violation(f"archive: the chain breaks at event {event.sequence}")


def _attempt(key: str | None) -> tuple[str, str]:
    """Which attempt a request to Stripe belongs to, by its idempotency key."""
    _, authorization_id, attempt = (key or "~~").rsplit("~", 2)
    return authorization_id, attempt


def _nothing_is_sent_unrecorded(past: _Past) -> None:
    for post in past.posts:
        begun = past.began.get(_attempt(post.idempotency_key))
        if begun is None or begun.number > past.world.recorded_before[post.n]:
            raise Violation(
                f"recorded: {post.method} {post.path} ({post.idempotency_key}) has no earlier event"
            )
        amount = flatten(post.parameters).get("amount", begun.get("amount"))
        if begun.get("endpoint").partition(" ")[0] != "POST" or str(amount) != begun.get("amount"):
            raise Violation(f"recorded: {post.path} sent {amount}, and {begun.get('amount')} was allowed")


def _done(post: LoggedRequest) -> bool:
    """Whether a POST has changed something, whatever was answered."""
    return post.executed and (bool(post.money) or post.status == 200)


def _label(post: LoggedRequest) -> str:
    """What the agent wanted, by a mark of its own; steps are recognised by their object."""
    return str(flatten(post.parameters).get("metadata[wish]", post.path))


def _each_effect_happens_once(past: _Past) -> None:
    times = Counter(_label(post) for post in past.posts if _done(post))
    for label, count in times.items():
        if count > 1:
            raise Violation(f"once: {label} was done {count} times")


def _repeats_hear_the_same(past: _Past) -> None:
    made = {post.object_id for post in past.posts if _done(post)}
    for agent in past.world.agents:
        told: dict[str, set[str]] = defaultdict(set)
        for heard in agent.heard:
            if heard.status == 200 and agent.wishes[heard.label].method == "POST":
                told[heard.label].add(heard.object_id)
        for label, object_ids in told.items():
            if len(object_ids) > 1:
                raise Violation(f"same: {label} was answered with {sorted(object_ids)}")
            if not object_ids <= made | {post.path.split("/")[-2] for post in past.posts if _done(post)}:
                raise Violation(f"same: {label} was answered with {object_ids}, which nobody made")


def _moved(past: _Past) -> dict[tuple[str, str], int]:
    """What each attempt has committed or moved, less what was let go again, by the books of Stripe."""
    first: dict[str, tuple[str, str]] = {}
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for post in past.posts:
        for one in post.money:
            new = (one.new or 0) - ((one.amount or 0) if one.step == "released" else 0)
            moved[first.setdefault(one.object_id, _attempt(post.idempotency_key))] += new
    return moved


def _money_stays_within_the_caps(past: _Past) -> None:
    moved = _moved(past)
    spent: dict[Span, int] = defaultdict(int)
    calls: dict[Span, int] = defaultdict(int)
    for event in past.events:
        if event.get("kind") != "decision" or event.get("decision") != "allow" or event.get("duplicate"):
            continue
        amount = moved.get(event.attempt, 0) if event.begins else 0
        for span, cap in past.spans(event):
            if cap.currency:
                spent[span] += amount
                if amount and spent[span] > cap.limit:
                    raise Violation(f"cap: {spent[span]} moved under {span}, which allows {cap.limit}")
            else:
                calls[span] += 1
                if calls[span] > cap.limit:
                    raise Violation(f"cap: {calls[span]} calls passed {span}, which allows {cap.limit}")


def _nothing_is_allowed_while_it_may_not(past: _Past) -> None:
    for event in past.events:
        rules = past.rules_at[event.number]
        if event.get("decision") == "allow" and (rules.frozen or event.get("vault_key_id") in rules.revoked):
            raise Violation(
                f"stopped: event {event.number} allows a call of a frozen account or a revoked key"
            )


def _holds(past: _Past) -> Iterator[tuple[str, dict[str, str]]]:
    names = sorted(past.store.ask("KEYS", "spendgate:{default}:hold:*"))
    for name, flat in zip(names, past.store.ask_all(*(("HGETALL", name) for name in names)), strict=True):
        yield name.rpartition(":")[2], dict(zip(flat[::2], flat[1::2], strict=True))


def _no_hold_is_forgotten(past: _Past) -> None:
    deadlines = past.store.ask("ZRANGE", "spendgate:{default}:deadlines", 0, -1)
    told: dict[tuple[str, str], str] = {}
    for event in past.events:
        if event.begins:
            told[event.attempt] = "held"
        elif event.get("kind") == "settlement" and event.get("state"):
            told[event.attempt] = event.get("state")
    for authorization_id, hold in _holds(past):
        if hold["state"] == "held":
            where = "is in the index" if authorization_id in deadlines else "is in no index"
            raise Violation(f"owner: {authorization_id} is still held after its deadline, and {where}")
        if told.get((authorization_id, hold["attempt"])) != hold["state"]:
            raise Violation(f"owner: {authorization_id} is {hold['state']}, and the trail does not say so")
        if (hold["state"] == "unknown") != (authorization_id in deadlines):
            where = "listed" if authorization_id in deadlines else "not listed"
            raise Violation(f"owner: {authorization_id} is {hold['state']} and {where} as unresolved")


def _what_a_sidecar_knows_is_counted(past: _Past) -> None:
    """Who has heard of a success, and lives, has told it."""
    states = {name: hold["state"] for name, hold in _holds(past)}
    for sidecar, key in past.world.stripe.told:
        authorization_id, _ = _attempt(key)
        if sidecar.alive and states[authorization_id] != "settled":
            raise Violation(
                f"delivered: {key} succeeded, {sidecar.name} knows, and it is {states[authorization_id]}"
            )


def _nothing_overruns(past: _Past) -> None:
    """Nothing here moves more than it asked for, so whatever is settled was held before."""
    for event in past.events:
        if event.get("overrun"):
            raise Violation(f"overrun: event {event.number} counts more for {event.attempt} than was held")


@dataclass
class _Object:
    """What is counted for one object, and where, the newest last."""

    total: int = 0
    parts: list[tuple[int, list[Span]]] = field(default_factory=list)


class _Recount:
    """Counts again, from what the trail tells."""

    def __init__(self) -> None:
        self.settled: dict[Span, int] = defaultdict(int)
        self.held: dict[Span, int] = defaultdict(int)
        self._open: dict[tuple[str, str], tuple[int, list[Span], str]] = {}
        self._released: dict[tuple[str, str], tuple[int, list[Span], str]] = {}
        self._objects: dict[tuple[str, str], _Object] = defaultdict(_Object)

    def begin(self, event: Event, caps: Iterable[tuple[Span, Cap]]) -> None:
        """A call was let through."""
        amount = int(event.get("amount") or 0)
        spans = [span for span, cap in caps if cap.currency and amount]
        for span, cap in caps:
            if not cap.currency:
                self.settled[span] += 1
        if not event.get("authorization_id"):
            return
        object_id = event.get("object_id")
        if object_id:
            amount = max(0, amount - self._objects[event.get("vault_key_id"), object_id].total)
        for span in spans:
            self.held[span] += amount
        self._open[event.attempt] = (amount, spans, object_id)

    def end(self, event: Event) -> None:
        """An outcome was told, or an object was looked at."""
        object_key = event.get("vault_key_id"), event.get("object_id")
        if event.get("reason") == "observed":
            self._tell(self._objects[object_key], int(event.get("settled_amount")), None)
            return
        if event.get("state") == "unknown":
            return
        hold = self._open.pop(event.attempt, None)
        if hold is not None:
            amount, spans, _ = hold
            for span in spans:
                self.held[span] -= amount
            self._released[event.attempt] = hold
        _, spans, _ = self._released[event.attempt]
        if event.get("settled_amount"):
            counted = self._objects[object_key] if object_key[1] else _Object()
            self._tell(counted, int(event.get("settled_amount")), spans)

    def _tell(self, counted: _Object, total: int, spans: list[Span] | None) -> None:
        more = total - counted.total
        where = spans if spans is not None else (counted.parts[-1][1] if counted.parts else [])
        counted.total = total
        if more > 0 or not counted.parts:
            counted.parts.append((max(0, more), where))
            for span in where:
                self.settled[span] += max(0, more)
            return
        for index in reversed(range(len(counted.parts))):
            amount, booked = counted.parts[index]
            back = min(-more, amount)
            for span in booked:
                self.settled[span] -= back
            counted.parts[index] = (amount - back, booked)
            more += back


def _counters(past: _Past) -> dict[Span, tuple[int, int]]:
    prefix = "spendgate:{default}:count:"
    names = sorted(past.store.ask("KEYS", f"{prefix}*"))
    found = {}
    for name, pair in zip(
        names, past.store.ask_all(*(("HMGET", n, "settled", "held") for n in names)), strict=True
    ):
        settled, held = (int(part or 0) for part in pair)
        if settled or held:
            found[_named(name.removeprefix(prefix))] = settled, held
    return found


def _named(name: str) -> Span:
    owner, _, rest = name.partition(":")
    if owner == "budget":
        name_of_budget, _, rest = rest.partition(":")
        owner = f"budget:{name_of_budget}"
    cap, _, span = rest.partition(":")
    return owner, cap, span


def _counters_are_what_the_trail_tells(past: _Past) -> None:
    recount = _Recount()
    for event in past.events:
        if (
            event.get("kind") == "decision"
            and event.get("decision") == "allow"
            and not event.get("duplicate")
        ):
            recount.begin(event, past.spans(event))
        elif event.get("kind") == "settlement":
            recount.end(event)
    spans = recount.settled.keys() | recount.held.keys()
    told = {span: (recount.settled[span], recount.held[span]) for span in spans}
    told = {span: pair for span, pair in told.items() if pair != (0, 0)}
    counted = _counters(past)
    if told != counted:
        differ = {span: (counted.get(span), told.get(span)) for span in counted.keys() | told.keys()}
        differ = {span: pair for span, pair in sorted(differ.items()) if pair[0] != pair[1]}
        raise Violation(f"counters: counted and told differ (settled, held): {differ}")


def _what_moved_is_counted(past: _Past) -> None:
    """No cap counts less than what moved under it."""
    counted = _counters(past)
    steps: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for post in past.posts:
        for one in post.money:
            steps[one.object_id].add(_attempt(post.idempotency_key))
    elsewhere = {
        # The steps of an object may count in several spans, and which of them has it is not for sure
        # when the outcome of an earlier one was found out after that of a later one.
        attempt
        for attempts in steps.values()
        if len({frozenset(span for span, _ in past.spans(past.began[one])) for one in attempts}) > 1
        for attempt in attempts
    }
    moved: dict[Span, int] = defaultdict(int)
    for attempt, amount in _moved(past).items():
        for span, cap in past.spans(past.began[attempt]):
            if cap.currency and (attempt not in elsewhere or span[2] == "0"):
                moved[span] += amount
    for span, amount in moved.items():
        settled, held = counted.get(span, (0, 0))
        if settled + held < amount:
            raise Violation(f"counted: {amount} moved under {span}, and {settled} + {held} are counted")
