"""A request for every endpoint that moves money and is in Stripe's public specification.

Each has the parameters that Stripe requires, and those that Spendgate reads a
price from. Endpoints that are left out need none.
"""

from __future__ import annotations

_MONEY = {"amount": "500", "currency": "usd"}
_CART = {
    "line_items[0][price_data][currency]": "usd",
    "line_items[0][price_data][product]": "prod_1",
    "line_items[0][price_data][unit_amount_decimal]": "250",
    "line_items[0][quantity]": "2",
    "line_items[0][adjustable_quantity][enabled]": "true",
    "line_items[0][adjustable_quantity][maximum]": "3",
}
_SHIPPING = {
    "shipping_options[0][shipping_rate_data][display_name]": "Post",
    "shipping_options[0][shipping_rate_data][fixed_amount][amount]": "90",
    "shipping_options[0][shipping_rate_data][fixed_amount][currency]": "usd",
}
_ITEM = {"items[0][price]": "price_1", "items[0][quantity]": "2"}
_ADDED = {
    "add_invoice_items[0][price_data][currency]": "usd",
    "add_invoice_items[0][price_data][product]": "prod_1",
    "add_invoice_items[0][price_data][unit_amount]": "40",
}
_LINE = {"lines[0][amount]": "300", "lines[0][quantity]": "2"}
_PRICE_DATA = {
    "price_data[currency]": "usd",
    "price_data[product]": "prod_1",
    "price_data[recurring][interval]": "month",
    "price_data[unit_amount]": "700",
}
_TREASURY = {**_MONEY, "financial_account": "fa_1"}
_HOLDER = {
    "billing[address][city]": "Berlin",
    "billing[address][country]": "DE",
    "billing[address][line1]": "Weg 1",
    "billing[address][postal_code]": "10115",
    "name": "A",
}

