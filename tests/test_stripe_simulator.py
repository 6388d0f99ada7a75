"""What the simulator promises, tried over HTTP with Stripe's own library and with raw requests."""

from __future__ import annotations

import base64
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import stripe

from stripe_simulator.forms import Form, parse_form
from tests.simulator import (
    CHARGE,
    DAY_SECONDS,
    KEY,
    PAY,
    Simulator,
    error_in,
    error_of,
    start_simulator,
    stop_simulator,
    wait_until,
)

# --- charges


def test_a_charge_succeeds(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create(
        {
            "amount": 2000,
            "currency": "USD",
            "source": "tok_visa",
            "description": "Seats",
            "statement_descriptor": "SEATS",
            "metadata": {"order": "7"},
        }
    )
    assert (charge.status, charge.amount, charge.currency) == ("succeeded", 2000, "usd")
    assert (charge.captured, charge.amount_captured, charge.amount_refunded) == (True, 2000, 0)
    assert charge.metadata.to_dict() == {"order": "7"}
    assert simulator.stripe.charges.retrieve(charge.id).statement_descriptor == "SEATS"
    assert simulator.event_types() == ["charge.succeeded"]


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("tok_chargeDeclined", "card_declined", "generic_decline"),
        ("tok_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("tok_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
def test_a_declined_card_is_402_and_names_the_failed_charge(
    simulator: Simulator, token: str, code: str, decline_code: str
) -> None:
    with pytest.raises(stripe.CardError) as raised:
        simulator.stripe.charges.create({"amount": 2000, "currency": "usd", "source": token})
    error = error_in(raised.value)
    assert raised.value.http_status == 402
    assert (error["type"], error["code"], error["decline_code"]) == ("card_error", code, decline_code)
    failed = simulator.stripe.charges.retrieve(error["charge"])
    assert (failed.status, failed.paid, failed.amount_captured) == ("failed", False, 0)
    assert simulator.event_types() == ["charge.failed"]


def test_a_hold_is_captured_in_part_and_the_rest_is_released(simulator: Simulator) -> None:
    held = simulator.stripe.charges.create(
        {"amount": 2000, "currency": "usd", "source": "tok_visa", "capture": False}
    )
    assert (held.captured, held.amount_captured) == (False, 0)
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        simulator.stripe.charges.capture(held.id, {"amount": 2001})
    assert too_much.value.code == "amount_too_large"
    charge = simulator.stripe.charges.capture(held.id, {"amount": 1500})
    assert (charge.amount, charge.amount_captured, charge.amount_refunded) == (2000, 1500, 500)
    assert charge.refunded is False
    with pytest.raises(stripe.InvalidRequestError) as again:
        simulator.stripe.charges.capture(held.id)
    assert again.value.code == "charge_already_captured"
    assert simulator.seen("summary")["money"] == {"usd": {"charged": 2000, "captured": 1500, "refunded": 0}}
    # Only what was captured can be given back.
    assert simulator.stripe.refunds.create({"charge": held.id}).amount == 1500


def test_updating_a_charge_changes_words_and_not_money(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000, "metadata": {"a": "1", "b": "2"}})
    changed = simulator.stripe.charges.update(charge.id, {"description": "New", "metadata": {"a": ""}})
    assert (changed.description, changed.metadata.to_dict()) == ("New", {"b": "2"})
    cleared = simulator.stripe.charges.update(charge.id, {"metadata": ""})
    assert cleared.metadata.to_dict() == {}
    refused = simulator.post(f"/v1/charges/{charge.id}", {"amount": "1"})
    assert error_of(refused)["code"] == "parameter_unknown"


def test_a_customers_card_is_charged_when_only_the_customer_is_named(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create({"email": "a@example.com", "source": "tok_visa"})
    charge = simulator.stripe.charges.create({"amount": 500, "currency": "usd", "customer": customer.id})
    assert (charge.customer, charge.payment_method) == (customer.id, customer.default_source)
    cardless = simulator.stripe.customers.create()
    with pytest.raises(stripe.CardError) as raised:
        simulator.stripe.charges.create({"amount": 500, "currency": "usd", "customer": cardless.id})
    assert raised.value.code == "missing"


def test_expand_replaces_ids_by_objects(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create({"source": "tok_visa"})
    charge = simulator.stripe.charges.create(
        {"amount": 900, "currency": "usd", "customer": customer.id, "expand": ["customer", "refunds"]}
    )
    assert not isinstance(charge.customer, str) and charge.customer is not None
    assert charge.customer.id == customer.id
    assert charge.refunds is not None and charge.refunds.data == []
    listed = simulator.get("/v1/charges?expand[]=data.customer")
    assert listed["data"][0]["customer"]["object"] == "customer"
    refused = simulator.post("/v1/charges", {**CHARGE, "expand[]": "amount"})
    assert error_of(refused)["message"] == "This property cannot be expanded (amount)."
    assert len(simulator.stripe.charges.list().data) == 1


# --- refunds


def test_a_refund_without_an_amount_gives_back_what_is_left(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    part = simulator.stripe.refunds.create({"charge": charge.id, "amount": 500, "reason": "duplicate"})
    assert (part.object, part.amount, part.status, part.reason) == ("refund", 500, "succeeded", "duplicate")
    assert simulator.stripe.refunds.create({"charge": charge.id}).amount == 1500
    after = simulator.stripe.charges.retrieve(charge.id)
    assert (after.amount_refunded, after.refunded) == (2000, True)
    assert simulator.event_types() == [
        "charge.succeeded",
        "refund.created",
        "charge.refunded",
        "refund.created",
        "charge.refunded",
    ]


def test_more_than_what_is_left_is_never_refunded(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    simulator.stripe.refunds.create({"charge": charge.id, "amount": 500})
    refused = simulator.post("/v1/refunds", {"charge": charge.id, "amount": "5000"})
    assert refused.status_code == 400
    assert error_of(refused)["param"] == "amount"
    message = "Refund amount ($50.00) is greater than unrefunded amount on charge ($15.00)"
    assert error_of(refused)["message"] == message
    simulator.stripe.refunds.create({"charge": charge.id})
    again = simulator.post("/v1/refunds", {"charge": charge.id})
    assert error_of(again)["code"] == "charge_already_refunded"
    assert simulator.stripe.charges.retrieve(charge.id).amount_refunded == 2000


def test_a_refund_needs_a_charge_that_took_money(simulator: Simulator) -> None:
    neither = simulator.post("/v1/refunds", {"amount": "100"})
    assert neither.status_code == 400 and "payment_intent or charge" in error_of(neither)["message"]
    unknown = simulator.post("/v1/refunds", {"charge": "ch_missing"})
    assert (unknown.status_code, error_of(unknown)["message"]) == (404, "No such charge: 'ch_missing'")
    intent = simulator.stripe.payment_intents.create({"amount": 500, "currency": "usd"})
    unpaid = simulator.post("/v1/refunds", {"payment_intent": intent.id})
    assert "does not have a successful charge to refund" in error_of(unpaid)["message"]


def test_the_older_refund_path_answers_with_the_charge(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    answer = simulator.post(f"/v1/charges/{charge.id}/refund", {"amount": "300"}).json()
    assert (answer["object"], answer["id"], answer["amount"]) == ("charge", charge.id, 2000)
    assert answer["amount_refunded"] == 300
    below = simulator.post(f"/v1/charges/{charge.id}/refunds", {"amount": "200"}).json()
    assert (below["object"], below["amount"]) == ("refund", 200)


def test_refunds_are_retrieved_listed_and_relabelled(simulator: Simulator) -> None:
    one = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    two = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    refund = simulator.stripe.refunds.create({"charge": one.id, "amount": 100})
    simulator.stripe.refunds.create({"charge": two.id, "amount": 100})
    assert [found.id for found in simulator.stripe.refunds.list({"charge": one.id}).data] == [refund.id]
    changed = simulator.stripe.refunds.update(refund.id, {"metadata": {"why": "late"}})
    assert simulator.stripe.refunds.retrieve(refund.id).metadata == changed.metadata
    assert changed.amount == 100


# --- payment intents


def test_an_intent_is_created_and_then_confirmed(simulator: Simulator) -> None:
    intent = simulator.stripe.payment_intents.create({"amount": 2000, "currency": "EUR"})
    assert (intent.status, intent.currency, intent.latest_charge) == ("requires_payment_method", "eur", None)
    assert intent.client_secret is not None and intent.client_secret.startswith(f"{intent.id}_secret_")
    ready = simulator.stripe.payment_intents.update(
        intent.id, {"payment_method": "pm_card_visa", "amount": 2500, "metadata": {"a": "1"}}
    )
    assert (ready.status, ready.amount) == ("requires_confirmation", 2500)
    paid = simulator.stripe.payment_intents.confirm(intent.id)
    assert (paid.status, paid.amount_received, paid.amount_capturable) == ("succeeded", 2500, 0)
    charge = simulator.stripe.charges.retrieve(str(paid.latest_charge))
    assert (charge.payment_intent, charge.amount_captured) == (intent.id, 2500)
    assert simulator.event_types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


def test_an_intent_is_paid_in_one_call_with_confirm(simulator: Simulator) -> None:
    paid = simulator.stripe.payment_intents.create(
        {
            **PAY,
            "confirm": True,
            "off_session": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "expand": ["latest_charge"],
        }
    )
    assert (paid.status, paid.amount_received) == ("succeeded", 2000)
    assert not isinstance(paid.latest_charge, str) and paid.latest_charge is not None
    assert paid.latest_charge.amount == 2000


def test_a_manual_capture_takes_a_part_and_releases_the_rest(simulator: Simulator) -> None:
    held = simulator.stripe.payment_intents.create({**PAY, "confirm": True, "capture_method": "manual"})
    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 2000, 0)
    refused = simulator.post("/v1/refunds", {"payment_intent": held.id})
    assert "You must cancel the PaymentIntent" in error_of(refused)["message"]
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        simulator.stripe.payment_intents.capture(held.id, {"amount_to_capture": 2001})
    assert too_much.value.code == "amount_too_large"
    taken = simulator.stripe.payment_intents.capture(held.id, {"amount_to_capture": 600})
    assert (taken.status, taken.amount, taken.amount_received) == ("succeeded", 2000, 600)
    assert taken.amount_capturable == 0
    charge = simulator.stripe.charges.retrieve(str(taken.latest_charge))
    assert (charge.amount_captured, charge.amount_refunded) == (600, 1400)
    assert simulator.event_types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]


def test_multicapture_keeps_the_rest_held_until_the_last_capture(simulator: Simulator) -> None:
    once = simulator.stripe.payment_intents.create({**PAY, "confirm": True, "capture_method": "manual"})
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.payment_intents.capture(once.id, {"amount_to_capture": 500, "final_capture": False})
    held = simulator.stripe.payment_intents.create(
        {
            **PAY,
            "confirm": True,
            "capture_method": "manual",
            "payment_method_options": {"card": {"request_multicapture": "if_available"}},
        }
    )
    first = simulator.stripe.payment_intents.capture(
        held.id, {"amount_to_capture": 500, "final_capture": False}
    )
    assert (first.status, first.amount_received, first.amount_capturable) == ("requires_capture", 500, 1500)
    last = simulator.stripe.payment_intents.capture(held.id, {"amount_to_capture": 700})
    assert (last.status, last.amount_received, last.amount_capturable) == ("succeeded", 1200, 0)
    charge = simulator.stripe.charges.retrieve(str(last.latest_charge))
    assert (charge.amount_captured, charge.amount_refunded) == (1200, 800)


def test_an_increment_names_the_new_total(simulator: Simulator) -> None:
    held = simulator.stripe.payment_intents.create({**PAY, "confirm": True, "capture_method": "manual"})
    raised = simulator.stripe.payment_intents.increment_authorization(held.id, {"amount": 2600})
    assert (raised.amount, raised.amount_capturable) == (2600, 2600)
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.payment_intents.increment_authorization(held.id, {"amount": 2600})
    paid = simulator.stripe.payment_intents.capture(held.id)
    assert paid.amount_received == 2600


def test_cancelling_releases_the_hold(simulator: Simulator) -> None:
    held = simulator.stripe.payment_intents.create({**PAY, "confirm": True, "capture_method": "manual"})
    gone = simulator.stripe.payment_intents.cancel(held.id, {"cancellation_reason": "abandoned"})
    assert (gone.status, gone.cancellation_reason, gone.amount_capturable) == ("canceled", "abandoned", 0)
    charge = simulator.stripe.charges.retrieve(str(gone.latest_charge))
    assert (charge.amount_captured, charge.amount_refunded, charge.refunded) == (0, 2000, True)
    assert simulator.seen("summary")["money"]["usd"] == {"charged": 2000, "captured": 0, "refunded": 0}
    refused = simulator.post("/v1/refunds", {"charge": charge.id})
    assert "does not have a successful charge to refund" in error_of(refused)["message"]


def test_a_declined_intent_waits_for_another_card(simulator: Simulator) -> None:
    with pytest.raises(stripe.CardError) as raised:
        simulator.stripe.payment_intents.create(
            {**PAY, "payment_method": "pm_card_chargeDeclined", "confirm": True}
        )
    error = error_in(raised.value)
    assert error["code"] == "card_declined"
    assert error["payment_intent"]["status"] == "requires_payment_method"
    intent = simulator.stripe.payment_intents.retrieve(error["payment_intent"]["id"])
    assert (intent.payment_method, intent.latest_charge) == (None, error["charge"])
    assert intent.last_payment_error is not None and intent.last_payment_error.code == "card_declined"
    paid = simulator.stripe.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)
    assert "payment_intent.payment_failed" in simulator.event_types()


def test_a_card_that_wants_authentication_stops_the_intent(simulator: Simulator) -> None:
    asks = {**PAY, "payment_method": "pm_card_authenticationRequired", "confirm": True}
    waiting = simulator.stripe.payment_intents.create(asks)
    assert (waiting.status, waiting.amount_received) == ("requires_action", 0)
    assert waiting.next_action is not None
    with pytest.raises(stripe.CardError) as absent:
        simulator.stripe.payment_intents.create({**asks, "off_session": True})
    assert absent.value.code == "authentication_required"
    with pytest.raises(stripe.CardError) as unwanted:
        simulator.stripe.payment_intents.create({**asks, "error_on_requires_action": True})
    assert unwanted.value.code == "authentication_required"
    assert "payment_intent.requires_action" in simulator.event_types()


@pytest.mark.parametrize(
    ("status", "forbidden"),
    [
        ("requires_payment_method", ["capture", "increment_authorization"]),
        ("requires_confirmation", ["capture", "increment_authorization"]),
        ("requires_capture", ["confirm"]),
        ("succeeded", ["confirm", "capture", "cancel", "increment_authorization"]),
        ("canceled", ["confirm", "capture", "cancel", "increment_authorization"]),
    ],
)
def test_a_step_that_the_status_does_not_allow_is_refused(
    simulator: Simulator, status: str, forbidden: list[str]
) -> None:
    extra: dict[str, dict[str, str]] = {
        "requires_payment_method": {},
        "requires_confirmation": {"payment_method": "pm_card_visa"},
        "requires_capture": {"payment_method": "pm_card_visa", "confirm": "true", "capture_method": "manual"},
        "succeeded": {"payment_method": "pm_card_visa", "confirm": "true"},
        "canceled": {},
    }
    sent = {"amount": "2000", "currency": "usd", **extra[status]}
    intent = simulator.post("/v1/payment_intents", sent).json()
    if status == "canceled":
        simulator.post(f"/v1/payment_intents/{intent['id']}/cancel")
    for step in forbidden:
        body = {"amount": "3000"} if step == "increment_authorization" else None
        refused = simulator.post(f"/v1/payment_intents/{intent['id']}/{step}", body)
        assert refused.status_code == 400, step
        assert error_of(refused)["code"] == "payment_intent_unexpected_state", step
        assert error_of(refused)["payment_intent"]["status"] == status


def test_the_amount_of_a_paid_intent_cannot_be_updated(simulator: Simulator) -> None:
    paid = simulator.stripe.payment_intents.create({**PAY, "confirm": True})
    with pytest.raises(stripe.InvalidRequestError) as raised:
        simulator.stripe.payment_intents.update(paid.id, {"amount": 9000})
    assert raised.value.code == "payment_intent_unexpected_state"
    assert simulator.stripe.payment_intents.update(paid.id, {"description": "still fine"}).amount == 2000


def test_confirming_without_a_card_is_refused(simulator: Simulator) -> None:
    refused = simulator.post("/v1/payment_intents", {"amount": "500", "currency": "usd", "confirm": "true"})
    assert error_of(refused)["code"] == "payment_intent_unexpected_state"
    assert "missing a payment method" in error_of(refused)["message"]


# --- customers, products, prices, balance


def test_a_customer_is_created_changed_and_deleted(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create({"name": "Ada", "email": "ada@example.com"})
    changed = simulator.stripe.customers.update(customer.id, {"name": "Ada L."})
    assert (changed.name, changed.email) == ("Ada L.", "ada@example.com")
    assert simulator.stripe.customers.delete(customer.id).deleted is True
    assert simulator.get(f"/v1/customers/{customer.id}")["deleted"] is True
    assert simulator.stripe.customers.list().data == []
    assert simulator.event_types() == ["customer.created", "customer.updated", "customer.deleted"]
    refused = simulator.post("/v1/charges", {**CHARGE, "customer": customer.id})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "resource_missing")


def test_products_and_prices_are_kept(simulator: Simulator) -> None:
    product = simulator.stripe.products.create({"name": "Seat"})
    price = simulator.stripe.prices.create({"currency": "usd", "unit_amount": 1500, "product": product.id})
    assert simulator.stripe.prices.retrieve(price.id).unit_amount == 1500
    assert [one.id for one in simulator.stripe.prices.list({"product": product.id}).data] == [price.id]
    assert [one.name for one in simulator.stripe.products.list().data] == ["Seat"]


def test_the_balance_is_what_was_captured_less_what_was_given_back(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    simulator.stripe.refunds.create({"charge": charge.id, "amount": 300})
    available = simulator.stripe.balance.retrieve().available
    assert [(entry.amount, entry.currency) for entry in available] == [(1700, "usd")]


# --- parameters


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a=1&a=2", {"a": "2"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("a&b=", {"a": "", "b": ""}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a[0]=1&a[1]=2", {"a": {"0": "1", "1": "2"}}),
        ("x[][a]=1&x[][b]=2&x[][a]=3", {"x": [{"a": "1", "b": "2"}, {"a": "3"}]}),
        ("a[b]=1&a=2", {"a": "2"}),
        ("%61%5Bb%5D=%3D%26+", {"a": {"b": "=& "}}),
        ("[]=1&a[=2", {"[]": "1", "a[": "2"}),
    ],
)
def test_forms_nest_as_in_rack(text: str, form: Form) -> None:
    assert parse_form(text) == form


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a[]=1&a[b]=2", "a=%ff", "a" + "[b]" * 40 + "=1"])
def test_a_form_that_contradicts_itself_is_refused(simulator: Simulator, text: str) -> None:
    assert simulator.post("/v1/charges", text).status_code == 400


@pytest.mark.parametrize(
    "amount",
    [
        "9175.2",
        "1e3",
        "NaN",
        "",
        "+500",
        " 500",
        "500 ",
        "1_000",
        "0x64",
        "\uff11\uff10\uff10",
        "1,000",
        "5" * 30,
        "\u0663\u0660\u0660",
    ],
)
def test_only_plain_integers_are_amounts(simulator: Simulator, amount: str) -> None:
    refused = simulator.post("/v1/charges", {**CHARGE, "amount": amount})
    assert refused.status_code == 400
    assert error_of(refused)["code"] == "parameter_invalid_integer"
    assert error_of(refused)["param"] == "amount"
    assert error_of(refused)["message"] == f"Invalid integer: {amount}"


@pytest.mark.parametrize("body", ["amount[]=500", "amount[a]=500"])
def test_an_amount_is_not_a_list_or_a_hash(simulator: Simulator, body: str) -> None:
    refused = simulator.post("/v1/charges", f"{body}&currency=usd&source=tok_visa")
    assert error_of(refused)["code"] == "parameter_invalid_integer"


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("0", "usd", "parameter_invalid_integer"),
        ("-500", "usd", "parameter_invalid_integer"),
        ("49", "usd", "amount_too_small"),
        ("100000000", "usd", "amount_too_large"),
        ("550", "isk", "invalid_charge_amount"),
        ("5121", "kwd", "invalid_charge_amount"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/charges", "/v1/payment_intents"])
def test_amounts_have_limits(simulator: Simulator, path: str, amount: str, currency: str, code: str) -> None:
    refused = simulator.post(path, {"amount": amount, "currency": currency})
    assert (refused.status_code, error_of(refused)["code"]) == (400, code)
    assert error_of(refused)["param"] == "amount"


def test_an_unknown_currency_is_refused(simulator: Simulator) -> None:
    refused = simulator.post("/v1/charges", {**CHARGE, "currency": "EURO"})
    assert refused.status_code == 400
    assert error_of(refused)["message"].startswith("Invalid currency: euro. Stripe currently supports")


@pytest.mark.parametrize("name", ["amount", "currency"])
def test_a_missing_parameter_is_named(simulator: Simulator, name: str) -> None:
    refused = simulator.post("/v1/charges", {k: v for k, v in CHARGE.items() if k != name})
    error = error_of(refused)
    assert (error["code"], error["param"]) == ("parameter_missing", name)
    assert error["message"] == f"Missing required param: {name}."


def test_a_key_sent_as_a_parameter_is_an_unknown_parameter(simulator: Simulator) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        simulator.stripe.charges.create({**CHARGE, "amount": 500, "idempotency_key": "X"})
    assert raised.value.code == "parameter_unknown"
    assert "Received unknown parameter: idempotency_key" in str(raised.value)
    assert simulator.seen("summary")["posts"]["executed"] == 0


def test_the_last_of_a_repeated_scalar_wins(simulator: Simulator) -> None:
    body = "amount=100&currency=usd&source=tok_visa&amount=99999"
    assert simulator.post("/v1/charges", body).json()["amount"] == 99999


def test_a_posts_query_string_is_merged_under_the_body(simulator: Simulator) -> None:
    only_query = simulator.post("/v1/charges?amount=700&currency=usd&source=tok_visa", "")
    assert only_query.json()["amount"] == 700
    both = simulator.post("/v1/charges?amount=700&description=from-query", dict(CHARGE))
    assert (both.json()["amount"], both.json()["description"]) == (2000, "from-query")


def test_a_multipart_body_is_read_as_a_form(simulator: Simulator) -> None:
    fields = {name: (None, value) for name, value in CHARGE.items()}
    answer = simulator.raw.post("/v1/charges", files=fields, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.json()["amount"] == 2000


def test_metadata_nests_by_brackets(simulator: Simulator) -> None:
    body = "amount=500&currency=usd&source=tok_visa&metadata[run]=r1&metadata%5Bstep%5D=a%20b+c"
    assert simulator.post("/v1/charges", body).json()["metadata"] == {"run": "r1", "step": "a b c"}


def test_a_json_body_is_refused(simulator: Simulator) -> None:
    refused = simulator.post("/v1/charges", json.dumps(CHARGE), Content_Type="application/json")
    assert refused.status_code == 400
    assert "POST content type is application/x-www-form-urlencoded" in error_of(refused)["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chargez"),
        ("POST", "/v1/charges/"),
        ("POST", "/v1//charges"),
        ("PUT", "/v1/charges"),
        ("POST", "/V1/charges"),
        ("POST", "/v1/payment_intents/pi_1/void"),
    ],
)
def test_an_unknown_url_is_404(simulator: Simulator, method: str, path: str) -> None:
    answer = simulator.raw.request(method, path, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 404
    message = error_of(answer)["message"]
    assert message.startswith(f"Unrecognized request URL ({method}: {path}).")
    assert "Stripe simulator does not have" in message


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("charges", "charge"),
        ("payment_intents", "payment_intent"),
        ("refunds", "refund"),
        ("customers", "customer"),
        ("events", "event"),
    ],
)
def test_an_unknown_object_is_404(simulator: Simulator, path: str, noun: str) -> None:
    answer = simulator.raw.get(f"/v1/{path}/x_1", headers={"Authorization": f"Bearer {KEY}"})
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (404, "resource_missing")
    assert error["message"] == f"No such {noun}: 'x_1'"
    assert error["param"]


