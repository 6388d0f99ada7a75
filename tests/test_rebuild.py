"""What a rebuild writes is what Redis had, whatever Redis still has and wherever the rebuild breaks off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from policy_server.archive.chain import linked
from policy_server.archive.database import Database
from policy_server.archive.drain import Drainer
from policy_server.archive.reader import ThreadedArchive
from policy_server.archive.signing import SigningKey
from policy_server.archive.writer import ArchiveWriter
from policy_server.core.errors import ArchiveBroken, AuditBacklogFull, LedgerLost, StoreUnavailable
from policy_server.core.restoration import Rebuilt, Restoration, Restored
from policy_server.core.types import Outcome
from policy_server.core.window import Window
from policy_server.store import restorer
from policy_server.store.backlog import RedisBacklog
from policy_server.store.restorer import RedisRestorer
from policy_server.store.scripts import newest_event
from tests.processes import temporary_folder
from tests.world import INTENTS, MINUTE, World, calls, key_id, usd


class Archived:
    """A world with an archive that takes events when it is told to."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.database = Database(None, folder)
        self.database.migrate()
        self.archive = ThreadedArchive(self.database)
        self.world = World(url, self.archive)
        writer = ArchiveWriter(self.database, SigningKey.read_or_make(folder))
        self.writer = writer
        self._drainer = Drainer(RedisBacklog(url), writer, self.world.now)

    def drain(self) -> None:
        """Let the archive take every event."""
        while self._drainer.drain():
            pass

    async def rebuild(self, by: RedisRestorer | None = None) -> Rebuilt:
        """Restore the ledger of the default account."""
        restoration = Restoration(
            self.archive,
            by or RedisRestorer(self.world.redis),
            self.world.server.continuity,
            linked,
        )
        return await restoration.rebuild("default")

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


async def test_a_slow_drainer_is_waited_for(archived: Archived) -> None:
    """Events that reach the archive while the ledger is written are in it too."""
    key = await archived.spend()
    archived.drain()
    await archived.world.spend(key, 40, "later")
    before = await archived.ledger()
    entries = await archived.world.redis.xrange("spendgate:{default}:audit")
    read_before = [
        (int(name.partition("-")[0]), [part.encode() for pair in fields.items() for part in pair])
        for name, fields in entries
    ]

    class Late(RedisRestorer):
        """Lets the events through that a drainer had read before Redis was emptied."""

        async def prepare(self, account: str, *more: Any) -> Restored:
            restored = await super().prepare(account, *more)
            tip = archived.writer.tip(account)
            if read_before[tip.sequence :]:
                archived.writer.append(tip, read_before[tip.sequence :])
            return restored

    await archived.world.redis.flushall()
    rebuilt = await archived.rebuild(Late(archived.world.redis))
    assert rebuilt.lost_events == 0
    assert await archived.ledger() == before
    archived.drain()


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
