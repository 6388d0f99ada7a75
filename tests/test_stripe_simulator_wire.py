"""What goes over the wire of the Stripe simulator, and what a test may ask about it afterwards."""

from __future__ import annotations

import gzip

import pytest
import stripe

from tests.simulator import CHARGE, KEY, PAY, Simulator
from tests.test_stripe_simulator_checkout import session
from tests.test_stripe_simulator_invoices import item, payer
from tests.test_stripe_simulator_subscriptions import monthly, subscribe

PLAIN = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "identity"}


def raw_answer(simulator: Simulator, **headers: str) -> tuple[str | None, bytes]:
    """The content encoding and the bytes as they came."""
    sent = PLAIN | {name.replace("_", "-"): value for name, value in headers.items()}
    with simulator.raw.stream("GET", "/v1/charges", headers=sent) as answer:
        return answer.headers.get("Content-Encoding"), b"".join(answer.iter_raw())


def test_answers_are_encoded_when_asked(simulator: Simulator) -> None:
    assert raw_answer(simulator)[0] is None
    encoding, body = raw_answer(simulator, Accept_Encoding="gzip, deflate")
    assert encoding == "gzip"
    assert gzip.decompress(body) == raw_answer(simulator)[1]


def test_a_fault_encodes_answers_that_nobody_asked_for(simulator: Simulator) -> None:
    simulator.fault("gzip", match={"method": "GET"}, times=None)
    assert raw_answer(simulator)[0] == "gzip"
    simulator.raw.delete("/_simulator/faults")
    assert raw_answer(simulator)[0] is None


def test_the_log_keeps_what_was_sent(simulator: Simulator) -> None:
    simulator.post("/v1/charges?description=a%20b", CHARGE, key="k", Stripe_Version="2024-06-20")
    entry = simulator.seen()[0]
    assert (entry["path"], entry["query"]) == ("/v1/charges", "description=a%20b")
    assert entry["body"] == "amount=2000&currency=usd&source=tok_visa"
    assert entry["headers"]["idempotency-key"] == "k"
    assert entry["headers"]["stripe-version"] == "2024-06-20"
    assert entry["headers"]["content-type"] == "application/x-www-form-urlencoded"
    simulator.raw.post("/v1/charges", data={**CHARGE, "key": KEY})
    assert KEY not in str(simulator.seen())


