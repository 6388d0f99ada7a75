"""What a rebuild writes is what Redis had, whatever Redis still has and wherever the rebuild breaks off."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from policy_server.archive.care import DatabaseCare
from policy_server.archive.chain import linked
from policy_server.archive.database import Database
from policy_server.archive.drain import LOOK_AGAIN_MS, Drainer
from policy_server.archive.reader import ThreadedArchive
from policy_server.archive.signing import SigningKey
from policy_server.archive.stored import own_keys, stored_trails
from policy_server.archive.verify import Verification
from policy_server.archive.writer import ArchiveWriter
from policy_server.core.errors import (
    ArchiveBroken,
    ArchiveUnavailable,
    AuditBacklogFull,
    LedgerLost,
    LedgerRebuilt,
    StillInStore,
    StoreUnavailable,
)
from policy_server.core.ports import Waiting
from policy_server.core.restoration import Rebuilt, Restoration
from policy_server.core.types import DenyReason, Outcome
from policy_server.core.window import Window
from policy_server.store import restorer
from policy_server.store.archive_progress import RedisArchiveProgress
from policy_server.store.backlog import RedisBacklog
from policy_server.store.restorer import RedisRestorer
from policy_server.store.scripts import newest_event
from tests.processes import temporary_folder
from tests.world import INTENTS, MINUTE, Server, World, calls, key_id, usd


class Archived:
    """A world with an archive that takes events when it is told to."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.database = Database(None, folder)
        self.database.migrate()
        self.archive = ThreadedArchive(self.database)
        self.world = World(url, self.archive)
        self._key = SigningKey.read_or_make(folder)
        self.writer = ArchiveWriter(self.database, self._key)
        self._backlog = RedisBacklog(url)
        self._drainer = Drainer(self._backlog, self.writer, self.world.now)

    def put_back(self, older: Path) -> None:
        """Let an older archive take the place of the one there is."""
        self.database.close()
        for path in self.folder.glob("audit.sqlite*"):
            path.unlink()
        older.rename(self.folder / "audit.sqlite")
        with contextlib.suppress(ArchiveUnavailable):  # says once that it has vanished
            self.writer.tip("default")

    def care(self) -> DatabaseCare:
        """What operators do with the archive."""
        server = self.world.server
        progress = RedisArchiveProgress(self.world.redis, server.accounts, 1_000)
        return DatabaseCare(
            *(self.database, self._key, progress, server.registry, self.world.now), backlog=self._backlog
        )

    def drain(self) -> None:
        """Let the archive take every event."""
        while self._drainer.drain() or self._drainer.drain():  # the first may find that the end has moved
            pass

    def restoration(self, by: RedisRestorer | None = None, server: Server | None = None) -> Restoration:
        """What restores ledgers at a server."""
        return Restoration(
            self.archive,
            by or RedisRestorer(self.world.redis),
            (server or self.world.server).continuity,
            linked,
        )

    async def rebuild(
        self, by: RedisRestorer | None = None, *, server: Server | None = None, freeze: bool = False
    ) -> Rebuilt:
        """Restore the ledger of the default account."""
        return await self.restoration(by, server).rebuild("default", freeze=freeze)

    async def ledger(self) -> dict[str, Any]:
        """What Redis has, apart from what every rebuild changes: the epoch, and the record of itself."""
        everything = await self.world.dump(expiry=True)
        # Redis tells only how long a key still stays, while time goes on.
        kept = {name: (value, round(goes_at_ms / 10_000)) for name, (value, goes_at_ms) in everything.items()}
        for name in ("audit", "archived", "sequence"):
            kept.pop(f"spendgate:{{default}}:{name}", None)
        record = kept.pop("spendgate:{default}:account")[0]
        kept.pop("spendgate:archive-lease", None)
        return kept | {"account": {name: value for name, value in record.items() if name != "epoch"}}

    async def spend(self) -> str:
        """Do a bit of everything; return the vault key."""
        world = self.world
        await world.server.administration.set_budget("", "team", [usd(50_000, Window.MONTH)])
        caps = (usd(10_000), usd(4_000, Window.RUN), calls(50, Window.HOUR), usd(20_000, Window.TOTAL))
        key = await world.key(*caps, budgets=("team",))
        other = await world.key(usd(500))
        await world.spend(key, 3_000, "a", object_id="")
        made = await world.ask(key, 900, "b", INTENTS)
        await world.settle(made, 900, object_id="pi_1")
        step = await world.ask(key, 1_200, "b", "POST /v1/payment_intents/pi_1", object_id="pi_1")
        await world.settle(step, 1_100, object_id="pi_1")
        await world.observe(key, "pi_1", 1_000)
        declined = await world.ask(key, 700, "c")
        await world.settle(declined, None, Outcome.FAILED)
        assert (await world.ask(key, 700, "c")).attempt == 2
        await world.settle(await world.ask(key, 10, "d"), None, Outcome.UNKNOWN)
        await world.ask(key, 20, "e", hold_ttl_ms=MINUTE)
        world.now_ms += 2 * MINUTE
        await world.server.settler.expire_holds()
        await world.ask(key, 30, "f")
        await world.server.administration.revoke_key(key_id(other))
        await world.server.administration.freeze("", "looking")
        await world.server.administration.unfreeze("")
        return key


