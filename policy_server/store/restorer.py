"""Writes a ledger that was lost back into Redis.

The first step takes the lost epoch away, and with it every use of the ledger; the
last step alone gives it one again. Between the two, a rebuild may break off
anywhere and be run again. Each writes only as long as no other has begun: a slow
one can't write over the work of a later one, nor over a ledger in use.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError

from policy_server.core.continuity import Mark, generation_of, is_other_ledger
from policy_server.core.errors import StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead
from policy_server.core.restoration import Claim, Restored
from policy_server.store.connection import STORE_FAILURES, store_unavailable
from policy_server.store.exchange import Command, time_ms
from policy_server.store.images import HOLD, SORTED_SETS, Image, Ledger
from policy_server.store.keys import ACCOUNTS, AccountKeys, account_of_key
from policy_server.store.scripts import Reply, Run, command, newest_event, script

T = TypeVar("T")

_CHUNK = 200

Entry = tuple[int, dict[str, str]]


class RedisRestorer:
    """Makes ledgers anew."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client: Any = client

    async def claim(self, account: str, lost: Mark) -> Claim:
        """Take the epoch away from a ledger, if it is still as it was found ``lost``."""
        token = secrets.token_hex(8)
        run = Run(account, [AccountKeys(account).rebuild], [token])
        status, _, *more = await self._run("claim", run, lost)
        if status != "done":
            raise StoreUnavailable(
                f"the ledger of account {account} has changed meanwhile: another server rebuilds it, or it "
                "is there again; see 'spendgate ledger status'"
            )
        return Claim(account, token, more[0])

    async def prepare(
        self, claim: Claim, known: Mark, head: ArchiveHead, events: AsyncIterator[ArchivedEvent]
    ) -> Restored:
        """Write the ledger that ``events`` tell, up to ``head``, so that nobody may use it yet."""
        names = AccountKeys(claim.account)
        left = [entry async for entry in self._entries(names)]
        ours = dict(left)
        ledger, forked_at = Ledger(), head.sequence + 1
        async for event in events:
            ledger.apply(event.sequence, event.fields)
            if ours.get(event.sequence, event.fields) != event.fields:
                forked_at = min(forked_at, event.sequence)
        ledger.sequence = head.sequence
        agreed = [entry for entry in left if entry[0] < forked_at]
        survivors: list[Entry] = []
        if forked_at > head.sequence:
            end = Mark(head.epoch, head.sequence, ledger.tip)
            survivors = _following(end, known, left[len(agreed) :])
        if survivors and not await self._goes_on(names, head, ledger.tip, agreed, survivors[0]):
            survivors = []
        for sequence, fields in survivors:
            ledger.apply(sequence, fields)
        strangers = left[len(agreed) + len(survivors) :]
        await self._set_aside(claim, known, strangers, ledger.sequence)
        await self._wipe(claim)
        ledger.forget_gone(await time_ms(self._client, names.record))
        await self._write(claim, ledger, head)
        return _restored(ledger, len(survivors), len(strangers))

    async def finish(
        self, claim: Claim, epoch: str, restored: Restored, detail: str, *, freeze_reason: str = ""
    ) -> Mark:
        """Let the ledger be used under its new epoch, and record that; return how far it has come."""
        facts = json.dumps({"detail": detail})
        arguments = [claim.token, str(restored.sequence), facts, freeze_reason]
        run = Run(claim.account, [AccountKeys(claim.account).rebuild], arguments)
        tip = secrets.token_hex(6)
        status, reached, *_ = await self._run("restore", run, Mark(epoch, restored.sequence), tip=tip)
        if status != "done":
            raise _taken(claim)
        return Mark(epoch, *newest_event(reached))

    async def _goes_on(
        self, names: AccountKeys, head: ArchiveHead, tip: str, agreed: Sequence[Entry], first: Entry
    ) -> bool:
        """Tell whether the first event that Redis has after ``head`` surely goes on from there."""
        if head.sequence == 0 or (agreed and agreed[-1][0] == head.sequence):
            return True
        if tip and first[1].get("after") == tip:
            return True
        noted = await self._ask(self._client.hmget(names.archived, ["sequence", "hash"]))
        return bool(noted == [str(head.sequence), head.hash.hex()])

    async def _entries(self, names: AccountKeys) -> AsyncIterator[Entry]:
        after = "0"
        while True:
            entries = await self._ask(self._client.xrange(names.audit, min=f"({after}", count=1_000))
            for entry_id, fields in entries:
                yield int(entry_id.partition("-")[0]), fields
            if not entries:
                return
            after = entries[-1][0]

    async def _set_aside(self, claim: Claim, known: Mark, strangers: Sequence[Entry], sequence: int) -> None:
        """Move events of another ledger out of the way of the numbers to come."""
        names = AccountKeys(claim.account)
        aside = names.audit_aside(f"{known.epoch}-{claim.token}")
        for chunk in _chunks(strangers):
            commands: list[Command] = []
            for number, fields in chunk:
                commands.append(("XADD", aside, f"{number}-0", *_flat(fields)))
                commands.append(("XDEL", names.audit, f"{number}-0"))
            await self._change(claim, [aside, names.audit], commands)
        if await self._ask(self._client.exists(names.audit)):
            await self._change(claim, [names.audit], [("XSETID", names.audit, f"{sequence}-0")])

    async def _wipe(self, claim: Claim) -> None:
        names = AccountKeys(claim.account)
        kept = {names.audit, names.rebuild}
        found = [
            name
            async for name in self._scan(names)
            if name not in kept and not name.startswith(names.audit_aside(""))
        ]
        for chunk in _chunks(found):
            await self._change(claim, chunk, [("UNLINK", *chunk)])

    async def _scan(self, names: AccountKeys) -> AsyncIterator[str]:
        try:
            async for name in self._client.scan_iter(match=names.pattern, count=1_000):
                yield name
        except STORE_FAILURES as error:
            raise store_unavailable(error) from None

    async def _write(self, claim: Claim, ledger: Ledger, head: ArchiveHead) -> None:
        names = AccountKeys(claim.account)
        for chunk in _chunks(ledger.keys.items()):
            commands = [
                one
                for name, image in chunk
                for one in _puts(names.named(name), image, sorted_set=name in SORTED_SETS)
            ]
            await self._change(claim, [names.named(name) for name, _ in chunk], commands)
        for overdue in _chunks(ledger.deadlines.items()):
            scores = [part for hold, score in overdue for part in (score, hold)]
            await self._change(claim, [names.deadlines], [("ZADD", names.deadlines, *scores)])
        commands = [("SET", names.sequence, f"{ledger.sequence} {ledger.tip}")]
        if head.sequence:
            noted = {"sequence": str(head.sequence), "hash": head.hash.hex()}
            commands.append(("HSET", names.archived, *_flat(noted)))
        await self._change(claim, [names.sequence, names.archived], commands)
        # On other nodes of a cluster, and the same whoever writes them.
        await self._ask(self._client.sadd(ACCOUNTS, claim.account))
        for key_id in ledger.key_ids:
            await self._ask(self._client.set(account_of_key(key_id), claim.account))

    async def _change(self, claim: Claim, keys: Sequence[str], commands: Iterable[Command]) -> None:
        """Carry out commands, all of them, or none when another rebuild has begun."""
        parts = [str(part) for one in commands for part in (len(one), *one)]
        run = Run(claim.account, [AccountKeys(claim.account).rebuild, *keys], [claim.token, *parts])
        status, *_ = await self._run("write", run, Mark("", 0))
        if status != "done":
            raise _taken(claim)

    async def _run(self, name: str, run: Run, mark: Mark, *, tip: str = "") -> Reply:
        which = script(name)
        by_hash = command(which, run, mark, tip=tip)
        return list(json.loads(await self._ask(self._evaluate(which.source, by_hash))))

    async def _evaluate(self, source: str, by_hash: Command) -> Any:
        try:
            return await self._client.execute_command(*by_hash)
        except NoScriptError:
            await self._client.script_load(source)
            return await self._client.execute_command(*by_hash)

    async def _ask(self, reply: Awaitable[T]) -> T:
        try:
            return await reply
        except STORE_FAILURES as error:
            raise store_unavailable(error) from None


