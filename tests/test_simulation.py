"""Promises hold in seeded histories in which anything may break, and it would be noticed if they did not.

The histories are told by `tests/simulation/`; ``make simulate`` tells thousands.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.processes import REPOSITORY
from tests.simulation.history import Wanted
from tests.simulation.mutations import MUTATIONS
from tests.simulation.telling import Ground, first_broken, private_ground, shorter, tell

SEEDS = range(150)
SEEDS_FOR_A_MUTATION = range(300)

NOTICED_LATE = {
    "judges by an old policy": 142,
    "forgets when derived keys expire": 64,
    "counts in the window that the server's clock says": 58,
    "counts only what is settled": 40,
    "forgets deadlines in a rebuild": 39,
    "forgets objects in a rebuild": 39,
    "takes a time-out for not sent": 24,
    "lets calls pass in a frozen run": 20,
    "forgets the caps of derived keys": 20,
    "forgets the endpoints of derived keys": 18,
    "forgets the run of derived keys": 16,
    "forgets what is held in a rebuild": 14,
}
"""The first history that shows a rare mistake; it is told first, and saves time while it still shows it."""

SHOWN_ELSEWHERE = frozenset(
    {
        "repeats at Stripe what Stripe has forgotten",
        "believes a clock that was set forward",
        "takes what stands outside its search for absent",
        "stops with outcomes in its hands",
        "decides in another ledger",
        "decides in an older ledger",
        "takes another event for the one it knows",
        "trusts another Redis",
        "drops what only Redis still has in a rebuild",
        "lets two rebuilds mix",
    }
)
"""Mistakes that no history up to 70 or 140 shows, where ledgers are lost too: a plain test is for each."""


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A Redis and an archive for histories alone."""
    with private_ground() as ground:
        yield ground


@pytest.mark.timeout(300)
def test_every_promise_holds_whatever_breaks(ground: Ground) -> None:
    """In no history is a cap exceeded, a thing done twice or unrecorded, a count wrong, a hold forgotten."""
    broken = first_broken(SEEDS, ground)
    if broken is not None:
        pytest.fail(shorter(broken, ground).text(), pytrace=False)


@pytest.mark.timeout(300)
def test_every_promise_holds_when_redis_is_killed() -> None:
    """Killed between any two round trips, a Redis that writes before it answers has everything again."""
    killed = 0
    with private_ground(durable=True) as durable:
        for seed in range(12):
            told = tell(Wanted(seed, unusual=frozenset({"restart"})), durable)
            killed += sum(line.what == "restart" for line in told.timeline)
            assert not told.broken, told.text()
    assert killed > 12


def test_a_seed_tells_the_same_history_in_every_process(ground: Ground) -> None:
    """What is printed for a seed is the same, line by line, when Python hashes differently."""
    here = tell(Wanted(5), ground)
    assert len(here.faults) > 3
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "5", "--show"],
            cwd=REPOSITORY, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert there.stdout == here.text() + "\n"


@pytest.mark.parametrize("name", sorted(MUTATIONS.keys() - SHOWN_ELSEWHERE))
@pytest.mark.timeout(300)
def test_the_simulation_notices(name: str, ground: Ground) -> None:
    """A mistake in the code breaks a promise in one of the first histories."""
    with MUTATIONS[name]():
        late = NOTICED_LATE.get(name, 0)
        assert first_broken((late, *SEEDS_FOR_A_MUTATION), ground) is not None


@pytest.mark.timeout(300)
def test_a_broken_promise_can_be_told_again_with_less(ground: Ground) -> None:
    """What is left out changes nothing: the shorter history breaks the same promise every time."""
    with MUTATIONS["takes a time-out for not sent"]():
        broken = first_broken(SEEDS_FOR_A_MUTATION, ground)
        assert broken is not None
        short = shorter(broken, ground)
        again = tell(short.wanted, ground)
    assert short.promise == broken.promise
    assert len(short.faults) < len(broken.faults) / 2
    assert again == short
    assert f"make simulate SEED={short.wanted.seed} FAULTS=" in again.text()
