"""Tells many histories on a private Redis, and makes the first that breaks a promise short enough to read."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from redis.exceptions import RedisError

from policy_server.embedded_redis import redis_server
from tests.processes import temporary_folder
from tests.simulation import history
from tests.simulation.archive_link import ArchiveFile
from tests.simulation.history import Line, Wanted
from tests.simulation.invariants import Violation, check
from tests.simulation.redis_link import Store

_SHORTER_TRIES_MAX = 400


@dataclass(frozen=True)
class Ground:
    """What is real in every history, one after the other."""

    store: Store
    archive: ArchiveFile


@contextlib.contextmanager
def private_ground(*, durable: bool = False) -> Iterator[Ground]:
    """A Redis and an archive for histories alone.

    The Redis keeps everything in memory, unless it is to be ``durable``: then it writes every change to disk
    before it answers, as Spendgate wants it, and can be killed and started again.
    """
    with temporary_folder() as folder, contextlib.ExitStack() as running:
        path = folder / "redis.sock"
        keeps = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        settings = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", *keeps]
        log = running.enter_context((folder / "log").open("wb"))
        store = Store(str(path))

        def start() -> subprocess.Popen[bytes]:
            path.unlink(missing_ok=True)
            child = subprocess.Popen([redis_server(), *settings], stdout=log, stderr=log)
            _wait_until_ready(store)
            return child

        def restart() -> None:
            nonlocal child
            store.close()
            child.kill()
            child.wait()
            child = start()

        child = start()
        store.restart = restart
        archive = ArchiveFile(folder, f"unix://{path}")
        try:
            yield Ground(store, archive)
        finally:
            archive.close()
            store.close()
            child.kill()
            child.wait()


def _wait_until_ready(store: Store) -> None:
    for _ in range(2000):
        try:
            store.ask("PING")
        except (OSError, RedisError):  # it does not listen yet, or still reads what it wrote
            store.close()
            time.sleep(0.005)
        else:
            return
    raise TimeoutError("the private Redis never answered")


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


def tell(wanted: Wanted, ground: Ground) -> Told:
    """Tell one history."""
    worlds: list[history.World] = []
    broken = ""
    try:
        history.tell(wanted, ground.store, ground.archive, check, worlds.append)
    except Violation as violation:
        broken = str(violation)
    except Exception as error:  # what nobody foresaw is a finding too
        broken = f"{type(error).__name__}: {error}"
    (world,) = worlds
    agents = tuple(int(agent.name.rpartition("-")[2]) for agent in world.agents)
    return Told(wanted, broken, tuple(world.timeline), tuple(world.faults.happened), agents)


def first_broken(seeds: Iterable[int], ground: Ground) -> Told | None:
    """Tell histories until one breaks a promise."""
    return next((told for told in (tell(Wanted(seed), ground) for seed in seeds) if told.broken), None)


def shorter(told: Told, ground: Ground) -> Told:
    """Leave out agents and faults as long as the same promise is broken."""
    tries = 0

    def still(wanted: Wanted) -> Told | None:
        nonlocal tries
        tries += 1
        other = tell(wanted, ground)
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
