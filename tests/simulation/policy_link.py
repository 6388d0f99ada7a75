"""gRPC between sidecars and policy servers, without sockets: real stubs and servicers, serialized messages.

A channel knows several policy servers and uses in turn those that live, as round_robin does. Messages get
lost, late, or delivered twice, and a server may die with one in its hands.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import grpc

from policy_server.rpc.interceptors import Guard
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimulatedLoop, SimulatedProcess

MESSAGE_TAKES_MAX_S = 0.004


class _Aborted(grpc.aio.AbortError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class _Context:
    """What a servicer knows of its call."""

    def __init__(self, time: Callable[[], float], ends: float | None) -> None:
        self._time = time
        self._ends = ends

    def time_remaining(self) -> float | None:
        return None if self._ends is None else self._ends - self._time()

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        raise _Aborted(code, details)

    async def abort_with_status(self, status: Any) -> None:
        raise _Aborted(status.code, status.details)


class RpcServer:
    """Takes the place of a grpc.aio server: servicers are added to it, and calls arrive here."""

    def __init__(self, process: SimulatedProcess, guard: Guard) -> None:
        self.process = process
        self.stopping = False
        """Whether it takes no new calls any more."""
        self._guard = guard
        self._handlers: dict[str, Any] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered ones are all there are."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self._handlers[f"/{service}/{name}"] = handler

    @property
    def listens(self) -> bool:
        """Whether new calls arrive."""
        return self.process.alive and not self.stopping

    def spawn(self, call: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
        """Work on one call."""
        task = self.process.spawn(call)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard, context=self.process.context)
        return task

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, and let those under way finish, at most so long."""
        self.stopping = True
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=grace_s)
            for task in late:
                task.cancel()

    async def handler(self, method: str, metadata: Any) -> Any:
        """The method as the interceptor lets it be called."""

        async def found(details: Any) -> Any:
            return self._handlers.get(details.method)

        details: Any = SimpleNamespace(method=method, invocation_metadata=metadata)
        return await self._guard.intercept_service(found, details)


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


def _unavailable(why: str) -> grpc.aio.AioRpcError:
    return _error(grpc.StatusCode.UNAVAILABLE, why)


class PolicyNetwork:
    """The way from sidecars to policy servers."""

    def __init__(self, faults: Faults, loop: SimulatedLoop, seed: int) -> None:
        self.faults = faults
        self.loop = loop
        self._chance = random.Random(f"{seed} policy")
        self.servers: Sequence[RpcServer] = ()
        """The newest process of each policy server, dead or alive."""
        self._turn = itertools.count()

    def pick(self) -> RpcServer | None:
        """The server whose turn it is."""
        living = [server for server in self.servers if server.listens]
        return living[next(self._turn) % len(living)] if living else None

    def delay(self) -> float:
        """How long a message is on its way, in seconds."""
        return self._chance.random() * MESSAGE_TAKES_MAX_S

    def channel(self, sidecar: SimulatedProcess) -> Any:
        """What a sidecar's stub is made with."""
        return SimpleNamespace(
            unary_unary=lambda method, **how: _Unary(self, sidecar, method, how),
            stream_stream=lambda method, **how: (
                lambda metadata: _Stream(self, sidecar, method, how, metadata)
            ),
            unary_stream=lambda method, **how: None,
        )


class _Delivery:
    """One message to a server and its answer, with what goes wrong on the way."""

    def __init__(self, network: PolicyNetwork, sidecar: SimulatedProcess, server: SimulatedProcess) -> None:
        self._loop = network.loop
        self._sidecar = sidecar
        self._server = server
        self._fault: Fault | None = network.faults.draw("policy")
        self._kind = self._fault.kind if self._fault else ""
        self._there, self._back = network.delay(), network.delay()
        if self._fault and self._kind == "send late":
            self._there += self._fault.chance.choice([0.2, 0.6, 3.0])
        if self._fault and self._kind == "answer late":
            self._back += self._fault.chance.choice([0.2, 0.6, 3.0])

    @property
    def twice(self) -> bool:
        """Whether the server gets it a second time, some time later."""
        return self._kind == "deliver twice"

    def again_s(self) -> float:
        """When the second one arrives."""
        assert self._fault is not None
        return self._there + self._fault.chance.choice([0.001, 0.05, 0.3, 1.0])

    def send(self, deliver: Callable[[], object], broken: Callable[[], object]) -> None:
        """Deliver the message, or tell the sender that its connection broke, or neither."""
        if self._kind == "kill the sidecar":
            self._loop.later(self._there, deliver)
            self._loop.later(0, self._sidecar.kill)
        elif self._kind == "lose the request":
            self._loop.later(self._there, broken)
        elif self._kind == "kill the server before":
            self._loop.later(self._there, self._server.kill)
        elif self._kind != "swallow the request":
            self._loop.later(self._there, deliver)

    def answer(self, deliver: Callable[[], object], broken: Callable[[], object]) -> None:
        """Bring the answer back, or not."""
        if self._kind == "lose the reply":
            self._loop.later(self._back, broken)
        elif self._kind == "kill the server after":
            self._loop.later(0, self._server.kill)
        elif self._kind != "swallow the reply":
            self._loop.later(self._back, deliver)


