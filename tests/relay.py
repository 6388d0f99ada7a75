"""A relay between a program and a sidecar that counts requests, and may lose answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx

_PER_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Relay:
    """Passes every request on; ``lose`` answers get lost on the way back."""

    def __init__(self, origin: str) -> None:
        self.passed: list[str] = []
        """Method and path of every request, in order."""
        self.lose = 0
        self._http = httpx.Client(base_url=origin, timeout=30)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def take_loss(self) -> bool:
        """Tell whether the next answer is to be lost."""
        lost = self.lose > 0
        self.lose -= lost
        return lost

    def pass_on(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Send one request to the sidecar."""
        self.passed.append(f"{method} {path}")
        return self._http.request(method, path, headers=headers, content=body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            """One connection of a program."""

            def do_POST(self) -> None:
                """Pass a request on, and its answer back unless it gets lost."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = relay.pass_on(self.command, self.path, dict(self.headers.items()), body)
                if relay.take_loss():
                    return
                self.send_response_only(answer.status_code)
                for name, value in answer.headers.multi_items():
                    if name.lower() not in _PER_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_DELETE = do_POST

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing; a failed test shows what was passed."""

        return Handler
