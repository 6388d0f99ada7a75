"""Subscriptions in the Stripe simulator: what the first invoice, a change and an end really charge."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.simulator import DAY_SECONDS, Simulator, error_of
from tests.test_stripe_simulator_invoices import item, payer


def monthly(simulator: Simulator, amount: int = 1500, **more: Any) -> str:
    product = simulator.stripe.products.create({"name": "Seat"}).id
    recurring = {"interval": "month", **more.pop("recurring", {})}
    made = {"currency": "usd", "product": product, "unit_amount": amount, "recurring": recurring}
    return str(simulator.stripe.prices.create({**made, **more}).id)


def subscribe(simulator: Simulator, customer: str, price: str, quantity: int = 1, **more: Any) -> Any:
    items = [{"price": price, "quantity": quantity}]
    return simulator.stripe.subscriptions.create({"customer": customer, "items": items, **more})


def captured(simulator: Simulator) -> int:
    return int(simulator.seen("summary")["money"].get("usd", {}).get("captured", 0))


def test_the_first_invoice_is_made_and_paid(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator), 3, expand=["latest_invoice.payments"])
    assert (made.status, made.latest_invoice.status) == ("active", "paid")
    assert (made.latest_invoice.amount_paid, made.latest_invoice.billing_reason) == (
        4500,
        "subscription_create",
    )
    assert made["items"].data[0].price.unit_amount == 1500
    moved = simulator.seen()[-1]["money"]
    assert sum(one["new"] for one in moved) == 4500
    assert [one["amount"] for one in moved if one["step"] == "moved"] == [4500]
    assert isinstance(simulator.stripe.subscriptions.retrieve(made.id).latest_invoice, str)


def test_what_waits_for_the_customer_comes_onto_the_first_invoice(simulator: Simulator) -> None:
    customer = payer(simulator)
    item(simulator, customer, 700)
    product = simulator.stripe.products.create({"name": "Set-up"}).id
    once = [{"price_data": {"currency": "usd", "product": product, "unit_amount": 300}}]
    made = subscribe(
        simulator, customer, monthly(simulator), add_invoice_items=once, expand=["latest_invoice"]
    )
    assert made.latest_invoice.amount_paid == 1500 + 700 + 300


def test_a_trial_charges_nothing_until_it_ends(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator), trial_period_days=14)
    assert (made.status, made.trial_end - made.trial_start) == ("trialing", 14 * DAY_SECONDS)
    assert captured(simulator) == 0
    ended = simulator.stripe.subscriptions.update(made.id, {"trial_end": "now"})
    assert ended.status == "active"
    assert captured(simulator) == 1500


def test_default_incomplete_waits_for_the_customer(simulator: Simulator) -> None:
    made = subscribe(
        simulator,
        simulator.stripe.customers.create().id,
        monthly(simulator),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret"],
    )
    assert (made.status, made.latest_invoice.status) == ("incomplete", "open")
    secret = made.latest_invoice.confirmation_secret.client_secret
    intent = secret.partition("_secret_")[0]
    assert sum(one["new"] for one in simulator.seen()[-1]["money"]) == 1500
    simulator.stripe.payment_intents.confirm(intent, {"payment_method": "pm_card_visa"})
    assert simulator.money_of_last() == [("moved", "in", 1500, 0)]
    assert simulator.stripe.subscriptions.retrieve(made.id).status == "active"


def test_a_first_payment_that_fails_is_incomplete_or_an_error(simulator: Simulator) -> None:
    customer, price = payer(simulator, "pm_card_chargeCustomerFail"), monthly(simulator)
    incomplete = subscribe(simulator, customer, price)
    assert incomplete.status == "incomplete"
    with pytest.raises(stripe.CardError):
        subscribe(simulator, customer, price, payment_behavior="error_if_incomplete")
    assert [one.id for one in simulator.stripe.subscriptions.list().data] == [incomplete.id]
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        subscribe(simulator, simulator.stripe.customers.create().id, price)
    assert captured(simulator) == 0


@pytest.mark.parametrize(
    ("behavior", "now", "pending"), [("none", 0, 0), ("always_invoice", 1500, 0), ("create_prorations", 0, 2)]
)
def test_raising_the_quantity_prorates_as_told(
    simulator: Simulator, behavior: str, now: int, pending: int
) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    before = captured(simulator)
    items = [{"id": made["items"].data[0].id, "quantity": 2}]
    changed = simulator.stripe.subscriptions.update(made.id, {"items": items, "proration_behavior": behavior})
    assert changed["items"].data[0].quantity == 2
    # A second or two of the period may have passed.
    assert abs(captured(simulator) - before - now) <= 2
    assert len(simulator.stripe.invoice_items.list({"pending": True}).data) == pending


def test_an_item_may_be_added_replaced_and_deleted(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    own = made["items"].data[0].id
    dearer = monthly(simulator, 2500)
    changed = simulator.stripe.subscriptions.update(
        made.id, {"items": [{"id": own, "deleted": True}, {"price": dearer}], "proration_behavior": "none"}
    )
    assert [one.price.unit_amount for one in changed["items"].data] == [2500]
    with pytest.raises(stripe.InvalidRequestError):
        last = [{"id": changed["items"].data[0].id, "deleted": True}]
        simulator.stripe.subscriptions.update(made.id, {"items": last})


def test_another_interval_is_billed_at_once(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    yearly = monthly(simulator, 12000, recurring={"interval": "year"})
    items = [{"id": made["items"].data[0].id, "price": yearly}]
    simulator.stripe.subscriptions.update(made.id, {"items": items})
    # The unused month is credited.
    assert abs(captured(simulator) - 12000) <= 2


def test_a_change_that_cannot_be_paid_is_undone_when_told_so(simulator: Simulator) -> None:
    customer = payer(simulator)
    made = subscribe(simulator, customer, monthly(simulator))
    method = simulator.stripe.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer})
    simulator.stripe.subscriptions.update(made.id, {"default_payment_method": method.id})
    items = [{"id": made["items"].data[0].id, "quantity": 5}]
    change = {"items": items, "proration_behavior": "always_invoice"}
    with pytest.raises(stripe.CardError):
        simulator.stripe.subscriptions.update(made.id, {**change, "payment_behavior": "error_if_incomplete"})
    assert simulator.stripe.subscriptions.retrieve(made.id)["items"].data[0].quantity == 1
    late = simulator.stripe.subscriptions.update(made.id, change)
    assert (late.status, late["items"].data[0].quantity) == ("past_due", 5)


def test_items_have_paths_of_their_own(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    price = monthly(simulator, 1000)
    added = simulator.stripe.subscription_items.create(
        {"subscription": made.id, "price": price, "quantity": 2, "proration_behavior": "always_invoice"}
    )
    assert (added.object, added.quantity) == ("subscription_item", 2)
    assert abs(captured(simulator) - 1500 - 2000) <= 2
    simulator.stripe.subscription_items.update(added.id, {"quantity": 1, "proration_behavior": "none"})
    assert simulator.stripe.subscription_items.retrieve(added.id).quantity == 1
    assert len(simulator.stripe.subscription_items.list({"subscription": made.id}).data) == 2
    assert simulator.stripe.subscription_items.delete(added.id, {"proration_behavior": "none"}).deleted
    assert len(simulator.stripe.subscription_items.list({"subscription": made.id}).data) == 1


def test_a_metered_price_has_no_quantity_and_is_billed_afterwards(simulator: Simulator) -> None:
    price = monthly(simulator, 5, recurring={"usage_type": "metered"})
    customer = payer(simulator)
    made = simulator.stripe.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    assert (made.status, captured(simulator)) == ("active", 0)
    with pytest.raises(stripe.InvalidRequestError, match="metered"):
        subscribe(simulator, customer, price)
    used = {made["items"].data[0].id: 300}
    answer = simulator.control("renew", {"id": made.id, "usage": used})
    assert [one["amount"] for one in answer["money"] if one["step"] == "moved"] == [1500]
    assert captured(simulator) == 1500


def test_an_ended_subscription_charges_no_more(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    gone = simulator.stripe.subscriptions.cancel(made.id)
    assert gone.status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.subscriptions.cancel(made.id)
    assert simulator.stripe.subscriptions.list().data == []
    assert [one.id for one in simulator.stripe.subscriptions.list({"status": "all"}).data] == [made.id]
    refused = simulator.raw.post("/_simulator/renew", json={"id": made.id})
    assert refused.status_code == 400
    assert captured(simulator) == 1500


def test_cancelling_may_bill_what_waits(simulator: Simulator) -> None:
    customer = payer(simulator)
    made = subscribe(simulator, customer, monthly(simulator))
    item(simulator, customer, 900)
    simulator.stripe.subscriptions.cancel(made.id, {"invoice_now": True})
    assert simulator.seen()[-1]["method"] == "DELETE"
    assert simulator.money_of_last()[-1][:3] == ("moved", "in", 900)
    assert captured(simulator) == 2400


def test_an_unused_period_is_credited_when_told_so(simulator: Simulator) -> None:
    customer = payer(simulator)
    made = subscribe(simulator, customer, monthly(simulator))
    simulator.stripe.subscriptions.cancel(made.id, {"invoice_now": True, "prorate": True})
    assert abs(simulator.stripe.customers.retrieve(customer).balance + 1500) <= 2


def test_the_end_of_the_period_ends_what_was_to_end(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    ending = simulator.stripe.subscriptions.update(made.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at) == ("active", ending["items"].data[0].current_period_end)
    assert simulator.control("renew", {"id": made.id})["object"]["status"] == "canceled"
    assert captured(simulator) == 1500


def test_a_paused_subscription_is_resumed_and_billed(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.subscriptions.resume(made.id)
    assert simulator.post(f"/v1/subscriptions/{made.id}/pause", {"type": "subscription"}).status_code == 200
    resumed = simulator.stripe.subscriptions.resume(made.id, {"proration_behavior": "none"})
    assert resumed.status == "active"
    assert captured(simulator) == 3000


def test_the_older_paths_below_a_customer_do_the_same(simulator: Simulator) -> None:
    customer, price = payer(simulator), monthly(simulator)
    path = f"/v1/customers/{customer}/subscriptions"
    made = simulator.post(path, {"items[0][price]": price}).json()
    assert (made["object"], made["customer"], made["status"]) == ("subscription", customer, "active")
    own = made["items"]["data"][0]["id"]
    change = {"items[0][id]": own, "items[0][quantity]": "4", "proration_behavior": "none"}
    changed = simulator.post(f"{path}/{made['id']}", change).json()
    assert changed["items"]["data"][0]["quantity"] == 4
    stranger = f"/v1/customers/{payer(simulator)}/subscriptions/{made['id']}"
    assert simulator.post(stranger, change).status_code == 404
    headers = {"Authorization": "Bearer sk_test_simulator"}
    gone = simulator.raw.delete(f"{path}/{made['id']}", headers=headers).json()
    assert gone["status"] == "canceled"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "items"),
        ({"items[0][price]": "price_missing"}, "items[0][price]"),
        ({"items[0][amount]": "5"}, "items[0][amount]"),
        ({"items[0][quantity]": "-1"}, "items[0][quantity]"),
        ({"items[x][price]": "p"}, "items[x]"),
        ({"items[0][price]": "{price}", "trial_end": "1"}, "trial_end"),
    ],
)
def test_a_subscription_that_makes_no_sense_is_refused(
    simulator: Simulator, body: dict[str, str], param: str
) -> None:
    price = monthly(simulator)
    sent = {name: value.replace("{price}", price) for name, value in body.items()}
    refused = simulator.post("/v1/subscriptions", {"customer": payer(simulator), **sent})
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


def test_one_time_prices_do_not_recur(simulator: Simulator) -> None:
    product = simulator.stripe.products.create({"name": "Mug"}).id
    once = simulator.stripe.prices.create({"currency": "usd", "product": product, "unit_amount": 500}).id
    with pytest.raises(stripe.InvalidRequestError, match="type=one_time"):
        subscribe(simulator, payer(simulator), once)
    with pytest.raises(stripe.InvalidRequestError, match="type=recurring"):
        simulator.stripe.invoice_items.create(
            {"customer": payer(simulator), "pricing": {"price": monthly(simulator)}}
        )


def test_a_change_that_is_refused_changes_nothing(simulator: Simulator) -> None:
    made = subscribe(simulator, payer(simulator), monthly(simulator))
    own = made["items"].data[0].id
    items = [{"id": own, "quantity": 9}, {"price": "price_missing"}]
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.subscriptions.update(made.id, {"items": items})
    assert simulator.stripe.subscriptions.retrieve(made.id)["items"].data[0].quantity == 1
