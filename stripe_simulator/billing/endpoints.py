"""The billing endpoints, and the parameters each of them knows."""

from __future__ import annotations

from stripe_simulator.billing import (
    credit_notes,
    invoice_items,
    invoice_lines,
    invoice_payments,
    invoices,
    previews,
    quotes,
    subscription_items,
    subscriptions,
)
from stripe_simulator.routing import Routes


def add_to(routes: Routes) -> None:
    _serve_invoice_items(routes)
    _serve_invoices(routes)
    _serve_subscriptions(routes)
    _serve_subscription_items(routes)
    _serve_credit_notes(routes)
    _serve_quotes(routes)


def _serve_invoice_items(routes: Routes) -> None:
    kind = "invoiceitem"
    # `price` and `unit_amount` are older names that programs still send.
    known = (
        "amount description discountable discounts metadata period price price_data pricing quantity "
        "quantity_decimal tax_behavior tax_code tax_rates unit_amount unit_amount_decimal "
    )
    created = known + "currency customer customer_account invoice subscription"
    routes.serve("POST", "invoiceitems", invoice_items.create, kind, created)
    routes.serve("GET", "invoiceitems/*", invoice_items.retrieve, kind)
    routes.serve("POST", "invoiceitems/*", invoice_items.update, kind, known + "invoicing_rules")
    routes.serve("DELETE", "invoiceitems/*", invoice_items.delete, kind)
    filters = "customer customer_account invoice pending"
    routes.serve_list("invoiceitems", invoice_items.list_items, kind, filters)


def _serve_invoices(routes: Routes) -> None:
    kind = "invoice"
    described = (
        "account_tax_ids application_fee_amount auto_advance automatic_tax automatically_finalizes_at "
        "collection_method custom_fields days_until_due default_payment_method default_source "
        "default_tax_rates description discounts due_date effective_at footer issuer metadata number "
        "on_behalf_of payment_settings rendering shipping_cost shipping_details statement_descriptor "
        "transfer_data "
    )
    created = (
        described
        + "currency customer customer_account from_invoice pending_invoice_items_behavior subscription"
    )
    routes.serve("POST", "invoices", invoices.create, kind, created)
    routes.serve("GET", "invoices/*", invoices.retrieve, kind)
    routes.serve("POST", "invoices/*", invoices.update, kind, described)
    routes.serve("DELETE", "invoices/*", invoices.delete, kind)
    routes.serve("POST", "invoices/*/finalize", invoices.finalize, kind, "auto_advance")
    paid = "forgive mandate off_session paid_out_of_band payment_method source"
    routes.serve("POST", "invoices/*/pay", invoices.pay, kind, paid)
    routes.serve("POST", "invoices/*/send", invoices.send, kind)
    routes.serve("POST", "invoices/*/void", invoices.void, kind)
    routes.serve("POST", "invoices/*/mark_uncollectible", invoices.mark_uncollectible, kind)
    filters = "collection_method customer customer_account due_date status subscription"
    routes.serve_list("invoices", invoices.list_invoices, kind, filters)
    routes.serve(
        "POST",
        "invoices/create_preview",
        previews.create_preview,
        kind,
        "automatic_tax currency customer customer_account customer_details discounts invoice_items issuer "
        "on_behalf_of preview_mode schedule schedule_details subscription subscription_details",
    )
    lines = "invoice_metadata lines"
    routes.serve("POST", "invoices/*/add_lines", invoice_lines.add_lines, kind, lines)
    routes.serve("POST", "invoices/*/update_lines", invoice_lines.update_lines, kind, lines)
    routes.serve("POST", "invoices/*/remove_lines", invoice_lines.remove_lines, kind, lines)
    line = (
        "amount description discountable discounts metadata period price_data pricing quantity "
        "quantity_decimal tax_amounts tax_rates"
    )
    routes.serve("POST", "invoices/*/lines/*", invoice_lines.update_line, "line_item", line)
    routes.serve_list("invoices/*/lines", invoices.list_lines, "line_item")
    routes.serve("GET", "invoice_payments/*", invoice_payments.retrieve, "invoice_payment")
    payments = "invoice payment status"
    routes.serve_list("invoice_payments", invoice_payments.list_payments, "invoice_payment", payments)


