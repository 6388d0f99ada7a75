"""Connections of policy servers to one real Redis, on which requests and replies get lost.

redis-py's own client and pool work on them. A round trip is carried out in one go, between two steps of the
history, over a single blocking socket; what it takes in made-up time is drawn.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import hiredis
import redis.asyncio
from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError

from policy_server.store.connection import TIMEOUT_MS
from policy_server.store.scripts import script
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimulatedLoop, SimulatedProcess

_SCRIPTS = ("authorize", "settle", "observe", "expire", "record", "administer")
_ERRORS = {
    "out of memory": "OOM command not allowed when used memory > 'maxmemory'.",
    "read-only replica": "READONLY You can't write against a read only replica.",
    "busy": "BUSY Redis is busy running a script.",
}
Tell = Callable[[str, str], None]


class Store:
    """The one real Redis."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._reader = self._fresh_reader()
        self.restart: Callable[[], None] = lambda: None
        """Kill it (SIGKILL) and start it again; it has all it had answered for."""

    @staticmethod
    def _fresh_reader() -> Any:
        return hiredis.Reader(encoding="utf-8", replyError=BaseParser.parse_error)

    def close(self) -> None:
        """Let go of the connection; the next request makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._reader = self._fresh_reader()

    def run(self, packed: bytes, replies: int) -> list[Any]:
        """Send packed commands and return their replies."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(self._path)
        self._socket.sendall(packed)
        read: list[Any] = []
        while len(read) < replies:
            reply = self._reader.gets()
            if reply is False:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise StoreConnectionError("the store is gone")
                self._reader.feed(data)
            else:
                read.append(reply)
        return read

    def ask(self, *command: str | int) -> Any:
        """Run one command."""
        (reply,) = self.run(hiredis.pack_command(tuple(command)), 1)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def ask_all(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """Run many commands in one round trip."""
        return self.run(b"".join(hiredis.pack_command(one) for one in commands), len(commands))


@dataclass(frozen=True)
class _Exchange:
    """One round trip under way."""

    server: SimulatedProcess
    commands: list[list[bytes]]
    packed: bytes
    replies: asyncio.Future[list[Any]]
    back: float
    """How long the replies take to come back, in seconds."""
    fault: Fault | None


class RedisLink:
    """The network between policy servers and the store."""

    def __init__(self, store: Store, faults: Faults, loop: SimulatedLoop, seed: int, tell: Tell) -> None:
        self.store = store
        self._faults = faults
        self._loop = loop
        self._tell = tell
        self._chance = random.Random(f"{seed} redis")
        self._away_until = 0.0

    def client(self, server: SimulatedProcess) -> redis.asyncio.Redis:
        """A client for one policy server."""
        pool = ConnectionPool(
            connection_class=_Connection,
            link=self,
            server=server,
            socket_timeout=TIMEOUT_MS / 1000,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
        return redis.asyncio.Redis.from_pool(pool)

    @property
    def away(self) -> bool:
        """Whether nobody can connect."""
        return self._loop.time() < self._away_until

    def exchange(self, server: SimulatedProcess, packed: bytes) -> asyncio.Future[list[Any]]:
        """Begin a round trip; its replies come when they come, or a connection error does."""
        commands = _parsed(packed)
        replies: asyncio.Future[list[Any]] = self._loop.create_future()
        replies.add_done_callback(_seen)
        fault = self._faults.draw("redis")
        there, back = self._chance.random() * 0.004, self._chance.random() * 0.004
        kind = fault.kind if fault else ""
        if kind == "send late" and fault:
            there += fault.chance.choice([0.1, 0.3, 1.0])
        if kind == "answer late" and fault:
            back += fault.chance.choice([0.1, 0.3, 1.0])
        if kind == "lose the request":
            self._loop.later(there, _break, replies)
        elif kind == "kill the server before":
            self._loop.later(0, server.kill)
        else:
            exchange = _Exchange(server, commands, packed, replies, back, fault)
            self._loop.later(there, self._arrive, exchange)
        return replies

    def _arrive(self, exchange: _Exchange) -> None:
        replies, fault = exchange.replies, exchange.fault
        kind = fault.kind if fault else ""
        if self.away:
            _break(replies)
        elif kind == "disk full" and fault:
            # A Redis that must write every change to disk ends when it can't.
            self._away_until = self._loop.time() + fault.chance.choice([0.5, 3, 10])
            _break(replies)
        elif kind in _ERRORS:
            error = BaseParser.parse_error(_ERRORS[kind])
            self._loop.later(exchange.back, _fulfil, replies, [error] * len(exchange.commands))
        elif kind == "cut the batch" and fault:
            commands = exchange.commands[: fault.chance.randrange(len(exchange.commands))]
            self._run(
                exchange.server, commands, b"".join(hiredis.pack_command(tuple(one)) for one in commands)
            )
            self._loop.later(exchange.back, _break, replies)
        else:
            self._carry_out(exchange, kind)

    def _carry_out(self, exchange: _Exchange, kind: str) -> None:
        if kind == "restart":
            self.store.restart()
        if kind == "forget the scripts":
            self.store.ask("SCRIPT", "FLUSH")
        answers = self._run(exchange.server, exchange.commands, exchange.packed)
        if kind == "lose the reply":
            self._loop.later(exchange.back, _break, exchange.replies)
        elif kind == "kill the server after":
            exchange.server.kill()
        else:
            self._loop.later(exchange.back, _fulfil, exchange.replies, answers)

    def _run(self, server: SimulatedProcess, commands: list[list[bytes]], packed: bytes) -> list[Any]:
        answers = self.store.run(packed, len(commands)) if commands else []
        for command, answer in zip(commands, answers, strict=True):
            name = _names().get(command[1].decode() if len(command) > 1 else "")
            if name and not (name == "expire" and answer == "0"):
                self._tell(f"{server.name} runs {name}.lua", _shown(answer))
        return answers


class _Connection(AbstractConnection):
    """One connection, as redis-py's pool knows it."""

    def __init__(self, *, link: RedisLink, server: SimulatedProcess, **options: Any) -> None:
        super().__init__(**options)
        self._link = link
        self._server = server
        self._open = False
        self._coming: deque[asyncio.Future[list[Any]]] = deque()
        self._replies: deque[Any] = deque()

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("server", self._server.name)]

    @property
    def is_connected(self) -> bool:
        return self._open

    async def _connect(self) -> None:
        raise NotImplementedError

    def _host_error(self) -> str:
        return "the simulated Redis"

    async def connect(self) -> None:
        if not self._open and self._link.away:
            raise StoreConnectionError("connection refused")
        self._open = True

    async def disconnect(self, nowait: bool = False, **why: Any) -> None:
        self._open = False
        self._coming.clear()
        self._replies.clear()

    async def can_read(self) -> bool:
        return bool(self._replies or self._coming)

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not self._open:
            await self.connect()
        packed = command if isinstance(command, bytes) else b"".join(command)  # type: ignore[arg-type]
        self._coming.append(self._link.exchange(self._server, packed))

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        if not self._replies:
            try:
                self._replies.extend(await self._coming.popleft())
            except BaseException:
                await self.disconnect()
                raise
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply


def _parsed(packed: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(packed)
    commands = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


def _names() -> dict[str, str]:
    return {script(name).sha: name for name in _SCRIPTS}


def _shown(answer: Any) -> str:
    """An answer without what is empty in it."""
    if isinstance(answer, Exception):
        return str(answer)
    told = json.loads(answer) if isinstance(answer, str) else answer
    return (
        " ".join(str(part) for part in told if part not in {"", "0"}) if isinstance(told, list) else str(told)
    )


def _break(replies: asyncio.Future[list[Any]]) -> None:
    if not replies.done():
        replies.set_exception(StoreConnectionError("connection reset"))


def _fulfil(replies: asyncio.Future[list[Any]], answers: list[Any]) -> None:
    if not replies.done():
        replies.set_result(answers)


def _seen(replies: asyncio.Future[list[Any]]) -> None:
    if not replies.cancelled():
        replies.exception()  # taken note of: whoever waited may be gone
