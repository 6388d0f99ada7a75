"""What the simulator says of its balance and its limits, as Stripe does."""

from __future__ import annotations

import pytest
import stripe

from tests.simulator import CHARGE, Simulator


def test_the_balance_names_the_charge_and_the_refund_that_moved_it(simulator: Simulator) -> None:
    """Also for an intent, whose charge is the source; newest first."""
    charge = simulator.post("/v1/charges", CHARGE).json()
    intent = simulator.stripe.payment_intents.create(
        {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    )
    refund = simulator.post("/v1/refunds", {"charge": charge["id"], "amount": "700"}).json()
    booked = simulator.get("/v1/balance_transactions")["data"]
    assert [(one["type"], one["amount"], one["source"]) for one in booked] == [
        ("refund", -700, refund["id"]),
        ("charge", 500, intent["latest_charge"]),
        ("charge", 2000, charge["id"]),
    ]
    one = simulator.get(f"/v1/balance_transactions?source={refund['id']}")["data"]
    assert [entry["id"] for entry in one] == [booked[0]["id"]]
    assert simulator.get(f"/v1/balance_transactions/{booked[0]['id']}") == booked[0]


def test_a_rate_limit_keeps_nothing_under_the_key_and_may_say_how_long(simulator: Simulator) -> None:
    """It stands before the memory of keys, so the same key is executed afterwards."""
    simulator.fault("rate_limit", seconds=3, match={"method": "POST"})
    refused = simulator.post("/v1/charges", CHARGE, key="k")
    assert refused.status_code == 429
    assert (refused.headers["Retry-After"], refused.headers["Stripe-Rate-Limited-Reason"]) == (
        "3",
        "global-rate",
    )
    assert simulator.post("/v1/charges", CHARGE, key="k").status_code == 200
    simulator.fault("rate_limit")
    with pytest.raises(stripe.RateLimitError):
        simulator.stripe.charges.create(CHARGE)
