"""What must hold after every history, whatever broke in it.

Money is looked up in the books of Stripe's simulator, decisions in the audit trail. The counters are
recounted from the audit trail in plain Python, by other code than the scripts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_server.archive.chain import linked
from policy_server.core.policy import Cap, Policy, RefundRule
from policy_server.core.window import Window
from stripe_simulator.forms import flatten
from stripe_simulator.request_log import LoggedRequest
from tests.simulation.history import World
from tests.simulation.trail import Event, in_archive, in_store, newest
from tests.world import DAY, HOUR

_VENDOR_FORGETS_S = 23 * HOUR // 1000
_DERIVED_KEY_ID_LENGTH = 16
REFUNDS = "POST /v1/refunds"
Span = tuple[str, str, str]
"""Whose cap it is, the cap, and the span in which it counts."""


class Violation(AssertionError):
    """A promise that did not hold; the first word names it."""


def check(world: World) -> None:
    """Raise a `Violation` when a promise did not hold."""
    history = _Past(world)
    for promise in (
        _nothing_is_done_in_a_lost_ledger,
        _every_event_is_there,
        _the_archive_has_every_event_once,
        _nothing_is_sent_unrecorded,
        _each_effect_happens_once,
        _repeats_hear_the_same,
        _money_stays_within_the_caps,
        _nothing_is_allowed_while_it_may_not,
        _derived_keys_do_no_more_than_they_may,
        _a_call_that_is_refused_again_and_again_freezes_its_run,
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
        self.archived = in_archive(world.archive)
        self.stream = in_store(self.store)
        self.events = [event for _, event in sorted((self.archived | self.stream).items())]
        self.hours_passed = any(line.what.endswith("hours pass") for line in world.timeline)
        """So that refusals were forgotten."""
        self.posts = [entry for entry in world.api.log if entry.method == "POST"]
        self.began = {event.attempt: event for event in self.events if event.begins}
        """How each attempt began of which that is still known."""
        losses = world.losses
        self.lost = losses.lost
        self.begun_at: dict[tuple[str, str], list[tuple[int, int, Event]]] = defaultdict(list)
        """For each attempt how often events had been lost when it began, and under which number."""
        for generation, event in [*losses.with_generation(self.events), *losses.lost_with_generation]:
            if event.begins:
                self.begun_at[event.attempt].append((generation, event.number, event))
        self._rules = _Rules()
        self.rules_at: dict[int, _Rules] = {}
        changes = iter(world.operator.changes)
        for event in self.events:
            if event.changes_rules:
                self._rules = self._rules.after(next(changes))
            self.rules_at[event.number] = self._rules

    @property
    def unpromised(self) -> set[str]:
        """What may be done twice, because it was lost for good that it was done, and how.

        The vendor forgets within a day, and does not know that an attempt that never reached it was given
        up for another one.
        """
        given_up = {event.get("authorization_id") for event in self.lost if event.get("state") == "released"}
        begun = {event.attempt for event in self.lost if event.begins}
        found, first = set(), {}
        for post in self.posts:
            attempt, label = _attempt(post.idempotency_key), _label(post)
            late = post.time - first.setdefault(label, post.time) > _VENDOR_FORGETS_S
            if attempt[0] in given_up or (attempt in begun and late):
                found.add(label)
        return found

    def spans(self, event: Event) -> list[tuple[Span, Cap]]:
        """The caps that count a call, by the rules of that moment."""
        return [*self.rules_at[event.number].spans(event), *self._derived_spans(event)]

    def _derived_spans(self, event: Event) -> Iterator[tuple[Span, Cap]]:
        for derived_key_id in _derived_key_ids(event):
            for one in self.world.operator.derived[derived_key_id].caps:
                cap = Cap(one.limit, Window(one.window), one.currency)
                if cap.window is not Window.CALL:
                    owner = f"{event.get('vault_key_id')}:{derived_key_id}"
                    yield (owner, cap.id, _span(cap.window, event)), cap


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
            case "freeze" | "unfreeze":
                return _Rules(self.policies, self.budgets, change.kind == "freeze", self.revoked)
            case _:
                return self

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


def _nothing_is_done_in_a_lost_ledger(past: _Past) -> None:
    """What can be noticed is noticed before the first decision."""
    for done in past.world.losses.done_on_lost:
        raise Violation(f"noticed: the ledger is lost, and {done}")


def _every_event_is_there(past: _Past) -> None:
    numbers = [event.number for event in past.events]
    counted = newest(past.store)
    if numbers != list(range(1, counted + 1)):
        raise Violation(f"gapless: the audit trail has {numbers}, and {counted} were counted")


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
        before = past.world.recorded_before[post.n]
        begun = [one for one in past.begun_at[_attempt(post.idempotency_key)] if one[:2] <= before]
        if not begun:
            raise Violation(
                f"recorded: {post.method} {post.path} ({post.idempotency_key}) has no earlier event"
            )
        event = max(begun, key=lambda one: one[:2])[2]
        amount = flatten(post.parameters).get("amount", event.get("amount"))
        if event.get("endpoint").partition(" ")[0] != "POST" or str(amount) != event.get("amount"):
            raise Violation(f"recorded: {post.path} sent {amount}, and {event.get('amount')} was allowed")


def _done(post: LoggedRequest) -> bool:
    """Whether a POST has changed something, whatever was answered."""
    return post.executed and (bool(post.money) or post.status == 200)


def _label(post: LoggedRequest) -> str:
    """What the agent wanted, by a mark of its own; steps are recognised by their object."""
    return str(flatten(post.parameters).get("metadata[wish]", post.path))


def _each_effect_happens_once(past: _Past) -> None:
    times = Counter(_label(post) for post in past.posts if _done(post))
    for label, count in times.items():
        if count > 1 and label not in past.unpromised:
            raise Violation(f"once: {label} was done {count} times")


def _repeats_hear_the_same(past: _Past) -> None:
    made = {post.object_id for post in past.posts if _done(post)}
    for agent in past.world.agents:
        told: dict[str, set[str]] = defaultdict(set)
        for heard in agent.heard:
            if heard.status == 200 and agent.wishes[heard.label].method == "POST":
                told[heard.label].add(heard.object_id)
        for label, object_ids in told.items():
            if len(object_ids) > 1 and label not in past.unpromised:
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
        stopped = rules.frozen or rules.revoked & {event.get("vault_key_id"), *_derived_key_ids(event)}
        if event.get("decision") == "allow" and stopped:
            raise Violation(
                f"stopped: event {event.number} allows a call of a frozen account or a revoked key"
            )


def _derived_key_ids(event: Event) -> list[str]:
    return event.get("derived_key_id").split("/") if event.get("derived_key_id") else []


def _derived_keys_do_no_more_than_they_may(past: _Past) -> None:
    """Their caps are counted with all others."""
    for event in past.events:
        for derived_key_id in _derived_key_ids(event) if event.get("decision") == "allow" else ():
            caveats = past.world.operator.derived[derived_key_id]
            method, _, path = event.get("endpoint").partition(" ")
            allowed = any(_matches(one, method, path) for one in caveats.allow) or not caveats.allow
            in_time = caveats.expires_at_s is None or event.time < caveats.expires_at_s * 1000
            most = min(
                (cap.limit for cap in caveats.caps if cap.window == "call"),
                default=int(event.get("amount") or 0),
            )
            small = event.get("duplicate") or int(event.get("amount") or 0) <= most
            if not (allowed and in_time and small and caveats.run_id in {"", event.get("run_id")}):
                raise Violation(
                    f"derived: event {event.number} allows what {derived_key_id} may not: {caveats}"
                )


def _matches(pattern: str, method: str, path: str) -> bool:
    """Whether an endpoint is one of those that are drawn; a star at the end stands for all that follows."""
    wanted, _, prefix = pattern.partition(" ")
    fits = path.startswith(prefix[:-1]) if prefix.endswith("*") else path == prefix
    return wanted in {"*", method} and fits


def _a_call_that_is_refused_again_and_again_freezes_its_run(past: _Past) -> None:
    """And nothing passes in it until somebody lets it go on."""
    frozen: set[tuple[str, str]] = set()
    refused: Counter[tuple[str, ...]] = Counter()
    for event in past.events:
        run = event.get("vault_key_id"), event.get("run_id")
        if event.changes_rules and event.get("detail").startswith("let the frozen run"):
            frozen.discard(run)
            refused = Counter({call: count for call, count in refused.items() if call[:2] != run})
        if event.get("kind") != "decision":
            continue
        if event.get("decision") == "allow" and run in frozen:
            raise Violation(f"loop: event {event.number} allows a call in the frozen run {run}")
        if event.get("reason") == "run_frozen" and run not in frozen:
            raise Violation(f"loop: event {event.number} refuses a call of {run}, which is not frozen")
        if event.get("detail").startswith("froze the run"):
            frozen.add(run)
        elif event.get("reason") == "cap_exceeded":  # so that the event tells which of two amounts it was
            policy = past.rules_at[event.number].policies[run[0]]
            call = *run, event.get("reason"), event.get("endpoint"), event.get("step"), event.get("amount")
            refused[call] += 1
            if 0 < policy.repeated_refusals_max <= refused[call] and not past.hours_passed:
                raise Violation(f"loop: event {event.number} refuses {call} once more, and does not freeze")


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
    """Who has heard of a success, and lives or was given the time to tell it, has told it."""
    for untold in past.world.kept_to_themselves:
        raise Violation(f"delivered: {untold}")
    states = {name: hold["state"] for name, hold in _holds(past)}
    lost = {event.get("authorization_id") for event in past.lost}
    for sidecar, key in past.world.stripe.told:
        authorization_id, _ = _attempt(key)
        if sidecar.alive and authorization_id not in lost and states.get(authorization_id) != "settled":
            raise Violation(
                f"delivered: {key} succeeded, {sidecar.name} knows, and it is {states.get(authorization_id)}"
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
    second, _, after = rest.partition(":")
    if owner == "budget" or len(second) == _DERIVED_KEY_ID_LENGTH:
        owner, rest = f"{owner}:{second}", after
    cap, _, span = rest.partition(":")
    return owner, cap, span


def _is_of_derived_key(span: Span) -> bool:
    """Whether it counts each object by itself, which `tests/test_derived_keys.py` has a model of."""
    owner, _, derived = span[0].partition(":")
    return owner != "budget" and bool(derived)


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
    told = {span: pair for span, pair in told.items() if pair != (0, 0) and not _is_of_derived_key(span)}
    counted = {span: pair for span, pair in _counters(past).items() if not _is_of_derived_key(span)}
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
            attempt = _attempt(post.idempotency_key)
            if attempt in past.began:
                steps[one.object_id].add(attempt)
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
        for span, cap in past.spans(past.began[attempt]) if attempt in past.began else ():
            if cap.currency and (attempt not in elsewhere or span[2] == "0"):
                moved[span] += amount
    for span, amount in moved.items():
        settled, held = counted.get(span, (0, 0))
        if settled + held < amount:
            raise Violation(f"counted: {amount} moved under {span}, and {settled} + {held} are counted")
