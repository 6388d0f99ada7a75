"""The names of Stripe's parameters: which there may be, and which of them hide another.

Stripe reads a repeated key as its last value and groups brackets by Rack's
rules; others read the same bytes otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from sidecar.forms import Pairs, read
from sidecar.refusals import malformed

_KEY = re.compile(r"([A-Za-z0-9_]+)((?:\[[A-Za-z0-9_.-]*\]){0,8})")
_KEY_MAX = 256

RESERVED = frozenset({"key", "_stripe_account", "_stripe_version", "_method"})
"""Parameters by which a request could change who asks, or what for."""


def parse(raw: bytes) -> Pairs:
    """Return the pairs of a form body or query string; raise `Refused` when it is ambiguous."""
    pairs = read(raw, check_name)
    refuse_ambiguity(pairs)
    return pairs


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
