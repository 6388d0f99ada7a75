"""Reads form bodies and query strings in the only way they can be read, or not at all.

Stripe reads a repeated key as its last value and groups brackets by Rack's
rules; others read the same bytes otherwise. What could be read in two ways is
refused, and what is forwarded is written anew from what was read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote_plus

from sidecar.refusals import malformed

Pairs = Sequence[tuple[str, str]]

_KEY = re.compile(r"([A-Za-z0-9_]+)((?:\[[A-Za-z0-9_.-]*\])*)")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(rb"[!-~]*")
_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
_PAIRS_MAX = 1_000

_RESERVED = frozenset({"key", "_stripe_account", "_stripe_version", "_method"})
"""Parameters by which a request could change who asks, or what for."""


def parse(raw: bytes) -> Pairs:
    """Return the pairs of a form body or query string; raise `Refused` when it is ambiguous."""
    if not raw:
        return []
    if not _PLAIN.fullmatch(raw):
        raise malformed("", "The form has characters that must be percent-encoded.")
    fields = raw.split(b"&")
    if len(fields) > _PAIRS_MAX:
        raise malformed("", f"The form has more than {_PAIRS_MAX} parameters.")
    pairs = [_pair(field) for field in fields]
    _refuse_ambiguity(pairs)
    return pairs


def write(pairs: Pairs) -> bytes:
    """Write pairs as a form body."""
    return "&".join(f"{quote_plus(key, safe='[]')}={quote_plus(value)}" for key, value in pairs).encode()


def _pair(field: bytes) -> tuple[str, str]:
    name, equals, value = field.partition(b"=")
    if not equals:
        raise malformed("", "Every parameter must be written as name=value.")
    key = _decode(name)
    match = _KEY.fullmatch(key)
    if match is None:
        raise malformed(key[:64], "A parameter's name must be letters, digits and _ with closed [brackets].")
    if match[1] in _RESERVED:
        raise malformed(key, f"The parameter {match[1]!r} is not passed on; leave it out.")
    return key, _decode(value)


def _decode(raw: bytes) -> str:
    if b"%" not in raw and b"+" not in raw:
        return raw.decode("ascii")
    if _ESCAPE.search(raw):
        raise malformed("", "A % must be followed by two hexadecimal digits.")
    plain = _PERCENT.sub(lambda match: bytes([int(match[0][1:], 16)]), raw.replace(b"+", b" "))
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("", "Parameters must be UTF-8.") from None
    if "\x00" in text:
        raise malformed("", "Parameters must not have NUL characters.")
    return text


def _refuse_ambiguity(pairs: Pairs) -> None:
    seen: set[str] = set()
    parents: set[str] = set()
    for key, _ in pairs:
        if key in seen and not key.endswith("[]"):
            raise malformed(key, f"The parameter {key!r} is given more than once.")
        seen.add(key)
        cut = key.find("[")
        while cut > 0:
            parents.add(key[:cut])
            cut = key.find("[", cut + 1)
    both = seen & parents
    if both:
        name = sorted(both)[0]
        raise malformed(name, f"The parameter {name!r} is given as a value and as a group at once.")
