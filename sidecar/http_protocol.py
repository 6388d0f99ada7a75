"""Takes requests off connections: whole, one at a time, within limits, and only where their end is certain.

uvicorn's own protocol limits neither the head of a request nor the time that
one takes, reads what follows a request before that is answered, takes trailers
for headers, and lets a client say in ways of its own where a body ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from sidecar.exchange import Answer, error_answer


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use up."""

    head_bytes_max: int
    """Largest request line with headers."""
    read_timeout_s: float
    """How long a client may take to send a whole request."""


class Connections:
    """The open connections, at most so many: whoever waits longest makes room for who comes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[HttpProtocol, None] = {}
        """Those without a whole request, in the order in which they began to wait."""
        self._answering: set[HttpProtocol] = set()

    def opened(self, connection: HttpProtocol) -> bool:
        """Take in a new connection; tell whether there is room."""
        if len(self._waiting) + len(self._answering) >= self._most:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return False
            del self._waiting[longest]
            longest.transport.abort()
        self._waiting[connection] = None
        return True

    def answering(self, connection: HttpProtocol) -> None:
        """Note that a connection has a whole request."""
        if self._waiting.pop(connection, self) is None:
            self._answering.add(connection)

    def waiting(self, connection: HttpProtocol) -> None:
        """Note that a connection's request is answered."""
        if connection in self._answering:
            self._answering.remove(connection)
            self._waiting[connection] = None

    def closed(self, connection: HttpProtocol) -> None:
        """Forget a connection."""
        self._waiting.pop(connection, None)
        self._answering.discard(connection)


class HttpConfig(uvicorn.Config):
    """A uvicorn server with these limits; several may share their connections."""

    def __init__(self, app: Any, *, limits: Limits, open_connections: Connections, **more: Any) -> None:
        super().__init__(app, http=HttpProtocol, **more)
        self.limits = limits
        self.open_connections = open_connections


class _Refused(Exception):
    """Ends the parser's work on a connection."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: HttpConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._connections = config.open_connections
        self._reads_head = False
        self._reads_request = False
        self._head_bytes = 0
        self._refusal: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room."""
        super().connection_made(transport)
        if self._connections.opened(self):
            self._start_timer()
        else:
            self._end(
                error_answer(503, "connections_exhausted", "Too many calls are under way.", retryable=True)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, within the limits."""
        super().data_received(data)
        if self.transport.is_closing() or self._is_answering:
            return
        if self._reads_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes_max:
                self._end(self._head_too_large())
                return
        if self._timer is None:
            self._start_timer()

    # The parser.

    def on_message_begin(self) -> None:
        """Begin a request; what comes before the last one is answered is not read."""
        if self._is_answering:
            raise _Refused
        super().on_message_begin()
        self._reads_head = self._reads_request = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but no trailer: its sender could say there what the headers did not."""
        if not self._reads_head:
            self._refuse(
                error_answer(400, "request_malformed", "Send headers before the body, not after it.")
            )
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request over, unless its end is not certain."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.head_bytes_max:
            self._refuse(self._head_too_large())
        if self.parser.should_upgrade() or any(name == b"upgrade" for name, _ in self.headers):
            # Such a request ends with its headers, and what follows is another protocol.
            self._refuse(
                error_answer(
                    400, "upgrade_not_supported", "Send the request as plain HTTP/1.1, without Upgrade."
                )
            )
        if not self._is_plain():
            self._refuse(
                error_answer(
                    400,
                    "request_malformed",
                    "Send the request as HTTP/1.1 with a Content-Length, or in plain chunks, and no fragment "
                    "in its path.",
                )
            )
        super().on_headers_complete()
        self._reads_head = False

    def on_message_complete(self) -> None:
        """Wait for the answer of a whole request."""
        super().on_message_complete()
        self._reads_request = False
        self._stop_timer()
        if self._is_answering:
            self._connections.answering(self)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._connections.waiting(self)

    def send_400_response(self, msg: str) -> None:
        """End a connection on which something can't be read; a whole request before it is answered first."""
        if self._is_answering:
            self.cycle.keep_alive = False
        else:
            self._end(
                self._refusal or error_answer(400, "request_malformed", "This is not a request of HTTP/1.1.")
            )

    # Inside.

    @property
    def _is_answering(self) -> bool:
        """Whether a whole request waits for its answer."""
        return self.cycle is not None and not (self.cycle.more_body or self.cycle.response_complete)

    def _is_plain(self) -> bool:
        version = self.parser.get_http_version()
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        chunked = codings == [b"chunked"] and version == "1.1"
        return version in {"1.0", "1.1"} and (chunked or not codings) and b"#" not in self.url

    def _head_too_large(self) -> Answer:
        most = self._limits.head_bytes_max
        return error_answer(431, "request_too_large", f"The headers have more than {most} bytes.")

    def _refuse(self, answer: Answer) -> NoReturn:
        self._refusal = answer
        raise _Refused

    def _end(self, answer: Answer) -> None:
        """Close the connection with an answer, where the request has none yet."""
        if self._reads_head or self.cycle is None or not self.cycle.response_started:
            more = [(b"content-length", str(len(answer.body)).encode()), (b"connection", b"close")]
            lines = [name + b": " + value + b"\r\n" for name, value in [*answer.headers, *more]]
            self.transport.write(b"".join([STATUS_LINE[answer.status], *lines, b"\r\n", answer.body]))
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._limits.read_timeout_s, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        if self._reads_request:
            limit = self._limits.read_timeout_s
            self._end(
                error_answer(408, "request_timeout", f"It did not come within {limit:g} s.", retryable=True)
            )
        else:
            self.transport.close()
