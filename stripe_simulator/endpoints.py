"""The endpoints the simulator serves, and the parameters each of them knows.

The parameter lists are those of Stripe's current API plus older names that programs still send. A name
outside its list is refused, as Stripe refuses it.
"""

from __future__ import annotations

from stripe_simulator import (
    balance,
    catalog,
    charges,
    customers,
    disputes,
    events,
    files,
    payment_intents,
    payment_methods,
    refunds,
    setup_intents,
)
from stripe_simulator.billing import endpoints as billing_endpoints
from stripe_simulator.checkout import endpoints as checkout_endpoints
from stripe_simulator.funds import endpoints as funds_endpoints
from stripe_simulator.routing import Routes
from stripe_simulator.v2 import endpoints as v2_endpoints

ROUTES = Routes()
_serve, _serve_list = ROUTES.serve, ROUTES.serve_list
for _more in (billing_endpoints, checkout_endpoints, funds_endpoints, v2_endpoints):
    _more.add_to(ROUTES)


def _serve_charges() -> None:
    _serve(
        "POST",
        "charges",
        charges.create,
        "charge",
        "amount application_fee application_fee_amount capture card currency customer description "
        "destination metadata on_behalf_of radar_options receipt_email shipping source statement_descriptor "
        "statement_descriptor_suffix transfer_data transfer_group",
    )
    _serve("GET", "charges/*", charges.retrieve, "charge")
    _serve(
        "POST",
        "charges/*",
        charges.update,
        "charge",
        "customer description fraud_details metadata receipt_email shipping transfer_group",
    )
    _serve_list("charges", charges.list_charges, "charge", "customer payment_intent transfer_group")
    _serve(
        "POST",
        "charges/*/capture",
        charges.capture,
        "charge",
        "amount application_fee application_fee_amount receipt_email statement_descriptor "
        "statement_descriptor_suffix transfer_data transfer_group",
    )


def _serve_payment_intents() -> None:
    described = (
        "amount_details application_fee_amount description hooks metadata payment_details "
        "statement_descriptor statement_descriptor_suffix transfer_data transfer_group "
    )
    paid_with = (
        "allowed_payment_method_types excluded_payment_method_types payment_method "
        "payment_method_configuration payment_method_data payment_method_options payment_method_types "
        "receipt_email setup_future_usage shipping capture_method "
    )
    confirmed = (
        "confirmation_token error_on_requires_action mandate mandate_data off_session radar_options "
        "return_url use_stripe_sdk "
    )
    kind = "payment_intent"
    _serve(
        "POST",
        "payment_intents",
        payment_intents.create,
        kind,
        described
        + paid_with
        + confirmed
        + "amount currency automatic_payment_methods confirm confirmation_method customer customer_account "
        "on_behalf_of",
    )
    _serve("GET", "payment_intents/*", payment_intents.retrieve, kind, "client_secret")
    _serve(
        "POST",
        "payment_intents/*",
        payment_intents.update,
        kind,
        described + paid_with + "amount currency customer customer_account",
    )
    _serve_list("payment_intents", payment_intents.list_intents, kind, "customer customer_account")
    _serve(
        "POST",
        "payment_intents/*/confirm",
        payment_intents.confirm,
        kind,
        paid_with + confirmed + "amount_details amount_to_confirm client_secret hooks payment_details",
    )
    _serve(
        "POST",
        "payment_intents/*/capture",
        payment_intents.capture,
        kind,
        described + "amount_to_capture final_capture",
    )
    _serve("POST", "payment_intents/*/cancel", payment_intents.cancel, kind, "cancellation_reason")
    _serve(
        "POST",
        "payment_intents/*/increment_authorization",
        payment_intents.increment_authorization,
        kind,
        described + "amount",
    )


def _serve_refunds() -> None:
    options = (
        "amount instructions_email metadata reason refund_application_fee reverse_transfer payment_intent "
    )
    _serve("POST", "refunds", refunds.create, "refund", options + "charge currency customer origin")
    _serve("GET", "refunds/*", refunds.retrieve, "refund")
    _serve("POST", "refunds/*", refunds.update, "refund", "metadata")
    _serve("POST", "refunds/*/cancel", refunds.cancel, "refund")
    _serve_list("refunds", refunds.list_refunds, "refund", "charge payment_intent")
    # Older paths, in no official library but still served.
    _serve("POST", "charges/*/refund", refunds.refund_charge, "charge", options)
    _serve("POST", "charges/*/refunds", refunds.create_for_charge, "refund", options)
    _serve("GET", "charges/*/refunds/*", refunds.retrieve, "refund")
    _serve("POST", "charges/*/refunds/*", refunds.update, "refund", "metadata")
    _serve_list("charges/*/refunds", refunds.list_refunds, "refund", "")


def _serve_customers() -> None:
    described = (
        "address balance business_name cash_balance description email individual_name invoice_prefix "
        "invoice_settings metadata name next_invoice_sequence phone preferred_locales shipping source tax "
        "tax_exempt validate "
    )
    kind = "customer"
    created = described + "payment_method tax_id_data test_clock"
    _serve("POST", "customers", customers.create, kind, created)
    _serve("GET", "customers/*", customers.retrieve, kind)
    _serve("POST", "customers/*", customers.update, kind, described + "default_source")
    _serve("DELETE", "customers/*", customers.delete, kind)
    _serve_list("customers", customers.list_customers, kind, "email test_clock")


