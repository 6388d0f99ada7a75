"""What Stripe's answers say of money."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecar.exchange import Answer
from sidecar.stripe.endpoints import MONEY, Endpoint
from sidecar.stripe.vendor import _as_answered
from sidecar.vendor import Money, OpenCall, Succeeded
from tests.test_stripe_pricing import STRIPE, price, read


def succeeded(endpoint: str, form: dict[str, str], body: dict[str, Any]) -> Succeeded:
    """How a success of a call is read, once the call is priced."""
    call = replace(read(endpoint, form), price=price(endpoint, form))
    reading = STRIPE.classify(call, Answer(200, [], json.dumps(body).encode()), repeat=False)
    assert isinstance(reading, Succeeded)
    return reading


def session(**fields: Any) -> dict[str, Any]:
    """A Checkout Session."""
    return {
        **{"id": "cs_1", "object": "checkout.session", "status": "open"},
        **{"amount_total": 2500, "currency": "usd", **fields},
    }


CART = {
    "line_items[0][price]": "price_1",
    "line_items[0][quantity]": "2",
    "line_items[0][adjustable_quantity][enabled]": "true",
    "line_items[0][adjustable_quantity][maximum]": "10",
}


def test_an_open_session_counts_what_its_customer_may_choose_at_most() -> None:
    """Its total is of the smallest choice; only at its end is it true."""
    made = succeeded("POST /v1/checkout/sessions", CART, session())
    assert (made.money, made.object_id, made.steps_follow) == (None, "cs_1", True), "what was held counts"
    ended = succeeded("POST /v1/checkout/sessions", CART, session(status="complete", amount_total=5000))
    assert ended.money == Money(5000, "USD")
    expired = succeeded("POST /v1/checkout/sessions/cs_1/expire", {}, session(status="expired"))
    assert expired.money == Money(0, "USD")


def test_an_open_session_that_was_not_priced_counts_what_it_shows() -> None:
    """Nothing was held, so its total is all that is known."""
    call = read("POST /v1/checkout/sessions", {"line_items[0][price]": "price_tiers"})
    reading = STRIPE.classify(call, Answer(200, [], json.dumps(session()).encode()), repeat=False)
    assert isinstance(reading, Succeeded)
    assert reading.money == Money(2500, "USD")


def test_a_trial_does_not_lower_what_was_held_for_the_period_after_it() -> None:
    """Its first invoice is paid and of nothing, and the next one comes without another call."""
    form = {"customer": "cus_2", "items[0][price]": "price_1"}
    invoice = {"id": "in_1", "object": "invoice", "status": "paid", "amount_paid": 0, "currency": "usd"}
    body = {"id": "sub_1", "object": "subscription", "status": "trialing", "latest_invoice": invoice}
    trial = succeeded("POST /v1/subscriptions", form, body)
    assert trial.money is None
    assert trial.counted_id.startswith("sub_1/"), "reading the paid invoice of nothing lowers nothing"
    part = succeeded("POST /v1/subscriptions", form, {**body, "status": "active"})
    assert (part.money, part.counted_id[:6]) == (None, "sub_1/"), "a later billing cycle bills all of it"
    whole = {**body, "status": "active", "latest_invoice": {**invoice, "amount_paid": 1550}}
    billed = succeeded("POST /v1/subscriptions", form, whole)
    assert (billed.money, billed.counted_id) == (Money(1550, "USD"), "in_1")


def test_a_session_for_setup_has_no_currency_and_commits_nothing() -> None:
    """Its outcome names no amount at all, which can be settled; the session is remembered."""
    body = session(mode="setup", amount_total=None, currency=None)
    made = succeeded("POST /v1/checkout/sessions", {"mode": "setup"}, body)
    assert (made.money, made.object_id) == (None, "cs_1")


@pytest.mark.parametrize(
    "row", [row for row in MONEY if row.rule is not None or row.step], ids=lambda row: row.name
)
def test_an_event_about_another_object_tells_no_amount(row: Endpoint) -> None:
    """It shows that the call was carried out; what was held counts, and under nothing counted before."""
    call = OpenCall("aut_1", row.name, "key", "own_1" if row.step else "", "", Money(700, "USD"), 0, 1, False)
    # It has whatever a reader could look for.
    foreign = {"id": "xx_1", "object": "foreign", "status": "succeeded", "amount": 1, "amount_total": 1}
    foreign |= {"currency": "usd", "from": {"debited": {"value": 1, "currency": "usd"}}}
    reading = _as_answered(call, foreign, "req_1")
    if row.answers == "deleted":
        assert (reading.money, reading.object_id) == (None, "own_1"), "it does not say that own_1 is gone"
        return
    assert reading.money is None
    counted = reading.counted_id or reading.object_id
    assert counted == ("xx_1/req_1" if row.apart else "")
