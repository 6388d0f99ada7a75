"""Which ledgers Redis has, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from policy_server.core.continuity import Mark
from policy_server.store.exchange import Command, ask
from policy_server.store.keys import ACCOUNTS, AccountKeys


def mark_commands(names: AccountKeys) -> list[Command]:
    """Return what asks for the epoch of an account's ledger, and for its newest event's number."""
    return [("HGET", names.record, "epoch"), ("GET", names.sequence)]


class RedisMarks:
    """Reads and begins ledgers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has."""
        # First, so that no ledger is ever without: left behind by a crash, it points nowhere.
        await ask(self._client, [("SADD", ACCOUNTS, account)])
        record = AccountKeys(account).record
        commands = [("HSETNX", record, "epoch", epoch), ("HGET", record, "epoch")]
        _, present = await ask(self._client, commands)
        return str(present)

    async def marks(self, accounts: Sequence[str]) -> list[Mark]:
        """Return how far the ledger of each account has come."""
        if not accounts:
            return []
        values = await ask(
            self._client,
            [command for account in accounts for command in mark_commands(AccountKeys(account))],
        )
        return [
            Mark(epoch or "", int(sequence or 0))
            for epoch, sequence in zip(values[::2], values[1::2], strict=True)
        ]
