"""The command line of the simulation."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterable

from tests.simulation.history import Wanted
from tests.simulation.telling import Told, first_broken, private_ground, shorter, tell


def main() -> int:
    """Tell histories; return 1 when one of them breaks a promise."""
    asked = _arguments()
    if asked.seed is not None:
        wanted = Wanted(asked.seed, _names(asked.faults), _numbers(asked.agents))
        with private_ground() as ground:
            told = tell(wanted, ground)
            if asked.shorter and told.broken:
                told = shorter(told, ground)
        if told.broken or asked.show:
            print(told.text())
        return int(bool(told.broken))
    return _tell_many(range(asked.first, asked.first + asked.seeds), asked.jobs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description="Tells seeded histories in which anything may break, and checks each promise after it.",
    )
    parser.add_argument("--seed", type=int, help="tell this history only, and show it when it fails")
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories to tell; 1000 by default")
    parser.add_argument(
        "--first", type=int, default=0, metavar="SEED", help="the first of them; 0 by default"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many at once; 1 by default")
    parser.add_argument(
        "--faults", help="with --seed: let only these happen, such as redis#3,stripe#1; or none"
    )
    parser.add_argument("--agents", help="with --seed: only these take part, such as 1,3")
    parser.add_argument("--show", action="store_true", help="with --seed: show it even if every promise held")
    parser.add_argument(
        "--shorter", action="store_true", help="with --seed: leave out what it needs not to fail"
    )
    return parser.parse_args()


def _names(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    return frozenset() if text == "none" else frozenset(text.split(","))


def _numbers(text: str | None) -> frozenset[int] | None:
    return None if text is None else frozenset(int(number) for number in text.split(","))


def _tell_many(seeds: range, jobs: int) -> int:
    begun = time.monotonic()
    shares = [seeds[at : at + 50] for at in range(0, len(seeds), 50)]
    broken: list[Told] = []
    done = 0
    with multiprocessing.Pool(jobs) as pool:
        for share, failure in zip(shares, pool.imap(_tell_share, shares), strict=True):
            if failure is not None:
                broken.append(failure)
                break
            done += len(share)
            if done % 500 == 0:
                print(f"{done} histories, every promise held", flush=True)
    took_s = time.monotonic() - begun
    if broken:
        print(broken[0].text())
        return 1
    print(f"{done} histories from seed {seeds.start} in {took_s:.0f} s: every promise held in each")
    return 0


def _tell_share(seeds: Iterable[int]) -> Told | None:
    with private_ground() as ground:
        failure = first_broken(seeds, ground)
        return shorter(failure, ground) if failure else None
