"""Proves in an agent's own test-suite that it stays governed. Needs ``spendgate[pytest]``.

`EnforcementSuite` has ready-made checks; the fixtures ``spendgate`` and
``spendgate_key`` are for tests of your own.
"""

from spendgate.testing.harness import Harness
from spendgate.testing.seat import Seat
from spendgate.testing.simulated_stripe import SimulatedStripe
from spendgate.testing.suite import EnforcementSuite

__all__ = ["EnforcementSuite", "Harness", "Seat", "SimulatedStripe"]