def _following(end: Mark, known: Mark, entries: Sequence[Entry]) -> list[Entry]:
    """Return those of ``entries``, which stand after ``end``, that the lost ledger had written.

    That is up to the first gap, or the first that does not name the one before it, or
    that neither the ledger of the one before it has written nor a later one.
    """
    found: list[Entry] = []
    for sequence, fields in entries:
        epoch = fields.get("epoch", "")
        later = generation_of(epoch) > generation_of(end.epoch)
        if (
            sequence != end.sequence + 1
            or fields.get("after", end.tip) != end.tip
            or not (epoch == end.epoch or later)
            or is_other_ledger(epoch, known.epoch)
        ):
            break
        found.append((sequence, fields))
        end = Mark(epoch, sequence, fields.get("tip", ""))
    return found


def _puts(key: str, image: Image, *, sorted_set: bool) -> Iterator[Command]:
    """Yield what makes a key; few parts in each, of which a script takes only so many at once."""
    for some in _chunks(image.fields.items()):
        if sorted_set:
            yield ("ZADD", key, *(part for member, score in some for part in (int(score), member)))
        else:
            yield ("HSET", key, *(part for pair in some for part in pair))
    if image.goes_at_ms:
        yield ("PEXPIREAT", key, image.goes_at_ms)


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _taken(claim: Claim) -> StoreUnavailable:
    return StoreUnavailable(
        f"another rebuild of account {claim.account} has begun, and this one wrote nothing more; see what "
        "it comes to"
    )


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


def _chunks(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
