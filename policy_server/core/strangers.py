"""Which refusals of strangers are recorded one by one, and how many are only counted.

A stranger is a caller whose vault key does not open anything, or whom the
sidecar refused before its key was checked. Anybody can be refused any number of
times, also under the id of somebody else's key; without a limit that would fill
the audit trail. Calls that are let through, and refusals of keys that work,
never come here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

_SOURCES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then one after each stretch of time."""

    burst: int
    one_per_ms: int


PER_KEY = Rate(500, 10_000)
"""For one claimed vault key; callers with keys that do not exist share one."""

OVERALL = Rate(5_000, 1_000)
"""For all together at one policy server: at most 86,400 a day, some 40 MB."""


class _Bucket:
    def __init__(self, rate: Rate, now_ms: int) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._since_ms = now_ms

    def take(self, now_ms: int) -> bool:
        """Take one, if there is one."""
        gained = max(0, now_ms - self._since_ms) / self._rate.one_per_ms
        self._left = min(self._rate.burst, self._left + gained)
        self._since_ms = now_ms
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Strangers:
    """Says which of their refusals are recorded singly, and counts the others by account."""

    def __init__(self, now: Callable[[], int], *, per_key: Rate = PER_KEY, overall: Rate = OVERALL) -> None:
        self._now = now
        self._per_key = per_key
        self._overall = _Bucket(overall, now())
        self._keys: dict[str, _Bucket] = {}
        self._counted: Counter[str] = Counter()

    def are_recorded(self, account: str, vault_key_id: str) -> bool:
        """Tell whether one more refusal is recorded singly; count it when it is not.

        ``vault_key_id`` is that of an existing key, as claimed; empty when there is none.
        """
        now_ms = self._now()
        bucket = self._keys.get(vault_key_id)
        if bucket is None:
            if len(self._keys) >= _SOURCES_MAX:
                self._keys.pop(next(iter(self._keys)))
            bucket = self._keys[vault_key_id] = _Bucket(self._per_key, now_ms)
        if bucket.take(now_ms) and self._overall.take(now_ms):
            return True
        self._counted[account] += 1
        return False

    def take_counted(self) -> Counter[str]:
        """Return how many were only counted since the last time, by account."""
        counted, self._counted = self._counted, Counter()
        return counted

    def put_back(self, counted: Counter[str]) -> None:
        """Count what could not be told after all."""
        self._counted.update(counted)
