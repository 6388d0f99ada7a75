"""A relay before a Redis that can delay and swallow what goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class RedisRelay:
    """Listens on a port and carries bytes to a Redis on a unix socket, until it is told otherwise."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.delay_s = 0.0
        """How long every reply takes longer."""
        self._open = threading.Event()
        self._open.set()
        self._closed = threading.Event()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def swallow(self) -> None:
        """Drop what comes from now on, from either side, without an end or a reset."""
        self._open.clear()

    def carry(self) -> None:
        """Carry again, on new connections; what came meanwhile is lost."""
        self._open.set()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for connection in list(self._connections):
            _end(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._open.set()
        _end(self._listener)
        self.cut()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                far.connect(str(self.target))
            self._connections |= {near, far}
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65_536):
                if not self._open.is_set():
                    continue
                if replies and self.delay_s:
                    self._closed.wait(self.delay_s)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                self._connections.discard(end)
                _end(end)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
