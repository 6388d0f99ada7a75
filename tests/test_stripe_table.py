"""The table of endpoints is complete: every method of the installed SDK is in it, and so is every amount."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import stripe

from sidecar.stripe.catalogue import page
from sidecar.stripe.commitments import READERS
from sidecar.stripe.endpoints import ENDPOINTS, MONEY, Direction, Endpoint
from sidecar.stripe.table import EndpointTable
from tests.stripe_package import Method, methods

TABLE = EndpointTable()
METHODS = list(methods())

_LIKE_MONEY = re.compile(
    r"(^|\.)(amounts?|.*_amount(_decimal)?|amount_.*|balance|price|price_data|pricing|quantity|plan|unit_amount.*"
    r"|value|payouts|spending_limits)$"
)

MOVE_NOTHING = {
    # Catalog entries: what is charged by them is priced where it is charged.
    "POST /v1/plans": {"amount", "amount_decimal", "tiers"},
    "POST /v1/prices": {
        "currency_options",
        "custom_unit_amount",
        "tiers",
        "unit_amount",
        "unit_amount_decimal",
    },
    "POST /v1/prices/{price}": {"currency_options"},
    "POST /v1/products": {"default_price_data"},
    "POST /v1/shipping_rates": {"delivery_estimate", "fixed_amount"},
    "POST /v1/shipping_rates/{shipping_rate_token}": {"fixed_amount"},
    "POST /v1/coupons": {"amount_off", "currency_options"},
    "POST /v1/coupons/{coupon}": {"currency_options"},
    "POST /v1/promotion_codes": {"restrictions"},
    "POST /v1/promotion_codes/{promotion_code}": {"restrictions"},
    "POST /v1/product_catalog/trial_offers": {"end_behavior", "price"},
    # Drafts and calculations.
    "POST /v1/invoices/create_preview": {
        "customer_details",
        "invoice_items",
        "schedule_details",
        "subscription_details",
    },
    "POST /v1/quotes": {
        "application_fee_amount",
        "application_fee_percent",
        "invoice_settings",
        "line_items",
        "transfer_data",
    },
    "POST /v1/quotes/{quote}": {"application_fee_amount", "invoice_settings", "line_items", "transfer_data"},
    "POST /v1/tax/calculations": {"customer_details", "line_items", "shipping_cost"},
    "POST /v1/tax/transactions/create_reversal": {"flat_amount", "line_items", "shipping_cost"},
    "POST /v1/terminal/readers/{reader}/set_reader_display": {"cart"},
    "POST /v1/radar/payment_evaluations": {"payment_details"},
    "POST /v1/three_d_secure/authentications": {"amount", "future_usage"},
    # Limits of a mandate, microdeposits, records of what happened elsewhere.
    "POST /v1/setup_intents": {"payment_method_data", "payment_method_options", "single_use"},
    "POST /v1/setup_intents/{intent}": {"payment_method_data", "payment_method_options"},
    "POST /v1/setup_intents/{intent}/confirm": {"payment_method_data", "payment_method_options"},
    "POST /v1/setup_intents/{intent}/verify_microdeposits": {"amounts"},
    "POST /v1/customers/{customer}/sources/{source}/verify": {"amounts"},
    "POST /v2/core/vault/us_bank_accounts/{us_bank_account}/confirm_microdeposits": {"amounts"},
    "POST /v1/payment_methods": {"upi"},
    "POST /v1/test_helpers/confirmation_tokens": {"payment_method_data", "payment_method_options"},
    "POST /v1/payment_records/report_payment": {"amount_requested"},
    "POST /v1/payment_records/{payment_record}/report_refund": {"amount"},
    "POST /v1/issuing/disputes/{dispute}": {"amount"},
    "POST /v1/sources/{source}": {"amount", "mandate", "source_order"},
    "POST /v1/terminal/readers/{reader}/collect_payment_method": {"collect_config"},
    "POST /v1/test_helpers/terminal/readers/{reader}/present_payment_method": {"amount_tip"},
    # What a person does in a session of their own.
    "POST /v1/billing_portal/sessions": {"flow_data"},
    "POST /v1/account_sessions": {"components"},
    # Facts about businesses and people.
    "POST /v1/accounts": {"business_profile", "settings"},
    "POST /v1/customers/{customer}/tax_ids": {"value"},
    "POST /v1/tax_ids": {"value"},
    "POST /v1/radar/value_list_items": {"value"},
    "POST /v2/core/accounts": {"configuration", "identity"},
    "POST /v2/core/accounts/{account}": {"configuration", "identity"},
    "POST /v2/core/account_tokens": {"identity"},
    "POST /v2/core/accounts/{account_id}/persons": {"id_numbers"},
    "POST /v2/core/accounts/{account_id}/persons/{person}": {"id_numbers"},
    "POST /v2/core/accounts/{account_id}/person_tokens": {"id_numbers"},
}
"""Endpoints with parameters that look like money and move none, looked at one by one."""


def _found(method: Method) -> Endpoint | None:
    found = TABLE.find(method.verb, re.sub(r"\{[^}]*\}", "id1", method.path))
    return found[0] if found else None


def test_the_package_is_read_whole() -> None:
    """The walk finds what it should, so that an empty walk can't pass."""
    assert len(METHODS) > 600
    charge = next(method for method in METHODS if method.endpoint == "POST /v1/checkout/sessions")
    assert "line_items.price_data.unit_amount" in charge.parameters


