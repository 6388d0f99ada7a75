"""Connections to a sidecar byte by byte, for requests that no HTTP client would send."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """All that came back on one connection."""

    raw: bytes
    closed: bool
    """Whether the other side closed it."""

    @property
    def statuses(self) -> list[int]:
        """The status of every answer; the headers and body of one have no status line."""
        return [int(status) for status in _STATUS.findall(self.raw)]

    @property
    def status(self) -> int:
        """The status of the only answer; 0 without one."""
        return next((status for status in self.statuses if status != 100), 0)

    @property
    def body(self) -> bytes:
        """What follows the first final answer's headers."""
        start = next((match.start() for match in _STATUS.finditer(self.raw) if match[1] != b"100"), 0)
        return self.raw[start:].partition(b"\r\n\r\n")[2]


def connect(origin: str) -> socket.socket:
    """Open a connection to a sidecar, by any of its addresses."""
    host, _, port = origin.removeprefix("http://").partition("/")[0].rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=_WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, pieces: Sequence[bytes]) -> None:
    """Send pieces, each in a packet of its own, as long as the other side takes them."""
    try:
        for piece in pieces:
            connection.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(connection: socket.socket, *, whole: bool = False, bodyless: bool = False) -> Reply:
    """Read one answer, that to a HEAD ``bodyless``; ``whole`` reads on until the other side closes."""
    raw = b""
    while whole or not _is_answer(raw, bodyless):
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return Reply(raw, closed=True)
        raw += part
    return Reply(raw, closed=False)


def exchange(origin: str, *pieces: bytes, whole: bool = False) -> Reply:
    """Send pieces on a new connection, and read what comes back."""
    with connect(origin) as connection:
        send(connection, pieces)
        return receive(connection, whole=whole)


def _is_answer(raw: bytes, bodyless: bool) -> bool:
    """Tell whether one final answer has come in full; 100 is none."""
    final = re.search(rb"HTTP/1\.1 (?!100)\d{3} ", raw)
    if final is None:
        return False
    head, end, body = raw[final.start() :].partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and (bodyless or (length is not None and len(body) >= int(length[1])))
