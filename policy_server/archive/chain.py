"""The hash chain of an account's audit events.

The hash of an event is SHA-256 over the hash before it, its sequence number in
eight bytes, big-endian, and its body. Before the first event stands `genesis`.
The body is the stream entry as Redis gave it: a JSON list of its field names and
values in turn, in ASCII, without spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from policy_server.core.ports import ArchivedEvent

HASH_BYTES = 32

_GENESIS = b"spendgate audit chain 1\n"
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class BodyInvalid(ValueError):
    """A body is not what `body_of` makes."""


def genesis(account: str) -> bytes:
    """Return what stands before the first event, so that no account's trail passes for another's."""
    return hashlib.sha256(_GENESIS + account.encode()).digest()


def link(previous: bytes, sequence: int, body: str) -> bytes:
    """Return the hash of an event."""
    return hashlib.sha256(previous + sequence.to_bytes(8, "big") + body.encode("ascii")).digest()


def linked(previous: bytes | None, event: ArchivedEvent) -> bytes:
    """Return the hash that an event must have after the hash before it; None before an account's first."""
    before = genesis(event.account) if previous is None else previous
    return link(before, event.sequence, body_of(event.fields))


def body_of(fields: Mapping[str, str]) -> str:
    """Return the canonical text of a stream entry's fields."""
    return _encode([part for pair in fields.items() for part in pair])


def fields_of(body: str) -> dict[str, str]:
    """Return the fields that a body has; raises `BodyInvalid`."""
    try:
        parts = json.loads(body)
    except ValueError as error:
        raise BodyInvalid(str(error)) from None
    if not isinstance(parts, list) or len(parts) % 2 or not all(isinstance(part, str) for part in parts):
        raise BodyInvalid("it is not a list of names and values")
    return dict(zip(parts[::2], parts[1::2], strict=True))
