"""Finds what must not be where it is: secret keys, and ids of customers."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_RAW_KEY = re.compile(r"(?<![A-Za-z0-9_])[sr]k_(?:(?:live|test|org)_)?[A-Za-z0-9]{8,}[A-Za-z0-9_]*")
_VAULT_KEY = re.compile(r"(vk_[a-z2-7]{12})[_.~-][\x21-\x26\x28-\x7e]+")
_CUSTOMER = re.compile(r"(?<![A-Za-z0-9_])cus_[A-Za-z0-9]{4,}")


def raw_keys(text: str) -> list[str]:
    """Return the raw Stripe keys in a text, each without its middle."""
    return sorted({_masked(found) for found in _RAW_KEY.findall(text)})


def without_keys(text: str) -> str:
    """Return a text that may be in the log of a CI: of keys it has only enough to recognise them."""
    return _VAULT_KEY.sub(r"\1_***", _RAW_KEY.sub(lambda found: _masked(found[0]), text))


def _masked(key: str) -> str:
    return f"{key[:8]}…{key[-4:]}"


def customers(text: str) -> list[str]:
    """Return the ids of customers in a text."""
    return sorted(set(_CUSTOMER.findall(text)))


def text_of(value: Any) -> str:
    """Return all that a value says: of a run's result, a history of messages, or anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    for name in ("all_messages_json", "model_dump_json"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return text_of(method())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return "\n".join(f"{text_of(key)}: {text_of(one)}" for key, one in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return "\n".join(map(text_of, value))
    try:
        return json.dumps(value)
    except TypeError:
        return repr(value)


def traceback_text(error: BaseException) -> str:
    """Return a traceback as the most talkative tools show it, with local variables."""
    try:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        return "".join(told.format())
    except Exception:  # a local variable that can't be shown
        return "".join(traceback.format_exception(error))


@contextmanager
def recorded_logs() -> Iterator[list[tuple[str, str]]]:
    """Collect every line that is logged, at every level, with the name of its logger.

    Nobody else gets these lines: they would fill the report of a test.
    """
    lines: list[tuple[str, str]] = []
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    root.handlers[:] = [_Recorder(lines)]
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.handlers[:] = kept
        root.setLevel(level)


class _Recorder(logging.Handler):
    def __init__(self, lines: list[tuple[str, str]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((f"log of {record.name}", self.format(record)))
