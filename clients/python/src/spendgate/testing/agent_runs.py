"""Runs an agent, sync or async, and says how each run ended."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from spendgate.testing import leaks
from spendgate.testing.seat import Seat

Agent = Callable[[Seat], Any]
_LOOK_EVERY_S = 0.02


@dataclass(eq=False)
class AgentRun:
    """One run and its end."""

    seat: Seat
    returned: Any = None
    error: BaseException | None = None
    ended: bool = False

    def end(self) -> str:
        """Tell how it ended."""
        if not self.ended:
            return f"{self.seat.run_id} did not end"
        if self.error is not None:
            return f"{self.seat.run_id} raised {type(self.error).__name__}: {_short(str(self.error))}"
        return f"{self.seat.run_id} returned {_short(repr(self.returned))}"


def run_all(agent: Agent, seats: Sequence[Seat], limit_s: float) -> list[AgentRun]:
    """Run the agent in every seat, all at once, for at most ``limit_s`` seconds.

    A coroutine function runs in one event loop, any other in threads. What a
    test says from within, such as `pytest.skip`, is said.
    """
    runs = [AgentRun(seat) for seat in seats]
    if inspect.iscoroutinefunction(agent):
        threads = [_started(lambda: asyncio.run(_together(agent, runs, limit_s)))]
        # The runs are cancelled at the limit; this is for those that do not let themselves be.
        limit_s += 10
    else:
        threads = [_started(functools.partial(_run, agent, run)) for run in runs]
    for thread in threads:
        thread.join(limit_s)
    for run in runs:
        if isinstance(run.error, pytest.skip.Exception | pytest.fail.Exception | pytest.xfail.Exception):
            raise run.error
    return runs


def cancel_once(agent: Agent, seat: Seat, started: Callable[[], bool], limit_s: float) -> AgentRun:
    """Run an async agent, and cancel it as soon as ``started`` says yes."""
    run = AgentRun(seat)

    async def main() -> None:
        task = asyncio.ensure_future(_awaited(agent, run))
        while not task.done() and not await asyncio.to_thread(started):  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(_LOOK_EVERY_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    _started(lambda: asyncio.run(asyncio.wait_for(main(), limit_s))).join(limit_s + 10)
    return run


def _started(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, name="agent under test", daemon=True)
    thread.start()
    return thread


def _run(agent: Agent, run: AgentRun) -> None:
    try:
        returned = agent(run.seat)
        if inspect.isawaitable(returned):
            returned = asyncio.run(_result(returned))
        run.returned = returned
    except BaseException as error:
        run.error = error
    run.ended = True


async def _together(agent: Agent, runs: Sequence[AgentRun], limit_s: float) -> None:
    async def one(run: AgentRun) -> None:
        try:
            await asyncio.wait_for(_awaited(agent, run), limit_s)
        except TimeoutError:
            run.ended = False

    await asyncio.gather(*map(one, runs))


async def _awaited(agent: Agent, run: AgentRun) -> None:
    try:
        run.returned = await agent(run.seat)
    except asyncio.CancelledError as cancelled:
        run.error, run.ended = cancelled, True
        raise
    except BaseException as error:
        run.error = error
    run.ended = True


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _short(text: str) -> str:
    flat = leaks.without_keys(" ".join(text.split()))
    return flat if len(flat) <= 160 else f"{flat[:159]}…"
