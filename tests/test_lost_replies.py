"""Replies that get lost between Redis and the policy server, after Redis has done the work."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from policy_server.core.errors import SpendgateError
from policy_server.core.types import (
    Amount,
    Observation,
    Outcome,
    Settlement,
    SettleResult,
    SpendCall,
    Verdict,
)
from tests.processes import Process, temporary_folder
from tests.world import CHARGES, World, key_id, usd


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
    """Failure 4: after five hundred lost replies each call is held, settled and observed exactly once."""
    cutter, world = proxy
    key = await world.key(usd(100_000_000))
    cutter.cutting = True
    calls = settled = observed = 0
    while cutter.cuts < 500:
        calls += 1
        call = SpendCall(key, CHARGES, Amount(10, "USD"), f"run-{calls}", request_id=f"request-{calls}")
        verdict = await _until_answered(world, call)
        assert (verdict.allowed, verdict.duplicate, verdict.attempt) == (True, False, 1)
        match calls % 4:
            case 1:
                await _until_settled(world, Settlement(verdict.authorization_id, 1, Outcome.SUCCEEDED))
                settled += 10
            case 2:
                await _until_settled(world, Settlement(verdict.authorization_id, 1, Outcome.FAILED))
            case 3:
                made = Settlement(verdict.authorization_id, 1, Outcome.SUCCEEDED, object_id=f"ch_{calls}")
                await _until_settled(world, made)
                await _until_observed(world, Observation(key_id(key), f"ch_{calls}", Amount(7, "USD")))
                settled += 7
                observed += 1
    cutter.cutting = False
    held = 10 * (calls // 4)
    assert await world.count(key) == (settled, held)
    events = await world.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len(events) == 1 + calls + (calls - calls // 4) + observed


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


async def _until_observed(world: World, observation: Observation) -> None:
    while True:
        with contextlib.suppress(SpendgateError):
            return await world.server.settler.record_observations([observation])
