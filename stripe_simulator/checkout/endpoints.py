"""The checkout endpoints, and the parameters each of them knows."""

from __future__ import annotations

from stripe_simulator.checkout import payment_links, sessions, shipping_rates
from stripe_simulator.routing import Routes


def add_to(routes: Routes) -> None:
    _serve_sessions(routes)
    _serve_payment_links(routes)
    _serve_shipping_rates(routes)


def _serve_sessions(routes: Routes) -> None:
    kind = "checkout.session"
    routes.serve(
        "POST",
        "checkout/sessions",
        sessions.create,
        kind,
        "adaptive_pricing after_expiration allow_promotion_codes allowed_payment_method_types automatic_tax "
        "billing_address_collection branding_settings cancel_url client_reference_id consent_collection "
        "currency custom_fields custom_text customer customer_account customer_creation customer_email "
        "customer_update discounts excluded_payment_method_types expires_at integration_identifier "
        "invoice_creation line_items locale managed_payments metadata mode name_collection optional_items "
        "origin_context payment_intent_data payment_method_collection payment_method_configuration "
        "payment_method_data payment_method_options payment_method_types permissions phone_number_collection "
        "redirect_on_completion return_url saved_payment_method_options setup_intent_data "
        "shipping_address_collection shipping_options submit_type subscription_data success_url "
        "tax_id_collection ui_mode wallet_options",
    )
    routes.serve("GET", "checkout/sessions/*", sessions.retrieve, kind)
    routes.serve(
        "POST",
        "checkout/sessions/*",
        sessions.update,
        kind,
        "collected_information line_items metadata payment_intent_data shipping_options",
    )
    routes.serve("POST", "checkout/sessions/*/expire", sessions.expire, kind)
    routes.serve_list("checkout/sessions/*/line_items", sessions.list_line_items, "item")
    routes.serve_list(
        "checkout/sessions",
        sessions.list_sessions,
        kind,
        "customer customer_account customer_details payment_intent payment_link status subscription",
    )


def _serve_payment_links(routes: Routes) -> None:
    kind = "payment_link"
    known = (
        "after_completion allow_promotion_codes application_fee_amount application_fee_percent automatic_tax "
        "billing_address_collection consent_collection custom_fields custom_text customer_creation "
        "inactive_message invoice_creation line_items metadata name_collection on_behalf_of optional_items "
        "payment_intent_data payment_method_collection payment_method_options payment_method_types "
        "phone_number_collection restrictions shipping_address_collection shipping_options submit_type "
        "subscription_data tax_id_collection transfer_data "
    )
    created = known + "currency managed_payments"
    routes.serve("POST", "payment_links", payment_links.create, kind, created)
    routes.serve("GET", "payment_links/*", payment_links.retrieve, kind)
    routes.serve("POST", "payment_links/*", payment_links.update, kind, known + "active")
    routes.serve_list("payment_links/*/line_items", payment_links.list_line_items, "item")
    routes.serve_list("payment_links", payment_links.list_links, kind, "active")


def _serve_shipping_rates(routes: Routes) -> None:
    kind = "shipping_rate"
    routes.serve("POST", "shipping_rates", shipping_rates.create, kind, shipping_rates.RATE_DATA)
    routes.serve("GET", "shipping_rates/*", shipping_rates.retrieve, kind)
    updated = "active fixed_amount metadata tax_behavior"
    routes.serve("POST", "shipping_rates/*", shipping_rates.update, kind, updated)
    routes.serve_list("shipping_rates", shipping_rates.list_rates, kind, "active currency")
