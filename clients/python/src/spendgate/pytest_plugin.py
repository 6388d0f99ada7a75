"""The pytest plugin: a real Spendgate for the tests of an agent. Needs ``spendgate[pytest]``.

pytest loads it in every session, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spendgate.testing.harness import Harness
    from spendgate.vault_key import VaultKey


@pytest.fixture(scope="session")
def spendgate_session() -> Iterator[Harness]:
    """A Spendgate with a simulated Stripe, on free ports, for the whole session."""
    from spendgate.testing.embedded import EmbeddedSpendgate  # noqa: PLC0415 - see above
    from spendgate.testing.harness import Harness  # noqa: PLC0415

    embedded = EmbeddedSpendgate()
    harness = Harness(embedded.start())
    yield harness
    harness.close()
    embedded.stop()


@pytest.fixture
def spendgate(spendgate_session: Harness) -> Harness:
    """Spendgate for one test: the simulated Stripe knows nothing yet, and nothing is on record."""
    spendgate_session.reset()
    return spendgate_session


@pytest.fixture
def spendgate_key(spendgate: Harness) -> Callable[..., VaultKey]:
    """Makes fresh vault keys: ``spendgate_key(allow=["POST /v1/charges"], caps=["usd 100.00/day"])``."""
    return spendgate.key