# --- authentication, accounts, headers


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


def test_the_api_key_may_come_three_ways(simulator: Simulator) -> None:
    assert simulator.raw.get("/v1/balance", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert simulator.raw.get("/v1/balance", headers={"Authorization": basic("rk_test_1")}).status_code == 200
    assert simulator.raw.get(f"/v1/balance?key={KEY}").status_code == 200
    assert simulator.raw.post("/v1/charges", data={**CHARGE, "key": KEY}).status_code == 200
    seen = simulator.seen()
    kinds = [entry["authorization"] for entry in seen]
    assert [kind["kind"] for kind in kinds] == ["bearer", "basic", "parameter", "parameter"]
    assert kinds[0]["last4"] == KEY[-4:]
    assert KEY not in json.dumps(seen)


@pytest.mark.parametrize("key", [None, "sk_live_123456789012", "pk_test_123456789012", "nonsense"])
def test_other_keys_are_401(simulator: Simulator, key: str | None) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    refused = simulator.raw.post("/v1/charges", data=CHARGE, headers={**headers, "Idempotency-Key": "k"})
    assert (refused.status_code, error_of(refused)["type"]) == (401, "invalid_request_error")
    # The key was not used up.
    assert simulator.post("/v1/charges", CHARGE, key="k").status_code == 200


def test_connected_accounts_share_neither_objects_nor_keys(simulator: Simulator) -> None:
    mine = simulator.post("/v1/charges", CHARGE, key="k").json()
    theirs = simulator.post("/v1/charges", CHARGE, key="k", Stripe_Account="acct_other")
    assert theirs.json()["id"] != mine["id"] and "Idempotent-Replayed" not in theirs.headers
    assert theirs.headers["Stripe-Account"] == "acct_other"
    assert [charge["id"] for charge in simulator.get("/v1/charges")["data"]] == [mine["id"]]
    assert simulator.seen()[1]["stripe_account"] == "acct_other"
    assert simulator.seen("summary")["charges"]["succeeded"] == 2


def test_every_answer_has_a_request_id_and_echoes_the_version(simulator: Simulator) -> None:
    answer = simulator.post("/v1/charges", CHARGE, Stripe_Version="2024-06-20")
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Stripe-Version"] == "2024-06-20"
    refused = simulator.post("/v1/charges", {})
    assert refused.headers["Request-Id"] in error_of(refused)["request_log_url"]


def test_only_the_given_secret_keys_are_accepted_and_the_ready_file_names_the_address(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process, url = start_simulator("--secret-key", "sk_test_only", "--ready-file", str(ready))
    try:
        wait_until(ready.exists)
        assert ready.read_text(encoding="utf-8") == url
        assert list(tmp_path.iterdir()) == [ready]
        answers = {
            key: httpx.get(f"{url}/v1/balance", headers={"Authorization": f"Bearer {key}"}).status_code
            for key in ("sk_test_only", "sk_test_other")
        }
        assert answers == {"sk_test_only": 200, "sk_test_other": 401}
    finally:
        assert stop_simulator(process, signal.SIGINT) == 0


# --- idempotency


def test_a_repeated_key_replays_the_first_answer(simulator: Simulator) -> None:
    first = simulator.post("/v1/charges", CHARGE, key="k1")
    second = simulator.post("/v1/charges", dict(reversed(CHARGE.items())), key="k1")
    assert (second.status_code, second.content) == (200, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Idempotency-Key"] == first.headers["Idempotency-Key"] == "k1"
    assert first.headers["Original-Request"] == first.headers["Request-Id"]
    assert second.headers["Original-Request"] == first.headers["Request-Id"]
    assert second.headers["Request-Id"] != first.headers["Request-Id"]
    assert simulator.seen("summary")["posts"] == {"received": 2, "executed": 1, "replayed": 1}


def test_a_key_with_other_parameters_is_refused(simulator: Simulator) -> None:
    simulator.post("/v1/charges", CHARGE, key="k1")
    with pytest.raises(stripe.IdempotencyError) as raised:
        simulator.stripe.charges.create({**CHARGE, "amount": 2001}, {"idempotency_key": "k1"})
    assert raised.value.http_status == 400
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        "Try using a key other than 'k1' if you meant to execute a different request."
    )
    assert message in str(raised.value)


def test_a_key_at_another_endpoint_is_refused(simulator: Simulator) -> None:
    charge = simulator.post("/v1/charges", CHARGE, key="k1").json()
    refused = simulator.post("/v1/refunds", {"charge": charge["id"]}, key="k1")
    assert (refused.status_code, error_of(refused)["type"]) == (400, "idempotency_error")
    assert "('/v1/refunds' vs '/v1/charges')" in error_of(refused)["message"]
    assert simulator.seen("summary")["refunds"] == 0


def test_a_key_whose_first_request_is_in_flight_is_409(simulator: Simulator) -> None:
    # Clearing the faults lets the held request go on, so no result depends on how long anything takes.
    simulator.fault("delay", seconds=600)
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=simulator.url, timeout=600) as other:
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "k1"}
        held = pool.submit(other.post, "/v1/charges", data=CHARGE, headers=headers)
        wait_until(simulator.has_admitted_one)
        conflict = simulator.post("/v1/charges", CHARGE, key="k1")
        mismatch = simulator.post("/v1/charges", {**CHARGE, "amount": "5"}, key="k1")
        simulator.raw.delete("/_simulator/faults")
        first = held.result()
    assert (conflict.status_code, error_of(conflict)["code"]) == (409, "idempotency_key_in_use")
    assert error_of(conflict)["message"].startswith("There is currently another in-progress request using")
    assert (mismatch.status_code, error_of(mismatch)["type"]) == (400, "idempotency_error")
    assert first.status_code == 200
    # The conflict itself was not kept.
    assert simulator.post("/v1/charges", CHARGE, key="k1").json() == first.json()
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


