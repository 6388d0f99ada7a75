"""How far the archive is behind the store, as every policy server sees it."""

from __future__ import annotations

import time
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from policy_server.core.authorizer import DEFAULT_ACCOUNT
from policy_server.core.ports import AccountProgress, Progress
from policy_server.store.connection import store_unavailable
from policy_server.store.keys import ACCOUNTS, ARCHIVE_LEASE, ARCHIVE_PROBLEM, AccountKeys
from policy_server.store.scripts import newest_event

_UNDRAINED_S = 15.0
"""How long events may wait without anybody whose turn it is."""


class RedisArchiveProgress:
    """Reads what drainers have noted in Redis."""

    def __init__(self, client: redis.asyncio.Redis, backlog_max: int) -> None:
        self._client = client
        self._backlog_max = backlog_max
        self._drained_at_s = time.monotonic()

    async def look(self) -> Progress:
        """Return how far the archive is; raises `StoreUnavailable`."""
        try:
            named: Any = await self._client.smembers(ACCOUNTS)
            accounts = sorted({DEFAULT_ACCOUNT, *named})
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(ARCHIVE_PROBLEM)
                pipeline.exists(ARCHIVE_LEASE)
                for account in accounts:
                    names = AccountKeys(account)
                    # In this order: the archive is never ahead of what is read after it.
                    pipeline.hmget(names.archived, ["sequence", "hash"])
                    pipeline.get(names.sequence)
                reported, drained, *pairs = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise store_unavailable(error) from None
        progress = tuple(
            AccountProgress(
                account, newest_event(newest or "0")[0], int(archived or 0), bytes.fromhex(mark or "")
            )
            for account, (archived, mark), newest in zip(accounts, pairs[::2], pairs[1::2], strict=True)
        )
        problem = self._problem(progress, reported, drained=bool(drained))
        return Progress(progress, problem, self._backlog_max)

    def _problem(self, accounts: tuple[AccountProgress, ...], reported: str | None, *, drained: bool) -> str:
        full = [one.account for one in accounts if one.waiting >= self._backlog_max]
        if full:
            refused = (
                f"as many events as may wait for the archive ({self._backlog_max}) do so, and calls are "
                f"refused, in the accounts {', '.join(full)}"
            )
            return f"{refused}: {reported}" if reported else refused
        if reported:
            return reported
        if drained:
            self._drained_at_s = time.monotonic()
        elif time.monotonic() - self._drained_at_s > _UNDRAINED_S and any(one.waiting for one in accounts):
            return "no process moves audit events into the archive"
        return ""
