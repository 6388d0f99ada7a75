"""An export of the audit trail as a table: one line an event, in CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TextIO

_FIELDS = (
    "kind",
    "vault_key_id",
    "run_id",
    "step",
    "endpoint",
    "vendor_account",
    "amount",
    "currency",
    "unpriced",
    "settled_amount",
    "settled_currency",
    "idempotency_key",
    "duplicate",
    "decision",
    "reason",
    "rule",
    "authorization_id",
    "attempt",
    "state",
    "object_id",
    "vendor_request_id",
    "http_status",
    "latency_ms",
    "overrun",
    "policy_version",
    "detail",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write(lines: Iterable[str], file: TextIO) -> None:
    """Write the events among the lines of an export, under a line of headings."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("sequence", "time", *_FIELDS, "hash"))
    for line in lines:
        content = json.loads(line)
        if "body" in content:
            table.writerow(_row(content["sequence"], content["hash"], content["body"]))


def _row(sequence: int, event_hash: str, body: list[str]) -> Iterator[str]:
    fields = dict(zip(body[::2], body[1::2], strict=True))
    fields = {**json.loads(fields["call"]), **fields}
    yield str(sequence)
    yield datetime.fromtimestamp(int(fields["time"]) / 1000, UTC).isoformat(timespec="milliseconds")
    for name in _FIELDS:
        yield _inert(fields.get(name, ""))
    yield event_hash


def _inert(value: str) -> str:
    """Return a value that no spreadsheet takes for a formula: agents choose some of them."""
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
