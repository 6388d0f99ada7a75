"""Measures how much memory of Redis an open hold, a remembered effect and an audit event take.

``python -m bench.memory``; needs only redis-server. The calls are charges, each in a run of its own, as
a sidecar asks for them and settles them, under caps by call, day and month.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from policy_server.core.administration import Administration
from policy_server.core.authorizer import DEFAULT_ACCOUNT, Authorizer
from policy_server.core.continuity import Continuity
from policy_server.core.directory import Directory
from policy_server.core.policy import Cap, Policy
from policy_server.core.ports import ArchiveHead
from policy_server.core.settler import Settler
from policy_server.core.strangers import Strangers
from policy_server.core.types import Amount, Outcome, Settlement, SpendCall, Verdict
from policy_server.core.window import Window
from policy_server.store.connection import connect
from policy_server.store.keys import AccountKeys
from policy_server.store.ledger import RedisLedger
from policy_server.store.marks import RedisMarks
from policy_server.store.registry import RedisRegistry
from policy_server.store.scripts import Scripts

BATCH = 100
RETENTION_MS = 400 * 86_400_000
PRICE = Amount(1_900, "USD")
CAPS = tuple(Cap(10**14, window, "USD") for window in (Window.CALL, Window.DAY, Window.MONTH))


def now_ms() -> int:
    """Return the time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class NothingArchived:
    """An archive that has nothing, so that every event is still in Redis."""

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return nothing."""
        return {}


class Core:
    """The policy server without its door."""

    def __init__(self, client: Any) -> None:
        continuity = Continuity(NothingArchived(), RedisMarks(client))
        ledger = RedisLedger(Scripts(client, continuity), retention_ms=RETENTION_MS)
        registry = RedisRegistry(Scripts(client, continuity), continuity)
        directory, strangers = Directory(registry), Strangers(now_ms)
        self.authorizer = Authorizer(
            *(ledger, registry, directory, now_ms), strangers=strangers, hold_ttl_ms=180_000
        )
        self.settler = Settler(ledger, registry, directory, strangers)
        self.administration = Administration(registry, ledger, now_ms)

    async def hold(self, key: str, count: int) -> list[Verdict]:
        """Let so many charges be held."""
        held: list[Verdict] = []
        for first in range(0, count, BATCH):
            calls = [_charge(key, number) for number in range(first, min(first + BATCH, count))]
            for verdict in await self.authorizer.authorize(calls):
                assert isinstance(verdict, Verdict), verdict
                assert verdict.allowed, verdict
                held.append(verdict)
        return held

    async def settle(self, held: list[Verdict]) -> None:
        """Settle them as charges that Stripe has made."""
        settlements = [_settlement(verdict, number) for number, verdict in enumerate(held)]
        for first in range(0, len(held), BATCH):
            await self.settler.settle(settlements[first : first + BATCH])


def _charge(key: str, number: int) -> SpendCall:
    return SpendCall(
        key,
        "POST /v1/charges",
        PRICE,
        run_id=str(uuid.UUID(int=number)),
        fingerprint=hashlib.sha256(str(number).encode()).hexdigest(),
        request_id=f"{number:032x}",
        moves_money=True,
        sender="f" * 16,
    )


def _settlement(verdict: Verdict, number: int) -> Settlement:
    return Settlement(
        verdict.authorization_id,
        verdict.attempt,
        Outcome.SUCCEEDED,
        PRICE,
        object_id=f"ch_{number:024x}",
        vendor_request_id=f"req_{number:014x}",
        http_status=200,
        latency_ms=250,
    )


@dataclass(frozen=True)
class Used:
    """Memory of Redis in bytes."""

    total: int
    events: int
    """Of the stream of audit events."""
    sequence: int
    """How many events there are."""

    @classmethod
    async def now(cls, client: Any) -> Used:
        """Ask Redis."""
        names = AccountKeys(DEFAULT_ACCOUNT)
        info = await client.info("memory")
        events = await client.execute_command("MEMORY", "USAGE", names.audit, "SAMPLES", "0")
        return cls(int(info["used_memory"]), int(events), int(await client.get(names.sequence)))


def per_item(before: Used, after: Used, count: int) -> tuple[float, float]:
    """Return bytes of one of ``count`` items, and of one event."""
    events = after.events - before.events
    return (after.total - before.total - events) / count, events / (after.sequence - before.sequence)


@contextmanager
def private_redis(folder: Path) -> Iterator[str]:
    """Run a Redis as `spendgate up` does; give its address."""
    command = [sys.executable, "-m", "policy_server.embedded_redis", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not (folder / "redis.sock").exists():
            time.sleep(0.05)
        yield f"unix://{folder}/redis.sock"
    finally:
        server.terminate()
        server.wait()


async def measure(url: str, count: int) -> dict[str, float]:
    """Return the bytes of each."""
    client = connect(url, timeout_ms=30_000)
    core = Core(client)
    made = await core.administration.create_key("bench", "", Policy(allow=("POST /v1/charges",), caps=CAPS))
    await core.settle(
        await core.hold(made.key.text, 1)
    )  # scripts and counters are there before it is measured
    empty = await Used.now(client)
    held = await core.hold(made.key.text, count)
    open_ones = await Used.now(client)
    await core.settle(held)
    settled = await Used.now(client)
    await client.aclose()
    hold, decision = per_item(empty, open_ones, count)
    effect, _ = per_item(empty, settled, count)
    _, settlement = per_item(open_ones, settled, count)
    return {
        "open hold": hold,
        "remembered effect, with its object": effect,
        "audit event: decision": decision,
        "audit event: settlement": settlement,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--calls", type=int, default=20_000, help="how many charges to measure with")
    count = parser.parse_args().calls
    with tempfile.TemporaryDirectory(prefix="spendgate-bench-") as name, private_redis(Path(name)) as url:
        measured = asyncio.run(measure(url, count))
    table = Table(title=f"Memory in Redis, measured with {count:,} charges")
    table.add_column("what")
    table.add_column("bytes each, which is MB per million", justify="right")
    for what, each in measured.items():
        table.add_row(what, f"{each:,.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
