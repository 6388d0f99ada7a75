"""The hash chain of an account's audit events.

The hash of an event is SHA-256 over the hash before it, its sequence number in
eight bytes, big-endian, and its body. Before the first event stands `genesis`.
The body is the stream entry as Redis gave it: a JSON list of its field names and
values in turn, without spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from policy_server.core.ports import ArchivedEvent

HASH_BYTES = 32

_GENESIS = b"spendgate audit chain 1\n"


class BodyInvalid(ValueError):
    """A body is not what `body_of` makes."""


def genesis(account: str) -> bytes:
    """Return what stands before the first event, so that no account's trail passes for another's."""
    return hashlib.sha256(_GENESIS + account.encode()).digest()


def link(previous: bytes, sequence: int, body: bytes) -> bytes:
    """Return the hash of an event."""
    return hashlib.sha256(previous + sequence.to_bytes(8, "big") + body).digest()


def linked(previous: bytes | None, event: ArchivedEvent) -> bytes:
    """Return the hash of an event after the hash before it, None for the first event of an account."""
    parts = [part for pair in event.fields.items() for part in pair]
    body = body_of([part.encode(errors="surrogateescape") for part in parts])
    return link(genesis(event.account) if previous is None else previous, event.sequence, body)


def body_of(entry: Sequence[bytes]) -> bytes:
    """Return the body of a stream entry: of its field names and values in turn."""
    try:
        return to_json(entry)
    except PydanticSerializationError:  # something in it is no UTF-8; escapes can say even that
        parts = [part.decode(errors="surrogateescape") for part in entry]
        return json.dumps(parts, separators=(",", ":")).encode()


def fields_of(body: str | bytes) -> dict[str, str]:
    """Return the fields that a body has; raises `BodyInvalid`."""
    parts = iter(parts_of(body))
    return dict(zip(parts, parts, strict=True))


def parts_of(body: str | bytes) -> list[str]:
    """Return the field names and values in turn that a body has; raises `BodyInvalid`."""
    try:
        parts = from_json(body)
    except ValueError:
        parts = _escaped(body)
    try:
        "".join(parts)
    except TypeError:
        parts = None
    if type(parts) is not list or len(parts) % 2:
        raise BodyInvalid("it is not a list of names and values")
    return parts


def _escaped(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BodyInvalid(str(error)) from None
