"""The enforcement suite, pointed at the naive agents: it fails, and says why. Run it to see."""

from __future__ import annotations

import retried_charge
import shared_key
import validation_loop
from models import calls

from spendgate.testing import EnforcementSuite, Seat

SECRET_KEY = "sk_test_51NaiveAgentsShareOneKey"
"""Opens the simulated Stripe."""


class TestRetriedCharge(EnforcementSuite):
    def run_agent(self, seat: Seat) -> list[str]:
        return retried_charge.bill(seat.customer, stripe=seat.simulator, secret_key=SECRET_KEY)


class TestSharedKey(EnforcementSuite):
    async def run_agent(self, seat: Seat) -> bytes:
        if seat.task == "refund":
            model = calls("stripe_post", path="/v1/refunds", form={"charge": seat.charge})
        else:
            form = {"amount": "1900", "currency": "usd", "customer": seat.customer}
            model = calls("stripe_post", path="/v1/charges", form=form)
        stripe = shared_key.Stripe(seat.simulator, SECRET_KEY)
        return await shared_key.bill("Do your work.", model=model, stripe=stripe)


class TestValidationLoop(EnforcementSuite):
    async def run_agent(self, seat: Seat) -> bytes:
        deps = validation_loop.Deps(
            seat.simulator, seat.customer, lambda _answer: not seat.sends_back(), SECRET_KEY
        )
        return await validation_loop.bill("Bill 19 USD.", model=calls("charge", amount=1900), deps=deps)
