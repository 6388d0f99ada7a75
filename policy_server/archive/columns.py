"""What an event's columns to search by have: copies of what its fields say.

There are two ways to the same: from a stream entry as Redis gives it, which is
quick, and from the fields that a body has, by which `verify` checks the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import from_json

from policy_server.core.types import AuditKind

NAMES = ("kind", "decision", "run_id", "vault_key_id", "idempotency_key", "object_id", "notable")

_READ = tuple((name.encode(), name) for name in NAMES[:-1])
_NOTABLE_KINDS = {AuditKind.REFUSAL, AuditKind.ADMINISTRATION}

Columns = tuple[str | int | None, ...]


def of_entry(fields: Mapping[bytes, bytes]) -> Columns:
    """Return the columns of a stream entry, in the order of `NAMES`."""
    call = from_json(fields[b"call"])
    return _columns(
        fields[name].decode(errors="replace") if name in fields else call.get(said) for name, said in _READ
    )


def of_fields(fields: Mapping[str, str]) -> Columns:
    """Return the columns of an event with these fields, in the order of `NAMES`."""
    call = from_json(fields["call"])
    return _columns(_readable(fields[name]) if name in fields else call.get(name) for _, name in _READ)


def _columns(values: Iterable[Any]) -> Columns:
    kind, decision, run_id, key_id, effect, object_id = values
    return (
        kind,
        decision or None,
        _storable(run_id),
        _storable(key_id),
        _storable(effect),
        _storable(object_id),
        1 if decision == "deny" or kind in _NOTABLE_KINDS else None,
    )


def _storable(value: str | None) -> str | None:
    """Return what every database keeps: PostgreSQL takes no NUL."""
    if not value:
        return None
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _readable(value: str) -> Any:
    """Return a value with what was no UTF-8 replaced, as reading it from Redis does."""
    if value.isascii():
        return value
    return value.encode(errors="surrogateescape").decode(errors="replace")
