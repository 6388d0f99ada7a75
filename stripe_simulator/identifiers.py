"""Object ids: the prefix says what it is, the digits which one in order, and the tail is random."""

import itertools
import random


class Identifiers:
    """Mints ids such as `ch_00000007a81f30c4d9be`, counting each prefix separately.

    With a `seed` the same ids come in the same order every time.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._counters: dict[str, itertools.count[int]] = {}
        self._random = random.Random(seed)
        self._movements = itertools.count(1)

    def new(self, prefix: str) -> str:
        counter = self._counters.get(prefix)
        if counter is None:
            counter = self._counters[prefix] = itertools.count(1)
        return f"{prefix}_{next(counter):08d}{self._random.getrandbits(48):012x}"

    def next_movement(self) -> int:
        """Numbers the movements of money over all accounts."""
        return next(self._movements)
