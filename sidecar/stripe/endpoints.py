"""The endpoints of Stripe: which of them move money, which way, and where the amount stands.

Money rows come first, by resource; what moves none stands in one list at the
end. A changing endpoint in neither is refused. Facts are of Stripe's API
2026-10-28.endive and its public specifications; rows marked ``legacy`` are in
no SDK any more and still served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from sidecar.stripe import sums, understood
from sidecar.stripe.commitments import NAMED
from sidecar.stripe.plain_endpoints import PLAIN
from sidecar.stripe.rules import (
    Asked,
    Computed,
    Named,
    NotPriced,
    Refund,
    Rule,
    balance_change,
    captured,
    nothing,
    rest,
    whole,
)


class Direction(StrEnum):
    """Which way money goes, seen from whoever owns the Stripe account."""

    IN = "in"
    OUT = "out"
    HOLD = "hold"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table."""

    method: str
    template: str
    direction: Direction = Direction.NONE
    rule: Rule | None = None
    """How it is priced; None when it moves no money."""
    answers: str = ""
    """How the answer says what is committed, one of `commitments.READERS`; empty when it does not."""
    step: bool = False
    """Whether the object in the path is the one whose commitment changes."""
    apart: bool = False
    """Whether each call counts by itself, and not under the object in its answer."""
    refused: frozenset[str] = frozenset()
    """Parameters that can't be priced here, whatever the policy says."""
    pins: str = ""
    """The parameter by which the amount that was asked for is fixed, where the request leaves it open."""
    streams: bool = False
    """Whether the answer may be large and is passed on as it comes."""
    files: bool = False
    """Whether it is served by the host for files."""
    note: str = ""

    @property
    def name(self) -> str:
        """Method and template."""
        return f"{self.method} {self.template}"

    @property
    def answer_object(self) -> str:
        """The ``object`` of its answers; empty when not known, so that no event tells the amount."""
        return _ANSWER_OBJECTS.get(self.name, self.answers if self.answers in NAMED else "")


_ANSWER_OBJECTS = {
    "POST /v1/transfers": "transfer",
    "POST /v1/transfers/{transfer}/reversals": "transfer_reversal",
    "POST /v1/payouts": "payout",
    "POST /v1/payouts/{payout}/cancel": "payout",
    "POST /v1/topups": "topup",
    "POST /v1/topups/{topup}/cancel": "topup",
    "POST /v1/application_fees/{fee}/refunds": "fee_refund",
    "POST /v1/customers/{customer}/balance_transactions": "customer_balance_transaction",
    "POST /v1/sources": "source",
    "POST /v1/credit_notes": "credit_note",
    "POST /v1/billing/credit_grants": "billing.credit_grant",
    "POST /v1/payment_links": "payment_link",
    "POST /v1/disputes/{dispute}/close": "dispute",
    "POST /v1/charges/{charge}/dispute/close": "dispute",
    "POST /v1/treasury/outbound_payments": "treasury.outbound_payment",
    "POST /v1/treasury/outbound_transfers": "treasury.outbound_transfer",
    "POST /v1/treasury/inbound_transfers": "treasury.inbound_transfer",
    "POST /v1/treasury/credit_reversals": "treasury.credit_reversal",
    "POST /v1/treasury/debit_reversals": "treasury.debit_reversal",
    "POST /v1/climate/orders": "climate.order",
}
"""What answers are whose reader does not say it. Left out is what answers with an object like the one in its path."""


def _row(endpoint: str, direction: Direction, rule: Rule | None, answers: str, **more: object) -> Endpoint:
    method, template = endpoint.split(" ")
    return Endpoint(method, template, direction, rule, answers, **more)  # type: ignore[arg-type]


def _in(endpoint: str, rule: Rule, answers: str = "", **more: object) -> Endpoint:
    return _row(endpoint, Direction.IN, rule, answers, **more)


def _out(endpoint: str, rule: Rule, answers: str = "", **more: object) -> Endpoint:
    return _row(endpoint, Direction.OUT, rule, answers, **more)


def _hold(endpoint: str, rule: Rule, answers: str = "", **more: object) -> Endpoint:
    return _row(endpoint, Direction.HOLD, rule, answers, **more)


