"""Writes a trail down as lines of JSON that can be verified, and reads it back.

The first line tells the account and where the trail begins; then come losses and
checkpoints; then each event has a line, with its hash and its body, unchanged;
the last line tells the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from policy_server.archive.losses import Loss
from policy_server.archive.signing import PublicKey
from policy_server.archive.verify import StoredEvent, StoredTrail
from policy_server.core.errors import SpendgateError
from policy_server.core.ports import Checkpoint

FORMAT = 1

_EVENT = re.compile(rb'\{"sequence":(\d{1,18}),"hash":"([0-9a-f]{64})","body":(\[.*\])\}')


class ExportInvalid(SpendgateError):
    """A file is not an export."""


def begin_line(account: str, after: int, previous_hash: bytes) -> str:
    """Return the first line."""
    return _line(
        {
            "spendgate_audit_export": FORMAT,
            "account": account,
            "after": after,
            "previous_hash": previous_hash.hex(),
        }
    )


def event_line(sequence: int, event_hash: bytes, body: str) -> str:
    """Return the line of an event."""
    return f'{{"sequence":{sequence},"hash":"{event_hash.hex()}","body":{body}}}'


def loss_line(loss: Loss) -> str:
    """Return the line of events that are lost."""
    return _line({"loss": {"first": loss.first, "last": loss.last, "last_hash": loss.last_hash.hex()}})


def checkpoint_line(checkpoint: Checkpoint, key: PublicKey | None) -> str:
    """Return the line of a checkpoint, with the key that it says signed it."""
    said = {
        "sequence": checkpoint.sequence,
        "hash": checkpoint.hash.hex(),
        "created_at_ms": checkpoint.created_at_ms,
        "key_id": checkpoint.key_id,
        "signature": checkpoint.signature.hex(),
    }
    return _line({"checkpoint": said | ({"public_key": key.raw.hex()} if key else {})})


def end_line(sequence: int, end_hash: bytes) -> str:
    """Return the last line."""
    return _line({"end": {"sequence": sequence, "hash": end_hash.hex()}})


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


class Export:
    """An export that is being read; ``keys`` are those that it brings along."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Read the first line; raises `ExportInvalid`."""
        self.keys: dict[str, PublicKey] = {}
        self._lines = iter(lines)
        try:
            begin = json.loads(next(self._lines, b""))
            if begin["spendgate_audit_export"] != FORMAT:
                raise ExportInvalid("the export is of a version that this one does not know")
            self.trail = StoredTrail(
                account=str(begin["account"]),
                after=int(begin["after"]),
                previous_hash=bytes.fromhex(begin["previous_hash"]),
                events=self._events(),
            )
        except (ValueError, KeyError, TypeError):
            raise ExportInvalid("this is not an export of 'spendgate audit export'") from None

    def _events(self) -> Iterator[StoredEvent]:
        for number, line in enumerate(self._lines, 2):
            if self.trail.end is not None:
                self.trail.findings.append(f"line {number} stands after the end: it was added")
            found = _EVENT.fullmatch(line.rstrip(b"\n"))
            if found:
                yield int(found[1]), bytes.fromhex(found[2].decode()), found[3]
                continue
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError):
                self.trail.findings.append(f"line {number} can't be read: it was changed or cut off")

    def _read(self, content: dict[str, Any]) -> None:
        trail = self.trail
        if "loss" in content:
            said = content["loss"]
            trail.losses.append(Loss(int(said["first"]), int(said["last"]), bytes.fromhex(said["last_hash"])))
        elif "checkpoint" in content:
            said = content["checkpoint"]
            if "public_key" in said:
                key = PublicKey.from_bytes(bytes.fromhex(said["public_key"]))
                self.keys[key.id] = key
            trail.checkpoints.append(
                Checkpoint(
                    account=trail.account,
                    sequence=int(said["sequence"]),
                    hash=bytes.fromhex(said["hash"]),
                    created_at_ms=int(said["created_at_ms"]),
                    key_id=str(said["key_id"]),
                    signature=bytes.fromhex(said["signature"]),
                )
            )
        else:
            trail.end = (int(content["end"]["sequence"]), bytes.fromhex(content["end"]["hash"]))
