"""The simulator's own clock: real time plus an offset that a test may move."""

import math
import time
from collections.abc import Callable


class Clock:
    """Unix time in whole seconds. It runs with `source`, the machine's clock, until a test moves it."""

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset_seconds: float = 0.0

    def now(self) -> int:
        """The current simulated time, in whole unix seconds."""
        return math.floor(self._source() + self._offset_seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock by this many seconds."""
        self._offset_seconds += seconds

    def set(self, unix_seconds: float) -> None:
        """Make it this unix time now; the clock keeps running from there."""
        self._offset_seconds = unix_seconds - self._source()

    def reset(self) -> None:
        """Return to the time of its source."""
        self._offset_seconds = 0.0
