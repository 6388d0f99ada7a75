"""Measures the archive: filling it, searching it, and verifying it, in SQLite.

What one event takes here is the part that the database and the hashing have in
it; reading it from Redis comes on top, which `python -m bench` measures with the rest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from policy_server.archive.database import Database
from policy_server.archive.drain import BATCH
from policy_server.archive.reader import ArchiveReader
from policy_server.archive.signing import SigningKey
from policy_server.archive.stored import own_keys, stored_trails
from policy_server.archive.verify import Verification
from policy_server.archive.writer import ArchiveWriter, Entry
from policy_server.core.types import AuditFilter

BEGIN_MS = 1_900_000_000_000
KEYS = 50
QUERY_MAX_MS = 20
VERIFY_MIN = 100_000


def events(count: int) -> Iterator[Entry]:
    """Yield events as charges leave them: a decision and a settlement each, two charges a run."""
    for number in range(1, count + 1):
        charge = (number + 1) // 2
        run, key = f"run-{charge // 2 * 7919 % 1_000_003}", f"key{charge % KEYS:09}"
        authorization = f"az_{key}_{charge:032x}"
        call = {
            "vault_key_id": key,
            "run_id": run,
            "endpoint": "POST /v1/charges",
            "amount": "1900",
            "currency": "USD",
            "idempotency_key": f"{run}:POST /v1/charges:{charge}",
            "authorization_id": authorization,
            "policy_version": "1",
        }
        fields = {"time": str(BEGIN_MS + number * 10), "call": json.dumps(call)}
        fields |= {"attempt": "1", "epoch": "1-bench"}
        counter = f"count:{key}:usd/day:{BEGIN_MS}"
        if number % 2:
            denied = charge % 100 == 0
            fields |= {"kind": "decision", "decision": "deny" if denied else "allow"}
            hold = {"state": "held", "attempt": "1", "fingerprint": "f" * 64, "held_at": fields["time"]}
            images = {f"hold:{authorization}": hold, counter: {"held": "1900"}}
        else:
            fields |= {"kind": "settlement", "state": "settled", "settled_amount": "1900"}
            fields |= {"settled_currency": "USD", "object_id": f"ch_{charge:014x}", "http_status": "200"}
            images = {
                f"hold:{authorization}": {"state": "settled"},
                counter: {"held": "0", "settled": "1900"},
            }
        fields["images"] = json.dumps(images)
        yield number, [part.encode() for pair in fields.items() for part in pair]


def fill(writer: ArchiveWriter, count: int) -> float:
    """Archive so many events; return the CPU time of one in microseconds."""
    tip, source, spent = writer.tip("default"), events(count), 0.0
    while chunk := list(itertools.islice(source, BATCH)):
        began = time.process_time()
        tip = writer.append(tip, chunk, checkpoint_at_ms=1 if tip.sequence % 10_000 == 0 else 0)
        spent += time.process_time() - began
    return spent / count * 1e6


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of how long something takes."""
    taken = []
    for _ in range(15):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[len(taken) // 2]


def verified(database: Database, *, with_columns: bool) -> float:
    """Verify the archive; return how many events a second of CPU time."""
    began = time.process_time()
    with stored_trails(database) as trails:
        (trail,) = trails
        if not with_columns:
            trail.events, trail.head = (event[:3] for event in trail.events), None
        report = Verification(trail).run(own_keys(database))
    assert not report.findings, report.findings
    return report.events / (time.process_time() - began)


def measure(count: int, console: Console) -> None:
    """Fill an archive, and print what was measured."""
    with tempfile.TemporaryDirectory(prefix="spendgate-bench-") as name:
        folder = Path(name)
        database = Database(None, folder)
        database.migrate()
        with console.status(f"archiving {count:,} events"):
            spent_us = fill(ArchiveWriter(database, SigningKey.read_or_make(folder)), count)
        size = sum(path.stat().st_size for path in folder.glob("audit.sqlite*"))
        console.print(f"archived {count:,} events: {spent_us:.1f} µs CPU and {size / count:,.0f} bytes each")
        reader = ArchiveReader(database)
        middle = BEGIN_MS + count * 5
        questions = {
            "run": AuditFilter(run_id="run-7919"),
            "run that is not there": AuditFilter(run_id="nowhere"),
            "effect's prefix": AuditFilter(idempotency_key_prefix="run-7919:"),
            "key": AuditFilter(vault_key_id="key000000007"),
            "object": AuditFilter(object_id=f"ch_{count // 4:014x}"),
            "denials": AuditFilter(decision="deny"),
            "a minute long ago": AuditFilter(start_ms=middle, end_ms=middle + 60_000),
            "run and decision": AuditFilter(run_id="run-7919", decision="allow"),
            "all": AuditFilter(),
        }
        table = Table(title=f"a page of 50 among {count:,} events")
        table.add_column("by")
        table.add_column("ms", justify="right")
        table.add_column("found", justify="right")
        taken: dict[str, float] = {}
        for by, wanted in questions.items():
            found, _ = reader.page("default", wanted, None, 50)
            taken[by] = milliseconds(partial(reader.page, "default", wanted, None, 50))
            table.add_row(by, f"{taken[by]:.2f}", str(len(found)))
        console.print(table)
        console.print(f"a query by run: {taken['run']:.2f} ms (ceiling {QUERY_MAX_MS})")
        chain, whole = verified(database, with_columns=False), verified(database, with_columns=True)
        console.print(f"verified {chain:,.0f} events a second of CPU time (floor {VERIFY_MIN:,})")
        console.print(f"and with the columns that they are found by, {whole:,.0f}")
        database.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.archive")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events to archive")
    measure(parser.parse_args().events, Console(width=120))


if __name__ == "__main__":
    main()