def _undo(endpoint: str, answers: str, **more: object) -> Endpoint:
    """A call that can only lower what the object in its path commits."""
    return _row(endpoint, Direction.NONE, None, answers, step=True, **more)


_CHARGE, _INTENT = "POST /v1/charges/{charge}", "POST /v1/payment_intents/{intent}"
_GET_CHARGE, _GET_INTENT = "/v1/charges/{}", "/v1/payment_intents/{}"
_INVOICE, _GET_INVOICE = "POST /v1/invoices/{invoice}", "/v1/invoices/{}"
_SUBSCRIPTION = "/v1/subscriptions/{subscription}"
_READER = "POST /v1/terminal/readers/{reader}"
_ISSUING = "POST /v1/test_helpers/issuing"
_PAYOUT_INTENT = "POST /v2/money_management/payout_intents/{payout_intent}"

_CHARGE_AMOUNT = "`amount`, else the charge's"
_INTENT_AMOUNT = "the intent's `amount`"
_DUE = "the invoice's `amount_due`"
_VALUE = Named("amount[value]", "amount[currency]")

_PAID_ELSEWHERE = ("paid_out_of_band", "true")
_FREE_FOR_SUBSCRIPTIONS = frozenset(
    {
        "cancel_at",
        "cancel_at_period_end",
        "cancellation_details",
        "days_until_due",
        "description",
        "expand",
        "invoice_settings",
        "metadata",
        "payment_settings",
        "transfer_data",
        "trial_settings",
    }
)
_OLD_CUSTOMER = frozenset(
    {"account_balance", "cash_balance", "plan", "quantity", "subscriptions", "trial_end"}
)
"""Parameters of old API versions, by which a customer could be billed."""

_NEW_SUBSCRIPTION = Computed(
    sums.price_subscription,
    "all `items` and `add_invoice_items`, for one period in full, and what the customer owes besides",
    understood.SUBSCRIPTION,
)
_CHANGED_SUBSCRIPTION = Computed(
    sums.price_subscription_change,
    "one period of the subscription as it will be, in full, and what the customer owes besides",
    understood.SUBSCRIPTION_CHANGE,
    harmless=_FREE_FOR_SUBSCRIPTIONS,
)
# Resuming bills, whatever it is given.
_RESUMED_SUBSCRIPTION = replace(_CHANGED_SUBSCRIPTION, harmless=frozenset())
_BILLED_NOW = ("invoice_now", "prorate")
_OPAQUE = "the amount is inside a request that Spendgate can't read"

