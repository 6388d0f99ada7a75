"""A ledger that has lost something is noticed whatever it has counted since, and whoever is asked then.

Several servers share one Redis, which is set back under them, as a failover to a
replica does that lacks the newest writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis as redis_client

from policy_server.core.continuity import OTHERS_LOOK_S, Continuity
from policy_server.core.errors import LedgerLost, StoreUnavailable, VersionConflict
from policy_server.core.types import DenyReason
from policy_server.store.connection import connect
from policy_server.store.marks import RedisMarks
from tests.processes import temporary_folder
from tests.test_rebuild import Archived
from tests.world import Server, key_id, usd


class Replica:
    """What a replica has got of a Redis, which can take its place."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis_client.Redis.from_url(url)
        self._kept: dict[bytes, bytes] = {}

    def catch_up(self) -> None:
        """Get everything that there is by now."""
        self._kept = {name: self._redis.dump(name) for name in self._redis.keys("spendgate:*")}

    def take_over(self) -> None:
        """Be what the servers talk to."""
        self._redis.flushall()
        for name, dumped in self._kept.items():
            self._redis.restore(name, 0, dumped)


@pytest_asyncio.fixture
async def archived(redis: str) -> AsyncIterator[Archived]:
    """A world with an archive of its own."""
    with temporary_folder() as folder:
        made = Archived(redis, Path(folder))
        yield made
        await made.world.close()
        made.archive.close()
        made.database.close()


async def test_a_ledger_that_went_on_without_an_event_is_closed(archived: Archived, redis: str) -> None:
    """B has not heard of A's last decision and goes on without it; A sees it, and B decides nothing more."""
    world, replica = archived.world, Replica(redis)
    a, b = world.server, world.second_server()
    key = await world.key(usd(100))
    await world.ask(key, 10, "first", server=b)
    replica.catch_up()
    assert (await world.ask(key, 60, "lost", server=a)).allowed
    replica.take_over()
    assert (await world.ask(key, 20, "in its place", server=b)).allowed
    assert (await world.ask(key, 1, "after it", server=b)).allowed

    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "again", server=a)
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "more", server=b)
    archived.drain()
    rebuilt = await archived.rebuild()
    assert rebuilt.lost_events == 0  # as many events as A knew of are there: B's, which moved money
    assert await world.count(key) == (0, 31)


async def gone_on(archived: Archived, redis: str, b: Server) -> str:
    """A key of which 60 are archived that Redis has lost, while B has allowed 20 in their place."""
    world, replica = archived.world, Replica(redis)
    key = await world.key(usd(100))
    await world.ask(key, 10, "first", server=b)
    replica.catch_up()
    await world.ask(key, 60, "lost")
    archived.drain()
    replica.take_over()
    assert (await world.ask(key, 20, "in its place", server=b)).allowed
    return key


async def test_what_the_archive_has_and_the_store_has_not_is_noticed(archived: Archived, redis: str) -> None:
    """B has gone on past what was archived: its next look closes the ledger; a rebuild has the archived."""
    world = archived.world
    b = world.second_server()
    key = await gone_on(archived, redis, b)
    await world.ask(key, 1, "after it", server=b)

    await b.continuity.watch()
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "more", server=b)
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "fresh", server=world.second_server())
    world.server = b
    assert (await archived.rebuild()).restored.set_aside > 0
    assert await world.count(key) == (0, 70)


async def test_a_fresh_server_sees_that_the_archived_event_is_another(archived: Archived, redis: str) -> None:
    """A ledger as long as the archive's, but another one from some event on, is none to decide in."""
    world = archived.world
    b = world.second_server()
    key = await gone_on(archived, redis, b)
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "fresh", server=world.second_server())
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "more", server=b)


@pytest.mark.parametrize("on_record", [True, False], ids=["archived", "nowhere"])
async def test_a_server_that_was_away_goes_by_the_archive(archived: Archived, on_record: bool) -> None:
    """What it knows of is gone from Redis: it decides again if the archive has that very event."""
    world = archived.world
    away = world.second_server()
    key = await world.key(usd(100))
    await world.ask(key, 10, "first", server=away)
    if not on_record:
        known = await away.continuity.known("default")
        away.continuity._known["default"] = replace(known, tip="of another")
    for run in ("a", "b", "c"):
        await world.ask(key, 1, run)
    archived.drain()
    await world.redis.xtrim("spendgate:{default}:audit", maxlen=1, approximate=False)

    with pytest.raises(StoreUnavailable, match="was away for long"):
        await world.ask(key, 1, "again", server=away)
    await away.continuity.watch()
    await away.continuity.watch()
    if on_record:
        assert (await world.ask(key, 1, "again", server=away)).allowed
        assert away.continuity.is_usable
    else:
        with pytest.raises(StoreUnavailable, match="was away for long"):
            await world.ask(key, 1, "again", server=away)


