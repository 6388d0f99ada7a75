"""Sequences by which an attack once moved more than was counted; each is now refused or counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack import Stack, cap
from tests.test_stripe_flows import Agent, _customer, _price

MONTHLY = {"recurring__interval": "month"}


def _committed(stack: Stack) -> int:
    """All that the simulator saw committed or moved in US dollars, less what was released."""
    movements = stack.simulator.http.get("/money").json()["movements"]
    new = sum(one["new"] or 0 for one in movements if one["currency"] == "usd")
    return int(new - sum(one["amount"] for one in movements if one["step"] == "released"))


def _counted(stack: Stack, key: Any) -> int:
    usage = stack.usage(key)
    return int(usage.settled + usage.held)


def test_the_trial_of_a_subscription_frees_nothing(stack: Stack) -> None:
    """Its first invoice is paid and of nothing; reading it does not give back what the next one bills."""
    key = stack.key()
    agent = Agent(stack, key)
    customer = _customer(agent)
    price = _price(agent, 5000, **MONTHLY)
    made = agent.post("/subscriptions", customer=customer, items__0__price=price, trial_period_days=1)
    stack.settled(key, 5000)
    agent.get(f"/invoices/{made['latest_invoice']}")
    stack.simulator.http.post("/renew", json={"id": made["id"]}).raise_for_status()
    agent.get("/charges")
    stack.settled(key, 5000)


def test_a_price_under_another_name_is_not_free(stack: Stack) -> None:
    """plan, which old versions had for price, is not priced and so refused."""
    key = stack.key()
    agent = Agent(stack, key)
    customer = _customer(agent)
    cheap, dear = _price(agent, 100, **MONTHLY), _price(agent, 900_000, **MONTHLY)
    made = agent.post("/subscriptions", customer=customer, items__0__price=cheap)
    item = made["items"]["data"][0]["id"]
    for path, form in (
        (f"/subscription_items/{item}", {"plan": dear, "proration_behavior": "always_invoice"}),
        (f"/subscriptions/{made['id']}", {"items__0__id": item, "items__0__plan": dear}),
        ("/subscriptions", {"customer": customer, "items__0__price": cheap, "items__0__plan": dear}),
    ):
        refused = agent.ask(path, **form)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "amount_unknown")
    stack.settled(key, 100)


def test_a_price_in_another_currency_counts_in_the_one_that_is_billed(stack: Stack) -> None:
    """A cent in one currency and a fortune in another: the fortune has no cap, so it is refused."""
    agent = Agent(stack, stack.key())
    customer = _customer(agent)
    price = _price(agent, 1, currency_options__eur__unit_amount=9_000_000)
    refused = agent.ask("/invoiceitems", customer=customer, pricing__price=price, currency="eur")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "currency_not_allowed")


def test_credits_on_a_draft_can_not_be_taken_back_for_free(stack: Stack) -> None:
    """Lines change only through items, and an item that gave credit may neither be changed nor deleted."""
    key = stack.key()
    agent = Agent(stack, key)
    customer = _customer(agent)
    draft = agent.post("/invoices", customer=customer, currency="usd")["id"]
    credit = agent.post("/invoiceitems", customer=customer, invoice=draft, amount=-9000, currency="usd")["id"]
    agent.post("/invoiceitems", customer=customer, invoice=draft, amount=9000, currency="usd")
    stack.settled(key, 9000)
    assert agent.http.delete(f"/invoiceitems/{credit}").status_code == 400
    assert agent.ask(f"/invoiceitems/{credit}", amount=1).status_code == 400
    assert agent.ask(f"/invoices/{draft}/add_lines", lines__0__amount=1).status_code == 400
    assert agent.ask(f"/invoices/{draft}/remove_lines", lines__0__id="il_1").status_code == 400
    assert _counted(stack, key) >= _committed(stack)


def test_a_refund_that_never_happens_gives_nothing_back(stack: Stack) -> None:
    """One that waits for somebody is not given back yet, and its cancel makes nothing free."""
    key = stack.key(caps=[cap(10_000)], refunds="REFUND_RULE_RESTORE")
    agent = Agent(stack, key)
    charge = agent.post("/charges", amount=8000, currency="usd", source="tok_refundRequiresAction")["id"]
    refund = agent.post("/refunds", charge=charge)
    assert refund["status"] == "requires_action"
    stack.settled(key, 8000)
    agent.post(f"/refunds/{refund['id']}/cancel")
    stack.settled(key, 8000)
    assert agent.ask("/charges", amount=8000, currency="usd", source="tok_visa").status_code == 429


def test_a_declined_invoice_counts_once(stack: Stack) -> None:
    """Its intent is the invoice's, and not another commitment beside it."""
    key = stack.key(caps=[cap(10_000)])
    agent = Agent(stack, key)
    customer = agent.post("/customers", email="a@example.com")["id"]
    method = agent.post("/payment_methods/pm_card_chargeCustomerFail/attach", customer=customer)["id"]
    agent.post(f"/customers/{customer}", invoice_settings__default_payment_method=method)
    agent.post("/invoiceitems", customer=customer, amount=9000, currency="usd")
    invoice = agent.post(
        "/invoices", customer=customer, currency="usd", pending_invoice_items_behavior="include"
    )["id"]
    assert agent.ask(f"/invoices/{invoice}/pay").status_code == 402
    stack.settled(key, 9000)


@pytest.mark.parametrize("version", ["2014-01-31", "2020-08-27", "latest", "2026-10-28.endive, 2014-01-31"])
def test_versions_that_pricing_does_not_read_are_refused(stack: Stack, version: str) -> None:
    """Old ones have other parameters; a call that names none goes out by the one that pricing reads."""
    key = stack.key()
    form = {"amount": "100", "currency": "usd", "source": "tok_visa"}
    old = stack.agent(key, "run", **{"Stripe-Version": version}).post("/charges", data=form)
    assert (old.status_code, old.json()["error"]["code"]) == (400, "parameter_invalid")
    assert stack.agent(key, "run").post("/charges", data=form).status_code == 200
    (post,) = stack.simulator.posts()
    assert post["headers"]["stripe-version"] == "2026-10-28.endive"
