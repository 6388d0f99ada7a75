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

from policy_server.store import scripts
from policy_server.store.connection import TIMEOUT_MS
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimulatedLoop, SimulatedProcess

_SCRIPTS = (
    *("authorize", "settle", "observe", "expire", "record", "administer", "unfreeze"),
    *("claim", "write", "restore"),
)
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

    def ask_raw(self, *command: str | int) -> bytes:
        """Run one command whose reply is no text."""
        self._reader.set_encoding(None)
        try:
            return bytes(self.ask(*command))
        finally:
            self._reader.set_encoding("utf-8")

    def ask(self, *command: str | int | bytes) -> Any:
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
    asks: int
    """Which server, of those that have answered one after the other."""


class RedisLink:
    """The network between policy servers and the store."""

    def __init__(self, store: Store, faults: Faults, loop: SimulatedLoop, seed: int, tell: Tell) -> None:
        self.store = store
        self._faults = faults
        self._loop = loop
        self._tell = tell
        self._chance = random.Random(f"{seed} redis")
        self._names = {scripts.script(name).sha: name for name in _SCRIPTS}
        self._away_until = 0.0
        self._servers = 1
        self.when_run: Callable[[SimulatedProcess, str, Any], None] = lambda server, name, answer: None
        """Called with the server, the script's name and what it has answered."""
        self.when_answered: Callable[[SimulatedProcess], Callable[[int], None]] = lambda server: _ignore
        """Called when a server's commands were carried out; what it returns is called when the answers
        arrive, with the newest event's number that they tell."""

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

    def replaced(self) -> None:
        """Let another server answer; what is on its way to the one before reaches nobody."""
        self._servers += 1

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
            exchange = _Exchange(server, commands, packed, replies, back, fault, self._servers)
            self._loop.later(there, self._arrive, exchange)
        return replies

    def _arrive(self, exchange: _Exchange) -> None:
        replies, fault = exchange.replies, exchange.fault
        kind = fault.kind if fault else ""
        if self.away or exchange.asks != self._servers:
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
            heard = self.when_answered(exchange.server)
            self._loop.later(exchange.back, self._bring, exchange, answers, heard)

    def _bring(self, exchange: _Exchange, answers: list[Any], heard: Callable[[int], None]) -> None:
        if not exchange.replies.done() and exchange.server.alive:
            heard(max(map(self._told_number, exchange.commands, answers)))
        _fulfil(exchange.replies, answers)

    def _name(self, command: list[bytes]) -> str:
        return self._names.get(command[1].decode(), "") if command[0] == b"EVALSHA" else ""

    def _told_number(self, command: list[bytes], answer: Any) -> int:
        """Return the number of the newest event that an answer tells; 0 when it tells none."""
        if self._name(command):
            told = answer_of(answer)
            return scripts.newest_event(told[1])[0] if told and told[0] != "lost" else 0
        is_asked = command[0] == b"GET" and command[1].endswith(b":sequence")
        return int(answer or 0) if is_asked and not isinstance(answer, Exception) else 0

    def _run(self, server: SimulatedProcess, commands: list[list[bytes]], packed: bytes) -> list[Any]:
        answers = self.store.run(packed, len(commands)) if commands else []
        for command, answer in zip(commands, answers, strict=True):
            name = self._name(command)
            if name:
                self.when_run(server, name, answer)
            if name and not (name == "expire" and answer_of(answer)[0::2] == ["done", "0"]):
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


def _ignore(number: int) -> None:
    """Nobody wants to know."""


def answer_of(answer: Any) -> list[str]:
    """Return what a script says: its status, the newest event's number, and more; nothing for an error."""
    return list(json.loads(answer)) if isinstance(answer, str) else []


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