def _serve_subscriptions(routes: Routes) -> None:
    kind = "subscription"
    described = (
        "add_invoice_items application_fee_percent automatic_tax billing_cycle_anchor billing_schedules "
        "billing_thresholds cancel_at cancel_at_period_end collection_method days_until_due "
        "default_payment_method default_source default_tax_rates description discounts invoice_settings "
        "items metadata off_session on_behalf_of payment_behavior payment_settings "
        "pending_invoice_item_interval proration_behavior transfer_data trial_end trial_from_plan "
        "trial_settings "
    )
    below_customer = (
        described + "backdate_start_date billing_cycle_anchor_config billing_mode currency trial_period_days "
    )
    created = below_customer + "customer customer_account"
    updated = described + "cancellation_details pause_collection proration_date"
    canceled = "cancellation_details invoice_now prorate"
    routes.serve("POST", "subscriptions", subscriptions.create, kind, created)
    filters = (
        "automatic_tax collection_method current_period_end current_period_start customer customer_account "
        "plan price status test_clock"
    )
    routes.serve_list("subscriptions", subscriptions.list_subscriptions, kind, filters)
    # The second path is older, in no official library but still served.
    for path in ("subscriptions/*", "customers/*/subscriptions/*"):
        routes.serve("GET", path, subscriptions.retrieve, kind)
        routes.serve("POST", path, subscriptions.update, kind, updated)
        routes.serve("DELETE", path, subscriptions.cancel, kind, canceled)
    routes.serve("POST", "customers/*/subscriptions", subscriptions.create, kind, below_customer)
    routes.serve_list("customers/*/subscriptions", subscriptions.list_subscriptions, kind, "price status")
    paused = "bill_for invoicing_behavior type"
    routes.serve("POST", "subscriptions/*/pause", subscriptions.pause, kind, paused)
    resumed = "billing_cycle_anchor payment_behavior proration_behavior proration_date"
    routes.serve("POST", "subscriptions/*/resume", subscriptions.resume, kind, resumed)


def _serve_subscription_items(routes: Routes) -> None:
    kind = "subscription_item"
    known = (
        "billing_thresholds current_trial discounts metadata payment_behavior plan price price_data "
        "proration_behavior proration_date quantity tax_rates "
    )
    routes.serve("POST", "subscription_items", subscription_items.create, kind, known + "subscription")
    routes.serve("GET", "subscription_items/*", subscription_items.retrieve, kind)
    routes.serve("POST", "subscription_items/*", subscription_items.update, kind, known + "off_session")
    deleted = "clear_usage payment_behavior proration_behavior proration_date"
    routes.serve("DELETE", "subscription_items/*", subscription_items.delete, kind, deleted)
    routes.serve_list("subscription_items", subscription_items.list_items, kind, "subscription")


def _serve_credit_notes(routes: Routes) -> None:
    kind = "credit_note"
    known = (
        "amount credit_amount effective_at email_type invoice lines memo metadata out_of_band_amount reason "
        "refund_amount refunds shipping_cost"
    )
    routes.serve("POST", "credit_notes", credit_notes.create, kind, known)
    routes.serve("GET", "credit_notes/preview", credit_notes.preview, kind, known)
    routes.serve("GET", "credit_notes/*", credit_notes.retrieve, kind)
    routes.serve("POST", "credit_notes/*", credit_notes.update, kind, "memo metadata")
    routes.serve("POST", "credit_notes/*/void", credit_notes.void, kind)
    filters = "customer customer_account invoice"
    routes.serve_list("credit_notes", credit_notes.list_notes, kind, filters)


def _serve_quotes(routes: Routes) -> None:
    kind = "quote"
    known = (
        "application_fee_amount application_fee_percent automatic_tax collection_method customer "
        "customer_account default_tax_rates description discounts expires_at footer header invoice_settings "
        "line_items metadata on_behalf_of subscription_data transfer_data "
    )
    routes.serve("POST", "quotes", quotes.create, kind, known + "from_quote test_clock")
    routes.serve("GET", "quotes/*", quotes.retrieve, kind)
    routes.serve("POST", "quotes/*", quotes.update, kind, known)
    routes.serve("POST", "quotes/*/finalize", quotes.finalize, kind, "expires_at")
    routes.serve("POST", "quotes/*/accept", quotes.accept, kind)
    routes.serve("POST", "quotes/*/cancel", quotes.cancel, kind)
    routes.serve("GET", "quotes/*/pdf", quotes.pdf, kind)
    routes.serve_list("quotes/*/line_items", quotes.list_line_items, "item")
    filters = "customer customer_account status test_clock"
    routes.serve_list("quotes", quotes.list_quotes, kind, filters)
