"""Answers that are not JSON: files and documents, sent piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """The pieces of a body in order; `size` is announced only when it is known."""

    content_type: str
    pieces: Iterable[bytes]
    size: int | None = None


def pieces_of(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
