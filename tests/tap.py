"""A tap on the line between two programs: passes bytes on, and can keep one message where it is."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

Address = Path | tuple[str, int]
"""A unix socket, or host and port."""

_CHUNK = 65_536
_WAIT_S = 30.0


@dataclass
class Trap:
    """Keeps the first message that has ``mark`` in it, or with ``reply`` what comes back after it."""

    mark: bytes
    reply: bool = False
    caught: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    lost: bool = True
    """Whether what was kept never arrives; its connection is closed instead."""

    def wait(self) -> None:
        """Wait until something is kept."""
        assert self.caught.wait(_WAIT_S), f"nothing with {self.mark!r} came by"


class Tap:
    """Listens at an address of its own and passes everything on to ``target``, which may be moved."""

    def __init__(self, target: Address, *, listen: Path | None = None) -> None:
        self.target = target
        self._trap: Trap | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        if listen is None:
            self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        else:
            self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._server.bind(str(listen))
            self._server.listen(128)
        self._listen = listen
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self._server.getsockname()[:2]
        return f"{host}:{port}"

    @contextmanager
    def keeping(self, mark: bytes, *, reply: bool = False) -> Iterator[Trap]:
        """Keep one message; at the end it is lost, unless the trap says otherwise."""
        trap = Trap(mark, reply)
        with self._lock:
            self._trap = trap
        try:
            yield trap
        finally:
            with self._lock:
                self._trap = None
            trap.over.set()

    def cut(self) -> None:
        """Break every connection that is open now."""
        self.move(self.target)

    def move(self, target: Address) -> None:
        """Lead to another program from now on, and break every connection to the one before."""
        with self._lock:
            self.target = target
            connections = list(self._open)
        for connection in connections:
            _shut(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        if self._listen is not None:
            self._listen.unlink()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                try:
                    far = _connect(self.target)
                except OSError:
                    _end(near)
                    continue
                self._open |= {near, far}
            line = _Line(self, near, far)
            for reply in (False, True):
                threading.Thread(target=line.carry, args=(reply,), daemon=True).start()

    def take(self, line: _Line, data: bytes, *, reply: bool) -> Trap | None:
        """Return the trap that this piece of a line runs into, once."""
        with self._lock:
            trap = self._trap
            if trap is None or trap.caught.is_set():
                return None
            marked = not reply and trap.mark in line.last + data
            if trap.reply:
                if marked:
                    line.marked = trap
                caught = reply and line.marked is trap
            else:
                caught = marked
            if not caught:
                return None
            trap.caught.set()
            return trap

    def forget(self, *connections: socket.socket) -> None:
        """Close connections."""
        with self._lock:
            self._open -= set(connections)
        for connection in connections:
            _end(connection)


class _Line:
    """One connection through the tap."""

    def __init__(self, tap: Tap, near: socket.socket, far: socket.socket) -> None:
        self._tap = tap
        self._near = near
        self._far = far
        self.last = b""
        """The end of what was sent before, where a mark may begin."""
        self.marked: Trap | None = None
        """The trap whose mark has gone by, so that its reply comes next."""

    def carry(self, reply: bool) -> None:
        """Carry one direction until it ends."""
        source, sink = (self._far, self._near) if reply else (self._near, self._far)
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                trap = self._tap.take(self, data, reply=reply)
                if not reply:
                    self.last = (self.last + data)[-256:]
                if trap is not None:
                    trap.over.wait()
                    if trap.lost:
                        break
                sink.sendall(data)
        self._tap.forget(source, sink)


def _connect(target: Address) -> socket.socket:
    if isinstance(target, Path):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(target))
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection(target)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _end(connection: socket.socket) -> None:
    _shut(connection)
    connection.close()
