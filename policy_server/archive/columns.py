"""What an event is found by: its time, and the columns to search by, copies of what its fields say.

There are two ways to the same: from a stream entry as Redis gives it, and from a
body, by which `verify` checks the first. Every event takes both, so they are
written for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic_core import from_json

from policy_server.archive.chain import parts_of
from policy_server.core.types import AuditKind

_SAID = ("kind", "decision", "run_id", "vault_key_id", "idempotency_key", "object_id")
NAMES = ("created_at_ms", *_SAID, "notable")

_NOTABLE_KINDS = {AuditKind.REFUSAL, AuditKind.ADMINISTRATION}

_LAYOUTS = 256
_CALLS = 4_096
"""How many calls are kept as read: a settlement says the same of one as the decision not long before."""

_Text = str | None
Columns = tuple[int, _Text, _Text, _Text, _Text, _Text, _Text, int | None]
"""Values in the order of `NAMES`."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields stand in an event with these names; there are few such."""

    time: int
    call: int
    own: tuple[tuple[int, int], ...]
    """Which of `_SAID` the event says itself, and where."""


def of_entry(entry: Sequence[bytes]) -> Columns:
    """Return the columns of a stream entry, that is of its field names and values in turn."""
    layout = _layout(tuple(entry[::2]))
    values = list(_of_call(entry[layout.call]))
    for column, at in layout.own:
        values[column] = _clean(entry[at].decode(errors="replace"))
    return _columns(int(entry[layout.time]), values)


def of_body(body: bytes) -> Columns:
    """Return the columns of an event with this body.

    Raises KeyError, TypeError, AttributeError or ValueError when it is no event's.
    """
    parts = parts_of(body)
    layout = _layout(tuple(parts[::2]))
    values = list(_of_call(parts[layout.call]))
    for column, at in layout.own:
        values[column] = _clean(_readable(parts[at]))
    return _columns(int(parts[layout.time]), values)


@lru_cache(_LAYOUTS)
def _layout(names: tuple[str | bytes, ...]) -> _Layout:
    at = {name if isinstance(name, str) else name.decode(): 2 * n + 1 for n, name in enumerate(names)}
    own = tuple((n, at[name]) for n, name in enumerate(_SAID) if name in at)
    return _Layout(at["time"], at["call"], own)


@lru_cache(_CALLS)
def _of_call(call: str | bytes) -> Sequence[_Text]:
    """Return what a call says of each of `_SAID`."""
    said = from_json(call, cache_strings="keys")
    values = [said.get(name) for name in _SAID]
    if "\0" in "".join(map(str, values)):
        return [value and _clean(value) for value in values]
    return values


def _columns(time_ms: int, values: list[_Text]) -> Columns:
    kind, decision, run_id, key_id, effect, object_id = values
    return (
        time_ms,
        kind,
        decision or None,
        run_id or None,
        key_id or None,
        effect or None,
        object_id or None,
        1 if decision == "deny" or kind in _NOTABLE_KINDS else None,
    )


def _clean(value: str) -> str:
    # PostgreSQL takes no NUL.
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _readable(value: str) -> str:
    """Return a value with what was no UTF-8 replaced, as reading it from Redis does."""
    if value.isascii():
        return value
    return value.encode(errors="surrogateescape").decode(errors="replace")
