"""Whole flows at Stripe, governed: what is counted is what moved or may still move, once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis as redis_client

from tests.processes import wait_for
from tests.stack import CHARGE, Stack, VaultKey, cap


class Agent:
    """An agent whose calls must succeed; each has a step of its own."""

    def __init__(self, stack: Stack, key: VaultKey, run: str = "run") -> None:
        self.http = stack.agent(key, run)
        self._steps = 0

    def post(self, path: str, step: str = "", **form: Any) -> dict[str, Any]:
        """POST a form; double underscores stand for brackets."""
        answer = self.ask(path, step, **form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ask(self, path: str, step: str = "", **form: Any) -> httpx.Response:
        """POST a form and return whatever comes."""
        self._steps += 1
        data = {_name(name): str(value) for name, value in form.items()}
        return self.http.post(path, data=data, headers={"Spendgate-Step": step or str(self._steps)})

    def get(self, path: str) -> dict[str, Any]:
        """GET an object."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def _name(name: str) -> str:
    head, *inner = name.split("__")
    return head + "".join(f"[{part}]" for part in inner)


def _customer(agent: Agent) -> str:
    customer = agent.post("/customers", email="a@example.com")["id"]
    method = agent.post("/payment_methods/pm_card_visa/attach", customer=customer)["id"]
    agent.post(f"/customers/{customer}", invoice_settings__default_payment_method=method)
    return str(customer)


def _price(agent: Agent, amount: int, **more: Any) -> str:
    return str(
        agent.post("/prices", unit_amount=amount, currency="usd", product_data__name="Thing", **more)["id"]
    )


# Invoices, subscriptions, sessions.


def test_an_invoice_counts_its_items_once(stack: Stack) -> None:
    """Items count when they are made; drafting, finalizing and paying their invoice adds nothing."""
    key = stack.key(caps=[cap(1000)])
    agent = Agent(stack, key)
    customer = _customer(agent)
    agent.post("/invoiceitems", customer=customer, amount=600, currency="usd")
    stack.settled(key, 600)
    invoice = agent.post(
        "/invoices", customer=customer, currency="usd", pending_invoice_items_behavior="include"
    )
    agent.post(f"/invoices/{invoice['id']}/finalize")
    stack.settled(key, 600)
    agent.post("/invoiceitems", customer=customer, amount=100, currency="usd")
    paid = agent.post(f"/invoices/{invoice['id']}/pay")
    assert paid["status"] == "paid"
    stack.settled(key, 700)
    over = agent.ask("/invoiceitems", customer=customer, amount=301, currency="usd")
    assert over.status_code == 429


def test_a_voided_invoice_and_a_deleted_item_give_everything_back(stack: Stack) -> None:
    """What nobody can pay any more is not counted any more."""
    key = stack.key()
    agent = Agent(stack, key)
    customer = _customer(agent)
    item = agent.post("/invoiceitems", customer=customer, amount=600, currency="usd")
    kept = agent.post("/invoiceitems", customer=customer, amount=70, currency="usd")
    assert agent.http.delete(f"/invoiceitems/{item['id']}").status_code == 200
    stack.settled(key, 70)
    invoice = agent.post(
        "/invoices", customer=customer, currency="usd", pending_invoice_items_behavior="include"
    )
    assert kept["id"]
    agent.post(f"/invoices/{invoice['id']}/finalize")
    agent.post(f"/invoices/{invoice['id']}/void")
    stack.settled(key, 0)


def test_a_subscription_counts_its_first_period_and_a_change_counts_in_full(stack: Stack) -> None:
    """Price times quantity, asked of Stripe; a raised quantity is not free."""
    key = stack.key(caps=[cap(10_000)])
    agent = Agent(stack, key)
    customer = _customer(agent)
    price = _price(agent, 1000, recurring__interval="month")
    made = agent.post(
        "/subscriptions",
        customer=customer,
        items__0__price=price,
        items__0__quantity=2,
        expand__0="latest_invoice",
    )
    assert made["latest_invoice"]["amount_paid"] == 2000
    stack.settled(key, 2000)
    item = made["items"]["data"][0]["id"]
    over = agent.ask(f"/subscriptions/{made['id']}", items__0__id=item, items__0__quantity=9)
    assert over.status_code == 429
    agent.post(f"/subscriptions/{made['id']}", items__0__id=item, items__0__quantity=3)
    stack.settled(key, 5000)


