"""Reads form bodies and query strings in the only way they can be read, or not at all.

Stripe reads a repeated key as its last value and groups brackets by Rack's
rules; others read the same bytes otherwise. What could be read in two ways is
refused, and what is forwarded is written anew from what was read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote_plus

from sidecar.refusals import malformed

Pairs = Sequence[tuple[str, str]]

_KEY = re.compile(r"([A-Za-z0-9_]+)((?:\[[A-Za-z0-9_.-]*\]){0,8})")
_KEY_MAX = 256
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(rb"[!-~]*")
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")
_UNQUOTED = re.compile(r"[A-Za-z0-9_.-]*")
_PAIRS_MAX = 1_000

RESERVED = frozenset({"key", "_stripe_account", "_stripe_version", "_method"})
"""Parameters by which a request could change who asks, or what for."""


def parse(raw: bytes) -> Pairs:
    """Return the pairs of a form body or query string; raise `Refused` when it is ambiguous."""
    if not raw:
        return []
    if not _PLAIN.fullmatch(raw):
        raise malformed("", "The form has characters that must be percent-encoded.")
    fields = raw.split(b"&", _PAIRS_MAX)
    if len(fields) > _PAIRS_MAX:
        raise malformed("", f"The form has more than {_PAIRS_MAX} parameters.")
    pairs = [_pair(field) for field in fields]
    refuse_ambiguity(pairs)
    return pairs


def write(pairs: Pairs) -> bytes:
    """Write pairs as a form body."""
    return "&".join(
        f"{key}={value if _UNQUOTED.fullmatch(value) else quote_plus(value)}" for key, value in pairs
    ).encode()


@lru_cache(maxsize=4096)
def check_name(key: str) -> str:
    """Return the name of a parameter, or raise `Refused` when it could be read in two ways."""
    match = _KEY.fullmatch(key) if len(key) <= _KEY_MAX else None
    if match is None:
        raise malformed(
            key[:64],
            f"A parameter's name must be letters, digits and _ with at most 8 closed [brackets], at most "
            f"{_KEY_MAX} characters in all.",
        )
    if match[1] in RESERVED:
        raise malformed(key, f"The parameter {match[1]!r} is not passed on; leave it out.")
    return key


def refuse_ambiguity(pairs: Pairs) -> None:
    """Refuse names of which one hides another: repeated, value and group at once, a list numbered in part."""
    seen: dict[str, None] = {}
    groups: dict[str, set[str]] = {}
    for key, _ in pairs:
        if key in seen and not key.endswith("[]"):
            raise malformed(key, f"The parameter {key!r} is given more than once.")
        seen[key] = None
        cut = key.find("[")
        while cut > 0:
            end = key.index("]", cut) + 1
            groups.setdefault(key[:cut], set()).add(key[cut:end])
            cut = key.find("[", end)
    both = [name for name in seen if name in groups]
    if both:
        raise malformed(both[0], f"The parameter {both[0]!r} is given as a value and as a group at once.")
    for key in seen:
        if "[]" in key:
            _refuse_half_numbered(key, groups)


def _refuse_half_numbered(key: str, groups: Mapping[str, set[str]]) -> None:
    name, _, inner = key.partition("[]")
    if inner:
        raise malformed(key, f"Number the elements of {name!r}: which of them {key!r} is in is not certain.")
    if len(groups[name]) > 1:
        raise malformed(key, f"The elements of {name!r} are numbered in part; number all of them or none.")


def numbered(pairs: Pairs) -> dict[str, str]:
    """Return pairs by name, the elements of lists without numbers numbered from 0."""
    found: dict[str, str] = {}
    lengths: dict[str, int] = {}
    for key, value in pairs:
        name = key
        if key.endswith("[]"):
            number = lengths.get(key, 0)
            lengths[key] = number + 1
            name = f"{key[:-1]}{number}]"
        found[name] = value
    return found


def _pair(field: bytes) -> tuple[str, str]:
    name, equals, value = field.partition(b"=")
    if not equals:
        raise malformed("", "Every parameter must be written as name=value.")
    return check_name(_decode(name)), _decode(value)


def _decode(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" not in raw:
        return raw.decode("ascii")
    if _ESCAPE.search(raw):
        raise malformed("", "A % must be followed by two hexadecimal digits.")
    try:
        text = _ESCAPES.sub(_unescaped, raw).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("", "Parameters must be UTF-8.") from None
    if "\x00" in text:
        raise malformed("", "Parameters must not have NUL characters.")
    return text


def _unescaped(run: re.Match[bytes]) -> bytes:
    return bytes.fromhex(run[0].decode().replace("%", ""))
