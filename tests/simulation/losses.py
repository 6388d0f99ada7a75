"""Redis loses what it has: all of it, or what came after some moment. Nobody is told.

What is lost for good are events that neither the archive has nor Redis still has.
Of the others every promise holds as if nothing had happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from policy_server.store.scripts import newest_event
from tests.simulation.archive_link import ArchiveFile
from tests.simulation.loop import SimulatedProcess
from tests.simulation.redis_link import Store, answer_of
from tests.simulation.trail import Event, in_archive, in_store, newest

_GUARDED = frozenset({"authorize", "settle", "observe", "expire", "record", "administer", "unfreeze"})
"""Scripts that do nothing in a ledger that is lost."""


@dataclass(frozen=True)
class Snapshot:
    """What the store had at some moment."""

    number: int
    """Of the newest event in it."""
    keys: tuple[tuple[bytes, bytes, int], ...]
    """Name, value and how long it stays in ms, 0 for ever."""


@dataclass(frozen=True)
class Loss:
    """What the store lost once."""

    base: int
    """Number of the newest event that is left in store or archive."""
    lost: tuple[Event, ...]
    """What is left nowhere."""
    is_noticeable: bool
    """Whether the archive, or the store itself, shows that something is gone."""


class Losses:
    """Makes the store lose its ledger, and knows what was lost."""

    def __init__(self, store: Store, archive: ArchiveFile) -> None:
        self._store = store
        self._archive = archive
        self.all: list[Loss] = []
        self.is_lost = False
        """Whether the ledger is lost, and nobody has made it anew."""
        self.done_on_lost: list[str] = []
        """What was done in a ledger of which it could be known that it is lost."""
        self._rebuilds = 0
        self._heard: dict[tuple[SimulatedProcess, int], int] = defaultdict(int)
        """The newest event of which a server has heard, after so many rebuilds."""

    @property
    def lost(self) -> list[Event]:
        """Every event that is gone for good."""
        return [event for loss in self.all for event in loss.lost]

    @property
    def generation(self) -> int:
        """How often something was lost so far."""
        return len(self.all)

    def with_generation(self, events: Iterable[Event], losses: int | None = None) -> list[tuple[int, Event]]:
        """Tell how often something had been lost when each event was written that so many losses left."""
        bases = [loss.base for loss in self.all[:losses]]
        return [(sum(base < event.number for base in bases), event) for event in events]

    @property
    def lost_with_generation(self) -> list[tuple[int, Event]]:
        """Every event that is gone for good, and how often something had been lost when it was written."""
        return [
            pair for index, loss in enumerate(self.all) for pair in self.with_generation(loss.lost, index)
        ]

    def snapshot(self) -> Snapshot:
        """Copy what the store has now."""
        names = sorted(self._store.ask("KEYS", "*"))
        found = []
        for name in names:
            value, left_ms = self._store.ask_raw("DUMP", name), int(self._store.ask("PTTL", name))
            found.append((name.encode(), value, max(0, left_ms)))
        return Snapshot(newest(self._store), tuple(found))

    def lose(self, kept: Snapshot | None = None) -> Loss:
        """Empty the store, or set it back to what it had."""
        archived = in_archive(self._archive)
        before = in_store(self._store) | archived
        self._store.ask("FLUSHALL")
        if kept is not None:
            self._store.ask("SCRIPT", "FLUSH")
            for name, value, left_ms in kept.keys:
                self._store.ask("RESTORE", name, left_ms, value)
        after = in_store(self._store) | archived
        number = kept.number if kept is not None else 0
        gone = tuple(event for event_number, event in sorted(before.items()) if event_number not in after)
        head = max(archived, default=0)
        loss = Loss(max(head, number), gone, kept is None or head > number or self.is_lost)
        self.all.append(loss)
        self.is_lost = True
        return loss

    def give_up(self) -> None:
        """Nobody can notice it: what is there is the ledger now."""
        self.is_lost = False

    def note_heard(self, server: SimulatedProcess) -> Callable[[int], None]:
        """Return what takes note of the number that a server hears of later, but that is told now."""
        key = server, self._rebuilds

        def heard(number: int) -> None:
            self._heard[key] = max(self._heard[key], number)

        return heard

    def note_script(self, server: SimulatedProcess, name: str, answer: Any) -> None:
        """Look at what a script has answered."""
        told = answer_of(answer)
        if name == "restore" and told and told[0] == "done":
            self.is_lost = False
            self._rebuilds += 1
        elif name in _GUARDED and told and told[0] not in {"lost", "behind"}:
            heard = self._heard[server, self._rebuilds]
            if (self.is_lost and self.all[-1].is_noticeable) or newest_event(told[1])[0] < heard:
                self.done_on_lost.append(
                    f"{server.name}, which has heard of event {heard}, runs {name}.lua: {' '.join(told[:2])}"
                )
