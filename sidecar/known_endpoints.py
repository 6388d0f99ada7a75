"""``python -m sidecar.known_endpoints 'POST /v1/charge'``: tells which patterns no known endpoint matches.

A policy may have any pattern, because the policy server knows no vendor. One that
matches nothing is most often a slip, so whoever writes policies asks here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from sidecar.backends import ENDPOINT_NAMES

_ALIKE = 0.8
"""How like a pattern an endpoint must be to be meant, from 0 to 1."""


def remarks(patterns: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each pattern that matches no endpoint, with the one that may be meant."""
    for pattern in patterns:
        matching = re.compile(_expression(pattern))
        if not any(map(matching.fullmatch, ENDPOINT_NAMES)):
            meant = _meant(pattern)
            asked = f"; did you mean {meant}?" if meant else ""
            yield f"no endpoint that Spendgate knows matches {pattern!r}{asked}"


def _expression(pattern: str) -> str:
    method, _, path = pattern.partition(" ")
    *segments, last = path.split("/")
    parts = ["[^/]+" if _is_any(segment) else re.escape(segment) for segment in segments]
    end = ".+" if last == "*" else "[^/]+" if _is_any(last) else re.escape(last)
    return f"{'[A-Z]+' if method == '*' else re.escape(method)} {'/'.join([*parts, end])}"


def _is_any(segment: str) -> bool:
    return segment == "*" or segment.startswith("{")


def _meant(pattern: str) -> str:
    """Return the endpoint of which the pattern names one object, or else one that is written much like it."""
    around = (name for name in ENDPOINT_NAMES if re.fullmatch(_expression(name), pattern))
    alike = (name for name in get_close_matches(pattern, ENDPOINT_NAMES, 1, _ALIKE))
    return next((repr(name) for name in (*around, *alike)), "")


if __name__ == "__main__":
    sys.stdout.writelines(f"{remark}\n" for remark in remarks(sys.argv[1:]))
