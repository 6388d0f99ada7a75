"""Promises that others broke, each through the whole of Spendgate: see docs/guarantees.md."""

from __future__ import annotations

from tests.stack import CHARGE, Stack, cap


def test_a_hold_is_the_whole_amount_or_none(stack: Stack) -> None:
    """With $5 left, a charge of $10 is refused and not sent, and holds nothing; one of $5 passes."""
    key = stack.key(caps=[cap(10_000)])
    agent = stack.agent(key, "run-1")
    assert agent.post("/charges", data={**CHARGE, "amount": "9500"}).status_code == 200
    refused = agent.post(
        "/charges", data={**CHARGE, "amount": "1000"}, headers={"Spendgate-Step": "too much"}
    )
    assert (refused.status_code, refused.json()["error"]["spendgate"]["remaining"]) == (429, 500)
    assert len(stack.simulator.posts()) == 1
    stack.settled(key, 9_500)
    fits = agent.post("/charges", data={**CHARGE, "amount": "500"}, headers={"Spendgate-Step": "fits"})
    assert fits.status_code == 200
    stack.settled(key, 10_000)
    assert stack.simulator.committed == 10_000


def test_one_name_stands_for_one_call(stack: Stack) -> None:
    """Another amount under the same step is refused and not sent; another step is another charge."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    named = {"Spendgate-Step": "pay the hotel"}
    first = agent.post("/charges", data={**CHARGE, "amount": "1000"}, headers=named)
    other = agent.post("/charges", data={**CHARGE, "amount": "2000"}, headers=named)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    assert len(stack.simulator.posts()) == 1
    second = agent.post(
        "/charges", data={**CHARGE, "amount": "1000"}, headers={"Spendgate-Step": "pay the taxi"}
    )
    assert first.json()["id"] != second.json()["id"]
    stack.settled(key, 2_000)
    assert stack.simulator.committed == 2_000


def test_an_amount_is_the_same_number_everywhere(stack: Stack) -> None:
    """A charge of $19.99 on a cap of $50 is 1999 of 5000 in header, counter, audit trail and at Stripe."""
    key = stack.key(caps=[cap(5_000)])
    answer = stack.agent(key, "run-1").post("/charges", data={**CHARGE, "amount": "1999", "currency": "USD"})
    assert answer.json()["amount"] == 1_999
    assert answer.headers["spendgate-remaining"] == "3001"
    stack.settled(key, 1_999)
    assert stack.usage(key).limit == 5_000
    _, decision, settlement = stack.events(key)
    assert (decision.amount.minor_units, decision.amount.currency_code) == (1_999, "USD")
    assert settlement.settled_amount.minor_units == 1_999
    assert stack.simulator.committed == 1_999


def test_yen_have_no_cents(stack: Stack) -> None:
    """1000 JPY are 1000, against a cap in yen and against none in dollars."""
    key = stack.key(caps=[cap(1_500, currency="JPY"), cap(100)])
    agent = stack.agent(key, "run-1")
    yen = {**CHARGE, "amount": "1000", "currency": "jpy"}
    assert agent.post("/charges", data=yen).headers["spendgate-remaining"] == "500"
    assert agent.post("/charges", data=yen, headers={"Spendgate-Step": "2"}).status_code == 429
    assert len(stack.simulator.posts()) == 1
