"""Saved methods and payments that are not decided at once, in the Stripe simulator."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.simulator import CHARGE, PAY, Simulator, error_of

CHARGE_BY = {"amount": "2000", "currency": "usd"}
BANK = {**PAY, "payment_method": "pm_usBankAccount", "confirm": True}


# --- payment methods and setup intents


def test_a_method_is_made_attached_charged_and_detached(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create().id
    made = simulator.stripe.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    simulator.stripe.payment_methods.attach(made.id, {"customer": customer})
    assert [one.id for one in simulator.stripe.payment_methods.list({"customer": customer}).data] == [made.id]
    assert simulator.stripe.customers.payment_methods.list(customer).data[0].id == made.id
    paid = simulator.stripe.payment_intents.create({**PAY, "customer": customer, "payment_method": made.id})
    assert simulator.stripe.payment_intents.confirm(paid.id).status == "succeeded"
    other = simulator.stripe.customers.create().id
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.payment_methods.attach(made.id, {"customer": other})
    for stranger in ({}, {"customer": other}):
        asked = {**CHARGE_BY, **stranger, "payment_method": made.id, "confirm": "true"}
        refused = simulator.post("/v1/payment_intents", asked)
        assert "belongs to a customer" in error_of(refused)["message"]
    assert simulator.stripe.payment_methods.detach(made.id).customer is None
    refused = simulator.post("/v1/payment_intents", {**CHARGE_BY, "payment_method": made.id})
    assert "was detached" in error_of(refused)["message"]


def test_a_refused_card_is_not_even_attached(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create().id
    with pytest.raises(stripe.CardError):
        simulator.stripe.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer})
    with pytest.raises(stripe.CardError):
        simulator.stripe.payment_methods.create({"type": "card", "card": {"number": "4242424242424241"}})
    assert simulator.stripe.payment_methods.list({"customer": customer}).data == []


def test_a_setup_saves_a_card_for_later(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create().id
    setup = simulator.stripe.setup_intents.create({"customer": customer})
    assert setup.status == "requires_payment_method"
    done = simulator.stripe.setup_intents.confirm(setup.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"
    assert simulator.stripe.payment_methods.retrieve(done.payment_method).customer == customer
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.setup_intents.cancel(setup.id)
    other = simulator.stripe.setup_intents.create({"payment_method": "pm_card_authenticationRequired"})
    assert simulator.stripe.setup_intents.confirm(other.id).status == "requires_action"
    assert simulator.resolve(other.id, "failed")["status"] == "requires_payment_method"
    assert simulator.stripe.setup_intents.cancel(other.id).status == "canceled"
    assert simulator.seen("money")["movements"] == []


# --- intents and charges that wait


def test_a_client_secret_lets_the_customer_pay_without_a_request(simulator: Simulator) -> None:
    intent = simulator.stripe.payment_intents.create({"amount": 2000, "currency": "usd"})
    assert simulator.money_of_last() == [("committed", "in", 2000, 2000)]
    simulator.stripe.payment_intents.update(intent.id, {"amount": 2500})
    assert simulator.money_of_last() == [("committed", "in", 500, 500)]
    paid = simulator.control("pay", {"id": intent.id})
    assert (paid["object"]["status"], paid["money"][0]["new"]) == ("succeeded", 0)
    other = simulator.stripe.payment_intents.create({"amount": 900, "currency": "usd"})
    simulator.stripe.payment_intents.cancel(other.id)
    assert simulator.money_of_last() == [("released", "in", 900, 0)]


def test_a_customer_authenticates_later_or_not(simulator: Simulator) -> None:
    asks = {**PAY, "payment_method": "pm_card_authenticationRequired", "confirm": True}
    waiting = simulator.stripe.payment_intents.create(asks)
    assert simulator.resolve(waiting.id, "succeeded")["status"] == "succeeded"
    other = simulator.stripe.payment_intents.create(asks)
    failed = simulator.resolve(other.id, "failed")
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2000


@pytest.mark.parametrize(
    ("outcome", "status", "charged"),
    [("succeeded", "succeeded", 2000), ("failed", "requires_payment_method", 0)],
)
def test_a_bank_debit_is_processing_until_it_is_decided(
    simulator: Simulator, outcome: str, status: str, charged: int
) -> None:
    made = simulator.stripe.payment_intents.create({**BANK, "expand": ["latest_charge"]})
    assert (made.status, made.amount_received) == ("processing", 0)
    assert (made.latest_charge.status, made.latest_charge.paid) == ("pending", False)
    assert simulator.money_of_last() == [("committed", "in", 2000, 2000)]
    assert simulator.seen("summary")["money"] == {}
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.refunds.create({"payment_intent": made.id})
    assert simulator.resolve(made.id, outcome)["status"] == status
    assert simulator.seen("summary")["money"].get("usd", {}).get("captured", 0) == charged
    again = simulator.raw.post("/_simulator/resolve", json={"id": made.id, "outcome": outcome})
    assert again.status_code == 400
    event = simulator.get(f"/v1/events?type=charge.{outcome}")["data"][0]
    assert event["request"] == {"id": None, "idempotency_key": None}


def test_a_bare_charge_may_be_pending(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "source": "tok_usBankAccount"})
    assert (charge.status, charge.payment_method_details.type) == ("pending", "us_bank_account")
    assert simulator.money_of_last() == [("committed", "in", 2000, 2000)]
    assert simulator.resolve(charge.id, "failed")["status"] == "failed"
    moved = simulator.seen("money")["movements"]
    assert [one["step"] for one in moved] == ["committed", "released"]


def test_a_refund_may_wait_and_be_canceled(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "source": "tok_refundRequiresAction"})
    refund = simulator.stripe.refunds.create({"charge": charge.id, "amount": 700})
    assert (refund.status, simulator.money_of_last()) == ("requires_action", [("committed", "out", 700, 700)])
    assert simulator.stripe.refunds.cancel(refund.id).status == "canceled"
    assert simulator.money_of_last() == [("released", "out", 700, 0)]
    assert simulator.stripe.charges.retrieve(charge.id).amount_refunded == 0
    again = simulator.stripe.refunds.create({"charge": charge.id})
    assert simulator.resolve(again.id, "succeeded")["status"] == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.refunds.cancel(again.id)


def test_a_pending_refund_may_come_back(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "source": "tok_pendingRefund"})
    refund = simulator.stripe.refunds.create({"charge": charge.id})
    assert refund.status == "pending"
    assert simulator.resolve(refund.id, "failed")["status"] == "failed"
    assert simulator.stripe.charges.retrieve(charge.id).refunded is False


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["confirm"], [[("committed", "in", 2000, 2000)], [("moved", "in", 2000, 0)]]),
        (
            ["hold", "raise", "part"],
            [
                [("committed", "in", 2000, 2000)],
                [],
                [("committed", "in", 600, 600)],
                [("moved", "in", 1000, 0), ("released", "in", 1600, 0)],
            ],
        ),
        (["hold", "cancel"], [[("committed", "in", 2000, 2000)], [], [("released", "in", 2000, 0)]]),
    ],
)
def test_each_step_of_an_intent_tells_its_money(
    simulator: Simulator, steps: list[str], expected: list[list[tuple[str, str, int, int]]]
) -> None:
    intents = simulator.stripe.payment_intents
    made = intents.create(PAY)
    told = [simulator.money_of_last()]
    actions: dict[str, Any] = {
        "confirm": lambda: intents.confirm(made.id),
        "hold": lambda: intents.confirm(made.id, {"capture_method": "manual"}),
        "raise": lambda: intents.increment_authorization(made.id, {"amount": 2600}),
        "part": lambda: intents.capture(made.id, {"amount_to_capture": 1000}),
        "cancel": lambda: intents.cancel(made.id),
    }
    for step in steps:
        actions[step]()
        told.append(simulator.money_of_last())
    assert told == expected
