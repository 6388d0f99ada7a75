"""Checkout sessions and payment links in the Stripe simulator, and the customers who pay them."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.simulator import Simulator, error_of

MUG = {
    "price_data": {"currency": "usd", "unit_amount": 1200, "product_data": {"name": "Mug"}},
    "quantity": 2,
}
SEAT = {
    "price_data": {
        "currency": "usd",
        "unit_amount": 1500,
        "product_data": {"name": "Seat"},
        "recurring": {"interval": "month"},
    },
    "quantity": 1,
}


def session(simulator: Simulator, *lines: Any, **more: Any) -> Any:
    return simulator.stripe.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": "https://example.com/thanks",
            "line_items": list(lines or (MUG,)),
            **more,
        }
    )


def rate(amount: int) -> dict[str, Any]:
    fixed = {"amount": amount, "currency": "usd"}
    return {"shipping_rate_data": {"display_name": "Post", "type": "fixed_amount", "fixed_amount": fixed}}


def price(simulator: Simulator, **more: Any) -> str:
    product = simulator.stripe.products.create({"name": "Gift"}).id
    return str(simulator.stripe.prices.create({"currency": "usd", "product": product, **more}).id)


def test_a_customer_pays_a_session_once(simulator: Simulator) -> None:
    made = session(simulator)
    assert (made.status, made.payment_status, made.amount_total) == ("open", "unpaid", 2400)
    assert simulator.money_of_last() == [("committed", "in", 2400, 2400)]
    paid = simulator.pay(made.id)
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")
    again = simulator.control("pay", {"id": made.id})
    assert again["error"]["message"] == "This session is complete."
    found = simulator.stripe.checkout.sessions.retrieve(made.id, {"expand": ["payment_intent", "line_items"]})
    assert (found.payment_intent.amount_received, len(found.line_items.data)) == (2400, 1)
    moved = simulator.seen("money")["movements"]
    assert [(one["step"], one["new"], one["request"] is None) for one in moved] == [
        ("committed", 2400, False),
        ("moved", 0, True),
    ]
    assert simulator.event_types()[-1] == "checkout.session.completed"


def test_an_event_of_a_customer_names_no_request(simulator: Simulator) -> None:
    simulator.pay(session(simulator).id)
    event = simulator.get("/v1/events?type=checkout.session.completed")["data"][0]
    assert event["request"] == {"id": None, "idempotency_key": None}


def test_shipping_is_part_of_the_total_and_the_dearest_is_committed(simulator: Simulator) -> None:
    made = session(simulator, shipping_options=[rate(500), rate(900)])
    assert (made.amount_subtotal, made.amount_total, made.shipping_cost.amount_total) == (2400, 2900, 500)
    assert simulator.money_of_last() == [("committed", "in", 3300, 3300)]
    answer = simulator.control("pay", {"id": made.id, "shipping_option": 1})
    assert answer["object"]["amount_total"] == 3300


def test_a_customer_may_raise_an_adjustable_quantity(simulator: Simulator) -> None:
    adjustable = {**MUG, "adjustable_quantity": {"enabled": True, "maximum": 5}}
    made = session(simulator, adjustable)
    assert simulator.money_of_last() == [("committed", "in", 6000, 6000)]
    too_many = simulator.control("pay", {"id": made.id, "quantities": {"0": 6}})
    assert too_many["error"] is not None
    answer = simulator.control("pay", {"id": made.id, "quantities": {"0": 5}})
    assert [one["amount"] for one in answer["money"] if one["step"] == "moved"] == [6000]


def test_a_customer_may_choose_the_amount(simulator: Simulator) -> None:
    custom = price(simulator, custom_unit_amount={"enabled": True, "minimum": 500, "maximum": 5000})
    made = session(simulator, {"price": custom, "quantity": 1})
    assert simulator.money_of_last() == [("committed", "in", 5000, 5000)]
    assert simulator.control("pay", {"id": made.id, "amount": 5001})["error"] is not None
    answer = simulator.control("pay", {"id": made.id, "amount": 700})
    assert [(one["step"], one["amount"]) for one in answer["money"]] == [("moved", 700), ("released", 4300)]


def test_a_declined_customer_may_try_again(simulator: Simulator) -> None:
    made = session(simulator)
    refused = simulator.control("pay", {"id": made.id, "payment_method": "pm_card_chargeDeclined"})
    assert refused["error"]["code"] == "card_declined"
    assert simulator.stripe.checkout.sessions.retrieve(made.id).status == "open"
    assert simulator.pay(made.id)["payment_status"] == "paid"
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2400


def test_a_bank_debit_is_paid_days_later(simulator: Simulator) -> None:
    made = session(simulator)
    paid = simulator.pay(made.id, payment_method="pm_usBankAccount")
    assert (paid["status"], paid["payment_status"]) == ("complete", "unpaid")
    simulator.resolve(paid["payment_intent"], "succeeded")
    assert simulator.stripe.checkout.sessions.retrieve(made.id).payment_status == "paid"
    assert simulator.event_types()[-1] == "checkout.session.async_payment_succeeded"


def test_a_session_can_hold_and_capture_later(simulator: Simulator) -> None:
    made = session(simulator, payment_intent_data={"capture_method": "manual"})
    paid = simulator.pay(made.id)
    intent = simulator.stripe.payment_intents.retrieve(paid["payment_intent"])
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 2400)
    simulator.stripe.payment_intents.capture(intent.id, {"amount_to_capture": 1000})
    assert simulator.money_of_last() == [("moved", "in", 1000, 0), ("released", "in", 1400, 0)]


def test_expiry_releases_the_session(simulator: Simulator) -> None:
    made = session(simulator)
    assert simulator.stripe.checkout.sessions.expire(made.id).status == "expired"
    assert simulator.money_of_last() == [("released", "in", 2400, 0)]
    assert simulator.control("pay", {"id": made.id})["error"] is not None
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.checkout.sessions.expire(made.id)
    old = session(simulator)
    simulator.control("clock", {"advance_seconds": 24 * 60 * 60})
    assert simulator.stripe.checkout.sessions.retrieve(old.id).status == "expired"


def test_a_subscription_begins_when_the_customer_pays(simulator: Simulator) -> None:
    made = session(simulator, SEAT, MUG, mode="subscription")
    assert made.amount_total == 3900
    answer = simulator.control("pay", {"id": made.id})
    assert sum(one["new"] for one in answer["money"]) == 0
    subscription = simulator.stripe.subscriptions.retrieve(
        answer["object"]["subscription"], {"expand": ["latest_invoice"]}
    )
    assert (subscription.status, subscription.latest_invoice.amount_paid) == ("active", 3900)


def test_a_trial_is_free_at_first(simulator: Simulator) -> None:
    made = session(simulator, SEAT, mode="subscription", subscription_data={"trial_period_days": 7})
    assert made.amount_total == 0
    paid = simulator.pay(made.id)
    assert simulator.stripe.subscriptions.retrieve(paid["subscription"]).status == "trialing"
    assert simulator.seen("summary")["money"] == {}


def test_setup_saves_a_card_and_moves_nothing(simulator: Simulator) -> None:
    made = simulator.stripe.checkout.sessions.create({"mode": "setup", "currency": "usd"})
    assert (made.amount_total, made.currency) == (None, "usd")
    assert simulator.stripe.checkout.sessions.create({"mode": "setup"}).currency is None
    paid = simulator.pay(made.id)
    saved = simulator.stripe.setup_intents.retrieve(paid["setup_intent"])
    assert (saved.status, saved.customer) == ("succeeded", paid["customer"])
    assert simulator.seen("money")["movements"] == []


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ([SEAT], {}),
        ([MUG], {"mode": "subscription"}),
        ([MUG], {"mode": "setup"}),
        ([{"price_data": MUG["price_data"]}], {}),
        ([{**MUG, "amount": 5}], {}),
        ([{**MUG, "quantity": 0}], {}),
        ([{"price_data": {**SEAT["price_data"], "recurring": {"interval": "eon"}}, "quantity": 1}], {}),
        ([MUG, {"price_data": {**MUG["price_data"], "currency": "eur"}, "quantity": 1}], {}),
        ([{"price_data": {**MUG["price_data"], "unit_amount": 1}, "quantity": 1}], {}),
    ],
)
def test_a_session_that_makes_no_sense_is_refused(
    simulator: Simulator, lines: list[Any], more: dict[str, str]
) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        session(simulator, *lines, **more)
    assert simulator.seen("money")["movements"] == []


def test_sessions_and_their_lines_are_listed(simulator: Simulator) -> None:
    made = [session(simulator).id for _ in range(3)]
    simulator.pay(made[0])
    assert [one.id for one in simulator.stripe.checkout.sessions.list({"status": "open"}).data] == made[:0:-1]
    paged = simulator.stripe.checkout.sessions.list({"limit": 1})
    assert [one.id for one in paged.auto_paging_iter()] == made[::-1]
    lines = simulator.stripe.checkout.sessions.line_items.list(made[0]).data
    assert [(line.quantity, line.amount_total) for line in lines] == [(2, 2400)]
    labelled = simulator.stripe.checkout.sessions.update(made[1], {"metadata": {"a": "1"}})
    assert labelled.metadata.to_dict() == {"a": "1"}


def test_a_link_is_paid_as_often_as_its_limit_says(simulator: Simulator) -> None:
    gift = price(simulator, unit_amount=1000)
    link = simulator.stripe.payment_links.create(
        {
            "line_items": [{"price": gift, "quantity": 1}],
            "restrictions": {"completed_sessions": {"limit": 2}},
        }
    )
    assert simulator.money_of_last() == [("committed", "in", 2000, 2000)]
    for _ in range(2):
        answer = simulator.control("pay", {"id": link.id})
        assert [(one["step"], one["new"]) for one in answer["money"]] == [("moved", 0)]
        assert answer["object"]["payment_link"] == link.id
    assert simulator.control("pay", {"id": link.id})["error"] is not None
    after = simulator.stripe.payment_links.retrieve(link.id)
    assert (after.active, after.restrictions.completed_sessions.count) == (False, 2)
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2000


def test_a_failed_payment_of_a_link_costs_it_nothing(simulator: Simulator) -> None:
    link = simulator.stripe.payment_links.create(
        {
            "line_items": [{"price": price(simulator, unit_amount=1000), "quantity": 1}],
            "restrictions": {"completed_sessions": {"limit": 1}},
        }
    )
    declined = simulator.control("pay", {"id": link.id, "payment_method": "pm_card_chargeDeclined"})
    assert declined["error"]["code"] == "card_declined"
    assert simulator.pay(link.id)["payment_status"] == "paid"


def test_a_link_without_a_limit_commits_without_bound_until_it_is_switched_off(simulator: Simulator) -> None:
    line = {"price": price(simulator, unit_amount=1000), "quantity": 1}
    link = simulator.stripe.payment_links.create({"line_items": [line]})
    assert simulator.money_of_last() == [("committed", "in", None, None)]
    simulator.stripe.payment_links.update(link.id, {"active": False})
    assert simulator.control("pay", {"id": link.id})["error"] is not None
    assert simulator.stripe.payment_links.list({"active": True}).data == []
    assert simulator.stripe.payment_links.line_items.list(link.id).data[0].quantity == 1
    limited = simulator.post(
        f"/v1/payment_links/{link.id}",
        {"active": "true", "restrictions[completed_sessions][limit]": "3"},
    )
    assert limited.json()["restrictions"]["completed_sessions"]["limit"] == 3
    assert simulator.money_of_last() == [("committed", "in", 3000, 3000)]


def test_a_link_needs_known_lines(simulator: Simulator) -> None:
    assert error_of(simulator.post("/v1/payment_links", {}))["param"] == "line_items"
    bad = {"line_items[0][price]": "price_missing", "line_items[0][quantity]": "1"}
    assert error_of(simulator.post("/v1/payment_links", bad))["param"] == "line_items[0][price]"


def test_shipping_rates_are_kept(simulator: Simulator) -> None:
    kept = simulator.stripe.shipping_rates.create(rate(700)["shipping_rate_data"])
    made = session(simulator, shipping_options=[{"shipping_rate": kept.id}])
    assert made.amount_total == 3100
    assert simulator.stripe.shipping_rates.update(kept.id, {"active": False}).active is False
    assert simulator.stripe.shipping_rates.list({"active": True}).data == []
