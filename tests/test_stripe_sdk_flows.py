"""What programs do with Stripe's official SDKs, from the first call to the last, with every SDK.

Each flow ends with the same question: does what Spendgate counted and recorded
agree with what moved at Stripe?
"""

from __future__ import annotations

from typing import Any

import pytest

from spendgate.v1.audit_service_pb2 import AuditEvent
from tests.conftest import Connect
from tests.processes import wait_for
from tests.sdks import Sdk, SdkError
from tests.stack import Stack, VaultKey, cap

# The SDK uses httpx, for its async calls, in a way that httpx wants changed.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw:DeprecationWarning")

CHARGE = {"amount": 1900, "currency": "usd", "source": "tok_visa"}
CARD = {"payment_method": "pm_card_visa"}
INTENT = {"amount": 1000, "currency": "usd", **CARD}
MUG = {
    "price_data": {"currency": "usd", "unit_amount": 1200, "product_data": {"name": "Mug"}},
    "quantity": 2,
}
ROOM = 100_000


def agrees(stack: Stack, key: VaultKey, amount: int, *, moved: int | None = None) -> None:
    """Wait until ``amount`` is counted and nothing is held; it is what moved, and each change is on record.

    ``moved`` is what moved at Stripe, where Spendgate counts more than that.
    """
    stack.settled(key, amount)
    assert stack.simulator.committed == (amount if moved is None else moved)
    made = {request["request_id"] for request in stack.simulator.changes()}
    wait_for(
        lambda: made == {event.vendor_request_id for event in outcomes(stack, key)} - {""}, "all is on record"
    )
    assert not any(event.overrun for event in outcomes(stack, key))


def outcomes(stack: Stack, key: VaultKey) -> list[AuditEvent]:
    """What the audit trail has of the outcome of calls."""
    return stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT")


def paying_customer(sdk: Sdk) -> str:
    """A customer whose card is charged without further ado."""
    settings = {"default_payment_method": "pm_card_visa"}
    return str(sdk.call("customers.create", {**CARD, "invoice_settings": settings})["id"])


def monthly(sdk: Sdk, amount: int) -> str:
    """A price for a month."""
    product = sdk.call("products.create", {"name": "Seat"})["id"]
    price = {"currency": "usd", "product": product, "unit_amount": amount}
    return str(sdk.call("prices.create", {**price, "recurring": {"interval": "month"}})["id"])


def test_charges_are_made_captured_and_read(stack: Stack, connect: Connect) -> None:
    """A charge, one that is captured in part, and one that nobody captures."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    paid = sdk.call("charges.create", CHARGE)
    authorized = sdk.call("charges.create", {**CHARGE, "amount": 1000, "capture": False})
    captured = sdk.call("charges.capture", authorized["id"], {"amount": 600})
    waiting = sdk.call("charges.create", {**CHARGE, "amount": 300, "capture": False})
    assert (paid["captured"], captured["amount_captured"], waiting["captured"]) == (True, 600, False)
    assert sdk.call("charges.retrieve", paid["id"])["status"] == "succeeded"
    agrees(stack, key, 1900 + 600 + 300)


def test_lists_page_by_themselves(stack: Stack, connect: Connect) -> None:
    """Every page is a call of its own; all charges come, newest first."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    made = [sdk.call("charges.create", {**CHARGE, "amount": amount})["id"] for amount in range(101, 106)]
    assert sdk.ids("charges", {"limit": 2}) == made[::-1]
    listed = [event for event in stack.events(key, decision="allow") if event.endpoint == "GET /v1/charges"]
    assert len(listed) == 3
    agrees(stack, key, sum(range(101, 106)))


