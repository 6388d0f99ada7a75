"""The enforcement suite, pointed at the governed twins: it passes."""

from __future__ import annotations

import retried_charge_governed
import shared_key_governed
import validation_loop_governed
from models import calls

from spendgate.pydantic_ai import VaultDeps
from spendgate.testing import EnforcementSuite, Seat


def vault(seat: Seat) -> VaultDeps:
    """What a run is given: the customer is fixed, so that the model neither sees nor chooses it."""
    return VaultDeps(seat.vault_key, seat.run_id, sidecar=seat.sidecar, fixed={"customer": seat.customer})


class TestRetriedCharge(EnforcementSuite):
    def run_agent(self, seat: Seat) -> list[str]:
        return retried_charge_governed.bill(
            seat.customer, vault_key=seat.vault_key, run_id=seat.run_id, sidecar=seat.sidecar
        )


class TestSharedKey(EnforcementSuite):
    async def run_agent(self, seat: Seat) -> bytes:
        if seat.task == "refund":
            model = calls("refund", charge=seat.charge)
        else:
            model = calls("charge", amount=1900, currency="usd")
        return await shared_key_governed.bill("Do your work.", model=model, vault=vault(seat))


class TestValidationLoop(EnforcementSuite):
    async def run_agent(self, seat: Seat) -> bytes:
        deps = validation_loop_governed.Deps(vault(seat), lambda _answer: not seat.sends_back())
        model = calls("charge", amount=1900, currency="usd")
        return await validation_loop_governed.bill("Bill 19 USD.", model=model, deps=deps)
