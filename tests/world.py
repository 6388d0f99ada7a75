"""The policy server's core over a real Redis, in one process, with a clock that tests move."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from policy_server.composition import Core
from policy_server.core.errors import SpendgateError
from policy_server.core.policy import Cap, Policy
from policy_server.core.ports import Archive, ArchivedEvent, ArchiveHead
from policy_server.core.trail import Trail
from policy_server.core.types import (
    Amount,
    AuditEvent,
    AuditFilter,
    Observation,
    Outcome,
    Settlement,
    SettleResult,
    SpendCall,
    Verdict,
)
from policy_server.core.vault_key import parse
from policy_server.core.window import Window
from policy_server.store.audit import RedisAuditTail
from policy_server.store.connection import connect_watcher
from policy_server.store.scripts import newest_event

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
RETENTION_MS = 400 * DAY
HOLD_TTL_MS = 3 * MINUTE

CHARGES = "POST /v1/charges"
INTENTS = "POST /v1/payment_intents"


def moment(text: str, zone: str = "UTC") -> int:
    """Milliseconds since 1970 of a local time such as ``2031-03-12T12:00``."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


NOON = moment("2031-03-12T12:00")
"""When a world begins: a Wednesday, later than the real time, by which Redis drops keys."""


def usd(limit: int, window: Window = Window.DAY, **more: Any) -> Cap:
    """A cap on US dollars."""
    return Cap(limit, window, "USD", **more)


def calls(limit: int, window: Window, **more: Any) -> Cap:
    """A cap on the number of calls."""
    return Cap(limit, window, **more)


class Server(Core):
    """One policy server's core; several share one Redis, as processes do."""

    def __init__(self, world: World, *, skew_ms: int = 0) -> None:
        """``skew_ms`` is how far the server's own clock is ahead of the store's."""
        clock = world.now
        super().__init__(
            *(world.redis, world.archive, lambda: clock() + skew_ms),
            hold_ttl_ms=HOLD_TTL_MS,
            retention_ms=world.retention_ms,
            backlog_max=world.backlog_max,
            store_clock=clock,
        )

    async def decide(self, call: SpendCall) -> Verdict:
        """Ask about one call; raises the error when nothing was decided."""
        (result,) = await self.authorizer.authorize([call])
        if isinstance(result, SpendgateError):
            raise result
        return result


class NothingArchived:
    """An archive that nobody drains into: all events are still in Redis."""

    async def heads(self) -> dict[str, ArchiveHead]:
        """No account has any."""
        return {}

    async def head(self, account: str) -> int:
        """There is none."""
        return 0

    async def read(self, account: str, after: int, limit: int) -> list[ArchivedEvent]:
        """There are none."""
        return []

    async def page(
        self, account: str, wanted: AuditFilter, before: int | None, limit: int
    ) -> tuple[list[AuditEvent], int | None]:
        """There are none."""
        return [], None