def test_an_intent_is_raised_confirmed_and_captured_in_part(stack: Stack, connect: Connect) -> None:
    """All steps on one object: what counts is what it commits in the end."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    intent = sdk.call("payment_intents.create", {**INTENT, "capture_method": "manual"})["id"]
    sdk.call("payment_intents.update", intent, {"amount": 1500, "metadata": {"order": "7"}})
    agrees(stack, key, 1500)
    assert sdk.call("payment_intents.confirm", intent)["status"] == "requires_capture"
    captured = sdk.call("payment_intents.capture", intent, {"amount_to_capture": 700})
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 700)
    agrees(stack, key, 700)


def test_an_intent_is_confirmed_at_once(stack: Stack, connect: Connect) -> None:
    """Created and paid in one call."""
    key = stack.key(caps=[cap(ROOM)])
    methods = {"enabled": True, "allow_redirects": "never"}
    paid = connect(key).call(
        "payment_intents.create", {**INTENT, "confirm": True, "automatic_payment_methods": methods}
    )
    assert paid["status"] == "succeeded"
    agrees(stack, key, 1000)


def test_a_cancelled_intent_counts_nothing(stack: Stack, connect: Connect) -> None:
    """Cancelled before it is confirmed, and after."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    for intent in (INTENT, {**INTENT, "capture_method": "manual", "confirm": True}):
        made = sdk.call("payment_intents.create", intent)["id"]
        assert sdk.call("payment_intents.cancel", made)["status"] == "canceled"
    agrees(stack, key, 0)


def test_a_declined_intent_counts_until_it_is_cancelled(stack: Stack, connect: Connect) -> None:
    """It raises as at Stripe, and can still be paid with its client secret."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    declined = {**INTENT, "payment_method": "pm_card_chargeDeclined"}
    intent = sdk.call("payment_intents.create", declined)["id"]
    with pytest.raises(SdkError) as raised:
        sdk.call("payment_intents.confirm", intent)
    assert (raised.value.kind, raised.value.code) == ("CardError", "card_declined")
    agrees(stack, key, 1000)
    sdk.call("payment_intents.cancel", intent)
    agrees(stack, key, 0)


def test_refunds_are_made_in_part_and_of_the_rest(stack: Stack, connect: Connect) -> None:
    """Of a charge and of an intent; money that leaves counts as money that comes."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    charge = sdk.call("charges.create", CHARGE)["id"]
    part = sdk.call("refunds.create", {"charge": charge, "amount": 500})
    rest = sdk.call("refunds.create", {"charge": charge})
    assert (part["amount"], rest["amount"]) == (500, 1400)
    intent = sdk.call("payment_intents.create", {**INTENT, "confirm": True})["id"]
    assert sdk.call("refunds.create", {"payment_intent": intent})["amount"] == 1000
    with pytest.raises(SdkError) as again:
        sdk.call("refunds.create", {"charge": charge})
    assert (again.value.kind, again.value.code) == ("InvalidRequestError", "charge_already_refunded")
    assert sdk.call("refunds.retrieve", part["id"])["status"] == "succeeded"
    agrees(stack, key, 2 * (1900 + 1000))


def test_a_subscription_is_made_changed_and_cancelled(stack: Stack, connect: Connect) -> None:
    """The first invoice counts as paid, a change as a whole period of what it makes."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    items = [{"price": monthly(sdk, 1500), "quantity": 2}]
    made = sdk.call(
        "subscriptions.create",
        {"customer": paying_customer(sdk), "items": items, "expand": ["latest_invoice"]},
    )
    assert (made["status"], made["latest_invoice"]["amount_paid"]) == ("active", 3000)
    agrees(stack, key, 3000)
    more = {"items": [{"id": made["items"]["data"][0]["id"], "quantity": 3}], "proration_behavior": "none"}
    assert sdk.call("subscriptions.update", made["id"], more)["items"]["data"][0]["quantity"] == 3
    sdk.call("subscriptions.update", made["id"], {"metadata": {"team": "a"}})
    assert sdk.call("subscriptions.cancel", made["id"])["status"] == "canceled"
    agrees(stack, key, 3000 + 4500, moved=3000)


def test_a_subscription_with_a_trial_counts_the_period_after_it(stack: Stack, connect: Connect) -> None:
    """The invoice of the trial is paid and says nothing; the period that is billed later counts."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    made = sdk.call(
        "subscriptions.create",
        {
            **{"customer": paying_customer(sdk), "items": [{"price": monthly(sdk, 1500)}]},
            **{"trial_period_days": 14, "expand": ["latest_invoice"]},
        },
    )
    assert (made["status"], made["latest_invoice"]["amount_due"]) == ("trialing", 0)
    agrees(stack, key, 1500, moved=0)
    stack.simulator.act("renew", made["id"])
    agrees(stack, key, 1500)


