"""Which ledgers Redis has, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio
from redis.exceptions import RedisError

from policy_server.core.continuity import Mark
from policy_server.store.connection import store_unavailable
from policy_server.store.keys import AccountKeys


class RedisMarks:
    """Reads and begins ledgers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has."""
        record = AccountKeys(account).record
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hsetnx(record, "epoch", epoch)
                pipeline.hget(record, "epoch")
                _, present = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise store_unavailable(error) from None
        return str(present)

    async def marks(self, accounts: Sequence[str]) -> list[Mark]:
        """Return how far the ledger of each account has come."""
        if not accounts:
            return []
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for account in accounts:
                    names = AccountKeys(account)
                    pipeline.hget(names.record, "epoch")
                    pipeline.get(names.sequence)
                values = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise store_unavailable(error) from None
        return [
            Mark(epoch or "", int(sequence or 0))
            for epoch, sequence in zip(values[::2], values[1::2], strict=True)
        ]
