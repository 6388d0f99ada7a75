"""Event destinations: kept and deleted, never sent to."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject
from stripe_simulator.v2.lists import page_v2
from stripe_simulator.v2.outbound import timestamp


@dataclass(slots=True)
class EventDestination:
    id: str
    created: int
    name: str
    type: str
    enabled_events: list[str] = field(default_factory=list)
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "v2.core.event_destination",
            "created": timestamp(self.created),
            "description": self.description or "",
            "enabled_events": self.enabled_events,
            "event_payload": "thin",
            "livemode": False,
            "metadata": self.metadata,
            "name": self.name,
            "status": "enabled",
            "type": self.type,
            "updated": timestamp(self.created),
        }


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    destination = EventDestination(
        "",
        call.now,
        parameters.required_text("name"),
        parameters.required_text("type"),
        parameters.texts("enabled_events"),
        parameters.text("description"),
        parameters.metadata({}),
    )
    call.begin()
    destination.id = call.new_id("ed")
    return call.ledger.event_destinations.add(destination).json()


def retrieve(call: Call) -> JsonObject:
    return call.ledger.event_destinations.require(call.path_ids[0], param="id").json()


def delete(call: Call) -> JsonObject:
    found = call.ledger.event_destinations.require(call.path_ids[0], param="id")
    call.ledger.event_destinations.remove(found.id)
    return {"id": found.id, "object": "v2.core.event_destination", "deleted": True}


def list_destinations(call: Call) -> JsonObject:
    return page_v2(call, call.ledger.event_destinations, lambda _: True)
