"""Starts programs one after another and stops them in reverse, all or none.

    starting ──every program is ready──▶ running ──a program ends, or a signal──▶ stopping ──▶ over
        └───────────a program ends, is not ready in time, or a signal──────────────▲

Programs run in sessions of their own, so that Ctrl-C reaches only this process
and they are stopped in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from spendgate.cli.failure import CommandFailed

READY_LIMIT_S = 30.0
"""How long a program may take until it is ready."""

_ASK_EVERY_S = 0.05
_LAST_LINES = 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LogLine = Callable[[str, str], None]
"""Called with a program's name and a line of its output."""


class StopAsked(Exception):
    """A signal asked to stop while programs were still starting."""


class ProgramFailed(CommandFailed):
    """A program ended by itself or was not ready in time."""


@dataclass(frozen=True)
class Program:
    """One module to run as a process."""

    name: str
    """Short; stands before its lines in the log."""
    title: str
    """For people, such as "the policy server"."""
    module: str
    problem: Callable[[], str]
    """Tells why it is not ready yet, "" when it is; may block for seconds."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Child:
    program: Program
    process: asyncio.subprocess.Process
    ended: asyncio.Task[int]
    log: asyncio.Task[None]
    last_lines: deque[str]


class Supervisor:
    """Keeps the programs that it started; use as an async context manager, which stops them all."""

    def __init__(self, log_line: LogLine, *, stop_limit_s: float) -> None:
        """A program that takes longer than ``stop_limit_s`` to stop is killed."""
        self._log_line = log_line
        self._stop_limit_s = stop_limit_s
        self._children: list[_Child] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def __aenter__(self) -> Supervisor:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self._children):
            await self._end(child)
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    async def start(self, program: Program) -> None:
        """Start `program` and wait until it is ready.

        Raises `ProgramFailed` when it or an earlier one ends or it takes too
        long, and `StopAsked` on a signal.
        """
        self._children.append(await self._spawn(program))
        loop = asyncio.get_running_loop()
        latest = loop.time() + READY_LIMIT_S
        while True:
            problem = await asyncio.to_thread(program.problem)
            await self._raise_if_over()
            if not problem:
                return
            if loop.time() > latest:
                raise ProgramFailed(f"{program.title} is not ready after {READY_LIMIT_S:g} s: {problem}")
            await asyncio.sleep(_ASK_EVERY_S)

    async def run(self) -> None:
        """Wait for a signal; raises `ProgramFailed` when a program ends before."""
        stop = asyncio.create_task(self._stop.wait())
        ended = [child.ended for child in self._children]
        await asyncio.wait([stop, *ended], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        with contextlib.suppress(StopAsked):
            await self._raise_if_over()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _spawn(self, program: Program) -> _Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "spendgate.cli.tied_child", str(os.getpid()), program.module, *program.arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**program.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        assert process.stdout is not None  # noqa: S101 - asked for above
        log = asyncio.create_task(self._read_log(program.name, process.stdout, last_lines))
        return _Child(program, process, asyncio.create_task(process.wait()), log, last_lines)

    async def _read_log(self, name: str, stream: asyncio.StreamReader, last_lines: deque[str]) -> None:
        unfinished = b""
        while chunk := await stream.read(65_536):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                self._log(name, line, last_lines)
        if unfinished:
            self._log(name, unfinished, last_lines)

    def _log(self, name: str, line: bytes, last_lines: deque[str]) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            last_lines.append(text)
            self._log_line(name, text)

    async def _raise_if_over(self) -> None:
        # A signal goes first: programs that end after it did not fail.
        if self._stop.is_set():
            raise StopAsked
        for child in self._children:
            if child.ended.done():
                await child.log
                said = "".join(f"\n  {line}" for line in child.last_lines) or " without a word"
                raise ProgramFailed(
                    f"{child.program.title} ended with {_ending(child.ended.result())}:{said}"
                )

    async def _end(self, child: _Child) -> None:
        if not child.ended.done():
            child.process.terminate()
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait(
                [child.ended, hurry], timeout=self._stop_limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            hurry.cancel()
        if not child.ended.done():
            self._log_line(child.program.name, "did not stop in time and is killed")
            child.process.kill()
        await child.ended
        await child.log


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
