"""An event loop whose time is made up and whose order is drawn from a seed.

What is ready in one simulated process runs in the order in which it became ready, as asyncio promises; which
process goes on next is drawn. Time passes only when nothing is ready. A process that is killed never runs
again: not even what its code would do on its way out.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

_OWNER: ContextVar[SimulatedProcess | None] = ContextVar("owner", default=None)

STEPS_MAX = 400_000
"""A history with more steps than this does not end."""


class NeverEnds(Exception):
    """Nothing is left to do, or there is always more: somebody waits for what can't come."""


class SimulatedProcess:
    """What dies together. Everything started in its context belongs to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.context = copy_context()
        self.context.run(_OWNER.set, self)
        self.when_killed: list[Callable[[], None]] = []
        """What others notice, such as connections that break."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` as part of this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def kill(self) -> None:
        """Never run anything of it again."""
        self.alive = False
        for notice in self.when_killed:
            notice()


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one history."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._now = 0.0
        self._choose = random.Random(f"{seed} order").random
        self._queues: dict[SimulatedProcess | None, deque[asyncio.Handle]] = {}
        self._steps = 0
        self._over = False
        self._outside = copy_context()
        self._tasks: list[asyncio.Task[Any]] = []
        """All of them, so that those of the dead are not collected while the others live."""
        self.set_task_factory(self._keep_task)
        self._failed: BaseException | None = None
        self.set_exception_handler(self._note_failure)

    def time(self) -> float:
        """The made-up time, in seconds since the history began."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let so much time pass at one go; whoever waits for a moment in it goes on at its end."""
        self._now += seconds

    def _note_failure(self, loop: Any, context: dict[str, Any]) -> None:
        if "handle" in context:  # a callback failed, of a program or of the simulation itself
            self._failed = self._failed or context["exception"]

    def _keep_task(self, loop: Any, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, context=context)
        self._tasks.append(task)
        return task

    def later(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Act in so many seconds as nobody's process: the network, or whoever starts and kills."""
        return self.call_later(delay_s, act, *arguments, context=self._outside)

    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def _enqueue(self, handle: Any) -> None:
        owner = handle._context.get(_OWNER)
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = deque()
        queue.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are left where they are and skipped."""

    def _run_once(self) -> None:
        if self._failed is not None and not self._over:
            raise self._failed
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise NeverEnds(f"after {STEPS_MAX} steps there is still more to do")
        queue = self._next_queue()
        while queue is None:
            self._pass_time()
            queue = self._next_queue()
        handle = queue.popleft()
        if not handle._cancelled:  # type: ignore[attr-defined]
            handle._run()

    def _next_queue(self) -> deque[asyncio.Handle] | None:
        owners = []
        for owner, queue in self._queues.items():
            if queue and (owner is None or owner.alive or self._over):
                owners.append(queue)
        if not owners:
            return None
        return owners[int(self._choose() * len(owners))] if len(owners) > 1 else owners[0]

    def _pass_time(self) -> None:
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise NeverEnds("everybody waits for what nobody will do")
        self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                self._enqueue(timer)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """There is one thread only."""
        return self.call_soon(callback, *args, context=context)

    def end(self) -> None:
        """Cancel everything that still waits, also what the dead left behind, and close."""
        self._over, self._steps, self._failed = True, 0, None
        with contextlib.suppress(Exception):  # what code on its way out still wants is of no interest
            for _ in range(3):
                waiting = [task for task in self._tasks if not task.done()]
                if not waiting:
                    break
                for task in waiting:
                    task.cancel()
                self.run_until_complete(asyncio.wait(waiting, timeout=100))
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # taken note of: whoever waited for it is gone
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._queues.clear()
        self._tasks.clear()
        self.close()

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Whoever reads from a generator that is dropped is dropped too."""

    def _process_events(self, event_list: Any) -> None:
        """No file is ever waited for."""
