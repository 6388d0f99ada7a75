"""Tells many histories on a private Redis, and makes the first that breaks a promise short enough to read."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from policy_server.embedded_redis import redis_server
from tests.processes import temporary_folder
from tests.simulation import history
from tests.simulation.history import Line, Wanted
from tests.simulation.invariants import Violation, check
from tests.simulation.redis_link import Store

_SHORTER_TRIES_MAX = 400


@contextlib.contextmanager
def private_store() -> Iterator[Store]:
    """A Redis for histories alone, in memory: losing power is not what they are about."""
    with temporary_folder() as folder:
        settings = ["--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)]
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [redis_server(), *settings, "--save", "", "--appendonly", "no"], stdout=log, stderr=log
            )
        try:
            _wait_for(folder / "redis.sock")
            store = Store(str(folder / "redis.sock"))
            yield store
            store.close()
        finally:
            child.kill()
            child.wait()


def _wait_for(path: Path) -> None:
    for _ in range(2000):
        if path.is_socket():
            return
        time.sleep(0.01)
    raise TimeoutError(f"{path} never appeared")


@dataclass(frozen=True)
class Told:
    """A history that was told."""

    wanted: Wanted
    broken: str
    """Which promise it broke and how, or what kept it from its end; empty when every promise held."""
    timeline: tuple[Line, ...]
    faults: tuple[str, ...]
    agents: tuple[int, ...]

    @property
    def promise(self) -> str:
        """The promise that it broke."""
        return self.broken.partition(":")[0]

    def text(self) -> str:
        """What happened, and the command that makes it happen again."""
        lines = [f"{line.at_s:10.4f} s  {line.who:<24} {line.what}" for line in self.timeline]
        again = f"make simulate SEED={self.wanted.seed}"
        if self.wanted.faults is not None:
            again += f" FAULTS={','.join(sorted(self.wanted.faults)) or 'none'}"
        if self.wanted.agents is not None:
            again += f" AGENTS={','.join(str(number) for number in sorted(self.wanted.agents))}"
        outcome = f"broken: {self.broken}" if self.broken else "every promise held"
        return "\n".join([*lines, "", outcome, f"again:  {again}"])


def tell(wanted: Wanted, store: Store) -> Told:
    """Tell one history."""
    worlds: list[history.World] = []
    broken = ""
    try:
        history.tell(wanted, store, check, worlds.append)
    except Violation as violation:
        broken = str(violation)
    except Exception as error:  # what nobody foresaw is a finding too
        broken = f"{type(error).__name__}: {error}"
    (world,) = worlds
    agents = tuple(int(agent.name.rpartition("-")[2]) for agent in world.agents)
    return Told(wanted, broken, tuple(world.timeline), tuple(world.faults.happened), agents)


def first_broken(seeds: Iterable[int], store: Store) -> Told | None:
    """Tell histories until one breaks a promise."""
    return next((told for told in (tell(Wanted(seed), store) for seed in seeds) if told.broken), None)


def shorter(told: Told, store: Store) -> Told:
    """Leave out agents and faults as long as the same promise is broken."""
    tries = 0

    def still(wanted: Wanted) -> Told | None:
        nonlocal tries
        tries += 1
        other = tell(wanted, store)
        return other if other.promise == told.promise else None

    for number in told.agents:
        fewer = frozenset(told.agents) - {number}
        if fewer:
            told = still(dataclasses.replace(told.wanted, agents=fewer)) or told
    kept = list(told.faults)
    size = max(1, len(kept))
    while size and tries < _SHORTER_TRIES_MAX:
        at = 0
        while at < len(kept) and tries < _SHORTER_TRIES_MAX:
            fewer_faults = frozenset(kept[:at] + kept[at + size :])
            found = still(dataclasses.replace(told.wanted, faults=fewer_faults))
            if found is None:
                at += size
            else:
                told, kept = found, list(found.faults)
        size //= 2
    return told
