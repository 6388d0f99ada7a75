"""Finds out at Stripe what became of calls whose answer nobody saw.

First by the key that they were sent with, in the events of that time; what is
counted is the object as it is now. Then, long enough after, by what is not
there: `traces` says where that is proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.stripe.listing import Span, fetched, listed, united
from sidecar.stripe.traces import TRACES, Changes, Deletes, Makes, Trace, event_types
from sidecar.vendor import Failed, Finding, Found, Look, NotFound, OpenCall, Succeeded

_CLOCKS_APART_S = 300
"""How far Stripe's clock and the store's may be apart, with what Stripe takes to carry out a call."""

_CLOCKS_APART_MAX_S = 3_600
"""The same where what is not there is proof: a clock that was wrong must not give back money that moved."""

EVENTS_KEPT_S = 30 * 86_400 - 3_600
"""How far back Stripe lists events, with an hour to spare."""

_EVENT_AFTER_S = 60
_TYPES_MAX = 20
_UNITED_WITHIN_S = 600

Body = Mapping[str, Any]
Read = Callable[[OpenCall, Body, str], Succeeded | Failed]
"""Says what a body means as the answer to a call, which was the request of that id."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is kept of an event."""

    id: str
    type: str
    request_id: str
    subject: Body = field(repr=False)
    """The object that it is about, as it was then."""

    @property
    def kind(self) -> str:
        """What kind of object it is about."""
        return str(self.subject.get("object") or "")

    @property
    def object_id(self) -> str:
        """The object that it is about."""
        return str(self.subject.get("id") or "")

    @property
    def declines(self) -> bool:
        """Whether it says that a payment was turned down."""
        return self.type.endswith((".payment_failed", ".failed"))


class Events:
    """The events of some time: those of calls that are looked for, and how objects began."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._wanted = frozenset(keys)
        self._by_key: defaultdict[str, list[Event]] = defaultdict(list)
        self._begun: defaultdict[str, set[str]] = defaultdict(set)
        self.seen = 0

    def take(self, body: Body) -> None:
        """Keep of an event what is needed."""
        self.seen += 1
        request = body.get("request")
        request = request if isinstance(request, Mapping) else {}
        data = body.get("data")
        subject = data.get("object") if isinstance(data, Mapping) else None
        subject = subject if isinstance(subject, Mapping) else {}
        kind, key = str(body.get("type")), request.get("idempotency_key")
        self._begun[kind].add(str(subject.get("id")))
        if key in self._wanted:
            self._by_key[key].append(
                Event(str(body.get("id")), kind, str(request.get("id") or ""), dict(subject))
            )

    def of(self, key: str) -> list[Event]:
        """Return the events that a request with this key has caused."""
        return self._by_key.get(key, [])

    def begun(self, object_id: str, types: Iterable[str]) -> bool:
        """Tell whether an object's beginning is among them."""
        return any(object_id in self._begun.get(kind, ()) for kind in types)


async def investigate(
    calls: Sequence[OpenCall],
    look: Look,
    *,
    now_s: int,
    read: Read,
    kind_of: Callable[[str], str],
    path_of: Callable[[str], str | None],
) -> dict[str, Finding]:
    """Find out what became of each call, by its reference."""
    findings: dict[str, Finding] = {}
    for account in sorted({call.vendor_account for call in calls}):
        of_account = [call for call in calls if call.vendor_account == account]
        recent = [call for call in of_account if now_s - _span(call).start_s < EVENTS_KEPT_S]
        for call in of_account:
            findings[call.reference] = NotFound("it is older than what Stripe lists of events")
        for span in united([_span(call) for call in recent], _UNITED_WITHIN_S):
            within = [call for call in recent if span.holds(_span(call))]
            search = _Search(account, span, look, read, kind_of, path_of)
            findings |= await search.run(within)
    return findings


