"""Replies that get lost between Redis and the policy server, after Redis has done the work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from policy_server.core.errors import SpendgateError
from policy_server.core.types import Amount, Outcome, Settlement, SettleResult, SpendCall, Verdict
from tests.processes import Process, temporary_folder
from tests.world import CHARGES, World, usd


class CuttingProxy:
    """Lets every command through to Redis, and cuts the connection instead of some replies."""

    def __init__(self, target: Path, chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self.cutting = False
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        redis_reader, redis_writer = await asyncio.open_unix_connection(self._target)
        forth = asyncio.create_task(self._carry(reader, redis_writer, cut=False))
        await self._carry(redis_reader, writer, cut=True)
        redis_writer.close()
        writer.close()
        await forth

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, cut: bool) -> None:
        try:
            while data := await source.read(65_536):
                if cut and self.cutting and self._chance.random() < 0.3:
                    self.cuts += 1
                    return
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@pytest_asyncio.fixture
async def proxy(redis_server: Process, redis: str) -> AsyncIterator[tuple[CuttingProxy, World]]:
    """A world whose Redis is behind a proxy that loses replies."""
    with temporary_folder() as folder:
        proxy = CuttingProxy(redis_server.folder / "redis.sock", random.Random(1))
        server = await asyncio.start_unix_server(proxy.serve, folder / "proxy.sock")
        world = World(f"unix://{folder}/proxy.sock")
        yield proxy, world
        await world.close()
        server.close()
        await server.wait_closed()


async def test_a_lost_reply_counts_nothing_twice(proxy: tuple[CuttingProxy, World]) -> None:
    """Repeated with its request id until it is answered, each call is held and settled exactly once."""
    cutter, world = proxy
    key = await world.key(usd(1_000_000))
    cutter.cutting = True
    settled = released = calls = 0
    while cutter.cuts < 500:
        calls += 1
        n = calls
        call = SpendCall(key, CHARGES, Amount(10, "USD"), f"run-{n}", request_id=f"request-{n}")
        verdict = await _until_answered(world, call)
        assert (verdict.allowed, verdict.duplicate, verdict.attempt) == (True, False, 1)
        if n % 3:
            outcome = Outcome.SUCCEEDED if n % 3 == 1 else Outcome.FAILED
            await _until_settled(world, Settlement(verdict.authorization_id, 1, outcome))
            settled += outcome is Outcome.SUCCEEDED
            released += outcome is Outcome.FAILED
    cutter.cutting = False
    assert settled > 100
    assert await world.count(key) == (10 * settled, 10 * (calls - settled - released))
    events = await world.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len(events) == 1 + calls + settled + released


async def _until_answered(world: World, call: SpendCall) -> Verdict:
    while True:
        (result,) = await world.server.authorizer.authorize([call])
        if isinstance(result, Verdict):
            return result
        assert isinstance(result, SpendgateError)


async def _until_settled(world: World, settlement: Settlement) -> None:
    while True:
        (result,) = await world.server.settler.settle([settlement])
        if isinstance(result, SettleResult):
            return
