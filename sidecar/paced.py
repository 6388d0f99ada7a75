"""Reads from a vendor without getting in the way of the agents' calls."""

from __future__ import annotations

import asyncio
import random
import re

from sidecar.exchange import Answer, Forward
from sidecar.upstream import NoAnswer, NotSent, Upstream
from sidecar.vendor import CannotLook

_TRIES = 5
_BACK_OFF_FIRST_S = 1.0
_BACK_OFF_MAX_S = 60.0
_SECONDS = re.compile(r"[0-9]{1,4}")


class PacedReads:
    """Sends reads one after the other, at most so many a second, and waits when the vendor says so."""

    def __init__(self, upstream: Upstream, *, per_second: float) -> None:
        """``per_second`` is a share of what the vendor allows; the agents need the rest."""
        self._upstream = upstream
        self._gap_s = 1 / per_second
        self._next_at = 0.0
        self._one_at_a_time = asyncio.Lock()
        self.sent = 0
        """How many requests were sent."""

    async def look(self, forward: Forward) -> Answer:
        """Return the vendor's answer to a read; raise `CannotLook` when there is none that says anything."""
        async with self._one_at_a_time:
            for attempt in range(1, _TRIES + 1):
                await self._turn()
                answer, problem = await self._try(forward)
                if answer is not None and not problem:
                    return _readable(forward, answer)
                if attempt < _TRIES:
                    await asyncio.sleep(_back_off_s(attempt, answer))
            raise CannotLook(problem)

    async def _try(self, forward: Forward) -> tuple[Answer | None, str]:
        """Return the answer, if any, and why another try may say more."""
        try:
            answer = await self._upstream.send(forward)
        except (NotSent, NoAnswer) as error:
            return None, str(error)
        busy = answer.status == 429 or answer.status >= 500
        return answer, f"it answers {answer.status} again and again" if busy else ""

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = self._next_at - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._next_at = loop.time() + self._gap_s
        self.sent += 1


def _back_off_s(attempt: int, answer: Answer | None) -> float:
    """Return how long to wait: what the vendor asks for, or twice as long each time."""
    asked = answer.header(b"retry-after") if answer else ""
    if _SECONDS.fullmatch(asked):
        return min(float(asked), _BACK_OFF_MAX_S)
    longest = min(_BACK_OFF_FIRST_S * 2.0 ** (attempt - 1), _BACK_OFF_MAX_S)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - so that sidecars do not come back together


def _readable(forward: Forward, answer: Answer) -> Answer:
    path = forward.target.partition("?")[0]
    if answer.status in {401, 403}:
        raise CannotLook(
            f"the key may not read GET {path} ({answer.status}): give it read permission for events and for "
            "the objects that agents make"
        )
    return answer
