"""Puts the sidecar together, runs it and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from sidecar import tls
from sidecar.backends import CannotStart, backends, policy_channel, reconciler, sidecar_token
from sidecar.decisions import Decisions
from sidecar.exchange import Answer, Request, error_answer, json_answer
from sidecar.gate import Gate
from sidecar.http_protocol import Connections, HttpConfig, HttpProtocol, Limits
from sidecar.key_scope import PATH as KEY_SCOPE_PATH
from sidecar.key_scope import KeyScope
from sidecar.outbox import Outbox
from sidecar.policy_link import PolicyLink
from sidecar.refusals import Refused
from sidecar.settings import SidecarSettings
from spendgate.transport import PLAINTEXT_ALLOWED, PemFiles, TransportUnsafe
from spendgate.v1 import policy_service_pb2 as pb

log = logging.getLogger(__name__)

_OWN_FILES = 512
"""Files that are no client's connection, most of them connections to the vendor."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _HungUp(Exception):
    """The client is gone, and its request is not whole."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests to one vendor come in."""

    path: str
    """What their paths begin with, such as ``/stripe/``."""
    gate: Gate
    prefix: str = ""
    """What is taken off the path before the vendor sees it."""


class Edge:
    """The ASGI application: reads whole requests and hands them to the gate of their vendor."""

    def __init__(
        self,
        routes: Sequence[Route],
        key_scope: KeyScope,
        ready: Callable[[], Awaitable[list[str]]],
        *,
        body_bytes_max: int,
    ) -> None:
        """``body_bytes_max`` is the largest request body that is taken."""
        self._routes = routes
        self._key_scope = key_scope
        self._ready = ready
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except _HungUp:
            return
        if answer.chunks is None:
            headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        async with contextlib.aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["raw_path"].decode("latin-1")
        if path == "/healthz":
            return json_answer(200, {"status": "live"})
        if path == "/readyz":
            problems = await self._ready()
            status = "not ready" if problems else "ready"
            return json_answer(503 if problems else 200, {"status": status, "problems": problems})
        if path == KEY_SCOPE_PATH and scope["method"] == "GET":
            return await self._key_scope.handle(_request(scope, path, b""))
        route = next((route for route in self._routes if path.startswith(route.path)), None)
        if route is None:
            known = " or ".join(f"{route.path}…" for route in self._routes)
            return error_answer(404, "path_unknown", f"Nothing is here. Call {known}.")
        body = await self._body(receive)
        if body is None:
            return route.gate.refuse(
                Refused(413, "request_too_large", f"The body has more than {self._body_bytes_max} bytes.")
            )
        return await route.gate.handle(_request(scope, path[len(route.prefix) :], body))

    async def _body(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                # What came of it could be read as another request than the one that was meant.
                raise _HungUp
            body += message.get("body", b"")
            if len(body) > self._body_bytes_max:
                return None
            if not message.get("more_body"):
                return bytes(body)


def _request(scope: Scope, path: str, body: bytes) -> Request:
    headers: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in scope["headers"]:
        headers[name].append(value)
    headers.default_factory = None
    return Request(scope["method"], path, scope["query_string"].decode("latin-1"), headers, body)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the sidecar, which runs two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, but with no more patience for a TLS handshake than for a request."""
        config = cast(HttpConfig, self.config)

        def protocol() -> asyncio.Protocol:
            return HttpProtocol(config, self.server_state, {})

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=bound,
                ssl=config.ssl,
                ssl_handshake_timeout=config.limits.read_timeout_s if config.ssl else None,
                backlog=config.backlog,
            )
            for bound in sockets or ()
        ]
        self.started = True


class Sidecar:
    """One sidecar process."""

    def __init__(self, settings: SidecarSettings) -> None:
        self._settings = settings
        self._backends = backends(settings)
        try:
            self._tls = _listener_context(settings)
        except TransportUnsafe as error:
            raise CannotStart(str(error)) from None
        self._channel = policy_channel(settings)
        self._policy = PolicyLink(self._channel, sidecar_token(settings))
        self._outbox = Outbox(self._policy)
        self._decisions = Decisions(self._policy, timeout_s=settings.decision_timeout_ms / 1000)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then let calls and settlements under way finish."""
        settings = self._settings
        if settings.allow_plaintext:
            log.warning(PLAINTEXT_ALLOWED)
        _allow_files(settings.connections_max)
        sockets = [
            _listen(settings.sidecar_host, settings.sidecar_port, "--sidecar-port"),
            _listen(settings.sidecar_host, settings.sidecar_root_port, "--sidecar-root-port"),
        ]
        for backend in self._backends:
            await backend.upstream.open()
        outbox = asyncio.create_task(self._outbox.run())
        background = [outbox]
        if settings.reconcile_every_s > 0:
            looking = reconciler(settings, self._policy, self._backends).run(settings.reconcile_every_s)
            background.append(asyncio.create_task(looking))
        connections = Connections(settings.connections_max)
        shared_routes, root_routes = self._routes()
        servers = [self._server(routes, connections) for routes in (shared_routes, root_routes)]
        serving = [
            asyncio.create_task(server.serve(sockets=[bound]))
            for server, bound in zip(servers, sockets, strict=True)
        ]
        for bound, routes in zip(sockets, (shared_routes, root_routes), strict=True):
            paths = ", ".join(f"{route.path}…" for route in routes)
            log.info(
                "sidecar listens on %s://%s:%s for %s",
                *("https" if self._tls else "http", settings.sidecar_host, bound.getsockname()[1], paths),
            )
        await asyncio.wait([asyncio.create_task(stop.wait()), *serving], return_when=asyncio.FIRST_COMPLETED)
        log.info("sidecar stops; calls under way have %s s", settings.drain_s)
        for server in servers:
            server.should_exit = True
        drained_by = time.monotonic() + settings.drain_s
        await asyncio.gather(*serving)
        if not await self._outbox.flush(max(1.0, drained_by - time.monotonic())):
            log.error(
                "%s settlements could not be delivered; their holds become unknown and keep counting",
                self._outbox.waiting,
            )
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for backend in self._backends:
            await backend.upstream.close()
        await self._channel.close()

    def _routes(self) -> tuple[list[Route], list[Route]]:
        """Return the routes of the port that all vendors share, and of the one without prefixes."""
        shared, root = [], []
        for backend in self._backends:
            vendor = backend.vendor
            gate = Gate(vendor, self._decisions, self._outbox, backend.upstream)
            for version in vendor.versions:
                shared.append(Route(f"{vendor.prefix}{version}/", gate, vendor.prefix))
                root.append(Route(f"{version}/", gate))
        return shared, root

    def _server(self, routes: Sequence[Route], connections: Connections) -> _Server:
        settings = self._settings
        edge = Edge(routes, KeyScope(self._decisions), self._problems, body_bytes_max=settings.body_bytes_max)
        return _Server(
            HttpConfig(
                edge,
                limits=Limits(settings.head_bytes_max, settings.read_timeout_s),
                open_connections=connections,
                loop="none",
                lifespan="off",
                ws="none",
                interface="asgi3",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, int(settings.drain_s)),
                ssl_context_factory=(lambda *_: context) if (context := self._tls) else None,
            )
        )

    async def _problems(self) -> list[str]:
        """Return what keeps the sidecar from doing its work; a decision that counts nothing shows it."""
        question = pb.AuthorizeRequest(vault_key="ready?", endpoint="GET /readyz", validate_only=True)
        try:
            await self._decisions.ask(question)
        except Refused as refused:
            return [f"the policy server at {self._settings.policy_address}: {refused.message}"]
        return []


def _listener_context(settings: SidecarSettings) -> ssl.SSLContext | None:
    if settings.sidecar_cert is None or settings.sidecar_key is None:
        return None
    return tls.listener_context(
        PemFiles(settings.sidecar_cert, settings.sidecar_key, settings.sidecar_client_ca)
    )


def _allow_files(connections: int) -> None:
    """Let the process have as many files open as it may have connections, and its own beside them."""
    wanted = connections + _OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in {soft, hard} and hard < wanted:
        raise CannotStart(
            f"a process may have only {hard} files open here: set --connections-max to at most "
            f"{hard - _OWN_FILES}, or raise the limit (ulimit -n)"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        raise CannotStart(
            f"can't listen on {host}:{port} ({error.strerror}): stop the process that does, or choose "
            f"another port with {option}"
        ) from None
    bound.setblocking(False)
    return bound
