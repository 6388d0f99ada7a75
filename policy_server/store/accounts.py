"""Which accounts there are.

Redis has a list of them, which is derived: every account with a ledger is in it,
and in a cluster it may be lost alone, with the node that has it. It is whole when
no account is missing of which this server knows. One that is not is made anew
from all ledgers there are, in one step, so that no server takes a part for all.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Any

import redis.asyncio

from policy_server.core.continuity import Continuity
from policy_server.core.errors import StoreUnavailable
from policy_server.store.connection import STORE_FAILURES, store_unavailable
from policy_server.store.exchange import ask
from policy_server.store.keys import ACCOUNTS, RECORD_PATTERN, account_of_record

log = logging.getLogger(__name__)


class RedisAccounts:
    """Tells accounts, and keeps their list whole; every method raises `StoreUnavailable`."""

    def __init__(self, client: redis.asyncio.Redis, continuity: Continuity) -> None:
        self._client: Any = client
        self._continuity = continuity

    async def names(self) -> list[str]:
        """Return the accounts that are listed or known here, in order."""
        listed, missing = await self._look()
        return sorted(listed | missing)

    async def check_whole(self) -> None:
        """Raise `StoreUnavailable` when the list lacks an account, so that it may lack others too."""
        _, missing = await self._look()
        if missing:
            raise StoreUnavailable("the list of accounts was lost, and is being made anew; repeat it")

    async def keep_whole(self) -> None:
        """Make the list anew when it lacks an account."""
        _, missing = await self._look()
        if missing:
            found = missing | await self._with_ledgers()
            await ask(self._client, [("SADD", ACCOUNTS, *sorted(found))])
            log.warning("the list of accounts lacked %s; it is made anew", ", ".join(sorted(missing)))

    async def _look(self) -> tuple[Set[str], Set[str]]:
        """Return the accounts that are listed, and those that should be."""
        known = self._continuity.accounts  # before the list is read: an account is listed first
        (listed,) = await ask(self._client, [("SMEMBERS", ACCOUNTS)])
        return set(listed), known - set(listed)

    async def _with_ledgers(self) -> Set[str]:
        found = set()
        try:
            async for name in self._client.scan_iter(match=RECORD_PATTERN, count=1_000):
                found.add(account_of_record(name))
        except STORE_FAILURES as error:
            raise store_unavailable(error) from None
        return found - {""}
