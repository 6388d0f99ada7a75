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
from tests.simulation.redis_link import Store
from tests.simulation.telling import first_broken, private_store, shorter, tell

SEEDS = range(200)
SEEDS_FOR_A_MUTATION = range(150)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A Redis for histories alone."""
    with private_store() as store:
        yield store


@pytest.mark.timeout(300)
def test_every_promise_holds_whatever_breaks(store: Store) -> None:
    """In no history is a cap exceeded, a thing done twice or unrecorded, a count wrong, a hold forgotten."""
    broken = first_broken(SEEDS, store)
    if broken is not None:
        pytest.fail(shorter(broken, store).text(), pytrace=False)


def test_a_seed_tells_the_same_history_in_every_process(store: Store) -> None:
    """What is printed for a seed is the same, line by line, when Python hashes differently."""
    here = tell(Wanted(5), store)
    assert len(here.faults) > 3
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "5", "--show"],
            cwd=REPOSITORY, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert there.stdout == here.text() + "\n"


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.timeout(300)
def test_the_simulation_notices(name: str, store: Store) -> None:
    """A mistake in the code breaks a promise in one of the first histories."""
    with MUTATIONS[name]():
        assert first_broken(SEEDS_FOR_A_MUTATION, store) is not None


@pytest.mark.timeout(300)
def test_a_broken_promise_can_be_told_again_with_less(store: Store) -> None:
    """What is left out changes nothing: the shorter history breaks the same promise every time."""
    with MUTATIONS["takes a time-out for not sent"]():
        broken = first_broken(SEEDS_FOR_A_MUTATION, store)
        assert broken is not None
        short = shorter(broken, store)
        again = tell(short.wanted, store)
    assert short.promise == broken.promise
    assert len(short.faults) <= len(broken.faults)
    assert len(short.faults) <= 4
    assert again == short
    assert f"make simulate SEED={short.wanted.seed} FAULTS=" in again.text()