def test_a_session_counts_what_its_customer_can_pay_until_it_expires(stack: Stack) -> None:
    """Lines at their highest quantity; an expired session gives it back."""
    key = stack.key(caps=[cap(10_000)])
    agent = Agent(stack, key)
    price = _price(agent, 1500)
    cart = {"mode": "payment", "success_url": "https://example.com/ok", "line_items__0__price": price}
    session = agent.post("/checkout/sessions", **cart, line_items__0__quantity=4)
    stack.settled(key, 6000)
    assert agent.ask("/checkout/sessions", **cart, line_items__0__quantity=3).status_code == 429
    agent.post(f"/checkout/sessions/{session['id']}/expire")
    stack.settled(key, 0)


def test_a_payment_link_counts_all_that_its_payers_can_pay(stack: Stack) -> None:
    """A link without a limit is not priced; one with a limit counts that often."""
    key = stack.key(caps=[cap(10_000)])
    agent = Agent(stack, key)
    price = _price(agent, 1500)
    line = {"line_items__0__price": price, "line_items__0__quantity": 1}
    unlimited = agent.ask("/payment_links", **line)
    assert (unlimited.status_code, unlimited.json()["error"]["code"]) == (400, "amount_unknown")
    assert "any number of times" in unlimited.json()["error"]["message"]
    agent.post("/payment_links", **line, restrictions__completed_sessions__limit=3)
    stack.settled(key, 4500)


# Money that moves later.


def test_a_pending_charge_counts_until_it_is_seen_to_fail(stack: Stack) -> None:
    """A bank debit that is on its way counts; a read that shows its end corrects the count."""
    key = stack.key()
    agent = Agent(stack, key)
    pending = agent.post("/charges", amount=800, currency="usd", source="tok_usBankAccount")
    assert pending["status"] == "pending"
    stack.settled(key, 800)
    agent.get(f"/charges/{pending['id']}")
    stack.simulator.resolve(pending["id"], "failed")
    stack.settled(key, 800)
    assert agent.get(f"/charges/{pending['id']}")["status"] == "failed"
    stack.settled(key, 0)
    (seen,) = [event for event in stack.events(key) if event.reason == "observed"]
    assert (seen.object_id, seen.settled_amount.minor_units) == (pending["id"], 0)


def test_an_intent_that_needs_action_counts_and_then_what_was_received(stack: Stack) -> None:
    """requires_action and processing keep the money counted; success changes nothing, a cancel gives back."""
    key = stack.key()
    agent = Agent(stack, key)
    waiting = agent.post(
        "/payment_intents",
        amount=900,
        currency="usd",
        payment_method="pm_card_authenticationRequired",
        confirm="true",
        return_url="https://example.com",
    )
    assert waiting["status"] == "requires_action"
    stack.settled(key, 900)
    stack.simulator.resolve(waiting["id"], "succeeded")
    assert agent.get(f"/payment_intents/{waiting['id']}")["status"] == "succeeded"
    stack.settled(key, 900)


def test_a_declined_intent_counts_until_it_is_cancelled(stack: Stack) -> None:
    """Its client secret can still pay it; a cancel gives it back, and a fresh try is possible."""
    key = stack.key(caps=[cap(1000)])
    agent = Agent(stack, key)
    intent = {"amount": 700, "currency": "usd", "confirm": "true", "return_url": "https://example.com"}
    declined = agent.ask("/payment_intents", "pay", **intent, payment_method="pm_card_chargeDeclined")
    assert declined.status_code == 402
    stack.settled(key, 700)
    left = declined.json()["error"]["payment_intent"]["id"]
    fresh = {**intent, "payment_method": "pm_card_visa"}
    assert agent.ask("/payment_intents", "pay", **fresh).status_code == 429
    agent.post(f"/payment_intents/{left}/cancel")
    stack.settled(key, 0)
    assert agent.post("/payment_intents", "pay", **fresh)["status"] == "succeeded"
    stack.settled(key, 700)


def test_an_update_makes_no_confirm_free(stack: Stack) -> None:
    """An update of something else counts nothing of what the intent shows, so the confirm counts it all."""
    key = stack.key(caps=[cap(1000)])
    made_elsewhere = Agent(stack, stack.key(caps=[cap(100_000)])).post(
        "/payment_intents", amount=90_000, currency="usd"
    )["id"]
    agent = Agent(stack, key)
    agent.post(f"/payment_intents/{made_elsewhere}", description="mine")
    confirmed = agent.ask(f"/payment_intents/{made_elsewhere}/confirm", payment_method="pm_card_visa")
    assert confirmed.status_code == 429
    assert stack.simulator.money["charged"] == 0


# Refunds.


