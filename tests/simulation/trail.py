"""The audit events of a history, as store and archive have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_server.core.ports import ArchivedEvent
from policy_server.store.scripts import newest_event
from tests.simulation.archive_link import ArchiveFile
from tests.simulation.redis_link import Store

SEQUENCE = "spendgate:{default}:sequence"
AUDIT = "spendgate:{default}:audit"


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

    @property
    def changes_rules(self) -> bool:
        """Whether it records what an operator changed; that a ledger was rebuilt changes none."""
        return self.get("kind") == "administration" and not self.get("detail").startswith("rebuilt")


def newest(store: Store) -> int:
    """Return the number of the newest event that was counted; 0 when there is none."""
    return newest_event(store.ask("GET", SEQUENCE) or "0")[0]


def in_store(store: Store) -> dict[int, Event]:
    """Return the events that the store has, by their numbers."""
    return {event.number: event for event in map(_event, store.ask("XRANGE", AUDIT, "-", "+"))}


def in_archive(archive: ArchiveFile) -> dict[int, Event]:
    """Return the events that the archive has, by their numbers."""
    return {one.sequence: _archived(one) for one in archive.reader.read("default", 0, 100_000)}


def _event(entry: list[Any]) -> Event:
    number, flat = entry
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    told = {**json.loads(fields["call"]), **fields}
    return Event(int(number.partition("-")[0]), int(fields["time"]), told)


def _archived(event: ArchivedEvent) -> Event:
    told = {**json.loads(event.fields["call"]), **event.fields}
    return Event(event.sequence, event.created_at_ms, told)