def _serve_catalog() -> None:
    described = (
        "active description images marketing_features metadata name package_dimensions shippable "
        "statement_descriptor tax_code tax_details unit_label url "
    )
    product_created = described + "default_price_data id type"
    _serve("POST", "products", catalog.create_product, "product", product_created)
    _serve("GET", "products/*", catalog.retrieve_product, "product")
    _serve("POST", "products/*", catalog.update_product, "product", described + "default_price")
    _serve_list("products", catalog.list_products, "product", "active ids shippable type url")
    priced = "active currency_options lookup_key metadata nickname tax_behavior transfer_lookup_key "
    _serve(
        "POST",
        "prices",
        catalog.create_price,
        "price",
        priced + "billing_scheme currency custom_unit_amount product product_data recurring tiers tiers_mode "
        "transform_quantity unit_amount unit_amount_decimal",
    )
    _serve("GET", "prices/*", catalog.retrieve_price, "price")
    _serve("POST", "prices/*", catalog.update_price, "price", priced)
    price_filters = "active currency lookup_keys product recurring type"
    _serve_list("prices", catalog.list_prices, "price", price_filters)


def _serve_disputes() -> None:
    known = "evidence intended_submission_method metadata submit"
    _serve("GET", "disputes/*", disputes.retrieve, "dispute")
    _serve("POST", "disputes/*", disputes.update, "dispute", known)
    _serve("POST", "disputes/*/close", disputes.close, "dispute")
    _serve_list("disputes", disputes.list_disputes, "dispute", "charge payment_intent")
    # Older paths, in no official library but still served.
    _serve("GET", "charges/*/dispute", disputes.retrieve, "dispute")
    _serve("POST", "charges/*/dispute", disputes.update, "dispute", known)
    _serve("POST", "charges/*/dispute/close", disputes.close, "dispute")


def _serve_payment_methods() -> None:
    kind = "payment_method"
    _serve(
        "POST",
        "payment_methods",
        payment_methods.create,
        kind,
        "allow_redisplay billing_details card customer metadata payment_method radar_options type "
        "us_bank_account",
    )
    _serve("GET", "payment_methods/*", payment_methods.retrieve, kind)
    updated = "allow_redisplay billing_details card metadata us_bank_account"
    _serve("POST", "payment_methods/*", payment_methods.update, kind, updated)
    _serve("POST", "payment_methods/*/attach", payment_methods.attach, kind, "customer customer_account")
    _serve("POST", "payment_methods/*/detach", payment_methods.detach, kind)
    filters = "allow_redisplay customer customer_account type"
    _serve_list("payment_methods", payment_methods.list_methods, kind, filters)
    _serve_list("customers/*/payment_methods", payment_methods.list_methods, kind, "allow_redisplay type")
    _serve("GET", "customers/*/payment_methods/*", payment_methods.retrieve, kind)


def _serve_setup_intents() -> None:
    kind = "setup_intent"
    paid_with = (
        "allowed_payment_method_types excluded_payment_method_types payment_method "
        "payment_method_configuration payment_method_data payment_method_options payment_method_types "
    )
    described = paid_with + "attach_to_self customer customer_account description flow_directions metadata "
    confirmed = "confirmation_token mandate_data return_url use_stripe_sdk "
    _serve(
        "POST",
        "setup_intents",
        setup_intents.create,
        kind,
        described + confirmed + "automatic_payment_methods confirm on_behalf_of single_use usage",
    )
    _serve("GET", "setup_intents/*", setup_intents.retrieve, kind, "client_secret")
    _serve("POST", "setup_intents/*", setup_intents.update, kind, described)
    _serve("POST", "setup_intents/*/confirm", setup_intents.confirm, kind, paid_with + confirmed)
    _serve("POST", "setup_intents/*/cancel", setup_intents.cancel, kind, "cancellation_reason")
    filters = "attach_to_self customer customer_account payment_method"
    _serve_list("setup_intents", setup_intents.list_setups, kind, filters)


def _serve_files() -> None:
    _serve("POST", "files", files.create, "file", "file file_link_data purpose")
    _serve("GET", "files/*", files.retrieve, "file")
    _serve("GET", "files/*/contents", files.contents, "file")
    _serve_list("files", files.list_files, "file", "purpose")


_serve_charges()
_serve_disputes()
_serve_payment_methods()
_serve_setup_intents()
_serve_files()
_serve_payment_intents()
_serve_refunds()
_serve_customers()
_serve_catalog()
_serve("GET", "balance", balance.retrieve, "balance")
_serve("GET", "balance_transactions/*", balance.retrieve_transaction, "balance_transaction")
_serve_list(
    "balance_transactions",
    balance.list_transactions,
    "balance_transaction",
    "currency payout source type",
)
_serve("GET", "events/*", events.retrieve, "event")
_serve_list("events", events.list_events, "event", "type types delivery_success")