def test_declines_and_executed_refusals_are_kept(simulator: Simulator) -> None:
    declined = simulator.post("/v1/charges", {**CHARGE, "source": "tok_chargeDeclined"}, key="k1")
    again = simulator.post("/v1/charges", {**CHARGE, "source": "tok_chargeDeclined"}, key="k1")
    assert (again.status_code, again.content) == (402, declined.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    charge = simulator.post("/v1/charges", CHARGE).json()
    over = {"charge": charge["id"], "amount": "9999"}
    refused = simulator.post("/v1/refunds", over, key="k2")
    assert refused.headers["Stripe-Should-Retry"] == "false"
    assert simulator.post("/v1/refunds", over, key="k2").headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        ("/v1/charges", {**CHARGE, "amount": "x"}),
        ("/v1/charges", {**CHARGE, "bogus": "1"}),
        ("/v1/charges", {"currency": "usd"}),
        ("/v1/chargez", dict(CHARGE)),
    ],
)
def test_a_refusal_before_execution_leaves_the_key_free(
    simulator: Simulator, path: str, bad: dict[str, str]
) -> None:
    assert simulator.post(path, bad, key="k1").status_code in (400, 404)
    corrected = simulator.post("/v1/charges", CHARGE, key="k1")
    assert corrected.status_code == 200 and "Idempotent-Replayed" not in corrected.headers


