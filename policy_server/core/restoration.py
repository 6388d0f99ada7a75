"""Makes lost ledgers anew from the audit archive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policy_server.core.continuity import Continuity, Mark, new_epoch
from policy_server.core.errors import ArchiveBroken, LedgerPresent, StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead

log = logging.getLogger(__name__)

_CHUNK = 1_000
_TRIES = 5
"""How often a rebuild begins again when the archive got more events meanwhile."""

Link = Callable[[bytes | None, ArchivedEvent], bytes]
"""Returns the hash of an event after the hash before it, None for the first event of an account."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a rebuild brought back for one account."""

    sequence: int
    """Number of the last event that was restored."""
    vault_keys: int
    holds: int
    open_holds: int
    counters: int
    exposures: int
    from_stream: int
    """How many of the events were not in the archive yet, and still in the store."""
    set_aside: int
    """How many events of another ledger were found in the store; they were moved aside."""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How the ledger of one account stands."""

    account: str
    lost: bool
    known: Mark
    present: Mark
    archived: int
    """Number of the newest event in the archive."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A ledger that was made anew."""

    account: str
    restored: Restored
    lost_events: int
    """How many events this server knew of that are neither in the archive nor in the store."""


class Source(Protocol):
    """The part of the archive that a rebuild reads; raises `ArchiveUnavailable`."""

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest event of each account that has any."""

    async def read(self, account: str, after: int, limit: int) -> list[ArchivedEvent]:
        """Return events above sequence ``after``, oldest first."""


class Restorer(Protocol):
    """The part of the store that makes a ledger anew; raises `StoreUnavailable`."""

    async def prepare(
        self, account: str, epoch: str, head: ArchiveHead, events: AsyncIterator[ArchivedEvent]
    ) -> Restored:
        """Write the ledger that ``events`` tell, up to ``head``, so that nobody may use it yet.

        ``epoch`` is the one that was lost. What the store still has of it goes in too.
        """

    async def finish(self, account: str, epoch: str, restored: Restored, detail: str) -> int:
        """Let the ledger be used under its new epoch, and record that; return the event's number.

        Raises `StoreUnavailable` when another rebuild has begun meanwhile.
        """


class Restoration:
    """Rebuilds ledgers, one at a time."""

    def __init__(self, source: Source, restorer: Restorer, continuity: Continuity, link: Link) -> None:
        self._source = source
        self._restorer = restorer
        self._continuity = continuity
        self._link = link
        self._one_at_a_time = asyncio.Lock()

    async def statuses(self) -> list[LedgerStatus]:
        """Return how the ledger of every known account stands."""
        overview = await self._continuity.overview()
        return [
            LedgerStatus(account, found.goes_on is False, known, found.present, archived)
            for account, (known, found, archived) in overview.items()
        ]

    async def rebuild(self, account: str) -> Rebuilt:
        """Make the ledger of an account anew, and let it be used again.

        Raises `LedgerPresent` unless it is lost, and `ArchiveBroken` when the
        archive was changed or lacks events; then nothing was touched.
        """
        async with self._one_at_a_time:
            status = {one.account: one for one in await self.statuses()}.get(account)
            if status is None or not status.lost:
                raise LedgerPresent(account)
            head, restored = await self._prepare(account, status.known)
            lost_events = max(0, status.known.sequence - restored.sequence)
            epoch = new_epoch(status.known.epoch)
            detail = (
                f"rebuilt the ledger up to event {restored.sequence}, of which the archive had "
                f"{head.sequence}; {lost_events} later ones are lost"
            )
            sequence = await self._restorer.finish(account, epoch, restored, detail)
            self._continuity.adopt(account, Mark(epoch, sequence))
            log.warning("account %s: %s", account, detail)
            return Rebuilt(account, restored, lost_events)

    async def _prepare(self, account: str, known: Mark) -> tuple[ArchiveHead, Restored]:
        """Write the ledger, anew when a slow drainer gave the archive more meanwhile."""
        head = await self._head(account)
        for _ in range(_TRIES):
            await self._check(account, head)
            restored = await self._restorer.prepare(
                account, known.epoch, head, self._events(account, head.sequence)
            )
            present = await self._head(account)
            if present.sequence <= max(head.sequence, restored.sequence - restored.from_stream):
                return head, restored
            head = present
        raise StoreUnavailable("the archive kept changing while the ledger was rebuilt; run it again")

    async def _head(self, account: str) -> ArchiveHead:
        return (await self._source.heads()).get(account) or ArchiveHead(0, b"")

    async def _check(self, account: str, head: ArchiveHead) -> None:
        """Raise `ArchiveBroken` unless every event is there and unchanged."""
        sequence, link = 0, None
        async for event in self._events(account, head.sequence):
            sequence += 1
            if event.sequence != sequence:
                raise ArchiveBroken(account, sequence, "is missing")
            link = self._link(link, event)
            if link != event.hash:
                raise ArchiveBroken(account, sequence, "was changed")
            if "epoch" not in event.fields:
                raise ArchiveBroken(
                    account, sequence, "was written by a version of Spendgate that did not keep enough"
                )
        if sequence < head.sequence:
            raise ArchiveBroken(account, sequence + 1, "is missing")
        if link is not None and link != head.hash:
            raise ArchiveBroken(account, sequence, "is not the one that the archive's head tells of")

    async def _events(self, account: str, up_to: int) -> AsyncIterator[ArchivedEvent]:
        after = 0
        while after < up_to:
            chunk = await self._source.read(account, after, min(_CHUNK, up_to - after))
            for event in chunk:
                yield event
            if not chunk:
                return
            after = chunk[-1].sequence