async def test_a_ledger_that_was_closed_gets_no_new_name(archived: Archived, redis: str) -> None:
    """A server that knows nothing, with an archive that has nothing yet, does not begin it anew."""
    world, replica = archived.world, Replica(redis)
    key = await world.key(usd(100))
    replica.catch_up()
    await world.ask(key, 60, "lost")
    replica.take_over()
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "again")
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "fresh", server=world.second_server())


async def test_records_of_another_ledger_are_read_anew(archived: Archived, redis: str) -> None:
    """A revoke after a rebuild has the number of a lost change that a server remembers; it acts."""
    world, replica = archived.world, Replica(redis)
    key = await world.key(usd(100))
    archived.drain()
    replica.catch_up()
    await world.change(key, usd(10_000))
    assert (await world.ask(key, 50, "cached")).allowed
    replica.take_over()
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "again")
    await archived.rebuild()
    archived.drain()
    await world.second_server().administration.revoke_key(key_id(key))
    verdict = await world.ask(key, 50, "revoked")
    assert (verdict.allowed, verdict.reason) == (False, DenyReason.VAULT_KEY_REVOKED)


async def test_what_was_read_in_another_ledger_is_changed_by_nobody(archived: Archived, redis: str) -> None:
    """Versions count within one ledger: who read a record before the loss has not read what is there now."""
    world, replica = archived.world, Replica(redis)
    registry = world.server.registry
    key = await world.key(usd(100))
    archived.drain()
    replica.catch_up()
    await world.change(key, usd(10_000))
    read = await registry.key(key_id(key))
    assert read is not None
    replica.take_over()
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "again")
    await archived.rebuild()
    await world.change(key, usd(7))
    with pytest.raises(VersionConflict):
        await registry.update_policy(read, read.policy)


async def test_decisions_wait_until_all_have_looked_at_another_store(archived: Archived) -> None:
    """When another Redis answers, nothing is decided for a while, and the archive is asked first."""
    now_s = 0.0
    world = archived.world
    await world.key(usd(100))
    continuity = Continuity(archived.archive, RedisMarks(world.redis), clock_s=lambda: now_s)
    assert (await continuity.known("default")).epoch
    continuity.store_changed()
    with pytest.raises(StoreUnavailable):
        await continuity.known("default")
    now_s += OTHERS_LOOK_S
    assert (await continuity.known("default")).epoch
    await world.redis.flushall()
    continuity.store_changed()
    with pytest.raises(LedgerLost):
        await continuity.known("default")


async def test_another_redis_is_seen_before_it_is_asked(archived: Archived) -> None:
    """Every connection to a Redis that was started anew says so first, the very first connection does not."""
    seen: list[str] = []
    client = connect(archived.url, server_changed=lambda: seen.append("changed"))
    watch = client.connection_pool.connection_kwargs["redis_connect_func"].__self__
    await client.ping()
    assert seen == []
    watch._run_id = "run_id:of-another"
    await client.connection_pool.disconnect()
    await client.ping()
    assert seen == ["changed"]
    await client.connection_pool.disconnect()
    await client.ping()
    assert seen == ["changed"]
    await client.aclose()


async def test_nothing_is_sent_to_another_redis_than_was_meant(archived: Archived) -> None:
    """What was prepared for one Redis and finds another, once it has a connection, is not carried out."""
    world = archived.world
    key = await world.key(usd(100))
    pool: Any = world.redis.connection_pool
    get = pool.get_connection

    async def meanwhile(*given: Any, **named: Any) -> Any:
        world.server.continuity.store_changed()
        return await get(*given, **named)

    pool.get_connection = meanwhile
    with pytest.raises(StoreUnavailable):
        await world.ask(key, 60, "a")
    pool.get_connection = get
    assert await world.count(key) == (0, 0)
