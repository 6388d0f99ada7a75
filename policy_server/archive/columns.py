"""What an event's columns to search by have: copies of what its fields say.

There are two ways to the same: from a stream entry as Redis gives it, which is
quick, and from the fields that a body has, by which `verify` checks the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from policy_server.core.types import AuditKind

NAMES = ("kind", "decision", "run_id", "vault_key_id", "idempotency_key", "object_id", "notable")

_SAID = NAMES[:-1]
_READ = tuple((name.encode(), name) for name in _SAID)
_NOTABLE_KINDS = {AuditKind.REFUSAL, AuditKind.ADMINISTRATION}

Columns = tuple[str | int | None, ...]


def of_entry(fields: Mapping[bytes, bytes]) -> Columns:
    """Return the columns of a stream entry, in the order of `NAMES`."""
    call = from_json(fields[b"call"])
    return _columns(
        [fields[name].decode(errors="replace") if name in fields else call.get(said) for name, said in _READ]
    )


def of_fields(fields: Mapping[str, str]) -> Columns:
    """Return the columns of an event with these fields, in the order of `NAMES`."""
    call = from_json(fields["call"])
    return _columns([_readable(fields[name]) if name in fields else call.get(name) for name in _SAID])


def _columns(values: list[Any]) -> Columns:
    # Every event comes through here twice, so this is written for speed.
    kind, decision, run_id, key_id, effect, object_id = values
    if "\0" in f"{run_id}{key_id}{effect}{object_id}":
        # PostgreSQL takes no NUL.
        clean = [value and value.replace("\0", "\ufffd") for value in values]
        kind, decision, run_id, key_id, effect, object_id = clean
    return (
        kind,
        decision or None,
        run_id or None,
        key_id or None,
        effect or None,
        object_id or None,
        1 if decision == "deny" or kind in _NOTABLE_KINDS else None,
    )


def _readable(value: str) -> str:
    """Return a value with what was no UTF-8 replaced, as reading it from Redis does."""
    if value.isascii():
        return value
    return value.encode(errors="surrogateescape").decode(errors="replace")