def _span(call: OpenCall) -> Span:
    apart_s = _CLOCKS_APART_MAX_S if call.absence_counts else _CLOCKS_APART_S
    return Span(call.sent_from_ms // 1000 - apart_s, call.sent_until_ms // 1000 + 1 + apart_s)


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for calls of one account in one stretch of time."""

    account: str
    span: Span
    look: Look
    read: Read
    kind_of: Callable[[str], str]
    path_of: Callable[[str], str | None]

    async def run(self, calls: Sequence[OpenCall]) -> dict[str, Finding]:
        events = await self._events(calls)
        findings: dict[str, Finding] = {}
        made: dict[Makes, list[str]] = {}
        for call in calls:
            trace = TRACES.get(call.endpoint)
            of_call = events.of(call.upstream_key)
            about = self._about(call, trace, of_call)
            if about:
                findings[call.reference] = await self._outcome(call, about)
                continue
            if of_call and trace is None:
                # It was carried out, and what it did is not seen: what was held counts.
                findings[call.reference] = Found(Succeeded(), _shown(of_call[0]))
                continue
            if isinstance(trace, Makes) and call.absence_counts and trace not in made:
                made[trace] = await self._unaccounted(trace, events)
            findings[call.reference] = await self._absence(call, events, made)
        return findings

    async def _events(self, calls: Sequence[OpenCall]) -> Events:
        traces = [TRACES.get(call.endpoint) for call in calls]
        types = sorted({kind for trace in traces if trace for kind in event_types(trace)})
        if None in traces or len(types) > _TYPES_MAX:
            types = []
        events = Events(call.upstream_key for call in calls)
        asked = [(f"types[{index}]", kind) for index, kind in enumerate(types)]
        # An object that was made in the last second may have its event a little later.
        span = Span(self.span.start_s, self.span.end_s + _EVENT_AFTER_S)
        async for body in listed(self.look, "/v1/events", self.account, span, *asked):
            events.take(body)
        return events

    async def _outcome(self, call: OpenCall, about: Sequence[Event]) -> Finding:
        """Return what the events of the call's change say, with the object as it is now."""
        trace = TRACES.get(call.endpoint)
        declines = [one for one in about if one.declines]
        event = next((one for one in about if not one.declines), about[0])
        path = self.path_of(event.object_id)
        now = await fetched(self.look, path, self.account) if path else None
        if isinstance(trace, Deletes):
            return self._deleted(call, event, now)
        body = now or event.subject
        if trace and event.kind == "charge" and event.declines and body.get("status") == "failed":
            return Found(Failed(), _shown(event))
        if trace and declines and event.kind != "charge" and not _has_succeeded(trace, about):
            return self._declined(call, body, declines[0], fresh=now is not None)
        return Found(self.read(call, body, event.request_id), _shown(event), fresh=now is not None)

    def _about(self, call: OpenCall, trace: Trace | None, events: Sequence[Event]) -> list[Event]:
        """Return the events of the change that the call was to make, of the object that it was to change."""
        kind = trace.kind if trace else self.kind_of(call.endpoint)
        return [
            one
            for one in events
            if call.object_id in {"", one.object_id}
            and kind in {"", one.kind}
            and (trace is None or one.type in event_types(trace))
        ]

    def _declined(self, call: OpenCall, body: Body, event: Event, *, fresh: bool) -> Finding:
        """A declined intent lives on, and its client secret can still pay it."""
        if event.kind != "payment_intent":
            return Found(Failed(), _shown(event))
        reading = self.read(call, body, event.request_id)
        if isinstance(reading, Succeeded) and reading.money is None:
            return Found(reading, _shown(event), fresh=fresh)
        return Found(Failed(reading.money, reading.object_id), _shown(event), fresh=fresh)

    def _deleted(self, call: OpenCall, event: Event, now: Body | None) -> Finding:
        """What is gone commits nothing any more; what is there all the same keeps what it counts."""
        gone = now is None or now.get("deleted") is True
        body = {"id": event.object_id, "object": event.kind, "deleted": gone}
        return Found(self.read(call, body, event.request_id), _shown(event))

    async def _unaccounted(self, trace: Makes, events: Events) -> list[str]:
        """Return the objects of that time of which no event says how they began."""
        return [
            str(one.get("id"))
            async for one in listed(self.look, trace.listed, self.account, self.span, *trace.query)
            if not events.begun(str(one.get("id")), trace.begins)
        ]

    async def _absence(self, call: OpenCall, events: Events, made: Mapping[Makes, Sequence[str]]) -> Finding:
        """Say whether it is proof that no event tells of the call."""
        if not call.absence_counts:
            return NotFound("no event tells of it yet, and it is too early to take that for proof")
        trace = TRACES.get(call.endpoint)
        if isinstance(trace, Makes):
            unaccounted = made[trace]
            if unaccounted:
                return NotFound(f"{unaccounted[0]} was made in that time, and no event says by which request")
            return Found(
                Failed(), f"none of {events.seen} events has its key, and each {trace.kind} has another"
            )
        if trace is not None:
            return await self._unchanged(trace, call)
        return NotFound(f"no event tells of it, and of {call.endpoint} that proves nothing")

    async def _unchanged(self, trace: Changes | Deletes, call: OpenCall) -> Finding:
        """Say whether the object that the call was to change shows that it did not."""
        path = self.path_of(call.object_id)
        now = await fetched(self.look, path, self.account) if path else None
        if now is not None and (now.get("id"), now.get("object")) == (call.object_id, trace.kind):
            if isinstance(trace, Deletes) and not now.get("deleted"):
                return Found(Failed(), f"{call.object_id} was not deleted, it is there")
            if isinstance(trace, Changes) and trace.undone(now):
                return Found(Failed(), f"{call.object_id} was not changed so, it is {now.get('status')}")
        return NotFound(
            f"no event tells of it, but {call.object_id or 'its object'} may have been changed so"
        )


def _shown(event: Event) -> str:
    return f"event {event.id} ({event.type})"


def _has_succeeded(trace: Trace, events: Sequence[Event]) -> bool:
    """Tell whether one of these says that a change was made, whatever was declined before."""
    return isinstance(trace, Changes) and any(not one.declines for one in events)
