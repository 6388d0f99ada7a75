"""What operators do with the archive of a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from policy_server.archive.database import Database
from policy_server.archive.losses import Loss
from policy_server.archive.signing import SigningKey
from policy_server.archive.stored import export_chunks
from policy_server.archive.writer import ArchiveWriter, HeadMoved
from policy_server.core.errors import ArchiveUnavailable, FieldInvalid, NothingLost
from policy_server.core.ports import AccountProgress, ArchiveProgress, Checkpoint, Progress, Registry

T = TypeVar("T")


class DatabaseCare:
    """Exports, signs and repairs, in a thread of its own."""

    def __init__(
        self,
        database: Database,
        key: SigningKey,
        progress: ArchiveProgress,
        registry: Registry,
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._writer = ArchiveWriter(database, key)
        self._key = key
        self._progress = progress
        self._registry = registry
        self._now_ms = now_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive-care")

    @property
    def public_key(self) -> str:
        """The key that checkpoints are signed with, as PEM."""
        return self._key.public.pem

    async def progress(self) -> Progress:
        """Return how far the archive is."""
        return await self._progress.look()

    async def export(self, account: str, after: int) -> AsyncIterator[list[str]]:
        """Yield the lines of an export that begins after event ``after``."""
        chunks = export_chunks(self._database, account, after)
        while (chunk := await self._run(lambda: next(chunks, None))) is not None:
            yield chunk

    async def checkpoint(self, account: str) -> Checkpoint:
        """Sign the newest archived event; `FieldInvalid` when there is none.

        What is signed is the hash that was noted in the store, and not what the
        archive says: else whoever rewrites the archive gets that signed.
        """
        mark = await self._mark(account)
        if mark is None or not mark.archived:
            raise FieldInvalid("account", "has no archived event yet")
        try:
            return await self._run(
                lambda: self._writer.sign(account, mark.archived, mark.archived_hash, self._now_ms())
            )
        except HeadMoved:
            raise ArchiveUnavailable(
                f"event {mark.archived} in the archive is missing, or does not have the hash that was noted "
                "when it was archived: the archive was rewritten or replaced"
            ) from None

    async def _mark(self, account: str) -> AccountProgress | None:
        progress = await self._progress.look()
        return next((one for one in progress.accounts if one.account == account), None)

    async def accept_loss(self, account: str, reason: str) -> tuple[int, int]:
        """Go on after events that the archive has lost; return the first and the last of them.

        When the event that accepts the newest loss was never recorded, it is now.
        Raises `NothingLost` when the archive has all else that was ever archived.
        """
        mark = await self._mark(account)
        tip = await self._run(lambda: self._writer.tip(account))
        if mark is None or mark.archived <= tip.sequence:
            lost = await self._run(lambda: self._writer.unaccepted_loss(account))
            if lost is None:
                raise NothingLost(account)
        else:
            lost = Loss(tip.sequence + 1, mark.archived, mark.archived_hash)
            try:
                await self._run(lambda: self._writer.accept_loss(tip, lost, self._now_ms(), reason))
            except HeadMoved:
                raise NothingLost(account) from None
        # The archive goes on first: while it does not, there may be no room for one more event.
        record = await self._registry.account(account)
        await self._registry.update_account(record, record, lost.acceptance(account, reason))
        return lost.first, lost.last

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
