"""Reads the audit trail from its stream in Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from policy_server.core.errors import StoreUnavailable
from policy_server.core.types import AuditEvent, AuditFilter
from policy_server.store.keys import AccountKeys

_SCAN_MAX = 10_000
"""How many events one page looks at; a rare match may need several pages."""

_CHUNK = 1_000
_CHECKPOINT_MS = 5_000


class RedisAuditTrail:
    """Reads audit events; ``watcher`` is a connection that may block."""

    def __init__(self, client: redis.asyncio.Redis, watcher: redis.asyncio.Redis) -> None:
        self._client = client
        self._watcher = watcher

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """Return wanted events below sequence ``before``, newest first, and where to go on."""
        found: list[AuditEvent] = []
        newest = f"{before - 1}-0" if before is not None else "+"
        for _ in range(_SCAN_MAX // _CHUNK):
            entries = await self._read(account, newest)
            for entry in entries:
                event = _event(account, entry)
                if wanted.start_ms is not None and event.created_at_ms < wanted.start_ms:
                    return found, None
                if wanted.matches(event):
                    found.append(event)
                    if len(found) == limit:
                        return found, event.sequence if event.sequence > 1 else None
                newest = f"{event.sequence - 1}-0"
            if len(entries) < _CHUNK:
                return found, None
        return found, int(newest.partition("-")[0]) + 1

    async def _read(self, account: str, newest: str) -> list[Any]:
        try:
            # redis-py types entries for bytes and text at once; here all is text.
            entries: Any = await self._client.xrevrange(
                AccountKeys(account).audit, max=newest, min="0-1", count=_CHUNK
            )
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the audit trail can't be read: {error}") from None
        return list(entries)

    async def watch(
        self, account: str, wanted: AuditFilter, after: int | None
    ) -> AsyncIterator[tuple[AuditEvent | None, int]]:
        """Yield wanted events as they are written, and checkpoints, each with its sequence."""
        name = AccountKeys(account).audit
        try:
            if after is None:
                newest: Any = await self._watcher.xrevrange(name, count=1)
                after = _event(account, newest[0]).sequence if newest else 0
            while True:
                reply: Any = await self._watcher.xread(
                    {name: f"{after}-0"}, count=_CHUNK, block=_CHECKPOINT_MS
                )
                for entry in reply[0][1] if reply else []:
                    event = _event(account, entry)
                    after = event.sequence
                    if wanted.matches(event):
                        yield event, after
                yield None, after
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the audit trail can't be read: {error}") from None


def _event(account: str, entry: tuple[str, dict[str, str]]) -> AuditEvent:
    entry_id, fields = entry
    return AuditEvent(
        sequence=int(entry_id.partition("-")[0]),
        created_at_ms=int(fields["time"]),
        account=account,
        fields={**json.loads(fields["call"]), **fields},
    )
