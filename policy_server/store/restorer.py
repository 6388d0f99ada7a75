"""Writes a ledger that was lost back into Redis.

From the first step on, which takes the lost epoch away, nobody can use the
ledger; the last step alone gives it one again. Between the two, a rebuild may
break off anywhere and be run again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import redis.asyncio

from policy_server.core.continuity import Mark, is_other_ledger
from policy_server.core.errors import SpendgateError, StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead
from policy_server.core.restoration import Restored
from policy_server.store.connection import STORE_FAILURES, store_unavailable
from policy_server.store.exchange import time_ms
from policy_server.store.images import HOLD, SORTED_SETS, Image, Ledger
from policy_server.store.keys import ACCOUNTS, AccountKeys, account_of_key
from policy_server.store.scripts import Run, command, newest_event, run_all, script

T = TypeVar("T")

_CHUNK = 200

Entry = tuple[int, dict[str, str]]


class RedisRestorer:
    """Makes ledgers anew."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client: Any = client
        self._claims: dict[str, str] = {}

    async def prepare(
        self, account: str, epoch: str, head: ArchiveHead, events: AsyncIterator[ArchivedEvent]
    ) -> Restored:
        """Write the ledger that ``events`` tell, up to ``head``, so that nobody may use it yet."""
        names = AccountKeys(account)
        claim = self._claims[account] = secrets.token_hex(8)
        await self._ask(self._client.set(names.rebuild, claim))
        await self._ask(self._client.hdel(names.record, "epoch"))
        ledger = Ledger()
        async for event in events:
            ledger.apply(event.sequence, event.fields)
        ledger.sequence = head.sequence
        survivors, strangers = await self._left_in_stream(names, head, epoch)
        for sequence, fields in survivors:
            ledger.apply(sequence, fields)
        await self._set_aside(names, epoch, strangers, ledger.sequence)
        await self._wipe(names)
        ledger.forget_gone(await time_ms(self._client, names.record))
        await self._write(account, ledger, head)
        return _restored(ledger, len(survivors), len(strangers))

    async def finish(self, account: str, epoch: str, restored: Restored, detail: str) -> int:
        """Let the ledger be used under its new epoch, and record that; return the event's number."""
        names = AccountKeys(account)
        run = Run(
            account,
            [names.rebuild],
            [self._claims.pop(account), str(restored.sequence), json.dumps({"detail": detail})],
        )
        which = script("restore")
        (reply,) = await run_all(
            self._client,
            which,
            [command(which, run, Mark(epoch, restored.sequence), tip=secrets.token_hex(6))],
        )
        if isinstance(reply, SpendgateError):
            raise reply
        status, reached = reply
        if status != "done":
            raise StoreUnavailable(f"another rebuild of account {account} has begun; see what it comes to")
        return newest_event(reached)[0]

    async def _left_in_stream(
        self, names: AccountKeys, head: ArchiveHead, epoch: str
    ) -> tuple[list[Entry], list[Entry]]:
        """Return events of the lost ledger that the archive lacks, and events of any other ledger."""
        survivors: list[Entry] = []
        strangers: list[Entry] = []
        expected = head.sequence + 1
        async for sequence, fields in self._entries(names):
            if is_other_ledger(fields.get("epoch", ""), epoch) or sequence > expected:
                strangers.append((sequence, fields))
            elif sequence == expected:
                survivors.append((sequence, fields))
                expected += 1
        return survivors, strangers

    async def _entries(self, names: AccountKeys) -> AsyncIterator[Entry]:
        after = "0"
        while True:
            entries = await self._ask(self._client.xrange(names.audit, min=f"({after}", count=1_000))
            for entry_id, fields in entries:
                yield int(entry_id.partition("-")[0]), fields
            if not entries:
                return
            after = entries[-1][0]

    async def _set_aside(
        self, names: AccountKeys, epoch: str, strangers: Sequence[Entry], sequence: int
    ) -> None:
        """Move events of another ledger out of the way of the numbers to come."""
        aside = names.audit_aside(f"{epoch}-{self._claims[names.account]}")
        for chunk in _chunks(strangers):
            async with self._client.pipeline(transaction=False) as pipeline:
                for number, fields in chunk:
                    pipeline.xadd(aside, fields, id=f"{number}-0")
                    pipeline.xdel(names.audit, f"{number}-0")
                await self._ask(pipeline.execute())
        if await self._ask(self._client.exists(names.audit)):
            await self._ask(self._client.execute_command("XSETID", names.audit, f"{sequence}-0"))

    async def _wipe(self, names: AccountKeys) -> None:
        kept = {names.audit, names.rebuild}
        found = [
            name
            async for name in self._scan(names)
            if name not in kept and not name.startswith(names.audit_aside(""))
        ]
        for chunk in _chunks(found):
            await self._ask(self._client.unlink(*chunk))

    async def _scan(self, names: AccountKeys) -> AsyncIterator[str]:
        try:
            async for name in self._client.scan_iter(match=names.pattern, count=1_000):
                yield name
        except STORE_FAILURES as error:
            raise store_unavailable(error) from None

    async def _write(self, account: str, ledger: Ledger, head: ArchiveHead) -> None:
        names = AccountKeys(account)
        for chunk in _chunks(list(ledger.keys.items())):
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, image in chunk:
                    _put(pipeline, names.named(name), image, sorted_set=name in SORTED_SETS)
                await self._ask(pipeline.execute())
        async with self._client.pipeline(transaction=False) as pipeline:
            for overdue in _chunks(list(ledger.deadlines.items())):
                pipeline.zadd(names.deadlines, dict(overdue))
            pipeline.set(names.sequence, f"{ledger.sequence} {ledger.tip}")
            if head.sequence:
                pipeline.hset(names.archived, mapping={"sequence": head.sequence, "hash": head.hash.hex()})
            await self._ask(pipeline.execute())
        await self._ask(self._client.sadd(ACCOUNTS, account))
        for key_id in ledger.key_ids:
            await self._ask(self._client.set(account_of_key(key_id), account))

    async def _ask(self, reply: Awaitable[T]) -> T:
        try:
            return await reply
        except STORE_FAILURES as error:
            raise store_unavailable(error) from None


def _put(pipeline: Any, key: str, image: Image, *, sorted_set: bool) -> None:
    if sorted_set:
        pipeline.zadd(key, {member: int(score) for member, score in image.fields.items()})
    else:
        pipeline.hset(key, mapping=image.fields)
    if image.goes_at_ms:
        pipeline.pexpireat(key, image.goes_at_ms)


def _restored(ledger: Ledger, from_stream: int, set_aside: int) -> Restored:
    def count(prefix: str) -> int:
        return sum(name.startswith(prefix) for name in ledger.keys)

    return Restored(
        sequence=ledger.sequence,
        vault_keys=len(ledger.key_ids),
        holds=count(HOLD),
        open_holds=len(ledger.deadlines),
        counters=count("count:"),
        exposures=count("exposure:"),
        from_stream=from_stream,
        set_aside=set_aside,
    )


def _chunks(things: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