class World:
    """A server, its Redis, its clock, and short ways to ask and to look."""

    def __init__(
        self,
        url: str,
        archive: Archive | None = None,
        *,
        backlog_max: int = 0,
        retention_ms: int = RETENTION_MS,
    ) -> None:
        self.now_ms = NOON
        self.backlog_max = backlog_max
        self.retention_ms = retention_ms
        # Any: redis-py types its replies for bytes and text at once; here all is text.
        # No time limit: a busy machine is not a Redis that is away.
        self.redis: Any = connect_watcher(url, timeout_ms=30_000)
        self.archive: Archive = archive or NothingArchived()
        self.server = Server(self)
        self.trail = Trail(RedisAuditTail(self.redis, self.redis), self.archive)
        self._keys = 0

    async def close(self) -> None:
        """Give the connections back."""
        await self.redis.aclose()

    async def begin_anew(self) -> None:
        """An empty Redis, and a server that never knew of another."""
        await self.redis.flushall()
        self.server = Server(self)

    def now(self) -> int:
        """The time in this world."""
        return self.now_ms

    def second_server(self, *, skew_ms: int = 0) -> Server:
        """Another server on the same Redis, with its own memory of keys and a clock that may be wrong."""
        return Server(self, skew_ms=skew_ms)

    async def key(
        self, *caps: Cap, allow: Sequence[str] = ("* /v1/*",), account: str = "", **more: Any
    ) -> str:
        """Make a vault key with these caps and return it as an agent holds it."""
        self._keys += 1
        policy = Policy(allow=tuple(allow), caps=caps, **more)
        made = await self.server.administration.create_key(f"key-{self._keys}", account, policy)
        return made.key.text

    async def change(self, key: str, *caps: Cap, allow: Sequence[str] = ("* /v1/*",), **more: Any) -> None:
        """Replace the policy of a vault key."""
        policy = Policy(allow=tuple(allow), caps=caps, **more)
        await self.server.administration.update_policy(key_id(key), policy, 0)

    async def ask(
        self,
        key: str,
        amount: int | Amount | None = None,
        run: str = "run",
        endpoint: str = CHARGES,
        *,
        server: Server | None = None,
        **more: Any,
    ) -> Verdict:
        """Ask about one call; a bare number is US dollars in cents."""
        money = Amount(amount, "USD") if isinstance(amount, int) else amount
        call = SpendCall(key, endpoint, money, run, **more)
        return await (server or self.server).decide(call)

    async def settle(
        self,
        verdict: Verdict,
        amount: int | Amount | None = None,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        attempt: int | None = None,
        **more: Any,
    ) -> SettleResult:
        """Report what became of an allowed call; raises the error when nothing changed."""
        money = Amount(amount, "USD") if isinstance(amount, int) else amount
        settlement = Settlement(verdict.authorization_id, attempt or verdict.attempt, outcome, money, **more)
        (result,) = await self.server.settler.settle([settlement])
        if isinstance(result, SpendgateError):
            raise result
        return result

    async def observe(self, key: str, object_id: str, amount: int | Amount) -> list[bool]:
        """Tell what an object commits for good; return for each event about it whether it is an overrun."""
        money = Amount(amount, "USD") if isinstance(amount, int) else amount
        before, _ = newest_event(await self.redis.get("spendgate:{default}:sequence") or "0")
        await self.server.settler.record_observations([Observation(key_id(key), object_id, money)])
        added = (await self.events())[before:]
        for event in added:
            fields = event.fields
            assert (fields["kind"], fields["reason"], fields["object_id"], fields["settled_amount"]) == (
                *("settlement", "observed", object_id, str(money.minor_units)),
            )
        return ["overrun" in event.fields for event in added]

    async def spend(self, key: str, amount: int, run: str = "run", **more: Any) -> Verdict:
        """Authorize and settle one charge."""
        verdict = await self.ask(key, amount, run, **more)
        assert verdict.allowed, verdict
        await self.settle(verdict, amount)
        return verdict

    async def counts(self, key: str, run: str = "run") -> dict[str, tuple[int, int]]:
        """Settled and held of each cap by its rule, in the windows of now."""
        _, statuses = await self.server.administration.usage(key_id(key), run)
        return {
            f"{one.budget}: {one.cap}" if one.budget else one.cap: (one.settled, one.held) for one in statuses
        }

    async def count(self, key: str, cap: str = "usd/day") -> tuple[int, int]:
        """Settled and held of one cap."""
        return (await self.counts(key))[cap]

    async def hold(self, verdict: Verdict) -> dict[str, str]:
        """The hold of an authorization as Redis keeps it."""
        (name,) = await self.redis.keys(f"*hold:{verdict.authorization_id}")
        return dict(await self.redis.hgetall(name))

    async def dump(self, *, expiry: bool = False) -> dict[str, Any]:
        """Every Redis key with its value; with ``expiry``, also about when it goes, in ms, or 0."""
        values = {name: await self._value(name) for name in sorted(await self.redis.keys("*"))}
        if not expiry:
            return values
        return {name: (value, await self._goes_at_ms(name)) for name, value in values.items()}

    async def _goes_at_ms(self, name: str) -> int:
        # Redis 6 tells only how long it still stays.
        left_ms = await self.redis.pttl(name)
        return 0 if left_ms < 0 else time.time_ns() // 1_000_000 + int(left_ms)

    async def _value(self, name: str) -> Any:
        kind = await self.redis.type(name)
        readers = {
            "string": lambda: self.redis.get(name),
            "hash": lambda: self.redis.hgetall(name),
            "set": lambda: self.redis.smembers(name),
            "zset": lambda: self.redis.zrange(name, 0, -1, withscores=True),
            "stream": lambda: self.redis.xrange(name),
        }
        return await readers[kind]()

    async def events(self, account: str = "default", **wanted: Any) -> list[AuditEvent]:
        """The audit events, oldest first."""
        found, _ = await self.trail.page(account, AuditFilter(**wanted), None, 10_000)
        return found[::-1]


def key_id(key: str) -> str:
    """The public id of a vault key."""
    parsed = parse(key)
    assert parsed is not None
    return parsed.key_id
