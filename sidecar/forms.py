"""Reads form bodies and query strings in the only way they can be read, or not at all.

What could be read in two ways is refused, and what is forwarded is written anew
from what was read. Which names there may be, and which of them more than once,
is the vendor's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote_plus

from sidecar.refusals import malformed

Pairs = Sequence[tuple[str, str]]

_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(rb"[!-~]*")
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")
_UNQUOTED = re.compile(r"[A-Za-z0-9_.-]*")
_UNQUOTED_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]*")
_PAIRS_MAX = 1_000


def read(raw: bytes, check_name: Callable[[str], str]) -> Pairs:
    """Return the pairs of a form body or query string, in their order.

    ``check_name`` returns the name of a parameter, or raises `Refused`, as this
    does when a pair can't be read in exactly one way.
    """
    if not raw:
        return []
    if not _PLAIN.fullmatch(raw):
        raise malformed("", "The form has characters that must be percent-encoded.")
    fields = raw.split(b"&", _PAIRS_MAX)
    if len(fields) > _PAIRS_MAX:
        raise malformed("", f"The form has more than {_PAIRS_MAX} parameters.")
    return [_pair(field, check_name) for field in fields]


def write(pairs: Pairs) -> bytes:
    """Write pairs as a form body."""
    return "&".join(
        f"{_quoted(key, _UNQUOTED_NAME)}={_quoted(value, _UNQUOTED)}" for key, value in pairs
    ).encode()


def _quoted(text: str, plain: re.Pattern[str]) -> str:
    return text if plain.fullmatch(text) else quote_plus(text)


def _pair(field: bytes, check_name: Callable[[str], str]) -> tuple[str, str]:
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
