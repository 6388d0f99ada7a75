"""The whole audit trail: what is in the store, and below it what is in the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator

from policy_server.core.errors import ArchiveUnavailable
from policy_server.core.ports import Archive, AuditTail
from policy_server.core.types import AuditEvent, AuditFilter

_CHUNK = 1_000


class Trail:
    """Reads audit events wherever they are, while they move from the store to the archive."""

    def __init__(self, tail: AuditTail, archive: Archive) -> None:
        self._tail = tail
        self._archive = archive

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on.

        Without the archive it shows what the store still has, and raises
        `ArchiveUnavailable` where that ends.
        """
        failure = None
        try:
            archived = await self._archive.head(account)
        except ArchiveUnavailable as error:
            archived, failure = 0, error
        found, reached, exhausted = await self._tail.scan(account, wanted, before, archived, limit)
        if len(found) == limit or not exhausted:
            return found, reached if reached and reached > 1 else None
        if reached == 1:
            return found, None
        if failure is not None:
            if found:
                return found, reached
            raise failure
        # From where the store ended, not from where the archive did: events may have moved meanwhile.
        older, go_on = await self._archive.page(account, wanted, reached, limit - len(found))
        return found + older, go_on

    async def watch(
        self, account: str, wanted: AuditFilter, after: int | None
    ) -> AsyncIterator[tuple[AuditEvent | None, int]]:
        """Yield wanted events as they are written, and checkpoints, each with its sequence."""
        if after is not None:
            oldest = await self._tail.oldest(account)
            async for event in self._archived(account, after, oldest):
                after = event.sequence
                if wanted.matches(event):
                    yield event, after
        async for events, reached in self._tail.follow(account, after):
            for event in events:
                if after is not None and event.sequence > after + 1:
                    # Too slow for the store, which has let go of some.
                    async for missed in self._archived(account, after, event.sequence):
                        if wanted.matches(missed):
                            yield missed, missed.sequence
                after = event.sequence
                if wanted.matches(event):
                    yield event, after
            after = reached
            yield None, after

    async def _archived(self, account: str, after: int, end: int | None) -> AsyncIterator[AuditEvent]:
        """Yield the events between two sequences from the archive; without an end, all there are."""
        while end is None or after + 1 < end:
            limit = _CHUNK if end is None else min(_CHUNK, end - after - 1)
            chunk = await self._archive.read(account, after, limit)
            for archived in chunk:
                if end is not None and archived.sequence >= end:
                    return
                yield AuditEvent.recorded(account, archived.sequence, archived.fields)
                after = archived.sequence
            if len(chunk) < limit:
                return
