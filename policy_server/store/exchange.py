"""Sends many commands at once and reads their replies, from one Redis or from a cluster.

This is what redis-py's pipeline does, with the packing left to hiredis and one
time limit for all replies: per script it takes half of the time. It also waits
for replicas, which must be asked for on the connection that wrote.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
)

from policy_server.store.connection import STORE_FAILURES, reply_limit_s, store_unavailable
from policy_server.store.keys import ACCOUNTS

Command = tuple[Any, ...]

_REPLICAS_SHARE = 0.6
"""How much of the time for a round trip replicas may take."""

_ROUNDS_MAX = 3
"""How often a command is sent anew because its slot is elsewhere now."""

_initializing: set[asyncio.Task[Any]] = set()


class NotReplicated(RedisError):
    """Fewer replicas than wanted have it in time. It may be carried out, or lost in a failover."""


class OtherServer(RedisError):
    """Another server answers than the one that the commands were meant for. None was sent."""


async def exchange(
    client: redis.asyncio.Redis | RedisCluster,
    commands: Sequence[Command],
    *,
    replicas: int = 0,
    is_meant: Callable[[], bool] = lambda: True,
) -> list[Any]:
    """Send all commands and return their replies, or in their place what went wrong.

    ``is_meant`` is asked once there is a connection, which may be to another server
    than before; where it says no, nothing is sent. A cluster's nodes are not asked.
    """
    try:
        async with asyncio.timeout(reply_limit_s(client)):
            if isinstance(client, RedisCluster):
                return await _with_cluster(client, commands, replicas)
            connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                if not is_meant():
                    raise OtherServer("another Redis answers than before")
                return await _over(connection, commands, replicas)
            finally:
                await client.connection_pool.release(connection)
    except STORE_FAILURES as error:
        return [error] * len(commands)


async def ask(client: redis.asyncio.Redis | RedisCluster, commands: Sequence[Command]) -> list[Any]:
    """Return the replies to commands that each have one key; raises `StoreUnavailable`."""
    replies = await exchange(client, commands) if commands else []
    for reply in replies:
        if isinstance(reply, Exception):
            raise store_unavailable(reply)
    return replies


async def answers(client: redis.asyncio.Redis | RedisCluster) -> bool:
    """Tell whether Redis does what it is asked; of a cluster, the node that has the list of accounts."""
    (reply,) = await exchange(client, [("EXISTS", ACCOUNTS)])
    return not isinstance(reply, Exception)


async def time_ms(client: redis.asyncio.Redis | RedisCluster, key: str) -> int:
    """Return the time by which the Redis that has a key counts, in milliseconds since 1970 UTC.

    The nodes of a cluster have a clock each. Raises `StoreUnavailable`.
    """
    ((seconds, microseconds),) = await ask(client, [("EVAL", "return redis.call('TIME')", 1, key)])
    return int(seconds) * 1000 + int(microseconds) // 1000


async def _over(connection: AbstractConnection, commands: Sequence[Command], replicas: int) -> list[Any]:
    wait_ms = int(_REPLICAS_SHARE * 1000 * (connection.socket_timeout or 0))
    wait: list[Command] = [("WAIT", replicas, wait_ms)] if replicas else []
    packed = [hiredis.pack_command(command) for command in (*commands, *wait)]
    try:
        await connection.send_packed_command(packed)
        replies = [await _reply(connection) for _ in commands]
        reached = await _reply(connection) if replicas else 0
    except BaseException:
        # Replies may still be on their way; nobody may take them for others.
        await connection.disconnect(nowait=True)
        raise
    if not replicas or (isinstance(reached, int) and reached >= replicas):
        return replies
    return [
        reply if isinstance(reply, Exception) else NotReplicated(f"{reached} of {replicas} replicas")
        for reply in replies
    ]


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error


async def _with_cluster(client: RedisCluster, commands: Sequence[Command], replicas: int) -> list[Any]:
    """Send each command to the node that has its slot, and again where that has changed meanwhile."""
    replies: list[Any] = [None] * len(commands)
    waiting = list(range(len(commands)))
    for _ in range(_ROUNDS_MAX):
        await _know_nodes(client)
        by_node: dict[ClusterNode, list[int]] = defaultdict(list)
        for index in waiting:
            try:
                node = client.nodes_manager.get_node_from_slot(client.keyslot(_first_key(commands[index])))
            except SlotNotCoveredError as error:
                replies[index] = error
            else:
                by_node[node].append(index)
        parts = await asyncio.gather(
            *(
                _with_node(node, [commands[index] for index in part], replicas)
                for node, part in by_node.items()
            )
        )
        for part, answered in zip(by_node.values(), parts, strict=True):
            for index, reply in zip(part, answered, strict=True):
                replies[index] = reply
        waiting = [index for index in waiting if await _is_elsewhere(client, replies[index])]
        if not waiting:
            break
    return replies


def _first_key(command: Command) -> str:
    """Return a key of a command, which all have one slot: EVALSHA sha count key …, else NAME key …."""
    return str(command[3] if command[0] in {"EVAL", "EVALSHA"} else command[1])


async def _with_node(node: ClusterNode, commands: Sequence[Command], replicas: int) -> list[Any]:
    try:
        connection = node.acquire_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return await _over(connection, commands, replicas)
        finally:
            node.release(connection)
    except STORE_FAILURES as error:
        return [error] * len(commands)
    except (AttributeError, RuntimeError) as error:
        # What comes of a connection that another call closes, to learn the nodes anew.
        return [RedisError(f"the connection was closed meanwhile: {error}")] * len(commands)


async def _is_elsewhere(client: RedisCluster, reply: Any) -> bool:
    """Tell whether a command was not carried out because the cluster has changed; learn how."""
    if isinstance(reply, MovedError):
        await client.nodes_manager.move_slot(reply)
        return True
    if isinstance(reply, ResponseError) and not isinstance(reply, ClusterDownError):
        # A slot that moves is not worth waiting for: its keys are in two places until it is done.
        return False
    if isinstance(reply, STORE_FAILURES):
        # Whether it was carried out is not known: the caller repeats it, with its request id.
        await client.aclose()
    return False


async def _know_nodes(client: RedisCluster) -> None:
    """Ask the cluster for its nodes when they are not known; one whose time is over leaves that going."""
    if not client._initialize:  # what initialize() would look at, without a task for each call
        return
    task = asyncio.ensure_future(client.initialize())
    _initializing.add(task)
    task.add_done_callback(_forget)
    try:
        await asyncio.shield(task)
    except STORE_FAILURES:
        raise
    except Exception as error:
        # Of nodes that come back one by one the client makes errors that are not its own.
        raise RedisError(f"the nodes of the cluster can't be learned: {error!r}") from error


def _forget(task: asyncio.Task[Any]) -> None:
    _initializing.discard(task)
    if not task.cancelled():
        task.exception()  # each caller has got it too
