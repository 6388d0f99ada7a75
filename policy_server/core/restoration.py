"""Makes lost ledgers anew from the audit archive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policy_server.core.continuity import (
    Continuity,
    Found,
    Mark,
    generation_of,
    is_rebuilt,
    new_epoch,
)
from policy_server.core.errors import ArchiveBroken, LedgerPresent, LedgerRebuilt
from policy_server.core.ports import ArchivedEvent, ArchiveHead, Fence

log = logging.getLogger(__name__)

_CHUNK = 1_000

_FREEZE_REASON = "the ledger was rebuilt: what was lost has to be looked up at the vendor first"

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
    """How many events in the store do not go on from those in the archive; they were moved aside."""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How the ledger of one account stands."""

    account: str
    lost: bool
    """Whether the store has not what is known of it, so that every call is refused until a rebuild."""
    rebuilt_elsewhere: bool
    """Whether another server has rebuilt it; calls are refused until the archive has told this one."""
    known: Mark
    present: Mark
    archived: int
    """Number of the newest event in the archive."""


@dataclass(frozen=True, slots=True)
class Claim:
    """That a ledger is being rebuilt: nobody can use it, and no rebuild that began before can write to it."""

    account: str
    token: str
    written_in: str
    """The ledger that the newest event in the store is of; empty when there is none."""


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

    async def fence(self, account: str, above: int) -> Fence:
        """Let no append pass that was prepared before; give out a number higher than ``above``."""


class Restorer(Protocol):
    """The part of the store that makes a ledger anew; raises `StoreUnavailable`.

    So do all steps after the first when another rebuild has begun meanwhile.
    """

    async def claim(self, account: str, lost: Mark) -> Claim:
        """Take the epoch away from a ledger, if it is still as it was found ``lost``.

        Raises `StoreUnavailable` when it is not.
        """

    async def prepare(
        self, claim: Claim, known: Mark, head: ArchiveHead, events: AsyncIterator[ArchivedEvent]
    ) -> Restored:
        """Write the ledger that ``events`` tell, up to ``head``, so that nobody may use it yet.

        What the store still has of the ``known`` one goes in too.
        """

    async def finish(
        self, claim: Claim, epoch: str, restored: Restored, detail: str, *, freeze_reason: str = ""
    ) -> Mark:
        """Let the ledger be used under its new epoch, and record that; return how far it has come.

        With a reason the account is frozen in the same step.
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
            _status(account, known, found, archived) for account, (known, found, archived) in overview.items()
        ]

    async def rebuild(self, account: str, *, freeze: bool = False) -> Rebuilt:
        """Make the ledger of an account anew, and let it be used again; with ``freeze``, once that is ended.

        Raises `LedgerPresent` unless it is lost, `LedgerRebuilt` when another server
        has rebuilt it, and `ArchiveBroken` when the archive was changed or lacks
        events; then nothing was touched.
        """
        async with self._one_at_a_time:
            status = {one.account: one for one in await self.statuses()}.get(account)
            if status is not None and status.rebuilt_elsewhere:
                raise LedgerRebuilt(account, status.present.epoch)
            if status is None or not status.lost:
                raise LedgerPresent(account)
            checked = await self._head(account)
            await self._check(account, checked)
            # From here on nothing changes in the store, nor, after the fence, in the archive.
            claim = await self._restorer.claim(account, status.present)
            used = max(map(generation_of, (status.known.epoch, claim.written_in)))
            fence = await self._source.fence(account, used)
            head = fence.head
            if head != checked:
                await self._check(account, head)
            events = self._events(account, head.sequence)
            restored = await self._restorer.prepare(claim, status.known, head, events)
            lost_events = max(0, status.known.sequence - restored.sequence)
            epoch = new_epoch(fence.generation)
            detail = (
                f"rebuilt the ledger up to event {restored.sequence}, of which the archive had "
                f"{head.sequence}; {lost_events} later ones are lost"
            )
            if freeze:
                detail += "; the account is frozen"
            mark = await self._restorer.finish(
                *(claim, epoch, restored, detail), freeze_reason=_FREEZE_REASON if freeze else ""
            )
            self._continuity.adopt(account, mark)
            log.warning("account %s: %s", account, detail)
            return Rebuilt(account, restored, lost_events)

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


def _status(account: str, known: Mark, found: Found, archived: int) -> LedgerStatus:
    elsewhere = is_rebuilt(known, found.present)
    lost = not elsewhere and found.goes_on is False
    return LedgerStatus(account, lost, elsewhere, known, found.present, archived)