def test_an_invoice_is_drafted_finalized_and_paid(stack: Stack, connect: Connect) -> None:
    """Its items count when they are made, and never again."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    customer = paying_customer(sdk)
    for amount in (2000, 500):
        sdk.call("invoice_items.create", {"customer": customer, "amount": amount, "currency": "usd"})
    agrees(stack, key, 2500)
    invoice = sdk.call(
        "invoices.create",
        {"customer": customer, "currency": "usd", "pending_invoice_items_behavior": "include"},
    )["id"]
    assert sdk.call("invoices.finalize_invoice", invoice)["status"] == "open"
    agrees(stack, key, 2500)
    assert sdk.call("invoices.pay", invoice)["amount_paid"] == 2500
    agrees(stack, key, 2500)


def test_an_invoice_item_that_is_deleted_counts_nothing(stack: Stack, connect: Connect) -> None:
    """An SDK sends a DELETE without a body; so does an invoice that is voided give back."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    customer = paying_customer(sdk)
    item = {"customer": customer, "amount": 700, "currency": "usd"}
    gone = sdk.call("invoice_items.create", item)["id"]
    assert sdk.call("invoice_items.delete", gone)["deleted"] is True
    agrees(stack, key, 0)


def test_a_checkout_session_is_opened_and_paid_by_its_customer(stack: Stack, connect: Connect) -> None:
    """It counts when it is opened, because a customer can pay it without another call."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    params = {"mode": "payment", "success_url": "https://example.com/thanks", "line_items": [MUG]}
    session = sdk.call("checkout.sessions.create", params)
    assert (session["status"], session["amount_total"]) == ("open", 2400)
    agrees(stack, key, 2400)
    stack.simulator.act("pay", session["id"])
    assert sdk.call("checkout.sessions.retrieve", session["id"])["payment_status"] == "paid"
    agrees(stack, key, 2400)
    expired = sdk.call("checkout.sessions.create", params)["id"]
    assert sdk.call("checkout.sessions.expire", expired)["status"] == "expired"
    agrees(stack, key, 2400)


def test_an_adjustable_session_counts_what_its_customer_bought(stack: Stack, connect: Connect) -> None:
    """The most that is possible is held back until the end of the session is seen."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    line = {**MUG, "adjustable_quantity": {"enabled": True, "maximum": 5}}
    params = {"mode": "payment", "success_url": "https://example.com/thanks", "line_items": [line]}
    session = sdk.call("checkout.sessions.create", params)
    agrees(stack, key, 6000)
    stack.simulator.act("pay", session["id"], quantities={"0": 4})
    assert sdk.call("checkout.sessions.retrieve", session["id"])["amount_total"] == 4800
    agrees(stack, key, 4800)


def test_a_session_for_setup_counts_nothing(stack: Stack, connect: Connect) -> None:
    """It has no amount and no currency, and is on record all the same."""
    key = stack.key(caps=[cap(ROOM)])
    session = connect(key).call(
        "checkout.sessions.create", {"mode": "setup", "success_url": "https://example.com/thanks"}
    )
    assert (session["amount_total"], session["currency"]) == (None, None)
    agrees(stack, key, 0)