def test_an_amount_that_was_asked_for_is_written_into_the_call(stack: Stack) -> None:
    """What changes at Stripe between pricing and sending changes nothing; a repeat is the same request."""
    key = stack.key()
    agent = Agent(stack, key)
    charge = agent.post("/charges", **CHARGE)["id"]
    stack.simulator.fault("drop_reply", match={"path": "/v1/refunds", "method": "POST"})
    assert agent.ask("/refunds", "back", charge=charge).status_code == 504
    assert agent.post("/refunds", "back", charge=charge)["amount"] == 1900
    assert [post["parameters"]["amount"] for post in stack.simulator.posts("/v1/refunds")] == ["1900"] * 2
    stack.settled(key, 3800)


def test_the_legacy_refund_counts_what_it_refunds_and_not_the_charge(stack: Stack) -> None:
    """It answers with the charge, whose amount is not the refund's."""
    key = stack.key()
    agent = Agent(stack, key)
    charge = agent.post("/charges", **CHARGE)["id"]
    stack.settled(key, 1900)
    assert agent.post(f"/charges/{charge}/refund", amount=300)["object"] == "charge"
    stack.settled(key, 2200)
    agent.post(f"/charges/{charge}/refunds")
    stack.settled(key, 3800)
    assert stack.simulator.money["refunded"] == 1900


# The name of an effect, long after.


def test_a_repeat_after_stripe_forgot_the_key_fetches_the_object(stack: Stack, stack_redis: str) -> None:
    """After 23 hours a settled call is never sent again; its object is fetched and answered instead."""
    key = stack.key()
    agent = Agent(stack, key)
    first = agent.post("/charges", "order", **CHARGE)
    stack.settled(key, 1900)
    day = 24 * 3_600_000
    with redis_client.Redis.from_url(stack_redis, decode_responses=True) as store:
        (hold,) = [
            name for name in store.scan_iter(f"*hold:az_{key.id}*") if store.hget(name, "amount") == "1900"
        ]
        store.hincrby(hold, "held_at", -day)
    stack.simulator.advance(25 * 3600)
    again = agent.ask("/charges", "order", **CHARGE)
    assert again.json()["id"] == first["id"]
    assert again.headers["spendgate-duplicate"] == "true"
    assert len(stack.simulator.posts("/v1/charges")) == 1
    stack.settled(key, 1900)


# Accounts, files, encodings.


def test_a_connected_account_needs_the_policys_word(stack: Stack) -> None:
    """Stripe-Account is refused unless the policy names the account; then it is passed on, and on record."""
    plain, connected = stack.key(), stack.key(vendor_accounts=["acct_1"])
    headers = {"Stripe-Account": "acct_1"}
    refused = stack.agent(plain, "run", **headers).post("/charges", data=CHARGE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "vendor_account_not_allowed")
    assert stack.agent(plain, "run", **headers).get("/charges").status_code == 403
    assert stack.simulator.posts() == []
    agent = stack.agent(connected, "run", **headers)
    assert agent.post("/charges", data=CHARGE).status_code == 200
    (post,) = stack.simulator.posts()
    assert post["headers"]["stripe-account"] == "acct_1"
    assert stack.events(connected, decision="allow")[0].vendor_account == "acct_1"
    # Priced by asking the same account, where the charge is.
    refund = {"charge": agent.get("/charges").json()["data"][0]["id"]}
    assert agent.post("/refunds", data=refund).status_code == 200
    elsewhere = stack.agent(connected, "run", **{"Stripe-Account": "acct_2"})
    assert elsewhere.get("/charges").status_code == 403


def test_the_version_is_under_the_policys_control(stack: Stack) -> None:
    """A rule on Stripe-Version refuses a call that is read by another version."""
    rule = {"parameter": "Stripe-Version", "one_of": ["2026-10-28.endive"]}
    key = stack.key(parameter_rules=[rule])
    old = stack.agent(key, "run", **{"Stripe-Version": "2014-01-31"}).post("/charges", data=CHARGE)
    assert (old.status_code, old.json()["error"]["code"]) == (403, "parameter_not_allowed")
    new = stack.agent(key, "run", **{"Stripe-Version": "2026-10-28.endive"}).post("/charges", data=CHARGE)
    assert new.status_code == 200


def test_an_answer_in_gzip_is_read_all_the_same(stack: Stack) -> None:
    """A compression that nobody asked for does not hide what was charged."""
    key = stack.key()
    stack.simulator.fault("gzip", match={"path": "/v1/charges", "method": "POST"})
    answer = stack.agent(key, "run").post("/charges", data=CHARGE)
    assert answer.json()["amount"] == 1900
    assert "content-encoding" not in answer.headers
    stack.settled(key, 1900)


