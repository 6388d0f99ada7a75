"""Which ledgers Redis has, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from policy_server.core.continuity import Mark
from policy_server.core.errors import LedgerLost, SpendgateError
from policy_server.store.exchange import Command, ask
from policy_server.store.keys import AccountKeys
from policy_server.store.scripts import Run, command, run_all, script


def mark_commands(names: AccountKeys) -> list[Command]:
    """Return what asks for the epoch of an account's ledger, and for its newest event's number."""
    return [("HGET", names.record, "epoch"), ("GET", names.sequence)]


class RedisMarks:
    """Reads and begins ledgers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has.

        Raises `LedgerLost` while it is rebuilt.
        """
        which = script("begin")
        run = Run(account, [AccountKeys(account).rebuild], [])
        (reply,) = await run_all(self._client, which, [command(which, run, Mark(epoch, 0))])
        if isinstance(reply, SpendgateError):
            raise reply
        if reply[0] == "lost":
            raise LedgerLost(account)
        return str(reply[2])

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
