"""What a call commits at most: read from the request, or asked of the objects that Stripe has."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from sidecar.exchange import Answer, Request
from sidecar.refusals import Refused
from sidecar.stripe.vendor import Stripe
from sidecar.vendor import Call, Money, Price, Unpriced

STRIPE = Stripe()

OBJECTS: dict[str, dict[str, Any]] = {
    "/v1/charges/ch_1": {"id": "ch_1", "amount": 3000, "amount_refunded": 500, "currency": "usd"},
    "/v1/charges/ch_done": {"id": "ch_done", "amount": 3000, "amount_refunded": 3000, "currency": "usd"},
    "/v1/charges/ch_pi": {
        "id": "ch_pi",
        "amount": 900,
        "amount_refunded": 0,
        "currency": "eur",
        "payment_intent": "pi_1",
    },
    "/v1/charges/dp_1/dispute": {"amount": 700, "currency": "usd"},
    "/v1/payment_intents/pi_1": {
        "id": "pi_1",
        "amount": 5000,
        "amount_received": 1000,
        "amount_capturable": 4000,
        "currency": "usd",
        "latest_charge": {"id": "ch_pi", "amount": 5000, "amount_refunded": 4000, "currency": "usd"},
    },
    "/v1/prices/price_1": {
        "id": "price_1",
        "unit_amount": 1250,
        "unit_amount_decimal": "1250",
        "currency": "usd",
        "currency_options": {"usd": {"unit_amount": 1250}, "jpy": {"unit_amount": 180}},
    },
    "/v1/prices/price_fraction": {"id": "price_fraction", "unit_amount_decimal": "0.35", "currency": "usd"},
    "/v1/prices/price_tiers": {"id": "price_tiers", "billing_scheme": "tiered", "currency": "usd"},
    "/v1/prices/price_usage": {
        "id": "price_usage",
        "unit_amount": 5,
        "currency": "usd",
        "recurring": {"usage_type": "metered"},
    },
    "/v1/prices/price_any": {"id": "price_any", "currency": "usd", "custom_unit_amount": {"maximum": None}},
    "/v1/prices/price_upto": {"id": "price_upto", "currency": "usd", "custom_unit_amount": {"maximum": 9000}},
    "/v1/prices/price_dozen": {
        "id": "price_dozen",
        "unit_amount": 1000,
        "currency": "usd",
        "transform_quantity": {"divide_by": 12, "round": "down"},
    },
    "/v1/shipping_rates/shr_1": {"fixed_amount": {"amount": 700, "currency": "usd"}},
    "/v1/transfers/tr_1": {"amount": 800, "amount_reversed": 300, "currency": "usd"},
    "/v1/payouts/po_1": {"amount": 600, "currency": "usd"},
    "/v1/application_fees/fee_1": {"amount": 90, "amount_refunded": 10, "currency": "usd"},
    "/v1/customers/cus_1": {"id": "cus_1", "balance": -200, "currency": "usd"},
    "/v1/customers/cus_2": {"id": "cus_2", "balance": 0, "currency": None},
    "/v1/invoices/in_1": {
        "id": "in_1",
        "amount_due": 4200,
        "total": 5000,
        "currency": "usd",
        "lines": {
            "data": [
                {"parent": {"invoice_item_details": {"invoice_item": "ii_1"}}},
                {"parent": {"subscription_item_details": {}}},
            ]
        },
    },
    "/v1/invoiceitems": {
        "has_more": False,
        "data": [
            {"id": "ii_1", "amount": 300, "currency": "usd"},
            {"id": "ii_2", "amount": -50, "currency": "usd"},
            {"id": "ii_3", "amount": 900, "currency": "eur"},
        ],
    },
    "/v1/invoiceitems/ii_1": {
        "id": "ii_1",
        "currency": "usd",
        "amount": 300,
        "quantity": 3,
        "pricing": {"unit_amount_decimal": "100"},
    },
    "/v1/subscriptions/sub_1": {
        "id": "sub_1",
        "currency": "usd",
        "items": {
            "data": [
                {
                    "id": "si_1",
                    "quantity": 2,
                    "price": {"id": "price_1", "unit_amount": 1250, "currency": "usd"},
                },
                {
                    "id": "si_2",
                    "quantity": 1,
                    "price": {"id": "price_9", "unit_amount": 100, "currency": "usd"},
                },
            ]
        },
    },
    "/v1/subscription_items/si_1": {
        "id": "si_1",
        "quantity": 2,
        "price": {"id": "price_1", "unit_amount": 1250, "currency": "usd"},
    },
    "/v1/quotes/qt_1": {
        "amount_total": 1000,
        "currency": "usd",
        "computed": {"upfront": {"amount_total": 2500}},
    },
    "/v2/money_management/payout_intents/pint_1": {"amount": {"value": 77, "currency": "usd"}},
}


def read(endpoint: str, form: dict[str, str] | str = "", **headers: str) -> Call:
    """Read a request as the sidecar does."""
    method, path = endpoint.split(" ")
    body = urlencode(form) if isinstance(form, dict) else form
    v2 = path.startswith("/v2/")
    named = {"content-type": "application/json" if v2 else "application/x-www-form-urlencoded", **headers}
    raw = {name.replace("_", "-").encode(): [value.encode()] for name, value in named.items()}
    in_query = method == "DELETE" and not v2
    return STRIPE.read(
        Request(method, path, body if in_query else "", raw, b"" if in_query else body.encode())
    )


def price(endpoint: str, form: dict[str, str] | str = "", **headers: str) -> Price | None:
    """Price a call, asking for the objects above."""
    call = read(endpoint, form, **headers)
    if call.price is not None or not call.asks:
        return call.price

    async def fetch(path: str) -> Answer:
        found = OBJECTS.get(path.partition("?")[0])
        return Answer(200 if found else 404, [], json.dumps(found or {}).encode())

    return asyncio.run(STRIPE.price(call, fetch))


USD = "usd"
PRICED: list[tuple[str, Any, int, str]] = [
    # Named in the request, in currencies of 0, 2 and 3 decimals, as Stripe counts them.
    ("POST /v1/charges", {"amount": "1900", "currency": "usd"}, 1900, "USD"),
    ("POST /v1/charges", {"amount": "500", "currency": "JPY"}, 500, "JPY"),
    ("POST /v1/charges", {"amount": "5120", "currency": "kwd"}, 5120, "KWD"),
    ("POST /v1/payouts", {"amount": "700", "currency": "usd"}, 700, "USD"),
    ("POST /v1/topups", {"amount": "700", "currency": "usd"}, 700, "USD"),
    # Splits among accounts are not extra money.
    (
        "POST /v1/payment_intents",
        {"amount": "1000", "currency": "usd", "application_fee_amount": "100", "transfer_data[amount]": "900"},
        1000,
        "USD",
    ),
    ("POST /v1/payment_intents", {"amount": "1000", "currency": "usd", "metadata[amount]": "9"}, 1000, "USD"),
    # A customer's balance moves either way.
    ("POST /v1/customers/cus_1/balance_transactions", {"amount": "-450", "currency": "usd"}, 450, "USD"),
    ("POST /v1/customers/cus_1/balance_transactions", {"amount": "450", "currency": "usd"}, 450, "USD"),
    ("POST /v1/customers/cus_1", {"balance": "300"}, 500, "USD"),
    ("POST /v1/billing/credit_grants", {"amount[monetary][value]": "80", "amount[monetary][currency]": "usd"}, 80, "USD"),
    # Left open in the request.
    ("POST /v1/charges/ch_1/capture", {}, 3000, "USD"),
    ("POST /v1/charges/ch_1/capture", {"amount": "100"}, 100, "USD"),
    ("POST /v1/payment_intents/pi_1", {"amount": "7000"}, 7000, "USD"),
    ("POST /v1/payment_intents/pi_1/confirm", {}, 5000, "USD"),
    ("POST /v1/payment_intents/pi_1/confirm", {"amount_to_confirm": "6000"}, 6000, "USD"),
    ("POST /v1/payment_intents/pi_1/capture", {}, 5000, "USD"),
    ("POST /v1/payment_intents/pi_1/capture", {"amount_to_capture": "700"}, 1700, "USD"),
    # An increment is a total.
    ("POST /v1/payment_intents/pi_1/increment_authorization", {"amount": "6100"}, 6100, "USD"),
    # Microdeposits are not money.
    ("POST /v1/payment_intents/pi_1/verify_microdeposits", {"amounts[0]": "32", "amounts[1]": "45"}, 5000, "USD"),
    ("POST /v1/refunds", {"charge": "ch_1"}, 2500, "USD"),
    ("POST /v1/refunds", {"charge": "ch_1", "amount": "40"}, 40, "USD"),
    ("POST /v1/refunds", {"payment_intent": "pi_1"}, 1000, "USD"),
    ("POST /v1/charges/ch_1/refund", {}, 2500, "USD"),
    ("POST /v1/charges/ch_1/refunds", {"amount": "40"}, 40, "USD"),
    ("POST /v1/transfers", {"currency": "usd", "source_transaction": "ch_1", "destination": "acct_1"}, 2500, "USD"),
    ("POST /v1/transfers/tr_1/reversals", {}, 500, "USD"),
    ("POST /v1/payouts/po_1/reverse", {}, 600, "USD"),
    ("POST /v1/application_fees/fee_1/refunds", {}, 80, "USD"),
    ("POST /v1/quotes/qt_1/accept", {}, 2500, "USD"),
    # Invoices.
    ("POST /v1/invoiceitems", {"customer": "cus_1", "amount": "300", "currency": "usd"}, 300, "USD"),
    ("POST /v1/invoiceitems", {"customer": "cus_1", "pricing[price]": "price_1", "quantity": "3"}, 3750, "USD"),
    ("POST /v1/invoiceitems", {"customer": "cus_1", "invoice": "in_1", "amount": "300", "currency": "usd"}, 4500, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"quantity": "7"}, 700, "USD"),
    # An update names no currency, and the quantity stays as it is.
    ("POST /v1/invoiceitems/ii_1", {"quantity_decimal": "2.5"}, 300, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"tax_behavior": "inclusive"}, 300, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"amount": "900"}, 900, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"unit_amount_decimal": "200"}, 600, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"pricing[price]": "price_1"}, 3750, "USD"),
    ("POST /v1/invoiceitems/ii_1", {"pricing[price]": "price_1", "quantity": "2"}, 2500, "USD"),
    ("POST /v1/invoices", {"customer": "cus_1", "currency": "usd", "pending_invoice_items_behavior": "include"}, 300, "USD"),
    ("POST /v1/invoices/in_1/finalize", {}, 4200, "USD"),
    ("POST /v1/invoices/in_1/pay", {}, 4200, "USD"),
    ("POST /v1/invoices/in_1/add_lines", {"lines[0][amount]": "800"}, 5000, "USD"),
    ("POST /v1/credit_notes", {"invoice": "in_1", "amount": "40"}, 40, "USD"),
    ("POST /v1/credit_notes", {"invoice": "in_1", "refund_amount": "40", "credit_amount": "5"}, 45, "USD"),
    ("POST /v1/credit_notes", {"invoice": "in_1", "lines[0][type]": "invoice_line_item"}, 5000, "USD"),
    # Subscriptions count one period, with what is billed beside it.
    ("POST /v1/subscriptions", {"customer": "cus_2", "items[0][price]": "price_1", "items[0][quantity]": "2"}, 2800, "USD"),
    ("POST /v1/subscriptions/sub_1", {"items[0][id]": "si_1", "items[0][quantity]": "5"}, 6350, "USD"),
    ("POST /v1/subscriptions/sub_1", {"items[0][id]": "si_1", "items[0][deleted]": "true"}, 100, "USD"),
    ("POST /v1/subscriptions/sub_1", {"trial_end": "now"}, 2600, "USD"),
    ("POST /v1/subscription_items/si_1", {"quantity": "4"}, 5000, "USD"),
    # Resuming bills, whatever it is given.
    ("POST /v1/subscriptions/sub_1/resume", {}, 2600, "USD"),
    ("POST /v1/subscriptions/sub_1/resume", {"expand[0]": "latest_invoice"}, 2600, "USD"),
    # Carts count at their highest.
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_1", "line_items[0][quantity]": "2"}, 2500, "USD"),
    ("POST /v1/checkout/sessions", {"currency": "jpy", "line_items[0][price]": "price_1", "line_items[0][quantity]": "2"}, 360, "JPY"),
    (
        "POST /v1/checkout/sessions",
        {
            "line_items[0][price]": "price_1",
            "line_items[0][quantity]": "2",
            "line_items[0][adjustable_quantity][enabled]": "true",
            "line_items[0][adjustable_quantity][maximum]": "10",
            "shipping_options[0][shipping_rate]": "shr_1",
            "shipping_options[1][shipping_rate_data][fixed_amount][amount]": "900",
            "shipping_options[1][shipping_rate_data][fixed_amount][currency]": "usd",
        },
        13400,
        "USD",
    ),
    (
        "POST /v1/checkout/sessions",
        {"line_items[0][price_data][unit_amount_decimal]": "33.4", "line_items[0][price_data][currency]": "usd", "line_items[0][quantity]": "3"},
        101,
        "USD",
    ),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_fraction", "line_items[0][quantity]": "10"}, 4, "USD"),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_upto"}, 9000, "USD"),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_dozen", "line_items[0][quantity]": "13"}, 2000, "USD"),
    ("POST /v1/payment_links", {"line_items[0][price]": "price_1", "restrictions[completed_sessions][limit]": "3"}, 3750, "USD"),
    # v2: JSON.
    ("POST /v2/money_management/outbound_payments", '{"amount":{"value":1234,"currency":"usd"}}', 1234, "USD"),
    ("POST /v2/money_management/payout_intents/pint_1/confirm", "{}", 77, "USD"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "form", "amount", "currency"), PRICED)
def test_a_call_is_priced_at_the_most_that_it_can_commit(
    endpoint: str, form: Any, amount: int, currency: str
) -> None:
    """Amounts in the request, in lists, in objects at Stripe; the highest that is possible."""
    found = price(endpoint, form)
    assert found is not None
    assert found.money == Money(amount, currency)


UNPRICED: list[tuple[str, Any]] = [
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_tiers"}),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_any"}),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_1", "automatic_tax[enabled]": "true"}),
    (
        "POST /v1/checkout/sessions",
        {"line_items[0][price]": "price_1", "line_items[0][tax_rates][0]": "txr_1"},
    ),
    ("POST /v1/checkout/sessions/cs_1", {"shipping_options[0][shipping_rate]": "shr_1"}),
    ("POST /v1/invoices/in_1", {"tax_percent": "20"}),
    ("POST /v1/subscriptions", {"customer": "cus_1", "items[0][price]": "price_1", "tax_percent": "20"}),
    ("POST /v1/subscriptions", {"customer": "cus_1", "items[0][price]": "price_usage"}),
    (
        "POST /v1/subscriptions",
        {"customer": "cus_1", "items[0][price]": "price_1", "backdate_start_date": "1"},
    ),
    ("POST /v1/payment_links", {"line_items[0][price]": "price_1"}),
    ("POST /v1/forwarding/requests", {"url": "https://example.com"}),
    ("POST /v1/billing/meter_events", {"event_name": "used", "payload[value]": "7"}),
    ("POST /v1/customers", {"balance": "-500"}),
    ("POST /v1/issuing/cards", {"type": "virtual", "currency": "usd"}),
    ("DELETE /v1/subscriptions/sub_1", {"invoice_now": "true"}),
    ("POST /v2/core/batch_jobs", "{}"),
]


@pytest.mark.parametrize(("endpoint", "form"), UNPRICED)
def test_what_nobody_can_tell_is_not_priced(endpoint: str, form: Any) -> None:
    """Tiers, taxes, usage, open amounts: the policy must name the endpoint."""
    with pytest.raises(Unpriced):
        price(endpoint, form)


MOVES_NOTHING: list[tuple[str, Any]] = [
    ("POST /v1/checkout/sessions", {"mode": "setup"}),
    ("POST /v1/payment_intents/pi_1", {"metadata[order]": "7"}),
    ("POST /v1/payment_intents/pi_1/cancel", {}),
    ("POST /v1/customers", {"email": "a@example.com"}),
    ("POST /v1/customers/cus_1", {"name": "A"}),
    ("POST /v1/invoices", {"customer": "cus_1"}),
    ("POST /v1/invoices/in_1/pay", {"paid_out_of_band": "true"}),
    ("POST /v1/subscriptions/sub_1", {"metadata[a]": "b", "cancel_at_period_end": "true"}),
    ("POST /v1/invoiceitems/ii_1", {"description": "b"}),
    ("POST /v1/checkout/sessions/cs_1", {"metadata[a]": "b"}),
    ("POST /v1/prices", {"unit_amount": "9999999", "currency": "usd", "product": "prod_1"}),
    ("POST /v1/coupons", {"amount_off": "500", "currency": "usd"}),
    ("POST /v1/setup_intents", {"single_use[amount]": "5", "single_use[currency]": "usd"}),
    ("DELETE /v1/customers/cus_1", {}),
]


@pytest.mark.parametrize(("endpoint", "form"), MOVES_NOTHING)
def test_what_moves_nothing_is_not_counted(endpoint: str, form: Any) -> None:
    """Metadata, catalog entries, mandates and previews are not money; a version that SDKs send changes nothing."""
    assert price(endpoint, form) is None
    assert price(endpoint, form, stripe_version="2026-10-28.endive") is None


REFUSED: list[tuple[str, Any, str]] = [
    ("POST /v1/charges", {"currency": "usd"}, "parameter_missing"),
    ("POST /v1/charges", {"amount": "100"}, "parameter_missing"),
    *(
        ("POST /v1/charges", {"amount": amount, "currency": "usd"}, "parameter_invalid_integer")
        for amount in ("0", "007", "-5", "+5", "1e3", "1.0", "0x64", "1_000", " 5", "\uff11\uff10", "1" * 13)
    ),
    ("POST /v1/charges", {"amount[]": "5", "currency": "usd"}, "parameter_invalid_integer"),
    ("POST /v1/charges", {"amount": "5", "currency": "us"}, "parameter_invalid"),
    ("POST /v1/payment_intents/pi_1", {"amount": "5", "currency": "jpy"}, "parameter_not_allowed"),
    ("POST /v1/customers", {"plan": "gold", "quantity": "1000"}, "parameter_not_allowed"),
    ("POST /v1/refunds", {"charge": "ch_1", "payment_intent": "pi_1"}, "amount_unknown"),
    ("POST /v1/refunds", {"charge": "ch_done"}, "charge_already_refunded"),
    ("POST /v1/refunds", {"charge": "ch_1/../ch_2"}, "parameter_invalid"),
    ("POST /v1/refunds", {"charge": "ch_nowhere"}, "amount_unknown"),
    ("POST /v1/customers/cus_2", {"balance": "5"}, "amount_unknown"),
    ("POST /v1/checkout/sessions", {"line_items[][price]": "price_1"}, "parameter_invalid"),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_1", "line_items[1][price_data][unit_amount]": "5", "line_items[1][price_data][currency]": "eur"}, "parameter_invalid"),
    ("POST /v1/checkout/sessions", {"line_items[0][price]": "price_1", "line_items[0][quantity]": "-1"}, "parameter_invalid_integer"),
    ("POST /v2/money_management/outbound_payments", '{"amount":{"value":1234.5,"currency":"usd"}}', "parameter_invalid"),
    ("POST /v2/money_management/outbound_payments", '{"amount":{"value":1,"value":9,"currency":"usd"}}', "parameter_invalid"),
    ("POST /v2/money_management/outbound_payments", '{"amount[value]":1,"amount":{"currency":"usd"}}', "parameter_invalid"),
    ("POST /v2/money_management/outbound_payments", "[1]", "parameter_invalid"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "form", "code"), REFUSED)
def test_what_can_not_be_priced_right_is_refused(endpoint: str, form: Any, code: str) -> None:
    """Amounts that could be read otherwise, objects that are not there, currencies that do not fit."""
    with pytest.raises(Refused) as refused:
        price(endpoint, form)
    assert refused.value.code == code


def test_a_refund_names_what_it_gives_back() -> None:
    """What was paid through an intent was counted under the intent."""
    for form, paid in (
        ({"charge": "ch_1"}, "ch_1"),
        ({"charge": "ch_pi"}, "pi_1"),
        ({"payment_intent": "pi_1"}, "pi_1"),
    ):
        found = price("POST /v1/refunds", form)
        assert found is not None
        assert found.refunded == paid


def test_an_invoice_takes_its_items_in() -> None:
    """Items that were counted when they were made are not counted again with their invoice."""
    made = price(
        "POST /v1/invoices",
        {"customer": "cus_1", "currency": "usd", "pending_invoice_items_behavior": "include"},
    )
    paid = price("POST /v1/invoices/in_1/pay")
    drafted = price(
        "POST /v1/invoiceitems", {"customer": "cus_1", "invoice": "in_1", "amount": "1", "currency": "usd"}
    )
    assert made is not None and made.absorbed == ("ii_1", "ii_2")
    assert paid is not None and paid.absorbed == ("ii_1",)
    assert drafted is not None and drafted.object_id == "in_1"


def test_equal_calls_have_one_fingerprint_and_others_another() -> None:
    """Order and the case of a currency say nothing; amount, account and path do."""
    plain = read("POST /v1/charges", {"amount": "1", "currency": "usd"}).fingerprint
    assert read("POST /v1/charges", {"currency": "USD", "amount": "1"}).fingerprint == plain
    assert read("POST /v1/charges", {"amount": "2", "currency": "usd"}).fingerprint != plain
    assert (
        read("POST /v1/charges", {"amount": "1", "currency": "usd"}, stripe_account="acct_1").fingerprint
        != plain
    )
    assert read("POST /v1/payouts", {"amount": "1", "currency": "usd"}).fingerprint != plain