class _Unary:
    """A method with one request and one response."""

    def __init__(self, network: PolicyNetwork, sidecar: SimulatedProcess, method: str, how: Any) -> None:
        self._network = network
        self._sidecar = sidecar
        self._method = method
        self._how = how

    async def __call__(self, request: Any, *, timeout: float, metadata: Any) -> Any:  # noqa: ASYNC109
        loop, server = self._network.loop, self._network.pick()
        if server is None:
            await asyncio.sleep(self._network.delay())
            raise _unavailable("no policy server listens")
        data = self._how["request_serializer"](request)
        reply: asyncio.Future[bytes] = loop.create_future()
        delivery = _Delivery(self._network, self._sidecar, server.process)
        ends = loop.time() + timeout
        works: list[asyncio.Task[Any]] = []

        def deliver() -> None:
            if not server.listens:
                _fail(reply, _unavailable("connection reset"))
                return
            works.append(server.spawn(self._serve(server, data, metadata, ends, answered)))

        def answered(result: bytes | grpc.aio.AioRpcError) -> None:
            delivery.answer(
                lambda: _resolve(reply, result), lambda: _fail(reply, _unavailable("connection reset"))
            )

        def noticed() -> None:
            loop.later(self._network.delay(), _fail, reply, _unavailable("connection reset"))

        server.process.when_killed.append(noticed)
        delivery.send(deliver, lambda: _fail(reply, _unavailable("connection reset")))
        if delivery.twice:
            loop.later(delivery.again_s(), self._deliver_again, server, data, metadata, ends)
        try:
            async with asyncio.timeout(timeout):
                return self._how["response_deserializer"](await reply)
        except TimeoutError:
            for work in works:
                loop.later(self._network.delay(), work.cancel)
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    def _deliver_again(self, server: RpcServer, data: bytes, metadata: Any, ends: float) -> None:
        if server.listens:
            server.spawn(self._serve(server, data, metadata, ends, lambda result: None))

    async def _serve(
        self, server: RpcServer, data: bytes, metadata: Any, ends: float, answered: Callable[[Any], None]
    ) -> None:
        handler = await server.handler(self._method, metadata)
        try:
            response = await handler.unary_unary(
                handler.request_deserializer(data), _Context(self._network.loop.time, ends)
            )
        except _Aborted as aborted:
            answered(_error(aborted.code, aborted.details))
        else:
            answered(handler.response_serializer(response))


class _Stream:
    """A call with many requests and responses, which come in the same order."""

    def __init__(
        self, network: PolicyNetwork, sidecar: SimulatedProcess, method: str, how: Any, metadata: Any
    ) -> None:
        self._network = network
        self._sidecar = sidecar
        self._method = method
        self._how = how
        self._metadata = metadata
        self._server = network.pick()
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._replies: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        """None says that the server has ended the call."""
        self._work: asyncio.Task[Any] | None = None
        self._delivery: _Delivery | None = None
        self._broken: Exception | None = None
        self._ended = False
        if self._server is not None:
            self._server.process.when_killed.append(
                lambda: network.loop.later(network.delay(), self._break, "connection reset")
            )

    async def write(self, request: Any) -> None:
        """Send one request."""
        if self._ended:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._broken is not None:
            raise self._broken
        if self._server is None:
            await asyncio.sleep(self._network.delay())
            raise _unavailable("no policy server listens")
        data = self._how["request_serializer"](request)
        self._delivery = _Delivery(self._network, self._sidecar, self._server.process)
        self._delivery.send(lambda: self._deliver(data), lambda: self._break("connection reset"))
        if self._delivery.twice:
            self._network.loop.later(self._delivery.again_s(), self._deliver_again, data)

    async def read(self) -> Any:
        """Wait for one response."""
        reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, bytes):
            return grpc.aio.EOF
        return self._how["response_deserializer"](reply)

    def cancel(self) -> None:
        """Give the call up; the server hears of it a little later."""
        self._network.loop.later(self._network.delay(), self._cancel_work)

    def _cancel_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def _break(self, why: str) -> None:
        self._broken = _unavailable(why)
        self._replies.put_nowait(self._broken)
        self._cancel_work()

    def _end(self) -> None:
        self._ended = True
        self._replies.put_nowait(None)

    def _deliver(self, data: bytes) -> None:
        assert self._server is not None
        if not self._server.process.alive or (self._work is None and self._server.stopping):
            self._break("connection reset")
            return
        self._requests.put_nowait(data)
        if self._work is None:
            self._work = self._server.spawn(
                self._serve(self._server, self._requests, self._answer, self._end)
            )

    def _deliver_again(self, data: bytes) -> None:
        """As something between the two may do that asks another server when the first is slow."""
        server = self._network.pick()
        if server is not None:
            requests: asyncio.Queue[bytes | None] = asyncio.Queue()
            requests.put_nowait(data)
            requests.put_nowait(None)
            server.spawn(self._serve(server, requests, lambda reply: None))

    def _answer(self, reply: bytes | Exception) -> None:
        assert self._delivery is not None
        self._delivery.answer(
            lambda: self._replies.put_nowait(reply), lambda: self._break("connection reset")
        )

    async def _serve(
        self,
        server: RpcServer,
        requests: asyncio.Queue[bytes | None],
        answer: Callable[[Any], None],
        end: Callable[[], None] = lambda: None,
    ) -> None:
        handler = await server.handler(self._method, self._metadata)

        async def coming() -> AsyncIterator[Any]:
            while (data := await requests.get()) is not None:
                yield handler.request_deserializer(data)

        try:
            async for response in handler.stream_stream(coming(), _Context(self._network.loop.time, None)):
                answer(handler.response_serializer(response))
        except _Aborted as aborted:
            answer(_error(aborted.code, aborted.details))
        else:
            self._network.loop.later(2 * MESSAGE_TAKES_MAX_S, end)


def _resolve(reply: asyncio.Future[bytes], result: bytes | grpc.aio.AioRpcError) -> None:
    if isinstance(result, grpc.aio.AioRpcError):
        _fail(reply, result)
    elif not reply.done():
        reply.set_result(result)


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()
