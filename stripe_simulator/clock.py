"""The simulator's own clock: real time plus an offset that a test may move."""

import math
import time


class Clock:
    """Unix time in whole seconds. It runs with the machine's clock until a test moves it."""

    def __init__(self) -> None:
        self._offset_seconds: float = 0.0

    def now(self) -> int:
        """The current simulated time, in whole unix seconds."""
        return math.floor(time.time() + self._offset_seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock by this many seconds."""
        self._offset_seconds += seconds

    def set(self, unix_seconds: float) -> None:
        """Make it this unix time now; the clock keeps running from there."""
        self._offset_seconds = unix_seconds - time.time()

    def reset(self) -> None:
        """Return to the machine's time."""
        self._offset_seconds = 0.0
