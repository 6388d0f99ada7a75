"""Puts together what decides, counts and restores, over one Redis and one archive."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis.asyncio

from policy_server.archive.chain import linked
from policy_server.core.administration import Administration
from policy_server.core.authorizer import Authorizer, Now
from policy_server.core.continuity import Continuity
from policy_server.core.directory import Directory
from policy_server.core.explainer import Explainer
from policy_server.core.ports import Archive
from policy_server.core.restoration import Restoration
from policy_server.core.settler import Settler
from policy_server.core.strangers import Strangers
from policy_server.store.accounts import RedisAccounts
from policy_server.store.ledger import RedisLedger
from policy_server.store.marks import RedisMarks
from policy_server.store.registry import RedisRegistry
from policy_server.store.restorer import RedisRestorer
from policy_server.store.scripts import Scripts


class Core:
    """One policy server's core. Any number of them share one Redis; each has a memory of its own."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        archive: Archive,
        now: Now,
        *,
        hold_ttl_ms: int,
        retention_ms: int,
        backlog_max: int = 0,
        replicas: int = 0,
        store_clock: Callable[[], int] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` is the server's own clock; ``store_clock`` replaces that of Redis, for tests.

        ``clock_s`` tells seconds from any moment on, and is never set.

        ``backlog_max`` events may wait for the archive, 0 means any number; nothing
        counts as done before so many ``replicas`` have it.
        """
        self.continuity = Continuity(archive, RedisMarks(client), clock_s=clock_s)
        scripts = Scripts(
            client, self.continuity, backlog_max=backlog_max, replicas=replicas, clock=store_clock
        )
        self.ledger = RedisLedger(scripts, retention_ms=retention_ms)
        self.accounts = RedisAccounts(client, self.continuity)
        self.registry = RedisRegistry(scripts, self.continuity, self.accounts, clock=store_clock)
        self.directory = Directory(self.registry)
        self.strangers = Strangers(now)
        self.settler = Settler(self.ledger, self.registry, self.directory, self.strangers)
        self.authorizer = Authorizer(
            *(self.ledger, self.registry, self.directory, now),
            strangers=self.strangers,
            hold_ttl_ms=hold_ttl_ms,
        )
        self.explainer = Explainer(self.ledger, self.registry, now, hold_ttl_ms=hold_ttl_ms)
        self.administration = Administration(self.registry, self.ledger, now)
        self.restoration = Restoration(archive, RedisRestorer(client), self.continuity, linked)
