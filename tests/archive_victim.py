"""A drainer that kills itself between two steps, as a power cut would: `python -m tests.archive_victim`.

The program is the drainer itself; only its ports are wrapped.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

from policy_server import drainer


class Deadly:
    """Passes every call on, and now and then kills the process before or after it."""

    def __init__(self, inner: Any, steps: set[str], chance: random.Random) -> None:
        self._inner = inner
        self._steps = steps
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        return self._wrapped(inner) if name in self._steps else inner

    def _wrapped(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            self._perhaps_die()
            result = inner(*arguments, **options)
            self._perhaps_die()
            return result

        return step

    def _perhaps_die(self) -> None:
        if self._chance.random() < 0.1:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Drain as the drainer does, without waiting for its turn, until it dies."""
    chance = random.Random(int(sys.argv[1]))
    drain = drainer.Drain(drainer.DrainerSettings.model_validate({}))
    inner = drain._drainer
    inner._backlog = Deadly(inner._backlog, {"look", "mark", "trim"}, chance)
    inner._writer = Deadly(inner._writer, {"tip", "append"}, chance)
    drain._backlog = Deadly(drain._backlog, set(), chance)
    drain._backlog.take_turn = lambda who: True
    drain._database.migrate()
    while True:
        drain._round()


if __name__ == "__main__":
    main()
