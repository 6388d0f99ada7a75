"""Runs the Lua scripts, each by its hash, many in one round trip."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError

from policy_server.core.continuity import Continuity, Mark
from policy_server.core.errors import AuditBacklogFull, LedgerLost, SpendgateError, StoreUnavailable
from policy_server.store.connection import STORE_FAILURES, store_unavailable
from policy_server.store.exchange import Command, exchange
from policy_server.store.keys import AccountKeys

Reply = list[Any]

_UNGUARDED = {"begin", "claim", "write", "restore"}
"""Scripts that come before there is a ledger to be known."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis runs it: the shared part, mostly the guard, and its own."""

    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script ``scripts/<name>.lua``."""
    folder = files("policy_server.store") / "scripts"
    parts = ("common", name) if name in _UNGUARDED else ("common", "guard", name)
    body = "".join((folder / f"{part}.lua").read_text() for part in parts)
    # Redis sends many short texts in one go, but each list by itself, and each wakes the reader.
    source = f"local function run()\n{body}\nend\nreturn cjson.encode(run())\n"
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a script on one account, with the keys and arguments that are the script's own."""

    account: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes]


class Scripts:
    """Runs scripts, each in the ledger that is known, or not at all."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        continuity: Continuity,
        *,
        backlog_max: int = 0,
        replicas: int = 0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """``backlog_max`` events may wait for the archive; 0 means any number.

        Nothing counts as done before so many ``replicas`` have it.
        ``clock`` replaces the store's own clock, for tests.
        """
        self.client = client
        self.continuity = continuity
        self._backlog_max = backlog_max
        self._replicas = replicas
        self._clock = clock
        self._process = secrets.token_hex(4)
        self._runs = itertools.count(1)

    def now_ms(self) -> int:
        """Return a test's time; 0 means the store's own."""
        return self._clock() if self._clock else 0

    async def run(
        self, name: str, runs: Sequence[Run], *, bounded: bool = False
    ) -> list[Reply | SpendgateError]:
        """Run one script many times, in order, in one round trip; return its answers.

        An answer that is a `StoreUnavailable` may or may not have been carried out;
        every script may be run again. With ``bounded``, nothing is done while too
        many events wait for the archive.
        """
        store = self.continuity.stores_seen
        marks = await self._marks(runs)
        which = script(name)
        now, room = str(self.now_ms()), str(self._backlog_max if bounded else 0)
        commands = [
            command(which, run, mark, now=now, room=room, tip=f"{self._process}{next(self._runs):x}")
            for run, mark in zip(runs, marks, strict=True)
            if isinstance(mark, Mark)
        ]
        replies = iter(
            await run_all(
                self.client,
                which,
                commands,
                replicas=self._replicas,
                is_meant=lambda: self.continuity.stores_seen == store,
            )
        )
        judged = [
            self._judged(run, mark, next(replies)) if isinstance(mark, Mark) else mark
            for run, mark in zip(runs, marks, strict=True)
        ]
        if self.continuity.stores_seen == store:
            return judged
        # What another store was not asked may be refused for more than that: its ledgers may lack something.
        refused = await self._marks(runs)
        return [
            why if isinstance(one, StoreUnavailable) and isinstance(why, SpendgateError) else one
            for one, why in zip(judged, refused, strict=True)
        ]

    async def run_one(self, name: str, run: Run, *, bounded: bool = False) -> Reply:
        """Run a script once; raise the error when it did not answer."""
        (reply,) = await self.run(name, [run], bounded=bounded)
        if isinstance(reply, SpendgateError):
            raise reply
        return reply

    async def read(self, account: str, keys: Sequence[str]) -> tuple[str, list[dict[str, str]]]:
        """Return the epoch of an account's ledger, and hashes in it; raises `LedgerLost`."""
        which = script("read")
        mark = await self.continuity.expected(account) or Mark("", 0)
        (reply,) = await run_all(self.client, which, [command(which, Run(account, keys, []), mark)])
        judged = self._judged(Run(account, keys, []), mark, reply)
        if isinstance(judged, SpendgateError):
            raise judged
        _, _, epoch, *found = judged
        # An empty list comes as an empty object.
        return epoch, [dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {} for flat in found]

    async def _marks(self, runs: Sequence[Run]) -> list[Mark | SpendgateError]:
        found: dict[str, Mark | SpendgateError] = {}
        for account in {run.account for run in runs}:
            try:
                found[account] = await self.continuity.known(account)
            except SpendgateError as error:
                found[account] = error
        return [found[run.account] for run in runs]

    def _judged(self, run: Run, mark: Mark, reply: Any) -> Reply | SpendgateError:
        if isinstance(reply, SpendgateError):
            return reply
        status, reached = reply[0], reply[1]
        if status == "lost":
            return LedgerLost(run.account)
        if status == "behind":
            return StoreUnavailable(
                "this policy server was away for long, and learns what has happened since"
            )
        if status == "full":
            return AuditBacklogFull(run.account)
        if mark.epoch:
            self.continuity.saw(run.account, Mark(mark.epoch, *newest_event(reached)))
        return list(reply)


def newest_event(reached: str) -> tuple[int, str]:
    """Return number and tip of an event as Redis and the scripts write them."""
    number, _, tip = reached.partition(" ")
    return int(number), tip


def command(
    which: Script, run: Run, mark: Mark, *, now: str = "0", room: str = "0", tip: str = ""
) -> Command:
    """Return the command that runs a script in the ledger of ``mark``; its events get ``tip``."""
    names = AccountKeys(run.account)
    keys = (names.record, names.sequence, names.audit, names.archived, *run.keys, names.absent)
    known = f"{mark.sequence} {mark.tip}"
    return ("EVALSHA", which.sha, len(keys), *keys, now, mark.epoch, known, room, tip, *run.arguments)


async def run_all(
    client: redis.asyncio.Redis,
    which: Script,
    commands: Sequence[Command],
    *,
    replicas: int = 0,
    is_meant: Callable[[], bool] = lambda: True,
) -> list[Any | SpendgateError]:
    """Send all commands, which run the same script; one that Redis has forgotten is sent anew.

    ``is_meant`` is that of `exchange`.
    """
    if not commands:
        return []
    replies = await exchange(client, commands, replicas=replicas, is_meant=is_meant)
    forgotten = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        try:
            await client.script_load(which.source)
        except STORE_FAILURES as error:
            return [store_unavailable(error)] * len(commands)
        missing = [commands[index] for index in forgotten]
        again = await exchange(client, missing, replicas=replicas, is_meant=is_meant)
        for index, reply in zip(forgotten, again, strict=True):
            replies[index] = reply
    return [
        store_unavailable(reply) if isinstance(reply, Exception) else json.loads(reply) for reply in replies
    ]
