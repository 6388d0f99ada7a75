"""What goes wrong in a history, and where: drawn from the seed, point by point.

Each place where something may break numbers the times it is passed: ``redis#17`` is the 17th round trip to
Redis. What is drawn there depends on the seed and that name alone, so taking one fault out of a history
leaves the others where they were.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

REDIS = (
    "lose the request", "lose the reply", "send late", "answer late", "cut the batch", "out of memory",
    "read-only replica", "busy", "forget the scripts", "disk full", "restart", "kill the server before",
    "kill the server after",
)  # fmt: skip
POLICY = (
    "lose the request", "swallow the request", "lose the reply", "swallow the reply", "send late",
    "answer late", "deliver twice", "kill the server before", "kill the server after", "kill the sidecar",
)  # fmt: skip
STRIPE = (
    "refuse the connection", "swallow the request", "lose the reply", "send late", "answer late",
    "fail before", "fail after", "deliver twice", "kill the sidecar before", "kill the sidecar after",
)  # fmt: skip
AGENT = ("lose the request", "lose the reply", "send late", "answer late", "deliver twice", "hang up")
WORLD = (
    "kill a sidecar", "kill a server", "stop a sidecar", "stop a server",
    "move the store's clock", "move a server's clock", "let hours pass",
    "change a cap", "freeze", "revoke", "let runs go on", "flush the store", "set the store back",
)  # fmt: skip

DRAINER = (
    "kill before", "kill after", "fail before", "fail after", "another drains before", "another drains after",
)  # fmt: skip
ARCHIVE = ("fail", "answer late")

EVERY: Mapping[str, tuple[str, ...]] = {
    "redis": REDIS, "policy": POLICY, "stripe": STRIPE, "agent": AGENT, "drainer": DRAINER,
    "archive": ARCHIVE, "world": WORLD,
}  # fmt: skip

UNUSUAL = frozenset({"restart"})
"""What happens only where a history asks for it."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    kind: str
    chance: random.Random = field(compare=False, repr=False)
    """For what else has to be drawn about it, such as how long."""


class Faults:
    """Draws what goes wrong in one history."""

    def __init__(
        self,
        seed: int,
        *,
        tell: Callable[[str, str], None],
        only: Collection[str] | None = None,
        unusual: Collection[str] = (),
    ) -> None:
        """With ``only``, none but the faults of these names happen."""
        self._seed = seed
        self._only = only
        self._tell = tell
        self._passed: Counter[str] = Counter()
        self.healed = True
        """Whether nothing goes wrong any more, or not yet."""
        self.happened: list[str] = []
        chance = random.Random(f"{seed} faults")
        # Where everything may break at once, hardly anything gets anywhere: each history draws some kinds.
        self.rate = chance.choice([0.0, 0.03, 0.06, 0.12, 0.25])
        share = chance.choice([0.15, 0.5])
        self._kinds: dict[str, list[str]] = {}
        for point, kinds in EVERY.items():
            spared = chance.random() < 0.3
            drawn = [kind for kind in kinds if chance.random() < share and kind not in UNUSUAL and not spared]
            self._kinds[point] = drawn + [kind for kind in kinds if kind in unusual]

    def draw(self, point: str, rate: float | None = None) -> Fault | None:
        """Say what goes wrong here, this time; mostly nothing."""
        if self.healed:
            return None
        self._passed[point] += 1
        kinds = self._kinds[point]
        name = f"{point}#{self._passed[point]}"
        if not kinds or (self._only is not None and name not in self._only):
            return None
        chance = random.Random(f"{self._seed} {name}")
        if chance.random() >= (self.rate if rate is None else rate):
            return None
        fault = Fault(name, chance.choice(kinds), chance)
        self.happened.append(name)
        self._tell(name, fault.kind)
        return fault
