"""Events: what happened to which object, and which request caused it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.json_text import compact_json
from stripe_simulator.lists import page

if TYPE_CHECKING:
    from stripe_simulator.call import Call

API_VERSION = "2026-10-28.endive"

EVENTS_KEPT_SECONDS = 30 * 24 * 60 * 60
"""Stripe lists events for thirty days."""

_MOST_TYPES = 20


@dataclass(slots=True)
class Event:
    """The object is kept as JSON text: a snapshot must not follow later changes, and text is small."""

    id: str
    created: int
    type: str
    data: str
    request_id: str | None
    idempotency_key: str | None

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.created,
            "data": json.loads(self.data),
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": self.type,
        }


def record_event(call: Call, type: str, subject: JsonObject, before: JsonObject | None = None) -> None:
    """Keep an event about this object; `before` is the object as it was, to name what changed."""
    data: JsonObject = {"object": subject}
    if before is not None:
        data["previous_attributes"] = {
            name: value for name, value in before.items() if value != subject.get(name)
        }
    call.ledger.events.add(
        Event(
            id=call.new_id("evt"),
            created=call.now,
            type=type,
            data=compact_json(data),
            request_id=call.request_id,
            idempotency_key=call.idempotency_key,
        )
    )


def retrieve(call: Call) -> JsonObject:
    return call.ledger.events.require(call.path_ids[0], param="id").json()


def list_events(call: Call) -> JsonObject:
    wanted = call.parameters.texts("types")
    if len(wanted) > _MOST_TYPES:
        raise StripeError(400, f"You may list at most {_MOST_TYPES} event types.", param="types")
    if (single := call.parameters.text("type")) is not None:
        if wanted:
            raise StripeError(400, "You may only specify one of these parameters: type, types.", param="type")
        wanted = [single]
    oldest = call.now - EVENTS_KEPT_SECONDS

    def keep(event: Event) -> bool:
        return event.created > oldest and (not wanted or any(_matches(event.type, one) for one in wanted))

    return page(call, call.ledger.events, keep)


def _matches(type: str, wanted: str) -> bool:
    """`charge.*` stands for every event about charges."""
    return type.startswith(wanted[:-1]) if wanted.endswith("*") else type == wanted
