"""The HTTP server: hands requests to the API, and breaks them where a fault says so."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import struct
from typing import Any

from aiohttp import web

from stripe_simulator import faults
from stripe_simulator.api import Answer, StripeApi
from stripe_simulator.control import PREFIX, answer_control
from stripe_simulator.downloads import Download
from stripe_simulator.errors import rate_limited, server_error
from stripe_simulator.faults import Fault
from stripe_simulator.incoming import Incoming, note_key

HOST = "127.0.0.1"

# Seconds; clients that hang on after a stop signal are cut off.
_SHUTDOWN_SECONDS = 1.0

# Files may be large; the library's own limit is one megabyte.
_LARGEST_BODY_BYTES = 64 * 1024 * 1024

# The lowest: what matters here is that the answer is encoded, not that it is small.
_GZIP_LEVEL = 1

# SO_LINGER on with zero seconds: closing the socket then resets the connection.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Server:
    """One simulator on one loopback port."""

    def __init__(self, api: StripeApi) -> None:
        self._api = api
        self._held: set[asyncio.Event] = set()
        self._runner: web.ServerRunner | None = None
        api.faults.when_cleared = self._let_go

    async def start(self, port: int) -> str:
        """Listen, and return the base URL; port 0 takes any free one."""
        server = web.Server(self._handle, request_factory=_request, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        self._runner = runner
        return f"http://{HOST}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        self._let_go()
        if self._runner is not None:
            await self._runner.cleanup()

    def _let_go(self) -> None:
        for event in self._held:
            event.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path
        if target.startswith(PREFIX):
            status, document = answer_control(self._api, request.method, target, await request.read())
            body = json.dumps(document).encode()
            return web.Response(status=status, body=body, content_type="application/json")
        incoming = self._api.receive(request.method, target, request.headers)
        fault = self._api.faults.take(incoming.method, incoming.path)
        if fault is None:
            incoming.take_body(await request.read())
            return await _send(request, self._proceed(incoming))
        return await self._handle_with_fault(request, incoming, fault)

    def _proceed(self, incoming: Incoming) -> Answer:
        admitted = self._api.admit(incoming)
        return admitted if isinstance(admitted, Answer) else self._api.execute(admitted)

    async def _handle_with_fault(
        self, request: web.BaseRequest, incoming: Incoming, fault: Fault
    ) -> web.StreamResponse:
        incoming.entry.fault = fault.kind
        if fault.kind in (faults.REFUSE, faults.ERROR_BEFORE):
            note_key(incoming)
        if fault.kind == faults.REFUSE:
            _cut(request, reset=True)
            return web.Response()
        incoming.take_body(await request.read())
        if fault.kind == faults.ERROR_BEFORE:
            return await _send(request, self._api.refuse(incoming, server_error(fault.status)))
        if fault.kind == faults.RATE_LIMIT:
            return await _send(request, self._api.refuse(incoming, rate_limited(fault.seconds)))
        admitted = self._api.admit(incoming)
        if fault.kind == faults.DELAY and fault.stage == "before":
            await self._hold(fault.seconds)
        fail_with = fault.status if fault.kind == faults.ERROR_AFTER else None
        answer = admitted if isinstance(admitted, Answer) else self._api.execute(admitted, fail_with)
        if fault.kind == faults.DELAY and fault.stage == "after":
            await self._hold(fault.seconds)
        if fault.kind == faults.DROP_REPLY:
            _cut(request, reset=False)
        return await _send(request, answer, always_zip=fault.kind == faults.GZIP)

    async def _hold(self, seconds: float) -> None:
        """Wait, in real time, until the seconds have passed or the faults are cleared."""
        event = asyncio.Event()
        self._held.add(event)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
        self._held.discard(event)


def _request(
    message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_BODY_BYTES
    )


async def _send(request: web.BaseRequest, answer: Answer, *, always_zip: bool = False) -> web.StreamResponse:
    if answer.download is not None:
        return await _stream(request, answer, answer.download)
    body, headers = answer.body, answer.headers
    if always_zip or "gzip" in request.headers.get("Accept-Encoding", "").lower():
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    return web.Response(status=answer.status, body=body, headers=headers)


async def _stream(request: web.BaseRequest, answer: Answer, download: Download) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = download.size
    await response.prepare(request)
    for piece in download.pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _cut(request: web.BaseRequest, *, reset: bool) -> None:
    """Close the connection under the answer; writing the answer afterwards does nothing."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    else:
        transport.close()
