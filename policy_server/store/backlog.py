"""The audit streams as the drainer sees them. It has a process of its own and may block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from policy_server.core.authorizer import DEFAULT_ACCOUNT
from policy_server.core.ports import ArchiveHead, Waiting
from policy_server.store.connection import (
    STORE_FAILURES,
    SYSTEM_TRUST,
    StoreTrust,
    node_of_cluster,
    store_unavailable,
)
from policy_server.store.keys import ACCOUNTS, ARCHIVE_LEASE, ARCHIVE_PROBLEM, AccountKeys
from policy_server.store.scripts import newest_event

_TIMEOUT_S = 5
_LEASE_MS = 5_000
_PROBLEM_MS = 15_000


class RedisBacklog:
    """Reads, marks and trims audit streams."""

    def __init__(self, url: str, trust: StoreTrust = SYSTEM_TRUST) -> None:
        """Raises `StoreUnavailable` when a cluster does not answer."""
        cluster = node_of_cluster(url)
        make: Any = redis.RedisCluster if cluster else redis.Redis
        try:
            self._client = make.from_url(
                cluster or url,
                **trust.options(cluster or url),
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
            )
        except STORE_FAILURES as error:  # a cluster is asked for its nodes at once
            raise store_unavailable(error) from None
        script = files("policy_server.store") / "scripts" / "mark.lua"
        # Entries as they come, neither decoded nor made dicts: that takes longer than to archive them.
        self._client.set_response_callback("XRANGE", lambda reply, **_: reply)
        self._mark = self._client.register_script(script.read_text())

    def accounts(self) -> Sequence[str]:
        """Return the accounts that may have events."""
        with self._store_errors():
            # redis-py types its replies for both of its clients at once.
            named: Any = self._client.smembers(ACCOUNTS)
            return sorted({DEFAULT_ACCOUNT, *(name.decode() for name in named)})

    def look(self, account: str, first: int, limit: int) -> Waiting:
        """Return events from sequence ``first`` on, all seen at one moment."""
        names = AccountKeys(account)
        with self._store_errors(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.xrange(names.audit, min=f"{first}-0", count=limit)
            pipeline.get(names.sequence)
            pipeline.hmget(names.archived, ["sequence", "hash"])
            pipeline.exists(names.rebuild)
            entries, newest, (marked, marked_hash), rebuilding = pipeline.execute()
        return Waiting(
            entries=[(int(entry_id.partition(b"-")[0]), fields) for entry_id, fields in entries],
            newest=newest_event((newest or b"0").decode())[0],
            marked=int(marked or 0),
            marked_hash=bytes.fromhex((marked_hash or b"").decode()),
            rebuilding=bool(rebuilding),
        )

    def mark(self, account: str, head: ArchiveHead) -> None:
        """Note that events up to ``head`` are archived for good; never goes back."""
        with self._store_errors():
            self._mark(keys=[AccountKeys(account).archived], args=[head.sequence, head.hash.hex()])

    def trim(self, account: str, first: int) -> None:
        """Let go of events below sequence ``first``, in whole blocks."""
        with self._store_errors():
            self._client.xtrim(AccountKeys(account).audit, minid=f"{first}-0", approximate=True)

    def take_turn(self, who: str) -> bool:
        """Tell whether it is ``who``'s turn for the next few seconds."""
        with self._store_errors():
            if self._client.set(ARCHIVE_LEASE, who, px=_LEASE_MS, nx=True):
                return True
            if self._client.get(ARCHIVE_LEASE) == who.encode():
                self._client.pexpire(ARCHIVE_LEASE, _LEASE_MS)
                return True
            return False

    def give_up_turn(self, problem: str) -> None:
        """Let another have its turn, and say for a while what was wrong."""
        with self._store_errors():
            if problem:
                self._client.set(ARCHIVE_PROBLEM, problem, px=_PROBLEM_MS)
            self._client.delete(ARCHIVE_LEASE)

    def all_is_well(self) -> None:
        """Take back what was wrong."""
        with self._store_errors():
            self._client.delete(ARCHIVE_PROBLEM)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except STORE_FAILURES as error:
            if isinstance(self._client, redis.RedisCluster):
                # Another node may have what one that is away had.
                with contextlib.suppress(*STORE_FAILURES):
                    self._client.nodes_manager.initialize()
            raise store_unavailable(error) from None
