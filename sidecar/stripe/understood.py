"""The parameters that pricing understands, for calls whose amount is added up.

A list of dangerous parameters is never complete: Stripe adds new ones, and old
versions of its API have others. So every parameter of these calls must be one
that pricing reads or that is known to move nothing; with any other the call is
not priced. A name stands for all that is inside it; ``[]`` is any element.
"""

from __future__ import annotations

from collections.abc import Iterable

_LINE = (
    "price",
    "quantity",
    "price_data[currency]",
    "price_data[product]",
    "price_data[product_data]",
    "price_data[recurring]",
    "price_data[tax_behavior]",
    "price_data[unit_amount]",
    "price_data[unit_amount_decimal]",
    "metadata",
    "discounts",
)
_EVERYWHERE = ("expand", "metadata", "Stripe-Version")
_PAYMENT = (
    "payment_intent_data[application_fee_amount]",
    "payment_intent_data[capture_method]",
    "payment_intent_data[description]",
    "payment_intent_data[metadata]",
    "payment_intent_data[on_behalf_of]",
    "payment_intent_data[receipt_email]",
    "payment_intent_data[setup_future_usage]",
    "payment_intent_data[shipping]",
    "payment_intent_data[statement_descriptor]",
    "payment_intent_data[statement_descriptor_suffix]",
    "payment_intent_data[transfer_data]",
    "payment_intent_data[transfer_group]",
)


def _in_list(name: str, parts: Iterable[str]) -> tuple[str, ...]:
    found = []
    for part in parts:
        head, bracket, rest = part.partition("[")
        found.append(f"{name}[][{head}]{bracket}{rest}")
    return tuple(found)


_CART = (
    *_EVERYWHERE,
    *_PAYMENT,
    *_in_list("line_items", (*_LINE, "adjustable_quantity")),
    *_in_list("shipping_options", ("shipping_rate", "shipping_rate_data")),
    "allow_promotion_codes",
    "automatic_tax[enabled]",
    "billing_address_collection",
    "consent_collection",
    "currency",
    "custom_fields",
    "custom_text",
    "customer_creation",
    "name_collection",
    "payment_method_collection",
    "payment_method_types",
    "phone_number_collection",
    "shipping_address_collection",
    "submit_type",
    "subscription_data[description]",
    "subscription_data[metadata]",
    "subscription_data[trial_end]",
    "subscription_data[trial_period_days]",
)

SESSION = frozenset(
    {
        *_CART,
        "cancel_url",
        "client_reference_id",
        "customer",
        "customer_email",
        "customer_update",
        "discounts",
        "expires_at",
        "locale",
        "mode",
        "payment_method_configuration",
        "payment_method_options",
        "redirect_on_completion",
        "return_url",
        "saved_payment_method_options",
        "success_url",
        "ui_mode",
    }
)

LINK = frozenset({*_CART, "active", "after_completion", "inactive_message", "restrictions"})

_BILLED = (
    *_EVERYWHERE,
    *_in_list("items", _LINE),
    *_in_list("add_invoice_items", _LINE),
    "application_fee_percent",
    "automatic_tax[enabled]",
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "coupon",
    "days_until_due",
    "default_payment_method",
    "default_source",
    "description",
    "discounts",
    "invoice_settings",
    "off_session",
    "on_behalf_of",
    "payment_behavior",
    "payment_settings",
    "promotion_code",
    "proration_behavior",
    "transfer_data",
    "trial_end",
    "trial_settings",
)

SUBSCRIPTION = frozenset({*_BILLED, "billing_cycle_anchor", "currency", "customer", "trial_period_days"})

SUBSCRIPTION_CHANGE = frozenset(
    {
        *_BILLED,
        *_in_list("items", ("id", "deleted")),
        "billing_cycle_anchor",
        "cancellation_details",
        "proration_date",
    }
)

SUBSCRIPTION_ITEM = frozenset(
    {
        *_EVERYWHERE,
        *_LINE,
        "off_session",
        "payment_behavior",
        "proration_behavior",
        "proration_date",
        "subscription",
    }
)

_ITEM = (
    *_EVERYWHERE,
    *_LINE,
    "amount",
    "description",
    "discountable",
    "period",
    "pricing[price]",
    "quantity_decimal",
    "tax_behavior",
    "unit_amount_decimal",
)

INVOICE_ITEM = frozenset({*_ITEM, "currency", "customer", "invoice", "subscription"})

INVOICE_ITEM_CHANGE = frozenset(_ITEM)

INVOICE = frozenset(
    {
        *_EVERYWHERE,
        "account_tax_ids",
        "application_fee_amount",
        "auto_advance",
        "automatic_tax[enabled]",
        "collection_method",
        "currency",
        "custom_fields",
        "customer",
        "days_until_due",
        "default_payment_method",
        "default_source",
        "description",
        "discounts",
        "due_date",
        "effective_at",
        "footer",
        "issuer",
        "number",
        "on_behalf_of",
        "payment_settings",
        "pending_invoice_items_behavior",
        "rendering",
        "shipping_details",
        "statement_descriptor",
        "transfer_data",
    }
)

INVOICE_HARMLESS = frozenset(
    {
        *_EVERYWHERE,
        "account_tax_ids",
        "custom_fields",
        "days_until_due",
        "default_payment_method",
        "default_source",
        "description",
        "due_date",
        "effective_at",
        "footer",
        "number",
        "payment_settings",
        "rendering",
        "shipping_details",
        "statement_descriptor",
    }
)