def test_a_stored_500_is_replayed_although_the_money_moved(simulator: Simulator) -> None:
    simulator.fault("error_after")
    failed = simulator.post("/v1/charges", CHARGE, key="k1")
    assert (failed.status_code, error_of(failed)["type"]) == (500, "api_error")
    again = simulator.post("/v1/charges", CHARGE, key="k1")
    assert (again.status_code, again.content) == (500, failed.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


def test_a_key_is_forgotten_after_24_hours(simulator: Simulator) -> None:
    start = simulator.control("clock", {"set": 1_800_000_000})["now"]
    first = simulator.post("/v1/charges", CHARGE, key="k1").json()
    assert 0 <= first["created"] - start < 60
    simulator.control("clock", {"advance_seconds": DAY_SECONDS - 600})
    assert simulator.post("/v1/charges", CHARGE, key="k1").json()["id"] == first["id"]
    simulator.control("clock", {"advance_seconds": 600})
    later = simulator.post("/v1/charges", CHARGE, key="k1")
    assert later.json()["id"] != first["id"] and "Idempotent-Replayed" not in later.headers


def test_a_key_longer_than_255_characters_is_refused(simulator: Simulator) -> None:
    assert simulator.post("/v1/charges", CHARGE, key="k" * 255).status_code == 200
    refused = simulator.post("/v1/charges", CHARGE, key="k" * 256)
    assert refused.status_code == 400
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


def test_get_and_delete_ignore_keys(simulator: Simulator) -> None:
    customer = simulator.post("/v1/customers", {}).json()
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "k1"}
    for _ in range(2):
        assert "Idempotent-Replayed" not in simulator.raw.get("/v1/customers", headers=headers).headers
    assert simulator.raw.delete(f"/v1/customers/{customer['id']}", headers=headers).status_code == 200
    assert simulator.raw.delete(f"/v1/customers/{customer['id']}", headers=headers).status_code == 404