def test_a_payout_is_made_and_cancelled(stack: Stack, connect: Connect) -> None:
    """Money to a bank account counts until it is cancelled."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    payout = sdk.call("payouts.create", {"amount": 800, "currency": "usd"})
    agrees(stack, key, 800)
    assert sdk.call("payouts.cancel", payout["id"])["status"] == "canceled"
    agrees(stack, key, 0)


def test_a_file_is_uploaded(stack: Stack, connect: Connect) -> None:
    """Multipart, to the address for files: every byte arrives."""
    key = stack.key()
    content = bytes(range(256)) * 1000
    file = connect(key).upload("proof.png", content)
    assert (file["size"], file["filename"]) == (len(content), "proof.png")
    (post,) = stack.simulator.executed("/v1/files")
    assert post["headers"]["content-type"].startswith("multipart/form-data")
    agrees(stack, key, 0)


def test_the_pdf_of_a_quote_is_streamed(stack: Stack, connect: Connect) -> None:
    """Bytes as they come, and an error as an error."""
    key = stack.key(caps=[cap(ROOM)])
    sdk = connect(key)
    items = [{"price": monthly(sdk, 1500), "quantity": 1}]
    quote = sdk.call("quotes.create", {"customer": paying_customer(sdk), "line_items": items})["id"]
    with pytest.raises(SdkError) as draft:
        sdk.pdf(quote)
    assert (draft.value.kind, draft.value.status) == ("InvalidRequestError", 400)
    sdk.call("quotes.finalize_quote", quote)
    assert sdk.pdf(quote).startswith(b"%PDF-")


OUTBOUND = {
    "amount": {"value": 1234, "currency": "usd"},
    "from": {"financial_account": "fa_1", "currency": "usd"},
    "to": {"recipient": "acct_1", "currency": "usd"},
}


@pytest.mark.parametrize("connect", ["client", "async", "node"], indirect=True)
def test_v2_pays_and_raises_as_v1_does(stack: Stack, connect: Connect) -> None:
    """JSON both ways; the module has no v2."""
    key = stack.key("* /v2/*", caps=[cap(3000)])
    sdk = connect(key)
    method = "v2.money_management.outbound_payments.create"
    ids = {sdk.call(method, OUTBOUND, run="run-1")["id"] for _ in range(2)}
    assert len(ids) == 1
    stack.settled(key, 1234)
    assert len(stack.simulator.executed("/v2")) == 1
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"amount": {"value": 2000, "currency": "usd"}}, "RateLimitError", "spend_cap_exceeded"),
        ({"amount": {"value": 10, "currency": "eur"}}, "PermissionError", "currency_not_allowed"),
        ({"amount": {"value": -5, "currency": "usd"}}, "InvalidRequestError", "parameter_invalid_integer"),
    ]
    for more, kind, code in refused:
        with pytest.raises(SdkError) as raised:
            sdk.call(method, {**OUTBOUND, **more})
        assert (raised.value.kind, raised.value.code) == (kind, code)
    with pytest.raises(SdkError) as other:
        sdk.call(method, {**OUTBOUND, "amount": {"value": 1, "currency": "usd"}}, run="run-1")
    assert (other.value.kind, other.value.code) == ("IdempotencyError", "idempotency_key_reused")
    assert len(stack.simulator.executed("/v2")) == 1


@pytest.mark.parametrize("connect", ["client", "async", "node"], indirect=True)
def test_v2_lists_page_by_the_addresses_in_their_answers_and_delete(stack: Stack, connect: Connect) -> None:
    """A page names the next by a path, which leads to the sidecar again; a DELETE has a key in v2."""
    key = stack.key("* /v2/*")
    sdk = connect(key)
    destination = {
        **{"name": "Hook", "type": "webhook_endpoint", "event_payload": "thin"},
        **{"enabled_events": ["*"], "webhook_endpoint": {"url": "https://example.com/hook"}},
    }
    events = "v2.core.event_destinations"
    made = [sdk.call(f"{events}.create", destination)["id"] for _ in range(3)]
    assert sdk.ids(events, {"limit": 2}) == made[::-1]
    listed = [event.endpoint for event in stack.events(key, decision="allow")]
    assert listed.count("GET /v2/core/event_destinations") == 2
    sdk.call(f"{events}.delete", made[0])
    assert sdk.ids(events, {"limit": 2}) == made[:0:-1]


def test_a_cap_is_shared_by_all_kinds_of_calls(stack: Stack, connect: Connect) -> None:
    """What intents, sessions and charges commit together never passes the cap."""
    key = stack.key(caps=[cap(5000)])
    sdk = connect(key)
    sdk.call("payment_intents.create", INTENT)
    params = {"mode": "payment", "success_url": "https://example.com/thanks", "line_items": [MUG]}
    sdk.call("checkout.sessions.create", params)
    too_much: list[tuple[str, dict[str, Any]]] = [
        ("charges.create", CHARGE),
        ("payment_intents.create", {**INTENT, "amount": 1601}),
        ("checkout.sessions.create", params),
    ]
    for method, more in too_much:
        with pytest.raises(SdkError) as over:
            sdk.call(method, more)
        assert over.value.code == "spend_cap_exceeded"
    sdk.call("charges.create", {**CHARGE, "amount": 1600})
    wait_for(lambda: stack.usage(key).remaining == 0, "the cap is reached")
    agrees(stack, key, 5000)