@pytest_asyncio.fixture
async def archived(redis: str) -> AsyncIterator[Archived]:
    """A world with an archive of its own."""
    with temporary_folder() as folder:
        made = Archived(redis, folder)
        yield made
        await made.world.close()
        made.archive.close()
        made.database.close()


class Breaking(RedisRestorer):
    """Breaks off after some steps, as a server does that is killed."""

    def __init__(self, client: Any, steps: int) -> None:
        super().__init__(client)
        self.left = steps

    async def _ask(self, reply: Any) -> Any:
        if self.left == 0:
            reply.close()
            raise StoreUnavailable("the server was killed here")
        self.left -= 1
        return await super()._ask(reply)


async def test_a_rebuild_may_break_off_at_every_step(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its very last step everything is refused; run again, it brings back exactly what there was."""
    monkeypatch.setattr(restorer, "_CHUNK", 3)
    key = await archived.spend()
    archived.drain()
    before = await archived.ledger()
    counts = await archived.world.counts(key)
    await archived.world.redis.flushall()
    for steps in range(1_000):
        breaking = Breaking(archived.world.redis, steps)
        try:
            await archived.rebuild(breaking)
        except StoreUnavailable:
            with pytest.raises(LedgerLost):
                await archived.world.ask(key, 1, "g")
            continue
        break
    assert breaking.left == 0
    assert steps > 15
    assert await archived.ledger() == before
    assert await archived.world.counts(key) == counts
    assert (await archived.world.ask(key, 1, "g")).allowed
    archived.drain()  # and the archive takes what comes after it


async def test_a_restarted_server_rebuilds_and_others_follow(archived: Archived) -> None:
    """A server that knew the lost ledger refuses until the archive has told it of the new one."""
    key = await archived.spend()
    archived.drain()
    await archived.world.redis.flushall()
    bystander = archived.world.server
    archived.world.server = archived.world.second_server()
    assert (await archived.rebuild()).lost_events == 0
    assert (await archived.world.ask(key, 1, "g")).allowed
    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "h", server=bystander)
    archived.drain()
    await bystander.continuity.watch()
    assert (await archived.world.ask(key, 1, "h", server=bystander)).allowed


async def test_events_that_only_redis_still_has_are_not_lost(archived: Archived) -> None:
    """A replica that took over lacks the newest events; of the others none is lost, archived or not."""
    key = await archived.spend()
    archived.drain()
    await archived.world.spend(key, 40, "later")
    before = await archived.ledger()
    # What the replica did not get any more: one event, and what it changed.
    await archived.world.ask(key, 50, "last")
    redis, root = archived.world.redis, "spendgate:{default}:"
    sequence, _ = newest_event(await redis.get(f"{root}sequence"))
    ((_, last),) = await redis.xrevrange(f"{root}audit", count=1)
    await redis.xdel(f"{root}audit", f"{sequence}-0")
    await redis.execute_command("XSETID", f"{root}audit", f"{sequence - 1}-0")
    await redis.set(f"{root}sequence", f"{sequence - 1} {last['after']}")

    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "g")
    rebuilt = await archived.rebuild()
    assert (rebuilt.lost_events, rebuilt.restored.from_stream) == (1, 2)
    assert await archived.ledger() == before
    archived.drain()
    assert [event.sequence for event in await archived.world.events()] == list(range(1, sequence + 1))


@pytest.mark.parametrize("looked", ["before", "after"])
async def test_a_server_that_nobody_asked_notices_an_older_redis_too(archived: Archived, looked: str) -> None:
    """It looks at Redis and archive every second, so it knows what others have counted meanwhile."""
    world, key = archived.world, await archived.spend()
    archived.drain()
    idle = world.second_server()
    await idle.continuity.watch()
    older = {name: await world.redis.execute_command("DUMP", name, NEVER_DECODE=True)
             for name in await world.redis.keys("*")}  # fmt: skip
    await world.spend(key, 40, "later")
    archived.drain()
    if looked == "before":
        await idle.continuity.watch()
    await world.redis.flushall()
    for name, value in older.items():
        await world.redis.restore(name, 0, value)
    if looked == "after":
        await idle.continuity.watch()
    with pytest.raises(LedgerLost):
        await world.ask(key, 1, "g", server=idle)


async def test_what_another_ledger_did_is_kept_aside(archived: Archived) -> None:
    """Decisions that a server without the archive let through meanwhile are not mixed in, and not dropped."""
    key = await archived.spend()
    archived.drain()
    before = await archived.ledger()
    await archived.world.redis.flushall()
    stray = World(archived.url)
    for n in range(40):
        await stray.spend(await stray.key(usd(1_000)), 7, f"stray-{n}")
    await stray.close()
    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "g")
    rebuilt = await archived.rebuild()
    assert rebuilt.restored.set_aside == 120
    (aside,) = await archived.world.redis.keys("*:audit-aside:*")
    assert await archived.world.redis.xlen(aside) == 120
    await archived.world.redis.delete(aside)
    ledger = await archived.ledger()
    strays = {name for name in ledger if name.startswith("spendgate:key-account:")} - before.keys()
    assert {name: value for name, value in ledger.items() if name not in strays} == before
    archived.drain()


async def test_a_changed_archive_restores_nothing(archived: Archived) -> None:
    """A rebuild follows the chain first, and touches nothing when an event was changed or removed."""
    await archived.spend()
    archived.drain()
    await archived.world.redis.flushall()
    fifth = "(SELECT id FROM event ORDER BY id LIMIT 1 OFFSET 4)"
    with archived.database.transaction(writes=True) as connection:
        connection.exec_driver_sql(
            f"UPDATE event SET body = replace(body, '3000', '1000') WHERE id = {fifth}"
        )
    with pytest.raises(ArchiveBroken, match=r"event 5 .* was changed"):
        await archived.rebuild()
    with archived.database.transaction(writes=True) as connection:
        connection.exec_driver_sql(f"DELETE FROM event WHERE id = {fifth}")
    with pytest.raises(ArchiveBroken, match=r"event 5 .* is missing"):
        await archived.rebuild()
    assert not await archived.world.redis.keys("*count*")


class Slow:
    """A backlog from which a drainer has read, and then nothing happens for a while."""

    def __init__(self, backlog: RedisBacklog) -> None:
        self._backlog = backlog
        self.read: Waiting | None = None

    def look(self, account: str, first: int, limit: int) -> Waiting:
        """Return what was read, or what there is."""
        read, self.read = self.read, None
        return read or self._backlog.look(account, first, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backlog, name)


async def test_a_slow_drainer_appends_nothing_after_a_rebuild(archived: Archived) -> None:
    """What it had read of the lost ledger before is not written over by, nor into, what came after."""
    key = await archived.spend()
    slow = Slow(RedisBacklog(archived.url))
    drainer = Drainer(slow, archived.writer, archived.world.now)
    while drainer.drain():
        pass
    await archived.world.spend(key, 40, "later")
    end = archived.writer.tip("default").sequence
    waiting = slow.look("default", end, 100)
    assert len(waiting.entries) == 3
    await archived.world.redis.flushall()
    assert (await archived.rebuild()).lost_events == 2
    held = await archived.world.ask(key, 50, "after")
    slow.read = waiting
    assert drainer.drain() == 0
    assert drainer.drain() == 2  # the rebuild's own event, and the decision
    fresh = archived.world.second_server()
    assert [one.lost for one in await archived.restoration(server=fresh).statuses()] == [False]
    await archived.world.settle(held, 50)
    archived.drain()
    with stored_trails(archived.database) as trails:
        assert [Verification(trail).run(own_keys(archived.database)).findings for trail in trails] == [[]]


async def test_no_drainer_appends_while_a_ledger_is_rebuilt(archived: Archived) -> None:
    """Also one that has looked at the archive meanwhile leaves what Redis still has to the rebuild."""
    key = await archived.spend()
    archived.drain()
    await archived.world.spend(key, 40, "later")
    root = "spendgate:{default}:"
    await archived.world.redis.hset(f"{root}account", "epoch", "1-another")

    head = archived.writer.tip("default").sequence

    class Meddling(RedisRestorer):
        """Lets a drainer run after each of its steps."""

        async def _ask(self, reply: Any) -> Any:
            said = await super()._ask(reply)
            if await archived.world.redis.exists(f"{root}rebuild"):
                archived.drain()
                assert archived.writer.tip("default").sequence == head
            return said

    rebuilt = await archived.rebuild(Meddling(archived.world.redis))
    assert (rebuilt.lost_events, rebuilt.restored.from_stream) == (0, 2)
    archived.drain()
    assert archived.writer.tip("default").sequence == head + 3


class Overtaken(RedisRestorer):
    """Waits before one of its steps until another rebuild is done."""

    def __init__(self, client: Any, step: int, other: Callable[[], Awaitable[None]]) -> None:
        super().__init__(client)
        self.left = step
        self._other = other

    async def _ask(self, reply: Any) -> Any:
        self.left -= 1
        if self.left == -1:
            await self._other()
        return await super()._ask(reply)


async def test_a_slow_rebuild_changes_nothing_once_another_has_begun(archived: Archived) -> None:
    """At whichever step it is: it fails, and what was spent after the other one stays counted."""
    key = await archived.spend()
    world = archived.world
    for step in range(1_000):
        archived.drain()
        await world.server.continuity.watch()
        await world.redis.flushall()
        quick = world.second_server()
        dumps: list[Any] = []

        async def overtake(quick: Server = quick, step: int = step, dumps: list[Any] = dumps) -> None:
            await archived.rebuild(server=quick)
            assert (await world.ask(key, 1, f"g{step}", server=quick)).allowed
            dumps.append(await world.dump())

        try:
            await archived.rebuild(Overtaken(world.redis, step, overtake))
        except StoreUnavailable:
            assert await world.dump() == dumps[0]
            assert (await world.ask(key, 1, f"h{step}", server=quick)).allowed
        else:
            break
    assert not dumps
    assert step > 8


async def test_a_rebuild_that_broke_off_is_taken_over(archived: Archived) -> None:
    """By another server too; the number of the ledger to be is given out once."""
    key = await archived.spend()
    archived.drain()
    await archived.world.redis.flushall()
    with pytest.raises(StoreUnavailable):
        await archived.rebuild(Breaking(archived.world.redis, 6))
    other = archived.world.second_server()
    assert (await archived.rebuild(server=other)).lost_events == 0
    assert (await archived.world.redis.hget("spendgate:{default}:account", "epoch")).startswith("3-")
    assert (await archived.world.ask(key, 1, "g", server=other)).allowed


async def test_what_another_server_has_rebuilt_is_not_rebuilt_again(archived: Archived) -> None:
    """A server that has not heard of it says so, refuses calls, and goes on once the archive has told."""
    key = await archived.spend()
    archived.drain()
    bystander = archived.world.second_server()
    await bystander.continuity.watch()
    await archived.world.redis.flushall()
    await archived.rebuild()
    held = await archived.world.ask(key, 1, "g")
    before = await archived.world.dump()
    (status,) = await archived.restoration(server=bystander).statuses()
    assert (status.lost, status.rebuilt_elsewhere) == (False, True)
    with pytest.raises(LedgerRebuilt, match="as soon as the audit archive has the event"):
        await archived.rebuild(server=bystander)
    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "h", server=bystander)
    assert await archived.world.dump() == before
    archived.drain()
    await bystander.continuity.watch()
    assert (await archived.world.ask(key, 1, "h", server=bystander)).allowed
    await archived.world.settle(held, 1)


async def test_a_ledger_can_come_back_frozen(archived: Archived) -> None:
    """So that no lost call is paid again before somebody has looked; another rebuild keeps it so."""
    world = archived.world
    key = await world.key(usd(10_000))
    archived.drain()
    first = await world.ask(key, 100, "lost")
    await world.settle(first, None, Outcome.FAILED)  # a 429, say, which Stripe does not remember
    await world.spend(key, 100, "lost")
    for _ in range(2):
        await world.redis.flushall()
        await archived.rebuild(freeze=True)
        again = await world.ask(key, 100, "lost")
        assert (again.allowed, again.reason) == (False, DenyReason.ACCOUNT_FROZEN)
        archived.drain()
    await world.server.administration.unfreeze("")
    assert (await world.ask(key, 100, "lost")).attempt == 1


async def test_no_two_ledgers_have_one_number(archived: Archived) -> None:
    """A rebuilt ledger that is lost before the archive has heard of it comes back under a later number."""
    key = await archived.spend()
    archived.drain()
    bystander = archived.world.second_server()
    await bystander.continuity.watch()
    await archived.world.redis.flushall()
    await archived.rebuild()
    await archived.world.redis.flushall()
    await archived.rebuild(server=bystander)
    assert (await archived.world.redis.hget("spendgate:{default}:account", "epoch")).startswith("3-")
    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "g")
    archived.drain()
    await archived.world.server.continuity.watch()
    assert (await archived.world.ask(key, 1, "g")).allowed


async def test_a_ledger_that_is_there_again_is_not_taken_away(archived: Archived) -> None:
    """Between a rebuild's look and its first step the newest data may have been put back."""
    key = await archived.spend()
    archived.drain()
    whole = await archived.world.redis.hgetall("spendgate:{default}:account")
    await archived.world.redis.hset("spendgate:{default}:account", "epoch", "1-another")

    async def put_back() -> None:
        await archived.world.redis.hset("spendgate:{default}:account", mapping=whole)

    with pytest.raises(StoreUnavailable, match="has changed meanwhile"):
        await archived.rebuild(Overtaken(archived.world.redis, 0, put_back))
    assert (await archived.world.ask(key, 1, "g")).allowed


async def test_nobody_begins_a_ledger_in_the_middle_of_a_rebuild(archived: Archived) -> None:
    """A server that has never heard of the account, as the archive has not, waits for the rebuild."""
    key = await archived.world.key(usd(1_000))
    await archived.world.redis.hdel("spendgate:{default}:account", "epoch")
    with pytest.raises(StoreUnavailable):
        await archived.rebuild(Breaking(archived.world.redis, 3))
    stranger = archived.world.second_server()
    with pytest.raises(LedgerLost):
        await archived.world.ask(key, 1, "g", server=stranger)
    assert (await archived.rebuild()).restored.from_stream == 1
    assert (await archived.world.ask(key, 1, "g")).allowed


async def test_events_beside_those_of_the_archive_are_kept_aside(archived: Archived) -> None:
    """What an older Redis was given under numbers that the archive has is told of, and none of it goes in."""
    key = await archived.spend()
    await archived.world.spend(key, 40, "later")
    archived.drain()
    redis, stream = archived.world.redis, "spendgate:{default}:audit"
    before = await archived.ledger()
    (_, fields), (last, _) = (await redis.xrange(stream))[-2:]
    sequence = int(last.partition("-")[0])
    await redis.xdel(stream, last)
    await redis.execute_command("XSETID", stream, f"{sequence - 1}-0")
    await redis.xadd(stream, fields, id=last)
    await redis.xadd(stream, fields, id=f"{sequence + 1}-0")
    await redis.hset("spendgate:{default}:account", "epoch", "1-another")
    rebuilt = await archived.rebuild()
    assert (rebuilt.restored.set_aside, rebuilt.restored.from_stream, rebuilt.lost_events) == (2, 0, 0)
    (aside,) = await redis.keys("*:audit-aside:*")
    assert await redis.xlen(aside) == 2
    await redis.delete(aside)
    assert await archived.ledger() == before
    archived.drain()


async def test_what_went_another_way_after_the_end_of_the_archive_is_kept_aside(archived: Archived) -> None:
    """An event that does not name the archive's last one came after another."""
    key = await archived.spend()
    archived.drain()
    before = await archived.ledger()
    await archived.world.spend(key, 40, "later")
    redis, stream = archived.world.redis, "spendgate:{default}:audit"
    left = (await redis.xrevrange(stream, count=2))[::-1]
    for name, _ in left:
        await redis.xdel(stream, name)
    await redis.execute_command("XSETID", stream, f"{int(left[0][0].partition('-')[0]) - 1}-0")
    await redis.xadd(stream, left[0][1] | {"after": "another"}, id=left[0][0])
    await redis.xadd(stream, left[1][1], id=left[1][0])
    await redis.hdel("spendgate:{default}:account", "epoch")
    restored = (await archived.rebuild()).restored
    assert (restored.set_aside, restored.from_stream) == (2, 0)
    await redis.delete(*await redis.keys("*:audit-aside:*"))
    assert await archived.ledger() == before
    archived.drain()


@pytest.mark.parametrize("redis_has_them", [True, False])
async def test_a_loss_is_not_accepted_of_events_that_redis_still_has(
    archived: Archived, redis_has_them: bool
) -> None:
    """An older archive is filled again from Redis, and then a ledger can still be rebuilt from it."""
    world = archived.world
    key = await archived.spend()
    archived.drain()
    older = archived.folder / "older.sqlite"
    with contextlib.closing(sqlite3.connect(archived.database.path)) as source:
        source.execute("VACUUM INTO ?", [str(older)])
    await world.spend(key, 40, "later")
    archived.drain()
    newest = archived.writer.tip("default").sequence
    archived.put_back(older)
    lacks = archived.writer.tip("default").sequence + 1
    assert lacks == newest - 1
    if not redis_has_them:
        await world.redis.xtrim("spendgate:{default}:audit", minid=f"{newest}-0", approximate=False)
        assert await archived.care().accept_loss("default", "no backup") == (lacks, newest)
        archived.drain()
        return
    before = await world.dump()
    with pytest.raises(StillInStore, match=f"events {lacks} to {newest} .* are not lost"):
        await archived.care().accept_loss("default", "no backup")
    assert await world.dump() == before
    world.now_ms += LOOK_AGAIN_MS
    archived.drain()
    assert archived.writer.tip("default").sequence == newest
    ledger = await archived.ledger()
    await world.redis.flushall()
    assert (await archived.rebuild()).lost_events == 0
    assert await archived.ledger() == ledger


async def test_nothing_is_let_through_that_could_not_be_archived(redis: str) -> None:
    """With as many events waiting as may, calls are refused uncounted and unrecorded; outcomes are taken."""
    world = World(redis, backlog_max=4)
    key = await world.key(usd(1_000))
    held = await world.ask(key, 100, "a")
    await world.ask(key, 100, "b")
    await world.ask(key, 100, "c")
    before = await world.dump()
    with pytest.raises(AuditBacklogFull):
        await world.ask(key, 100, "d")
    assert await world.dump() == before
    await world.settle(held, 100)
    await world.server.administration.freeze("", "an operator can still stop everything")
    await world.server.administration.unfreeze("")
    with pytest.raises(AuditBacklogFull):
        await world.ask(key, 100, "d")
    await world.redis.hset("spendgate:{default}:archived", "sequence", 5)
    assert (await world.ask(key, 100, "d")).allowed
    await world.close()