def test_every_method_of_the_sdk_is_in_the_table() -> None:
    """A new version of the SDK shows which endpoints are missing."""
    assert [method.endpoint for method in METHODS if _found(method) is None] == []


def test_every_amount_of_the_sdk_is_priced_or_known_to_move_nothing() -> None:
    """A new parameter that looks like money must be looked at before it passes."""
    money = {endpoint.name for endpoint in MONEY}
    unknown = {}
    for method in METHODS:
        endpoint = _found(method)
        if endpoint is None or method.verb == "GET" or endpoint.name in money:
            continue
        named = {name.partition(".")[0] for name in method.parameters if _LIKE_MONEY.search(name)}
        if named - MOVE_NOTHING.get(endpoint.name, set()):
            unknown[endpoint.name] = named
    assert unknown == {}


def test_every_row_is_found_by_its_own_path_and_no_two_share_one() -> None:
    """No row hides another."""
    for endpoint in ENDPOINTS:
        path = re.sub(r"\{[^}]*\}", "id1", endpoint.template)
        found = TABLE.find(endpoint.method, path)
        assert found is not None
        assert found[0] is endpoint


def test_every_money_row_is_priced_and_says_how_its_answer_is_read() -> None:
    """What moves money has a rule, and an answer that is not read counts by itself or as it was held."""
    for endpoint in MONEY:
        assert endpoint.rule is not None or endpoint.direction is Direction.NONE, endpoint.name
        assert endpoint.answers in {"", "deleted", *READERS}, endpoint.name
        assert not (endpoint.apart and (endpoint.step or endpoint.answers)), endpoint.name


@pytest.mark.parametrize(
    "path",
    [
        "/v1/charges/ch_1/refund",
        "/v1/charges/ch_1/refunds",
        "/v1/customers/cus_1/subscriptions",
        "/v1/charges/ch_1/dispute/close",
    ],
)
def test_legacy_paths_are_in_the_table(path: str) -> None:
    """What no SDK has any more is still served by Stripe."""
    found = TABLE.find("POST", path)
    assert found is not None
    assert found[0] in MONEY


def test_the_page_on_stripe_is_what_the_table_says() -> None:
    """`make generate` has nothing to change."""
    written = (Path(__file__).parents[1] / "docs/stripe.md").read_text()
    assert written == page(f"stripe {stripe.VERSION}")