# --- events and lists


def test_an_event_names_the_request_and_its_key(simulator: Simulator) -> None:
    answer = simulator.post("/v1/charges", CHARGE, key="run-1:charge")
    simulator.post("/v1/charges", CHARGE)
    keyless, keyed = simulator.stripe.events.list({"type": "charge.succeeded"}).data
    assert keyed.request is not None and keyless.request is not None
    assert keyed.request.idempotency_key == "run-1:charge"
    assert keyed.request.id == answer.headers["Request-Id"]
    assert keyless.request.idempotency_key is None
    assert keyed.data.object["id"] == answer.json()["id"]
    assert simulator.stripe.events.retrieve(keyed.id).type == "charge.succeeded"


def test_an_event_keeps_the_object_as_it_was(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    simulator.stripe.refunds.create({"charge": charge.id, "amount": 300})
    refunded, succeeded = simulator.stripe.events.list(
        {"types": ["charge.succeeded", "charge.refunded"]}
    ).data
    assert succeeded.data.object["amount_refunded"] == 0
    assert refunded.data.object["amount_refunded"] == 300
    data = simulator.get(f"/v1/events/{refunded.id}")["data"]
    assert data["previous_attributes"] == {"amount_refunded": 0}


def test_events_are_filtered_by_time_and_listed_for_thirty_days(simulator: Simulator) -> None:
    simulator.control("clock", {"set": 1_800_000_000})
    simulator.post("/v1/charges", CHARGE)
    simulator.control("clock", {"set": 1_800_100_000})
    simulator.post("/v1/charges", CHARGE)
    recent = simulator.get("/v1/events?created[gte]=1800050000")["data"]
    assert len(recent) == 1 and recent[0]["created"] >= 1_800_100_000
    assert len(simulator.get("/v1/events?type=charge.*")["data"]) == 2
    simulator.control("clock", {"set": 1_800_000_000 + 31 * DAY_SECONDS})
    assert [event["id"] for event in simulator.get("/v1/events")["data"]] == [recent[0]["id"]]


def test_lists_page_by_themselves_newest_first(simulator: Simulator) -> None:
    made = [simulator.post("/v1/charges", CHARGE).json()["id"] for _ in range(23)]
    page = simulator.stripe.charges.list({"limit": 10})
    assert (page.has_more, page.url, len(page.data)) == (True, "/v1/charges", 10)
    assert [charge.id for charge in page.auto_paging_iter()] == made[::-1]
    newer = simulator.get(f"/v1/charges?ending_before={made[2]}&limit=5")
    assert [charge["id"] for charge in newer["data"]] == made[3:8][::-1]
    assert newer["has_more"] is True
    last = simulator.get(f"/v1/charges?starting_after={made[3]}&limit=500")
    assert ([charge["id"] for charge in last["data"]], last["has_more"]) == (made[:3][::-1], False)


def test_charges_are_filtered_by_customer_and_intent(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create({"source": "tok_visa"})
    simulator.stripe.charges.create({"amount": 500, "currency": "usd", "customer": customer.id})
    paid = simulator.stripe.payment_intents.create({**PAY, "confirm": True})
    by_customer = simulator.stripe.charges.list({"customer": customer.id}).data
    assert [charge.amount for charge in by_customer] == [500]
    by_intent = simulator.stripe.charges.list({"payment_intent": paid.id}).data
    assert [charge.id for charge in by_intent] == [paid.latest_charge]


# --- faults


def test_a_dropped_reply_is_found_again_under_the_same_key(simulator: Simulator) -> None:
    simulator.fault("drop_reply")
    with pytest.raises(httpx.RemoteProtocolError):
        simulator.post("/v1/charges", CHARGE, key="k1")
    assert simulator.seen("summary")["charges"]["succeeded"] == 1
    again = simulator.post("/v1/charges", CHARGE, key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == simulator.get("/v1/charges")["data"][0]["id"]
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


def test_a_client_that_hangs_up_does_not_stop_its_request(simulator: Simulator) -> None:
    simulator.fault("delay", seconds=600)
    body = b"amount=2000&currency=usd&source=tok_visa"
    head = (
        "POST /v1/charges HTTP/1.1\r\nHost: simulator\r\nIdempotency-Key: k1\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    address = httpx.URL(simulator.url)
    with socket.create_connection((address.host, address.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        wait_until(simulator.has_admitted_one)
    assert simulator.post("/v1/charges", CHARGE, key="k1").status_code == 409
    simulator.raw.delete("/_simulator/faults")
    wait_until(lambda: bool(simulator.seen("summary")["charges"]["succeeded"]))
    assert simulator.post("/v1/charges", CHARGE, key="k1").headers["Idempotent-Replayed"] == "true"
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


def test_a_refused_connection_executes_nothing(simulator: Simulator) -> None:
    simulator.fault("refuse", match={"method": "POST", "path": "/v1/charges"})
    with pytest.raises(httpx.TransportError):
        simulator.post("/v1/charges", CHARGE, key="k1")
    assert simulator.seen()[0]["status"] is None
    assert simulator.seen("summary")["posts"]["executed"] == 0
    assert simulator.post("/v1/charges", CHARGE, key="k1").status_code == 200


def test_an_error_before_execution_is_not_kept(simulator: Simulator) -> None:
    simulator.fault("error_before", times=2, status=503)
    assert [simulator.post("/v1/charges", CHARGE, key="k1").status_code for _ in range(3)] == [503, 503, 200]
    assert simulator.seen("summary")["charges"]["succeeded"] == 1
    simulator.fault("error_before", status=429)
    with pytest.raises(stripe.RateLimitError):
        simulator.stripe.charges.create({**CHARGE, "amount": 500})


def test_a_delayed_answer_may_come_after_execution(simulator: Simulator) -> None:
    simulator.fault("delay", seconds=600, stage="after")
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=simulator.url, timeout=600) as other:
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "k1"}
        held = pool.submit(other.post, "/v1/charges", data=CHARGE, headers=headers)
        wait_until(lambda: simulator.seen("summary")["charges"]["succeeded"] == 1)
        assert not held.done()
        replayed = simulator.post("/v1/charges", CHARGE, key="k1")
        simulator.raw.delete("/_simulator/faults")
        assert held.result().json() == replayed.json()


def test_a_fault_lasts_as_often_as_it_says(simulator: Simulator) -> None:
    simulator.fault("error_before", match={"method": "post", "path": "/v1/refunds"}, times=None)
    assert simulator.post("/v1/charges", CHARGE).status_code == 200
    assert [simulator.post("/v1/refunds", {}).status_code for _ in range(3)] == [500, 500, 500]
    assert simulator.seen("faults")["faults"] == [
        {
            "fault": "error_before",
            "match": {"method": "POST", "path": "/v1/refunds"},
            "times": None,
            "status": 500,
        }
    ]
    assert simulator.raw.delete("/_simulator/faults").json() == {"cleared": 1}
    assert simulator.post("/v1/refunds", {}).status_code == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"fault": "explode"}, "fault must be one of"),
        ({"fault": "delay"}, "delay needs seconds"),
        ({"fault": "delay", "seconds": -1}, "seconds must be"),
        ({"fault": "drop_reply", "seconds": 1}, "seconds belongs to delay"),
        ({"fault": "refuse", "status": 500}, "status belongs to"),
        ({"fault": "error_before", "status": 200}, "status must be"),
        ({"fault": "error_before", "times": 0}, "times must be"),
        ({"fault": "error_before", "often": 1}, "no field 'often'"),
        ({"fault": "error_before", "match": {"url": "/"}}, "no field 'url'"),
        ([], "not a JSON object"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(simulator: Simulator, body: object, said: str) -> None:
    refused = simulator.raw.post("/_simulator/faults", json=body)
    assert refused.status_code == 400
    assert said in refused.json()["error"]


# --- control


def test_the_request_log_tells_what_each_request_did(simulator: Simulator) -> None:
    charge = simulator.post("/v1/charges?description=q", CHARGE, key="k1").json()
    simulator.post("/v1/charges?description=q", CHARGE, key="k1")
    simulator.post("/v1/charges", {"metadata[a]": "1"})
    simulator.get("/v1/charges")
    first, replay, refused = simulator.raw.get("/_simulator/requests?method=POST").json()
    assert (first["n"], first["method"], first["path"]) == (1, "POST", "/v1/charges")
    assert (first["query"], first["idempotency_key"]) == ("description=q", "k1")
    assert first["parameters"] == {**CHARGE, "description": "q"}
    assert (first["status"], first["executed"], first["replayed"]) == (200, True, False)
    assert first["object_id"] == replay["object_id"] == charge["id"]
    assert (replay["executed"], replay["replayed"]) == (False, True)
    assert (refused["status"], refused["executed"]) == (400, False)
    assert refused["parameters"] == {"metadata[a]": "1"}
    assert len(simulator.seen()) == 4


def test_the_summary_counts_posts_by_endpoint(simulator: Simulator) -> None:
    charge = simulator.post("/v1/charges", CHARGE, key="k1").json()
    simulator.post("/v1/charges", CHARGE, key="k1")
    simulator.post("/v1/charges", {**CHARGE, "source": "tok_chargeDeclined"})
    simulator.post(f"/v1/charges/{charge['id']}/refund", {"amount": "300"})
    assert simulator.seen("summary") == {
        "posts": {"received": 4, "executed": 3, "replayed": 1},
        "endpoints": {
            "POST /v1/charges": {"received": 3, "executed": 2, "replayed": 1},
            "POST /v1/charges/{id}/refund": {"received": 1, "executed": 1, "replayed": 0},
        },
        "charges": {"succeeded": 1, "failed": 1},
        "refunds": 1,
        "money": {"usd": {"charged": 2000, "captured": 2000, "refunded": 300}},
    }


def test_reset_forgets_everything(simulator: Simulator) -> None:
    simulator.control("clock", {"set": 2_000_000_000})
    simulator.post("/v1/charges", CHARGE, key="k1")
    simulator.fault("error_before")
    simulator.control("reset", {})
    assert simulator.seen() == []
    assert simulator.seen("faults")["faults"] == []
    assert simulator.seen("clock")["now"] < 2_000_000_000
    assert "Idempotent-Replayed" not in simulator.post("/v1/charges", CHARGE, key="k1").headers
    assert simulator.seen("summary")["charges"]["succeeded"] == 1


@pytest.mark.parametrize("body", [{}, {"set": "now"}, {"advance_seconds": 1, "set": 2}, {"forward": 1}])
def test_a_clock_move_that_makes_no_sense_is_refused(simulator: Simulator, body: object) -> None:
    assert simulator.raw.post("/_simulator/clock", json=body).status_code == 400
