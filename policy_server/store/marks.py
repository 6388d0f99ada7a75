"""Which ledgers Redis has, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from policy_server.core.continuity import Found, Mark
from policy_server.core.errors import SpendgateError
from policy_server.store.exchange import ask
from policy_server.store.keys import ACCOUNTS, AccountKeys
from policy_server.store.scripts import Reply, Run, command, newest_event, run_all, script

_GOES_ON = {"here": True, "behind": None, "lost": False}


class RedisMarks:
    """Reads and begins ledgers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has."""
        # First, so that no ledger is ever without: left behind by a crash, it points nowhere.
        await ask(self._client, [("SADD", ACCOUNTS, account)])
        run = Run(account, [AccountKeys(account).rebuild], [])
        (reply,) = await self._run("begin", [(run, Mark(epoch, 0))])
        return str(reply[2])

    async def look(self, known: Sequence[tuple[str, Mark]]) -> list[Found]:
        """Return what there is in the place of each ledger; one that lacks something is closed to all."""
        replies = await self._run("read", [(Run(account, [], []), mark) for account, mark in known])
        return [
            Found(Mark(epoch, *newest_event(reached)), _GOES_ON[status])
            for status, reached, epoch, *_ in replies
        ]

    async def _run(self, name: str, runs: Sequence[tuple[Run, Mark]]) -> list[Reply]:
        which = script(name)
        commands = [command(which, run, mark) for run, mark in runs]
        replies = []
        for reply in await run_all(self._client, which, commands):
            if isinstance(reply, SpendgateError):
                raise reply
            replies.append(reply)
        return replies
