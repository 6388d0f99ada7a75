"""Runs the Lua scripts, each by its hash, many in one round trip."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from policy_server.core.errors import SpendgateError
from policy_server.store.connection import STORE_TIMEOUT_S, store_unavailable


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis runs it: the shared part and its own."""

    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script ``scripts/<name>.lua``."""
    folder = files("policy_server.store") / "scripts"
    body = (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
    # Redis sends many short texts in one go, but each list by itself, and each wakes the reader.
    source = f"local function run()\n{body}\nend\nreturn cjson.encode(run())\n"
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a script."""

    keys: Sequence[str]
    arguments: Sequence[str | bytes]


async def run_all(
    client: redis.asyncio.Redis, which: Script, runs: Sequence[Run]
) -> list[Any | SpendgateError]:
    """Run one script many times, in order, in one round trip; return its answers.

    An answer that is a `StoreUnavailable` may or may not have been carried out;
    every script may be run again. A script that Redis has forgotten is sent anew.
    """
    if not runs:
        return []
    replies = await _send(client, which, runs)
    forgotten = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        try:
            await client.script_load(which.source)
        except RedisError as error:
            return [store_unavailable(error)] * len(runs)
        again = await _send(client, which, [runs[index] for index in forgotten])
        for index, reply in zip(forgotten, again, strict=True):
            replies[index] = reply
    return [store_unavailable(reply) if isinstance(reply, Exception) else reply for reply in replies]


async def _send(client: redis.asyncio.Redis, which: Script, runs: Sequence[Run]) -> list[Any]:
    """Send all runs at once over one connection and read their replies.

    This is what redis-py's pipeline does, with the packing left to hiredis and
    one time limit for all replies: per script it takes half of the time.
    """
    commands: list[Any] = [("EVALSHA", which.sha, len(run.keys), *run.keys, *run.arguments) for run in runs]
    packed = [hiredis.pack_command(command) for command in commands]
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.send_packed_command(packed)
                return [await _reply(connection) for _ in runs]
            except BaseException:
                # Replies may still be on their way; nobody may take them for others.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await client.connection_pool.release(connection)
    except (RedisError, OSError) as error:
        return [error] * len(runs)


async def _reply(connection: redis.asyncio.Connection) -> Any:
    try:
        return json.loads(await connection.read_response(timeout=math.inf))
    except ResponseError as error:
        return error
