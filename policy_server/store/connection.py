"""Connects to Redis, and refuses one that would lose or evict counters."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis.asyncio
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from policy_server.core.errors import SpendgateError, StoreUnavailable

log = logging.getLogger(__name__)

VERSION_MIN = (6, 2)

_WANTED = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

TIMEOUT_MS = 250
"""How long Redis may take unless said otherwise: half of the 500 ms in which a call must have its answer."""

STORE_FAILURES = (RedisError, RedisClusterException, OSError)
"""What comes of a command when Redis fails. That a cluster can't be used is no `RedisError`."""

_CONNECTIONS_MAX = 64

_URL_HINT = (
    "redis_url (SPENDGATE_REDIS_URL) must look like redis://host:6379/0, rediss://…, unix://… "
    "or redis+cluster://host:6379"
)


class StoreUrlInvalid(SpendgateError):
    """The address of Redis can't be understood."""


class VolatileStore(SpendgateError):
    """Redis is set up so that it would lose or evict counters."""


@dataclass(frozen=True, slots=True)
class StoreTrust:
    """How a rediss:// server is told from another, and what it is shown."""

    ca: Path | None = None
    """Whose certificates are trusted; None trusts the system's CAs."""
    certificate: Path | None = None
    key: Path | None = None

    def options(self, url: str) -> dict[str, Any]:
        """Return what redis-py is told of it; nothing where the URL asks for no TLS."""
        if not url.startswith("rediss:"):
            return {}
        given = {"ssl_ca_certs": self.ca, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        return {"ssl_min_version": ssl.TLSVersion.TLSv1_2} | {
            name: str(path) for name, path in given.items() if path is not None
        }


SYSTEM_TRUST = StoreTrust()
"""Trusts the system's CAs, and shows nothing."""


class ServerWatch:
    """Sees when another redis-server answers: one started anew, or in the place of another."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """``changed`` is called then, before anything is asked of the new one."""
        self._changed = changed
        self._run_id = ""

    async def connected(self, connection: Any) -> None:
        """Prepare a new connection."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        said = str(await connection.read_response())
        run_id = next((line for line in said.splitlines() if line.startswith("run_id:")), "")
        before, self._run_id = self._run_id, run_id
        if before and run_id != before:
            self._changed()


def connect(
    url: str,
    trust: StoreTrust = SYSTEM_TRUST,
    *,
    timeout_ms: int = TIMEOUT_MS,
    server_changed: Callable[[], None] | None = None,
) -> redis.asyncio.Redis:
    """Return a client for ``url`` (redis://, rediss://, unix:// or redis+cluster://); it connects when used.

    Connecting, and each round trip, may take ``timeout_ms``. It never repeats
    a command by itself: a lost reply is answered by the caller's repeat, which
    the scripts recognise. ``server_changed`` is called when another server answers
    than before, except in a cluster. Raises `StoreUrlInvalid`.
    """
    timeout_s = timeout_ms / 1000
    if cluster := node_of_cluster(url):
        return _connect_to_cluster(cluster, trust, reply_s=timeout_s, connect_s=timeout_s)
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            **trust.options(url),
            max_connections=_CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            redis_connect_func=ServerWatch(server_changed).connected if server_changed else None,
        )
    except ValueError:  # its text may have parts of the password
        raise StoreUrlInvalid(_URL_HINT) from None
    return redis.asyncio.Redis.from_pool(pool)


def reply_limit_s(client: redis.asyncio.Redis | RedisCluster) -> float | None:
    """Return how long replies to a client may take; None for one whose commands may block."""
    limit: float | None = client.get_connection_kwargs()["socket_timeout"]
    return limit


def node_of_cluster(url: str) -> str:
    """Return the address of a node of the cluster that ``url`` names; empty when it is no cluster's."""
    scheme, _, rest = url.partition("+cluster://")
    return f"{scheme}://{rest}" if rest and scheme in {"redis", "rediss"} else ""


def _connect_to_cluster(
    url: str, trust: StoreTrust, *, reply_s: float | None, connect_s: float
) -> redis.asyncio.Redis:
    # It has no way to say the lowest version of TLS; Python's own is 1.2.
    options = {name: value for name, value in trust.options(url).items() if name != "ssl_min_version"}
    try:
        client = RedisCluster.from_url(
            url,
            **options,
            socket_timeout=reply_s,
            socket_connect_timeout=connect_s,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 3),
            max_connections=_CONNECTIONS_MAX,
        )
    except ValueError:  # its text may have parts of the password
        raise StoreUrlInvalid(_URL_HINT) from None
    # It has the same commands; what differs is in `exchange`, and below.
    return cast("redis.asyncio.Redis", client)


async def check_durable(client: redis.asyncio.Redis, *, allow_volatile: bool) -> list[str]:
    """Return what is wrong with how Redis keeps its data; raise unless that is allowed.

    Raises `StoreUnavailable` when Redis does not answer and `VolatileStore` when
    it is too old, can't be asked, does not write every change to disk, or may
    evict keys.
    """
    cluster: Any = client
    if isinstance(cluster, RedisCluster):
        try:
            await cluster.initialize()
        except STORE_FAILURES as error:
            raise _does_not_answer(error) from None
        nodes = [{"target_nodes": node} for node in cluster.get_nodes()]
    else:
        nodes = [{}]
    wrong = [problem for node in nodes for problem in await _problems(cluster, node)]
    if wrong and not allow_volatile:
        raise VolatileStore(
            f"Redis would lose or evict counters: {'; '.join(wrong)}. Set it up with 'appendonly yes', "
            "'appendfsync always' and 'maxmemory-policy noeviction', or start with --allow-volatile "
            "(SPENDGATE_ALLOW_VOLATILE=true) if losing the count is acceptable."
        )
    return wrong


async def _problems(client: Any, node: dict[str, Any]) -> list[str]:
    try:
        info = await client.info("server", **node)
        settings: dict[str | None, str | None] = {}
        with contextlib.suppress(ResponseError):  # not allowed to ask: nothing is known to be right
            for name in _WANTED:  # Redis 6 takes one name at a time
                settings |= await client.config_get(name, **node)
    except STORE_FAILURES as error:
        raise _does_not_answer(error) from None
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        raise VolatileStore(f"Redis {version} is too old; use 6.2 or newer")
    return [
        f"{name} is {settings.get(name, 'hidden')!r}, not {wanted!r}"
        for name, wanted in _WANTED.items()
        if settings.get(name) != wanted
    ]


def _does_not_answer(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"Redis does not answer ({error}); check SPENDGATE_REDIS_URL and that the server runs"
    )


def connect_watcher(
    url: str, trust: StoreTrust = SYSTEM_TRUST, *, timeout_ms: int = TIMEOUT_MS
) -> redis.asyncio.Redis:
    """Return a client whose commands may block, for streams that are watched; connecting may not."""
    timeout_s = timeout_ms / 1000
    if cluster := node_of_cluster(url):
        return _connect_to_cluster(cluster, trust, reply_s=None, connect_s=timeout_s)
    return redis.asyncio.Redis.from_url(
        url,
        **trust.options(url),
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )


def store_unavailable(error: Exception) -> StoreUnavailable:
    """Return what callers are told of a failure; addresses and paths of Redis stay in the log."""
    log.info("the counter store did not answer: %s: %s", type(error).__name__, error)
    return StoreUnavailable(f"the counter store did not answer ({type(error).__name__})")