FORMS: dict[str, dict[str, str]] = {
    "POST /v1/charges": {**_MONEY, "source": "tok_visa"},
    "POST /v1/charges/{charge}/capture": {"amount": "50"},
    "POST /v1/charges/{charge}/refund": {"amount": "50"},
    "POST /v1/charges/{charge}/refunds": {"amount": "50"},
    "POST /v1/payment_intents": _MONEY,
    "POST /v1/payment_intents/{intent}": {"amount": "600"},
    "POST /v1/payment_intents/{intent}/capture": {"amount_to_capture": "70"},
    "POST /v1/payment_intents/{intent}/increment_authorization": {"amount": "1200"},
    "POST /v1/payment_intents/{intent}/apply_customer_balance": _MONEY,
    "POST /v1/payment_intents/{intent}/verify_microdeposits": {"amounts[0]": "32", "amounts[1]": "45"},
    "POST /v1/refunds": {"charge": "ch_1", "amount": "50"},
    "POST /v1/transfers": {**_MONEY, "destination": "acct_1", "source_transaction": "ch_1"},
    "POST /v1/transfers/{transfer}/reversals": {"amount": "50"},
    "POST /v1/payouts": _MONEY,
    "POST /v1/topups": _MONEY,
    "POST /v1/application_fees/{fee}/refund": {"amount": "50"},
    "POST /v1/application_fees/{fee}/refunds": {"amount": "50"},
    "POST /v1/customers": {"balance": "-50"},
    "POST /v1/customers/{customer}": {"balance": "50"},
    "POST /v1/customers/{customer}/balance_transactions": {**_MONEY, "amount": "-50"},
    "POST /v1/test_helpers/customers/{customer}/fund_cash_balance": _MONEY,
    "POST /v1/sources": {**_MONEY, "type": "ach_credit_transfer"},
    "POST /v1/invoiceitems": {**_MONEY, "customer": "cus_1", "invoice": "in_1"},
    "POST /v1/invoiceitems/{invoiceitem}": {"quantity": "3", "unit_amount_decimal": "20"},
    "POST /v1/invoices": {"customer": "cus_1", "currency": "usd", "pending_invoice_items_behavior": "include"},
    "POST /v1/invoices/{invoice}/add_lines": _LINE,
    "POST /v1/invoices/{invoice}/update_lines": {**_LINE, "lines[0][id]": "il_1"},
    "POST /v1/invoices/{invoice}/remove_lines": {"lines[0][behavior]": "delete", "lines[0][id]": "il_1"},
    "POST /v1/invoices/{invoice}/lines/{line}": {"amount": "50"},
    "POST /v1/credit_notes": {"invoice": "in_1", "amount": "50", "refund_amount": "20", "credit_amount": "30"},
    "POST /v1/subscriptions": {**_ITEM, **_ADDED, "customer": "cus_1"},
    "POST /v1/subscriptions/{subscription}": {**_ITEM, **_ADDED, "items[1][id]": "si_1", "items[1][deleted]": "true"},
    "POST /v1/customers/{customer}/subscriptions": {**_ITEM, **_ADDED},
    "POST /v1/customers/{customer}/subscriptions/{subscription}": _ITEM,
    "POST /v1/subscription_items": {**_PRICE_DATA, "quantity": "2", "subscription": "sub_1"},
    "POST /v1/subscription_items/{item}": {**_PRICE_DATA, "quantity": "2"},
    "POST /v1/billing/meter_events": {"event_name": "used", "payload[value]": "7"},
    "POST /v1/billing/meter_event_adjustments": {"event_name": "used", "type": "cancel"},
    "POST /v1/billing/credit_grants": {
        "amount[monetary][currency]": "usd",
        "amount[monetary][value]": "80",
        "amount[type]": "monetary",
        "applicability_config[scope][price_type]": "metered",
        "category": "paid",
        "customer": "cus_1",
    },
    "POST /v1/checkout/sessions": {**_CART, **_SHIPPING, "mode": "payment", "success_url": "https://example.com"},
    "POST /v1/checkout/sessions/{session}": _SHIPPING,
    "POST /v1/payment_links": {**_CART, "restrictions[completed_sessions][limit]": "3"},
    "POST /v1/terminal/readers/{reader}/process_payment_intent": {"payment_intent": "pi_1"},
    "POST /v1/terminal/readers/{reader}/confirm_payment_intent": {"payment_intent": "pi_1"},
    "POST /v1/terminal/readers/{reader}/refund_payment": {"payment_intent": "pi_1", "amount": "50"},
    "POST /v1/issuing/authorizations/{authorization}/approve": {"amount": "50"},
    "POST /v1/issuing/cards": {"currency": "usd", "type": "virtual"},
    "POST /v1/issuing/cardholders": _HOLDER,
    "POST /v1/issuing/disputes": {"amount": "50", "transaction": "ipi_1"},
    "POST /v1/test_helpers/issuing/authorizations": {**_MONEY, "card": "ic_1"},
    "POST /v1/test_helpers/issuing/authorizations/{authorization}/capture": {"capture_amount": "50"},
    "POST /v1/test_helpers/issuing/authorizations/{authorization}/finalize_amount": {"final_amount": "50"},
    "POST /v1/test_helpers/issuing/authorizations/{authorization}/increment": {"increment_amount": "50"},
    "POST /v1/test_helpers/issuing/authorizations/{authorization}/reverse": {"reverse_amount": "50"},
    "POST /v1/test_helpers/issuing/transactions/create_force_capture": {**_MONEY, "card": "ic_1"},
    "POST /v1/test_helpers/issuing/transactions/create_unlinked_refund": {**_MONEY, "card": "ic_1"},
    "POST /v1/test_helpers/issuing/transactions/{transaction}/refund": {"refund_amount": "50"},
    "POST /v1/treasury/outbound_payments": _TREASURY,
    "POST /v1/treasury/outbound_transfers": _TREASURY,
    "POST /v1/treasury/inbound_transfers": {**_TREASURY, "origin_payment_method": "pm_1"},
    "POST /v1/treasury/credit_reversals": {"received_credit": "rc_1"},
    "POST /v1/treasury/debit_reversals": {"received_debit": "rd_1"},
    "POST /v1/test_helpers/treasury/received_credits": {**_TREASURY, "network": "ach"},
    "POST /v1/test_helpers/treasury/received_debits": {**_TREASURY, "network": "ach"},
    "POST /v1/test_helpers/test_clocks/{test_clock}/advance": {"frozen_time": "1"},
    "POST /v1/climate/orders": {"amount": "500", "currency": "usd", "product": "climsku_1"},
    "POST /v1/forwarding/requests": {
        "payment_method": "pm_1",
        "replacements[0]": "card_number",
        "request[body]": "{}",
        "url": "https://example.com",
    },
}  # fmt: skip