def test_files_go_up_and_come_down(stack: Stack) -> None:
    """A multipart upload is written anew from its parts, and a download is passed on as it comes."""
    agent = stack.agent(stack.key(), "run")
    content = bytes(range(256)) * 400
    made = agent.post(
        "/files", data={"purpose": "dispute_evidence"}, files={"file": ("proof.png", content, "image/png")}
    )
    assert made.status_code == 200, made.text
    assert made.json()["size"] == len(content)
    got = agent.get(f"/files/{made.json()['id']}/contents")
    assert got.content == content


def test_a_large_document_is_passed_on_as_it_comes(stack: Stack) -> None:
    """A quote's PDF of several megabytes is not read whole before it is passed on."""
    size = 8 * 1024 * 1024
    stack.simulator.http.post("/settings", json={"quote_pdf_bytes": size}).raise_for_status()
    agent = Agent(stack, stack.key())
    customer = _customer(agent)
    price = _price(agent, 1500)
    quote = agent.post("/quotes", customer=customer, line_items__0__price=price, line_items__0__quantity=1)[
        "id"
    ]
    agent.post(f"/quotes/{quote}/finalize")
    agent.http.event_hooks = {}
    with agent.http.stream("GET", f"/quotes/{quote}/pdf") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/pdf"
        assert sum(len(chunk) for chunk in answer.iter_raw()) == size


@pytest.mark.parametrize("amount", [1234])
def test_v2_is_json_both_ways(stack: Stack, amount: int) -> None:
    """A v2 payment is priced in its body, counted at what is debited, and made once."""
    key = stack.key("* /v1/*", "* /v2/*")
    http = stack.agent(key, "run", **{"Stripe-Version": "2026-10-28.endive"})
    base = str(http.base_url).removesuffix("/v1/")
    body = {
        "amount": {"value": amount, "currency": "usd"},
        "from": {"financial_account": "fa_1", "currency": "usd"},
        "to": {"recipient": "acct_1", "currency": "usd"},
    }
    answers = [http.post(f"{base}/v2/money_management/outbound_payments", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert answers[0].json()["id"] == answers[1].json()["id"]
    stack.settled(key, amount)
    over = http.post(
        f"{base}/v2/money_management/outbound_payments",
        json={**body, "amount": {"value": 99_999, "currency": "usd"}},
        headers={"Spendgate-Step": "two"},
    )
    assert over.status_code == 429


# What nobody can price.


def test_an_unpriced_call_needs_the_policys_word_and_counts_when_it_is_done(stack: Stack) -> None:
    """Refused by default; where the policy names the endpoint, it is counted at settlement and flagged."""
    form = {"line_items__0__price": "", "line_items__0__quantity": 1, "automatic_tax__enabled": "true"}
    cart = {"mode": "payment", "success_url": "https://example.com/ok", **form}
    careful = Agent(stack, stack.key())
    cart["line_items__0__price"] = _price(careful, 1500)
    refused = careful.ask("/checkout/sessions", **cart)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "amount_unknown")
    assert "taxes" in refused.json()["error"]["message"]
    key = stack.key(unpriced=["POST /v1/checkout/sessions"], caps=[cap(1600)])
    trusting = Agent(stack, key)
    trusting.post("/checkout/sessions", **cart)
    stack.settled(key, 1500)
    assert [event.unpriced for event in stack.events(key, decision="allow")] == [True]
    trusting.post("/checkout/sessions", **cart)
    stack.settled(key, 3000)
    assert trusting.ask("/checkout/sessions", **cart).status_code == 429


def test_everything_is_counted_once(stack: Stack) -> None:
    """What the simulator says was committed or moved by a key's calls is what is counted for it."""
    key = stack.key(caps=[cap(1_000_000)])
    agent = Agent(stack, key)
    customer = _customer(agent)
    agent.post("/charges", **CHARGE)
    intent = agent.post("/payment_intents", amount=700, currency="usd", capture_method="manual")["id"]
    agent.post(f"/payment_intents/{intent}/confirm", payment_method="pm_card_visa")
    agent.post(f"/payment_intents/{intent}/capture", amount_to_capture=500)
    agent.post("/payouts", amount=150, currency="usd")
    agent.post("/transfers", amount=120, currency="usd", destination="acct_9")
    agent.post("/topups", amount=60, currency="usd", description="top-up", statement_descriptor="top-up")
    agent.post(f"/customers/{customer}/balance_transactions", amount=-45, currency="usd")
    expected = 1900 + 500 + 150 + 120 + 60 + 45
    stack.settled(key, expected)
    wait_for(lambda: stack.usage(key).held == 0, "nothing is held")
