"""Reads the newest audit events from their stream in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio

from policy_server.core.errors import StoreUnavailable
from policy_server.core.types import AuditEvent, AuditFilter
from policy_server.store.connection import STORE_FAILURES
from policy_server.store.keys import AccountKeys

_SCAN_MAX = 10_000
"""How many events one page looks at; a rare match may need several pages."""

_CHUNK = 1_000
_CHECKPOINT_MS = 5_000


class RedisAuditTail:
    """Reads audit events; ``watcher`` is a connection that may block."""

    def __init__(self, client: redis.asyncio.Redis, watcher: redis.asyncio.Redis) -> None:
        self._client = client
        self._watcher = watcher

    async def scan(
        self, account: str, wanted: AuditFilter, before: int | None, above: int, limit: int
    ) -> tuple[list[AuditEvent], int | None, bool]:
        """Look at events below ``before`` and above ``above``, newest first.

        Returns those that are wanted, the lowest sequence that was looked at, or
        ``before`` when there was none, and whether there was none below it.
        """
        found: list[AuditEvent] = []
        reached = before
        for _ in range(_SCAN_MAX // _CHUNK):
            entries = await self._read(account, reached, above)
            for entry in entries:
                event = _event(account, entry)
                reached = event.sequence
                if wanted.matches(event):
                    found.append(event)
                    if len(found) == limit:
                        return found, reached, False
            if len(entries) < _CHUNK:
                return found, reached, True
        return found, reached, False

    async def _read(self, account: str, before: int | None, above: int) -> list[Any]:
        if before is not None and before <= above + 1:
            return []
        newest = f"{before - 1}-0" if before is not None else "+"
        try:
            # redis-py types entries for bytes and text at once; here all is text.
            entries: Any = await self._client.xrevrange(
                AccountKeys(account).audit, max=newest, min=f"{above + 1}-0", count=_CHUNK
            )
        except STORE_FAILURES as error:
            raise _unreadable(error) from None
        return list(entries)

    async def oldest(self, account: str) -> int | None:
        """Return the sequence of the oldest event that is still there."""
        try:
            entries: Any = await self._client.xrange(AccountKeys(account).audit, count=1)
        except STORE_FAILURES as error:
            raise _unreadable(error) from None
        return _event(account, entries[0]).sequence if entries else None

    async def follow(self, account: str, after: int | None) -> AsyncIterator[tuple[list[AuditEvent], int]]:
        """Yield events above ``after``, or from now on, as they come, each time with the last sequence.

        Now and then it yields none, so that the caller knows that it goes on.
        """
        name = AccountKeys(account).audit
        try:
            if after is None:
                newest: Any = await self._watcher.xrevrange(name, count=1)
                after = _event(account, newest[0]).sequence if newest else 0
            while True:
                reply: Any = await self._watcher.xread(
                    {name: f"{after}-0"}, count=_CHUNK, block=_CHECKPOINT_MS
                )
                events = [_event(account, entry) for entry in reply[0][1]] if reply else []
                after = events[-1].sequence if events else after
                yield events, after
        except STORE_FAILURES as error:
            raise _unreadable(error) from None


def _unreadable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the audit trail can't be read: {error}")


def _event(account: str, entry: tuple[str, dict[str, str]]) -> AuditEvent:
    entry_id, fields = entry
    return AuditEvent.recorded(account, int(entry_id.partition("-")[0]), fields)
