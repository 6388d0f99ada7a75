"""Products and prices of the Stripe simulator: every way a price can say what something costs."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.simulator import Simulator, error_of


def product(simulator: Simulator) -> str:
    return str(simulator.stripe.products.create({"name": "Seat"}).id)


def price(simulator: Simulator, **more: Any) -> Any:
    return simulator.stripe.prices.create({"currency": "usd", "product": product(simulator), **more})


def billed(simulator: Simulator, price_id: str, quantity: int) -> int:
    """What an invoice item of this price costs."""
    customer = simulator.stripe.customers.create().id
    item = simulator.stripe.invoice_items.create(
        {"customer": customer, "pricing": {"price": price_id}, "quantity": quantity}
    )
    return int(item.amount)


def test_a_product_may_bring_its_price_along(simulator: Simulator) -> None:
    made = simulator.stripe.products.create(
        {"id": "seat", "name": "Seat", "default_price_data": {"currency": "usd", "unit_amount": 1500}}
    )
    shown = simulator.get("/v1/products/seat?expand[]=default_price")
    assert (made.id, shown["default_price"]["unit_amount"]) == ("seat", 1500)
    with pytest.raises(stripe.InvalidRequestError) as again:
        simulator.stripe.products.create({"id": "seat", "name": "Seat"})
    assert again.value.code == "resource_already_exists"


def test_a_decimal_price_is_rounded_once(simulator: Simulator) -> None:
    made = price(simulator, unit_amount_decimal="0.5")
    assert (made.unit_amount, str(made.unit_amount_decimal)) == (None, "0.5")
    assert [billed(simulator, made.id, n) for n in (1, 2, 3, 5)] == [1, 1, 2, 3]
    assert price(simulator, unit_amount_decimal="1500.00").unit_amount == 1500


@pytest.mark.parametrize("sent", ["1e3", "-1", " 1", "1_0", "\uff11", "0.1234567890123", "NaN"])
def test_only_plain_decimals_are_prices(simulator: Simulator, sent: str) -> None:
    body = {"currency": "usd", "product": product(simulator), "unit_amount_decimal": sent}
    assert simulator.post("/v1/prices", body).status_code == 400


def test_tiers_are_graduated_or_by_volume(simulator: Simulator) -> None:
    tiers = [
        {"up_to": 10, "unit_amount": 100},
        {"up_to": "inf", "unit_amount": 50, "flat_amount": 200},
    ]
    tiered = {"billing_scheme": "tiered", "tiers": tiers}
    graduated = price(simulator, tiers_mode="graduated", **tiered)
    volume = price(simulator, tiers_mode="volume", **tiered)
    assert graduated.unit_amount is None
    assert [billed(simulator, graduated.id, n) for n in (10, 12)] == [1000, 1000 + 200 + 100]
    assert [billed(simulator, volume.id, n) for n in (10, 12)] == [1000, 200 + 600]
    shown = simulator.get(f"/v1/prices/{volume.id}?expand[]=tiers")
    assert [tier["up_to"] for tier in shown["tiers"]] == [10, None]


@pytest.mark.parametrize("ends", [["inf", "10"], ["10", "10", "inf"], ["10", "20"]])
def test_tiers_must_rise_to_infinity(simulator: Simulator, ends: list[str]) -> None:
    tiers = {f"tiers[{n}][up_to]": end for n, end in enumerate(ends)}
    amounts = {f"tiers[{n}][unit_amount]": "5" for n in range(len(ends))}
    body = {"currency": "usd", "product": product(simulator), "billing_scheme": "tiered", **tiers, **amounts}
    assert error_of(simulator.post("/v1/prices", body))["param"] == "tiers"


def test_packages_and_other_currencies_have_their_own_amounts(simulator: Simulator) -> None:
    packed = price(simulator, unit_amount=900, transform_quantity={"divide_by": 10, "round": "up"})
    assert [billed(simulator, packed.id, n) for n in (1, 10, 11)] == [900, 900, 1800]
    both = price(simulator, unit_amount=900, currency_options={"eur": {"unit_amount": 800}})
    customer = simulator.stripe.customers.create().id
    item = {"customer": customer, "pricing": {"price": both.id}, "currency": "eur"}
    assert simulator.stripe.invoice_items.create(item).amount == 800
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.invoice_items.create({**item, "currency": "gbp"})


def test_recurring_and_metered_prices_say_so(simulator: Simulator) -> None:
    metered = price(simulator, unit_amount=5, recurring={"interval": "month", "usage_type": "metered"})
    assert (metered.type, metered.recurring.usage_type) == ("recurring", "metered")
    found = simulator.stripe.prices.list({"type": "recurring"}).data
    assert [one.id for one in found] == [metered.id]
    custom = price(simulator, custom_unit_amount={"enabled": True, "minimum": 100})
    assert (custom.unit_amount, custom.custom_unit_amount.minimum) == (None, 100)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"unit_amount": "5", "recurring[interval]": "month", "recurring[every]": "2"}, "recurring[every]"),
        ({"unit_amount": "5", "recurring[interval]": "fortnight"}, "recurring[interval]"),
        ({"unit_amount": "5", "unit_amount_decimal": "5"}, "unit_amount"),
        ({"unit_amount": "5", "price": "5"}, "price"),
        ({}, "unit_amount"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(
    simulator: Simulator, body: dict[str, str], param: str
) -> None:
    sent = {"currency": "usd", "product": product(simulator), **body}
    refused = simulator.post("/v1/prices", sent)
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


def test_an_inactive_price_sells_nothing(simulator: Simulator) -> None:
    made = price(simulator, unit_amount=500)
    simulator.stripe.prices.update(made.id, {"active": False})
    with pytest.raises(stripe.InvalidRequestError):
        billed(simulator, made.id, 1)
    refused = simulator.post(f"/v1/prices/{made.id}", {"unit_amount": "1"})
    assert error_of(refused)["code"] == "parameter_unknown"