def test_the_log_is_filtered(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create().id
    simulator.post("/v1/charges", {"amount": "x"})
    simulator.post("/v1/charges", CHARGE, Stripe_Account="acct_other")
    simulator.stripe.customers.delete(customer)
    simulator.stripe.balance.retrieve()

    def found(query: str) -> list[int]:
        return [entry["n"] for entry in simulator.raw.get(f"/_simulator/requests?{query}").json()]

    assert found("method=POST,DELETE") == [1, 2, 3, 4]
    assert found("method=POST,DELETE&executed=true") == [1, 3, 4]
    assert found("account=acct_other") == [3]
    assert found("after=3") == [4, 5]
    assert simulator.raw.get("/_simulator/requests?color=red").status_code == 400


def test_every_movement_names_its_request_and_account(simulator: Simulator) -> None:
    charge = simulator.post("/v1/charges", CHARGE, Stripe_Account="acct_other").json()
    assert simulator.seen("money")["movements"] == [
        {
            "n": 1,
            "step": "moved",
            "direction": "in",
            "amount": 2000,
            "new": 2000,
            "currency": "usd",
            "object": charge["id"],
            "request": 1,
            "account": "acct_other",
        }
    ]


def test_a_replay_moves_nothing(simulator: Simulator) -> None:
    for _ in range(2):
        simulator.post("/v1/charges", CHARGE, key="k")
    assert [len(entry["money"]) for entry in simulator.seen()] == [1, 0]
    simulator.fault("drop_reply")
    with pytest.raises(Exception, match=r"disconnected|closed"):
        simulator.post("/v1/charges", CHARGE, key="k2")
    assert len(simulator.seen("money")["movements"]) == 2


def test_connected_accounts_are_apart_by_either_header(simulator: Simulator) -> None:
    for headers in ({"Stripe_Account": "acct_a"}, {"Stripe_Context": "acct_x/acct_a"}):
        simulator.post("/v1/customers", {"name": "Ada"}, **headers)
    simulator.post("/v1/customers", {"name": "Bob"}, Stripe_Context="acct_b")
    assert [entry["stripe_account"] for entry in simulator.seen()] == ["acct_a", "acct_a", "acct_b"]
    assert simulator.seen()[1]["headers"]["stripe-context"] == "acct_x/acct_a"
    assert len(simulator.get("/v1/customers", Stripe_Account="acct_a")["data"]) == 2
    assert len(simulator.get("/v1/customers", Stripe_Context="acct_b")["data"]) == 1
    assert simulator.get("/v1/customers")["data"] == []
    pending = {"account": "acct_a", "id": "pi_1", "outcome": "succeeded"}
    assert simulator.raw.post("/_simulator/resolve", json=pending).status_code == 400


def test_a_connected_accounts_customer_pays(simulator: Simulator) -> None:
    options = {"stripe_account": "acct_a"}
    intent = simulator.stripe.payment_intents.create({"amount": 900, "currency": "usd"}, options)
    elsewhere = simulator.raw.post("/_simulator/pay", json={"id": intent.id})
    assert elsewhere.status_code == 400
    paid = simulator.control("pay", {"id": intent.id, "account": "acct_a"})
    assert paid["object"]["status"] == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.refunds.create({"payment_intent": intent.id})
    assert simulator.stripe.refunds.create({"payment_intent": intent.id}, options).amount == 900


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("resolve", {"id": "pi_1", "outcome": "maybe"}, "outcome must be"),
        ("resolve", {"id": "cus_1", "outcome": "failed"}, "there is no 'cus_1'"),
        ("resolve", {"id": 5, "outcome": "failed"}, "id must be a string"),
        ("pay", {"id": "cs_1", "tip": 5}, "unknown member 'tip'"),
        ("pay", {"id": "cs_1", "amount": "5"}, "there is no 'cs_1'"),
        ("fund", {"currency": "usd"}, "amount must be"),
        ("settings", {"quote_pdf_bytes": "5"}, "known are quote_pdf_bytes (int)"),
        ("settings", {"speed": 5}, "known are"),
        ("renew", {"id": "sub_1"}, "there is no 'sub_1'"),
    ],
)
def test_a_control_request_that_makes_no_sense_is_refused(
    simulator: Simulator, name: str, body: object, said: str
) -> None:
    refused = simulator.raw.post(f"/_simulator/{name}", json=body)
    assert refused.status_code == 400
    assert said in refused.json()["error"]


def test_lists_page_backwards_too(simulator: Simulator) -> None:
    made = [simulator.stripe.payment_intents.create(PAY).id for _ in range(5)]
    last = simulator.stripe.payment_intents.list({"ending_before": made[0], "limit": 2})
    assert [one.id for one in last.auto_paging_iter()] == made[1:]


def test_the_movements_add_up_to_the_balance(simulator: Simulator) -> None:
    customer = payer(simulator)
    item(simulator, customer, 700)
    made = subscribe(simulator, customer, monthly(simulator), 2)
    simulator.stripe.subscriptions.cancel(made.id, {"prorate": True, "invoice_now": True})
    held = simulator.stripe.payment_intents.create({**PAY, "confirm": True, "capture_method": "manual"})
    simulator.stripe.payment_intents.capture(held.id, {"amount_to_capture": 500})
    simulator.stripe.refunds.create({"payment_intent": held.id, "amount": 200})
    payout = simulator.stripe.payouts.create({"amount": 300, "currency": "usd"})
    simulator.resolve(payout.id, "succeeded")
    simulator.pay(session(simulator).id)
    open_intent = simulator.stripe.payment_intents.create(PAY)
    moved = simulator.seen("money")["movements"]
    assert [one["n"] for one in moved] == list(range(1, len(moved) + 1))
    balance = sum(
        one["amount"] if one["direction"] == "in" else -one["amount"]
        for one in moved
        if one["step"] == "moved"
    )
    assert simulator.stripe.balance.retrieve().available[0].amount == balance
    # What was committed was moved or released, but for the credit of the customer and the open intent.
    still_open = sum(
        one["amount"]
        if one["step"] == "committed"
        else -one["amount"]
        if one["step"] == "released"
        else one["new"] - one["amount"]
        for one in moved
    )
    assert still_open == open_intent.amount - simulator.stripe.customers.retrieve(customer).balance