# One row, one line.
# fmt: off
MONEY = (
    # Charges.
    _in("POST /v1/charges", Named(), "charge", note="`destination`, `transfer_data` and fees split it"),
    _in(f"{_CHARGE}/capture", Asked(_GET_CHARGE, whole(), _CHARGE_AMOUNT), "charge", step=True, pins="amount"),
    _out(f"{_CHARGE}/refund", Refund(path_is_charge=True), apart=True, note="legacy; answers with the charge", pins="amount"),
    _out(f"{_CHARGE}/refunds", Refund(path_is_charge=True), "refund", note="legacy", pins="amount"),
    _out(f"{_CHARGE}/dispute/close", Asked("/v1/charges/{}/dispute", whole(), "the disputed amount", amount=""), "amount", note="legacy"),
    # Payment intents.
    _in("POST /v1/payment_intents", Named(), "payment_intent", note="counts before it is confirmed"),
    # An intent is priced in the currency that it has.
    _in(_INTENT, Asked(_GET_INTENT, whole(), "`amount`, the new total", when="amount"), "payment_intent", step=True, refused=frozenset({"currency"})),
    _in(f"{_INTENT}/confirm", Asked(_GET_INTENT, whole(), f"`amount_to_confirm`, else {_INTENT_AMOUNT}", "amount_to_confirm"), "payment_intent", step=True),
    _in(f"{_INTENT}/capture", Asked(_GET_INTENT, captured, "`amount_to_capture`, else all that can be captured", "amount_to_capture"), "payment_intent", step=True),
    _hold(f"{_INTENT}/increment_authorization", Asked(_GET_INTENT, whole(), "`amount`, the new total"), "payment_intent", step=True),
    _hold(f"{_INTENT}/decrement_authorization", Asked(_GET_INTENT, whole(), "`amount`, the new total"), "payment_intent", step=True, note="preview"),
    _hold(f"{_INTENT}/reauthorize", Asked(_GET_INTENT, whole(), _INTENT_AMOUNT), "payment_intent", step=True, note="preview"),
    _undo(f"{_INTENT}/cancel", "payment_intent"),
    _in(f"{_INTENT}/apply_customer_balance", Asked(_GET_INTENT, lambda intent, given: int(intent["amount"]), _INTENT_AMOUNT), "payment_intent", step=True),
    _in(f"{_INTENT}/verify_microdeposits", Asked(_GET_INTENT, whole(), f"{_INTENT_AMOUNT}; `amounts` are microdeposits, not money", amount=""), "payment_intent", step=True),
    # Refunds, disputes.
    _out("POST /v1/refunds", Refund(), "refund", pins="amount"),
    _undo("POST /v1/refunds/{refund}/cancel", "refund"),
    _out("POST /v1/disputes/{dispute}/close", Asked("/v1/disputes/{}", whole(), "the disputed amount", amount=""), "amount"),
    # Transfers, payouts, top-ups.
    _out("POST /v1/transfers", Computed(sums.price_transfer, "`amount`, else what is left of `source_transaction`"), "amount", pins="amount"),
    _in("POST /v1/transfers/{transfer}/reversals", Asked("/v1/transfers/{}", rest("amount", "amount_reversed"), "`amount`, else what is not reversed"), "amount", pins="amount"),
    _out("POST /v1/balance_transfers", Named(), "amount", note="preview"),
    _out("POST /v1/payouts", Named(), "amount"),
    _undo("POST /v1/payouts/{payout}/cancel", "amount"),
    _in("POST /v1/payouts/{payout}/reverse", Asked("/v1/payouts/{}", whole(), "the payout's amount", amount=""), "amount"),
    _in("POST /v1/topups", Named(), "amount"),
    _undo("POST /v1/topups/{topup}/cancel", "amount"),
    _out("POST /v1/application_fees/{fee}/refund", Asked("/v1/application_fees/{}", rest("amount", "amount_refunded"), "`amount`, else the rest of the fee"), apart=True, note="legacy; answers with the fee", pins="amount"),
    _out("POST /v1/application_fees/{fee}/refunds", Asked("/v1/application_fees/{}", rest("amount", "amount_refunded"), "`amount`, else the rest of the fee"), "amount", pins="amount"),
    # Customers' balances.
    _out("POST /v1/customers", NotPriced("a new customer's balance has no currency yet", when=("balance",)), apart=True, refused=_OLD_CUSTOMER),
    _out("POST /v1/customers/{customer}", Asked("/v1/customers/{}", balance_change, "with `balance`: how far it moves", amount="balance", signed=True, when="balance"), apart=True, refused=_OLD_CUSTOMER, note="a new default payment method lets Stripe try overdue invoices again"),
    _out("POST /v1/customers/{customer}/balance_transactions", Named(signed=True), "amount", note="negative is credit to the customer; either sign counts"),
    _in("POST /v1/test_helpers/customers/{customer}/fund_cash_balance", Named(), apart=True),
    _hold("POST /v1/sources", Named(optional=True), "amount", note="deprecated"),
    # Invoices.
    _in("POST /v1/invoiceitems", Computed(sums.price_invoice_item, "`amount`, or price times quantity", understood.INVOICE_ITEM), "invoiceitem", note="its invoice takes over what is counted for it"),
    _in("POST /v1/invoiceitems/{invoiceitem}", Computed(sums.price_invoice_item, "`amount`, or price times quantity", understood.INVOICE_ITEM_CHANGE), "invoiceitem", step=True),
    _row("DELETE /v1/invoiceitems/{invoiceitem}", Direction.NONE, Computed(sums.price_deleted_item, "what was counted is given back; not priced when it gave credit"), "deleted", step=True),
    _in("POST /v1/invoices", Computed(sums.price_invoice, "the customer's pending items, where they are included", understood.INVOICE), "invoice"),
    _in(f"{_INVOICE}/add_lines", NotPriced("what a draft comes to is not certain while lines change; make invoice items, which are priced"), "invoice", step=True),
    _in(f"{_INVOICE}/update_lines", NotPriced("what a draft comes to is not certain while lines change; make invoice items, which are priced"), "invoice", step=True),
    _in(f"{_INVOICE}/remove_lines", NotPriced("without a line of credit more is due, and what is unassigned is billed later"), "invoice", step=True),
    _in(f"{_INVOICE}/lines/{{line}}", NotPriced("change the invoice item, which is priced", harmless=frozenset({"metadata", "description", "expand", "period", "Stripe-Version"})), apart=True),
    _in(_INVOICE, NotPriced("what it adds is only known afterwards", harmless=understood.INVOICE_HARMLESS), apart=True),
    _in(f"{_INVOICE}/finalize", Asked(_GET_INVOICE, whole("amount_due"), _DUE, amount="", items=True), "invoice", step=True),
    _in(f"{_INVOICE}/pay", Asked(_GET_INVOICE, whole("amount_due"), _DUE, amount="", items=True, unless=_PAID_ELSEWHERE), "invoice", step=True),
    _in(f"{_INVOICE}/send", Asked(_GET_INVOICE, whole("amount_due"), _DUE, amount="", items=True), "invoice", step=True),
    _in(f"{_INVOICE}/attach_payment", Asked(_GET_INVOICE, whole("amount_due"), _DUE, amount="", items=True), "invoice", step=True),
    _undo(f"{_INVOICE}/void", "invoice"),
    _row("DELETE /v1/invoices/{invoice}", Direction.NONE, None, "", note="stays counted: its items may be billed by another invoice"),
    _out("POST /v1/credit_notes", Computed(sums.price_credit_note, "`amount`, else its parts, else all of the invoice"), "amount"),
    _in("POST /v1/credit_notes/{credit_note}/void", NotPriced("its invoice is due again"), apart=True),
    # Subscriptions: what is counted is one period; later ones are billed without another call.
    _in("POST /v1/subscriptions", _NEW_SUBSCRIPTION, "subscription"),
    _in(f"POST {_SUBSCRIPTION}", _CHANGED_SUBSCRIPTION, apart=True),
    _in(f"DELETE {_SUBSCRIPTION}", NotPriced("usage and prorations are billed at once", when=_BILLED_NOW), apart=True),
    _in(f"POST {_SUBSCRIPTION}/cancel", NotPriced("usage and prorations are billed at once", when=_BILLED_NOW), apart=True, note="legacy"),
    _in(f"POST {_SUBSCRIPTION}/resume", _RESUMED_SUBSCRIPTION, apart=True),
    _in(f"POST {_SUBSCRIPTION}/pause", NotPriced("it may bill now", when=("invoicing_behavior", "bill_for")), apart=True),
    _in("POST /v1/customers/{customer}/subscriptions", _NEW_SUBSCRIPTION, "subscription", note="legacy"),
    _in("POST /v1/customers/{customer}/subscriptions/{subscription}", NotPriced("use POST /v1/subscriptions/{subscription}, which is priced"), apart=True, note="legacy"),
    _in("DELETE /v1/customers/{customer}/subscriptions/{subscription}", NotPriced("usage and prorations are billed at once", when=_BILLED_NOW), apart=True, note="legacy"),
    _in("POST /v1/subscription_items", Computed(sums.price_subscription_item, "one period of the item, in full, and what the customer owes besides", understood.SUBSCRIPTION_ITEM), apart=True),
    _in("POST /v1/subscription_items/{item}", Computed(sums.price_subscription_item, "one period of the item, in full, and what the customer owes besides", understood.SUBSCRIPTION_ITEM, harmless=frozenset({"metadata", "expand", "off_session", "payment_behavior"})), apart=True),
    _in("DELETE /v1/subscription_items/{item}", NotPriced("prorations are settled at once", when=("proration_behavior",)), apart=True),
    _in("POST /v1/subscription_items/{item}/usage_records", NotPriced("usage is billed later"), apart=True, note="legacy"),
    _in("POST /v1/subscription_schedules", NotPriced("its phases are billed later"), apart=True),
    _in("POST /v1/subscription_schedules/{schedule}", NotPriced("its phases are billed later", when=("phases", "proration_behavior")), apart=True),
    _in("POST /v1/subscription_schedules/{schedule}/cancel", NotPriced("usage and prorations are billed, unless invoice_now is false"), apart=True),
    _in("POST /v1/billing/meter_events", NotPriced("usage is billed later"), apart=True),
    _out("POST /v1/billing/meter_event_adjustments", NotPriced("usage is taken off what is billed later"), apart=True),
    _out("POST /v1/billing/credit_grants", Named("amount[monetary][value]", "amount[monetary][currency]"), "credit_grant"),
    # Checkout, payment links, quotes: somebody else pays, without another call.
    _in("POST /v1/prices/{price}", NotPriced("open links and sessions may take its new amounts", when=("currency_options",)), apart=True),
    _in("POST /v1/shipping_rates/{shipping_rate_token}", NotPriced("open links and sessions may take its new amounts", when=("fixed_amount",)), apart=True),
    _in("POST /v1/checkout/sessions", Computed(sums.price_session, "all `line_items` at their highest quantity, and the dearest shipping", understood.SESSION, unless=("mode", "setup")), "checkout.session"),
    _in("POST /v1/checkout/sessions/{session}", NotPriced("what its customer may choose is not certain while it changes; make a new one", harmless=frozenset({"metadata", "expand", "collected_information", "Stripe-Version"})), "checkout.session", step=True),
    _in("POST /v1/checkout/sessions/{session}/approve", Asked("/v1/checkout/sessions/{}", whole("amount_total"), "the session's `amount_total`"), "checkout.session", step=True, note="preview"),
    _undo("POST /v1/checkout/sessions/{session}/expire", "checkout.session"),
    _in("POST /v1/payment_links", Computed(sums.price_payment_link, "all lines, times `restrictions[completed_sessions][limit]`", understood.LINK)),
    _in("POST /v1/payment_links/{payment_link}", NotPriced("a changed link can be paid any number of times; make a new one", harmless=frozenset({"metadata", "expand", "custom_text", "after_completion", "inactive_message", "Stripe-Version"})), apart=True),
    _in("POST /v1/quotes/{quote}/accept", Computed(sums.price_quote, "the quote's `amount_total`, and what the customer owes besides"), apart=True),
    _in("POST /v1/orders", NotPriced("orders are not served any more"), apart=True, note="legacy"),
    _in("POST /v1/orders/{order}/submit", NotPriced("orders are not served any more"), apart=True, note="legacy"),
    _in("POST /v1/orders/{order}/pay", NotPriced("orders are not served any more"), apart=True, note="legacy"),
    # Terminal: the answer is the reader; the payment ends later.
    _in(f"{_READER}/process_payment_intent", Asked(_GET_INTENT, whole(), _INTENT_AMOUNT, amount="", by="payment_intent", step_by=True), note="a tip on the reader comes on top, and is counted when the intent is read"),
    _in(f"{_READER}/confirm_payment_intent", Asked(_GET_INTENT, whole(), _INTENT_AMOUNT, amount="", by="payment_intent", step_by=True)),
    _out(f"{_READER}/refund_payment", Refund(), apart=True),
    # Issuing and Treasury.
    _out("POST /v1/issuing/authorizations/{authorization}/approve", Asked("/v1/issuing/authorizations/{}", whole("pending_request.amount"), "`amount`, else what is asked for"), "amount"),
    _undo("POST /v1/issuing/authorizations/{authorization}/decline", ""),
    _out("POST /v1/issuing/cards", NotPriced("a card spends by itself, within its own limits"), apart=True),
    _out("POST /v1/issuing/cards/{card}", NotPriced("a card spends by itself, within its own limits", when=("spending_controls", "status")), apart=True),
    _out("POST /v1/issuing/cardholders", NotPriced("cards spend by themselves", when=("spending_controls",)), apart=True),
    _out("POST /v1/issuing/cardholders/{cardholder}", NotPriced("cards spend by themselves", when=("spending_controls", "status")), apart=True),
    _in("POST /v1/issuing/disputes", Asked("/v1/issuing/transactions/{}", lambda source, given: abs(int(source["amount"])) if given is None else given, "`amount`, else the transaction's", by="transaction"), "amount"),
    _in("POST /v1/issuing/disputes/{dispute}/submit", Asked("/v1/issuing/disputes/{}", whole(), "the dispute's amount", amount=""), "amount"),
    _hold(f"{_ISSUING}/authorizations", Named(), "amount"),
    _out(f"{_ISSUING}/authorizations/{{authorization}}/capture", Asked("/v1/issuing/authorizations/{}", whole(), "`capture_amount`, else all", "capture_amount"), "amount"),
    _hold(f"{_ISSUING}/authorizations/{{authorization}}/finalize_amount", Asked("/v1/issuing/authorizations/{}", whole(), "`final_amount`", "final_amount"), "amount", step=True),
    _hold(f"{_ISSUING}/authorizations/{{authorization}}/increment", Asked("/v1/issuing/authorizations/{}", lambda source, given: int(source["amount"]) + (given or 0), "the amount and `increment_amount`", "increment_amount"), "amount", step=True),
    _hold(f"{_ISSUING}/authorizations/{{authorization}}/reverse", Asked("/v1/issuing/authorizations/{}", nothing, "what was held is given back", "reverse_amount"), "amount"),
    _out(f"{_ISSUING}/transactions/create_force_capture", Named(), "amount"),
    _in(f"{_ISSUING}/transactions/create_unlinked_refund", Named(), "amount"),
    _in(f"{_ISSUING}/transactions/{{transaction}}/refund", Asked("/v1/issuing/transactions/{}", lambda source, given: abs(int(source["amount"])) if given is None else given, "`refund_amount`, else all", "refund_amount"), apart=True),
    _out("POST /v1/treasury/outbound_payments", Named(), "amount"),
    _undo("POST /v1/treasury/outbound_payments/{outbound_payment}/cancel", "amount"),
    _out("POST /v1/treasury/outbound_transfers", Named(), "amount"),
    _undo("POST /v1/treasury/outbound_transfers/{outbound_transfer}/cancel", "amount"),
    _in("POST /v1/treasury/inbound_transfers", Named(), "amount"),
    _undo("POST /v1/treasury/inbound_transfers/{inbound_transfer}/cancel", "amount"),
    _out("POST /v1/treasury/credit_reversals", Asked("/v1/treasury/received_credits/{}", whole(), "the received credit's amount", amount="", by="received_credit"), "amount"),
    _in("POST /v1/treasury/debit_reversals", Asked("/v1/treasury/received_debits/{}", whole(), "the received debit's amount", amount="", by="received_debit"), "amount"),
    _out("POST /v1/treasury/financial_accounts/{financial_account}/close", NotPriced("its balance can be swept away"), apart=True),
    _in("POST /v1/test_helpers/treasury/received_credits", Named(), "amount"),
    _out("POST /v1/test_helpers/treasury/received_debits", Named(), "amount"),
    # Others.
    _in("POST /v1/test_helpers/test_clocks/{test_clock}/advance", NotPriced("every subscription on the clock is billed"), apart=True),
    _hold("POST /v1/shared_payment/issued_tokens", Named("usage_limits[max_amount]", "usage_limits[currency]"), note="preview"),
    _in("POST /v1/gift_cards/{gift_card}/activate", Named("balance[amount]", "balance[currency]"), note="preview"),
    _in("POST /v1/gift_cards/{gift_card}/reload", Named(), apart=True, note="preview"),
    _out("POST /v1/gift_cards/{gift_card}/cashout", NotPriced("its whole balance is paid out"), apart=True, note="preview"),
    _out("POST /v1/climate/orders", NotPriced("its price is only known afterwards"), "amount_total"),
    _in("POST /v1/climate/orders/{order}/cancel", Asked("/v1/climate/orders/{}", whole("amount_subtotal"), "the order's `amount_subtotal`", amount=""), apart=True),
    _out("POST /v1/forwarding/requests", NotPriced(_OPAQUE), apart=True),
    _out("POST /v1/balance_settings", NotPriced("it starts automatic payouts", when=("payments",)), apart=True),
    _out("POST /v1/accounts/{account}", NotPriced("it changes automatic payouts or where they go", when=("settings", "external_account", "bank_account", "default_currency")), apart=True),
    _out("POST /v1/accounts/{account}/external_accounts", NotPriced("it changes where payouts go"), apart=True),
    _out("POST /v1/accounts/{account}/external_accounts/{external_account}", NotPriced("it changes where payouts go", when=("default_for_currency",)), apart=True),
    _in("POST /v1/customers/{customer}/cash_balance", NotPriced("Stripe may apply the balance to invoices by itself", when=("settings",)), apart=True),
    # v2: JSON, amounts as a value and a currency.
    _out("POST /v2/money_management/outbound_payments", _VALUE, "from.debited"),
    _undo("POST /v2/money_management/outbound_payments/{outbound_payment}/cancel", "from.debited"),
    _out("POST /v2/money_management/outbound_transfers", _VALUE, "from.debited", note="preview"),
    _undo("POST /v2/money_management/outbound_transfers/{outbound_transfer}/cancel", "from.debited"),
    _out("POST /v2/money_management/payout_intents", _VALUE, "from.debited"),
    _out(_PAYOUT_INTENT, NotPriced("make a new one", when=("amount", "from", "to")), apart=True),
    _out(f"{_PAYOUT_INTENT}/confirm", Asked("/v2/money_management/payout_intents/{}", whole("amount.value"), "the intent's amount", amount="", currency="amount.currency"), "from.debited", step=True),
    _out(f"{_PAYOUT_INTENT}/refresh_fx_quote", NotPriced("it changes what is debited"), apart=True),
    _undo(f"{_PAYOUT_INTENT}/cancel", "from.debited"),
    _in("POST /v2/money_management/inbound_transfers", _VALUE, apart=True),
    _out("POST /v2/core/vault/us_bank_accounts/{us_bank_account}/send_microdeposits", NotPriced("two tiny credits of unknown amount"), apart=True),
    _in("POST /v2/money_management/test_helpers/financial_addresses/{financial_address}/credit", _VALUE, apart=True),
    _out("POST /v2/money_management/currency_conversions", NotPriced("one side is computed by Stripe"), apart=True, note="preview"),
    _in("POST /v2/payments/off_session_payments", _VALUE, apart=True, note="preview"),
    _out("POST /v2/payments/settlement_allocation_intents/{settlement_allocation_intent}/splits", _VALUE, apart=True, note="preview"),
    _in("POST /v2/billing/intents/{intent}/commit", NotPriced("what it bills is only known afterwards"), apart=True, note="preview"),
    _in("POST /v2/billing/meter_events", NotPriced("usage is billed later"), apart=True),
    _in("POST /v2/billing/meter_event_adjustments", NotPriced("usage is taken off what is billed later"), apart=True),
    _out("POST /v2/core/batch_jobs", NotPriced(_OPAQUE), apart=True, note="preview"),
    _out("POST /v2/extend/workflows/{workflow}/invoke", NotPriced("a workflow may move money"), apart=True, note="preview"),
)
# fmt: on

_STREAMED = frozenset({"GET /v1/quotes/{quote}/pdf", "GET /v1/files/{file}/contents"})
_AT_FILES = frozenset({"POST /v1/files", "GET /v1/files/{file}/contents", "GET /v1/quotes/{quote}/pdf"})


def _plain() -> Iterator[Endpoint]:
    for line in PLAIN.split("\n"):
        template, _, methods = line.partition(" ")
        for method in methods.split():
            name = f"{method} {template}"
            yield Endpoint(method, template, streams=name in _STREAMED, files=name in _AT_FILES)


ENDPOINTS = (*MONEY, *_plain())
"""Every endpoint of Stripe that can be called."""
