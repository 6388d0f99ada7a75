"""`expand`: ids in an answer replaced by the objects they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stripe_simulator.billing.invoice_payments import payments_of
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.ledger import Ledger
from stripe_simulator.lists import whole_list

_DEEPEST = 4

# What leads to a list is marked so: its objects are reached by one more step, `data`.
_MANY = "[]"

# For each kind of object, its expandable fields and the kind each leads to; an empty kind leads nowhere.
_EXPANDABLE: dict[str, dict[str, str]] = {
    "charge": {
        "application_fee": "",
        "balance_transaction": "",
        "customer": "customer",
        "dispute": "dispute",
        "failure_balance_transaction": "",
        "on_behalf_of": "",
        "payment_intent": "payment_intent",
        "payment_method": "",
        "refunds": "refund[]",
        "review": "",
        "source_transfer": "",
        "transfer": "",
    },
    "payment_intent": {
        "customer": "customer",
        "latest_charge": "charge",
        "on_behalf_of": "",
        "payment_method": "payment_method",
        "review": "",
    },
    "setup_intent": {
        "customer": "customer",
        "latest_attempt": "",
        "mandate": "",
        "on_behalf_of": "",
        "payment_method": "payment_method",
    },
    "payment_method": {"customer": "customer"},
    "refund": {
        "balance_transaction": "",
        "charge": "charge",
        "payment_intent": "payment_intent",
        "transfer_reversal": "",
    },
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "customer": {
        "cash_balance": "",
        "default_source": "",
        "invoice_credit_balance": "",
        "sources": "",
        "subscriptions": "subscription[]",
        "tax": "",
        "tax_ids": "",
    },
    "product": {"default_price": "price", "tax_code": ""},
    "price": {"currency_options": "", "product": "product", "tiers": ""},
    "invoiceitem": {"customer": "customer", "discounts": "", "invoice": "invoice", "tax_rates": ""},
    "invoice": {
        "confirmation_secret": "",
        "customer": "customer",
        "default_payment_method": "payment_method",
        "discounts": "",
        "lines": "line_item[]",
        "payments": "invoice_payment[]",
        "total_tax_amounts": "",
    },
    "line_item": {"discounts": ""},
    "invoice_payment": {"invoice": "invoice", "payment": "payment"},
    "payment": {"payment_intent": "payment_intent"},
    "subscription": {
        "customer": "customer",
        "default_payment_method": "payment_method",
        "discounts": "",
        "items": "subscription_item[]",
        "latest_invoice": "invoice",
        "pending_setup_intent": "setup_intent",
        "schedule": "",
    },
    "subscription_item": {"price": "price", "discounts": "", "tax_rates": ""},
    "credit_note": {"customer": "customer", "invoice": "invoice", "refunds": ""},
    "quote": {
        "customer": "customer",
        "invoice": "invoice",
        "line_items": "item[]",
        "subscription": "subscription",
    },
    "item": {"price": "price"},
    "checkout.session": {
        "customer": "customer",
        "invoice": "invoice",
        "line_items": "item[]",
        "payment_intent": "payment_intent",
        "payment_link": "payment_link",
        "setup_intent": "setup_intent",
        "subscription": "subscription",
    },
    "payment_link": {"line_items": "item[]"},
    "payout": {"balance_transaction": "", "original_payout": "payout", "reversed_by": "payout"},
    "transfer": {
        "balance_transaction": "",
        "destination": "",
        "reversals": "transfer_reversal[]",
        "source_transaction": "charge",
    },
    "transfer_reversal": {"balance_transaction": "", "transfer": "transfer"},
    "topup": {"balance_transaction": ""},
    "customer_balance_transaction": {
        "credit_note": "credit_note",
        "customer": "customer",
        "invoice": "invoice",
    },
    "file": {"links": ""},
    "event": {},
    "balance": {},
    "balance_transaction": {"source": ""},
    "shipping_rate": {},
}

# Fields that an object shows only when they are expanded, made from the kept record.
_SHOWN_ON_DEMAND: dict[tuple[str, str], Callable[[Ledger, Any], object]] = {
    ("charge", "refunds"): lambda _, charge: whole_list(
        [refund.json() for refund in reversed(charge.refunds)], f"/v1/charges/{charge.id}/refunds"
    ),
    ("charge", "dispute"): lambda _, charge: charge.dispute,
    ("customer", "subscriptions"): lambda ledger, customer: whole_list(
        [one.json() for one in ledger.subscriptions if one.customer == customer.id and one.ended_at is None],
        f"/v1/customers/{customer.id}/subscriptions",
    ),
    ("price", "tiers"): lambda _, price: [tier.json() for tier in price.tiers] or None,
    ("price", "currency_options"): lambda _, price: price.currency_options_json(),
    ("invoice", "payments"): lambda ledger, invoice: payments_of(ledger, invoice.id),
    ("invoice", "confirmation_secret"): lambda _, invoice: (
        invoice.confirmation_secret
        and {"client_secret": invoice.confirmation_secret, "type": "payment_intent"}
    ),
    ("quote", "line_items"): lambda _, quote: quote.line_items(),
    ("checkout.session", "line_items"): lambda _, session: session.line_items(),
    ("payment_link", "line_items"): lambda _, link: link.line_items(),
}


def check_expansions(paths: Iterable[str], kind: str, in_list: bool) -> None:
    """Refuse a path that no object of this kind has."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > _DEEPEST:
            raise StripeError(400, f"You cannot expand more than {_DEEPEST} levels of a property ({path}).")
        if in_list:
            if steps[0] != "data":
                hint = f" You may want to try expanding 'data.{path}' instead."
                raise StripeError(400, f"This property cannot be expanded ({path}).{hint}")
            steps = steps[1:]
        current = kind
        for step in steps:
            if current.endswith(_MANY):
                if step != "data":
                    raise StripeError(400, f"This property cannot be expanded ({path}).")
                current = current.removesuffix(_MANY)
                continue
            if step not in _EXPANDABLE.get(current, {}):
                raise StripeError(400, f"This property cannot be expanded ({path}).")
            current = _EXPANDABLE[current][step]


def expand(ledger: Ledger, answer: JsonObject, paths: Iterable[str]) -> None:
    """Replace, in place, what each checked path leads to."""
    for path in paths:
        _expand_one(ledger, answer, path.split("."))


def _expand_one(ledger: Ledger, item: JsonObject, steps: list[str]) -> None:
    if not steps:
        return
    name = steps[0]
    if name == "data" and item.get("object") == "list":
        for one in item["data"]:
            _expand_one(ledger, one, steps[1:])
        return
    show = _SHOWN_ON_DEMAND.get((str(item.get("object")), name))
    record = ledger.get(str(item.get("id"))) if show is not None else None
    if show is not None and record is not None and not isinstance(item.get(name), dict):
        item[name] = show(ledger, record)
    value = item.get(name)
    if isinstance(value, str):
        value = item[name] = ledger.find(value) or value
    if isinstance(value, dict):
        _expand_one(ledger, value, steps[1:])
