"""Invoices and their items in the Stripe simulator: what they commit, and that each is paid once."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.simulator import Simulator, error_in, error_of


def payer(simulator: Simulator, card: str = "pm_card_visa", **more: Any) -> str:
    """A customer whose card invoices charge."""
    settings = {"default_payment_method": card}
    sent = {"payment_method": card, "invoice_settings": settings, **more}
    return str(simulator.stripe.customers.create(sent).id)


def item(simulator: Simulator, customer: str, amount: int = 2000, **more: Any) -> Any:
    return simulator.stripe.invoice_items.create(
        {"customer": customer, "amount": amount, "currency": "usd", **more}
    )


def draft(simulator: Simulator, customer: str, *amounts: int, **more: Any) -> Any:
    for amount in amounts:
        item(simulator, customer, amount)
    return simulator.stripe.invoices.create(
        {"customer": customer, "pending_invoice_items_behavior": "include", **more}
    )


def test_an_invoice_is_paid_once(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000, 500)
    assert (invoice.status, invoice.amount_due, len(invoice.lines.data)) == ("draft", 2500, 2)
    final = simulator.stripe.invoices.finalize_invoice(invoice.id)
    assert (final.status, final.amount_remaining) == ("open", 2500)
    paid = simulator.stripe.invoices.pay(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 2500, 0)
    assert paid.payments.data[0].payment.payment_intent.amount_received == 2500
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        simulator.stripe.invoices.pay(invoice.id)
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2500
    assert "invoice.paid" in simulator.event_types()


def test_every_step_tells_what_it_committed(simulator: Simulator) -> None:
    customer = payer(simulator)
    item(simulator, customer, 2000)
    assert simulator.money_of_last() == [("committed", "in", 2000, 2000)]
    invoice = draft(simulator, customer)
    assert simulator.money_of_last() == []
    lines = [{"amount": 300, "description": "more"}]
    simulator.stripe.invoices.add_lines(invoice.id, {"lines": lines})
    assert simulator.money_of_last() == [("committed", "in", 300, 300)]
    simulator.stripe.invoices.pay(invoice.id)
    assert simulator.money_of_last() == [("moved", "in", 2300, 0)]
    moved = simulator.seen("money")["movements"]
    assert sum(one["new"] for one in moved) == 2300


def test_pending_items_stay_unless_they_are_asked_for(simulator: Simulator) -> None:
    customer = payer(simulator)
    waiting = item(simulator, customer, 900)
    empty = simulator.stripe.invoices.create({"customer": customer})
    assert (empty.amount_due, empty.lines.data) == (0, [])
    assert [one.id for one in simulator.stripe.invoice_items.list({"pending": True}).data] == [waiting.id]
    taken = draft(simulator, customer)
    assert taken.amount_due == 900
    assert simulator.stripe.invoice_items.retrieve(waiting.id).invoice == taken.id
    assert simulator.stripe.invoice_items.list({"pending": True}).data == []


def test_an_item_goes_straight_onto_a_named_draft(simulator: Simulator) -> None:
    customer = payer(simulator)
    invoice = simulator.stripe.invoices.create({"customer": customer})
    item(simulator, customer, 700, invoice=invoice.id)
    assert simulator.stripe.invoices.retrieve(invoice.id).amount_due == 700
    simulator.stripe.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError) as late:
        item(simulator, customer, 700, invoice=invoice.id)
    assert late.value.code == "invoice_not_editable"
    with pytest.raises(stripe.InvalidRequestError):
        item(simulator, payer(simulator), 700, invoice=invoice.id)


def test_an_items_amount_may_come_in_many_ways(simulator: Simulator) -> None:
    customer = payer(simulator)
    product = simulator.stripe.products.create({"name": "Seat"}).id
    price = simulator.stripe.prices.create({"currency": "usd", "product": product, "unit_amount": 150}).id
    data = {"currency": "usd", "product": product, "unit_amount": 70}
    create = simulator.stripe.invoice_items.create
    by_price = create({"customer": customer, "pricing": {"price": price}, "quantity": 3})
    by_data = create({"customer": customer, "price_data": data, "quantity": 2})
    by_unit = create({"customer": customer, "currency": "usd", "unit_amount_decimal": "9.5", "quantity": 3})
    by_part = create({"customer": customer, "pricing": {"price": price}, "quantity_decimal": "1.5"})
    assert [one.amount for one in (by_price, by_data, by_unit, by_part)] == [450, 140, 29, 225]
    raised = simulator.stripe.invoice_items.update(by_price.id, {"quantity": 10})
    assert raised.amount == 1500
    assert simulator.money_of_last() == [("committed", "in", 1050, 1050)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": "5.5", "currency": "usd"}, "amount"),
        ({"amount": "500"}, "currency"),
        ({"currency": "usd"}, "amount"),
        ({"amount": "500", "currency": "usd", "quantity": "3"}, "quantity"),
        ({"amount": "500", "currency": "usd", "price_data[amount]": "3"}, "price_data[amount]"),
        ({"pricing[price]": "price_missing"}, "pricing[price]"),
        ({"amount": "500", "currency": "usd", "cost": "1"}, "cost"),
    ],
)
def test_an_item_that_makes_no_sense_is_refused(
    simulator: Simulator, body: dict[str, str], param: str
) -> None:
    refused = simulator.post("/v1/invoiceitems", {"customer": payer(simulator), **body})
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


def test_a_declined_card_leaves_the_invoice_open(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator, "pm_card_chargeCustomerFail"), 2000)
    with pytest.raises(stripe.CardError) as declined:
        simulator.stripe.invoices.pay(invoice.id)
    assert declined.value.code == "card_declined"
    after = simulator.stripe.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.amount_paid) == ("open", 1, 0)
    assert "invoice.payment_failed" in simulator.event_types()
    assert simulator.stripe.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"}).status == "paid"
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2000


def test_a_card_that_wants_authentication_stops_the_invoice(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000)
    with pytest.raises(stripe.CardError) as stopped:
        simulator.stripe.invoices.pay(
            invoice.id, {"payment_method": "pm_card_authenticationRequired", "off_session": False}
        )
    assert stopped.value.code == "invoice_payment_intent_requires_action"
    intent = error_in(stopped.value)["payment_intent"]["id"]
    simulator.resolve(intent, "succeeded")
    assert simulator.stripe.invoices.retrieve(invoice.id).status == "paid"


def test_what_is_paid_elsewhere_moves_nothing(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000)
    paid = simulator.stripe.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_remaining) == ("paid", 0)
    assert simulator.money_of_last() == [("released", "in", 2000, 0)]
    assert simulator.seen("summary")["money"] == {}


def test_an_invoice_without_a_card_cannot_be_paid(simulator: Simulator) -> None:
    invoice = draft(simulator, simulator.stripe.customers.create().id, 2000)
    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        simulator.stripe.invoices.pay(invoice.id)


@pytest.mark.parametrize(
    ("end", "status"), [("void_invoice", "void"), ("mark_uncollectible", "uncollectible")]
)
def test_giving_an_invoice_up_releases_it(simulator: Simulator, end: str, status: str) -> None:
    invoice = draft(simulator, payer(simulator), 2000)
    with pytest.raises(stripe.InvalidRequestError):
        getattr(simulator.stripe.invoices, end)(invoice.id)
    simulator.stripe.invoices.finalize_invoice(invoice.id)
    assert getattr(simulator.stripe.invoices, end)(invoice.id).status == status
    assert simulator.money_of_last() == [("released", "in", 2000, 0)]


def test_sending_finalizes_and_charges_nothing(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000, collection_method="send_invoice", days_until_due=30)
    sent = simulator.stripe.invoices.send_invoice(invoice.id)
    assert (sent.status, sent.amount_paid) == ("open", 0)
    assert simulator.event_types()[-1] == "invoice.sent"
    assert simulator.pay(invoice.id, payment_method="pm_card_visa")["status"] == "paid"


def test_only_a_draft_is_deleted_and_its_items_go_with_it(simulator: Simulator) -> None:
    customer = payer(simulator)
    invoice = draft(simulator, customer, 2000)
    assert simulator.stripe.invoices.delete(invoice.id).deleted is True
    assert simulator.stripe.invoice_items.list().data == []
    assert simulator.stripe.invoices.list().data == []
    final = simulator.stripe.invoices.finalize_invoice(draft(simulator, customer, 700).id)
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.invoices.delete(final.id)


def test_the_intent_of_an_invoice_obeys_the_invoice(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000)
    simulator.stripe.invoices.finalize_invoice(invoice.id)
    intent = simulator.stripe.invoice_payments.list({"invoice": invoice.id}).data[0].payment.payment_intent
    for step, body in (("", {"amount": "1"}), ("/cancel", {}), ("/confirm", {"amount_to_confirm": "50"})):
        refused = simulator.post(f"/v1/payment_intents/{intent}{step}", body)
        assert refused.status_code == 400, step
    simulator.stripe.payment_intents.confirm(intent, {"payment_method": "pm_card_visa"})
    assert simulator.stripe.invoices.retrieve(invoice.id).status == "paid"


def test_lines_are_changed_and_removed_while_it_is_a_draft(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000, 500)
    first, second = invoice.lines.data
    changed = simulator.stripe.invoices.update_lines(
        invoice.id, {"lines": [{"id": first.id, "amount": 2600}]}
    )
    assert changed.amount_due == 3100
    one = simulator.stripe.invoices.line_items.update(invoice.id, second.id, {"amount": 100})
    assert one.amount == 100
    left = simulator.stripe.invoices.remove_lines(
        invoice.id, {"lines": [{"id": first.id, "behavior": "delete"}]}
    )
    assert left.amount_due == 100
    listed = simulator.stripe.invoices.line_items.list(invoice.id).data
    assert [line.id for line in listed] == [second.id]


def test_a_customers_credit_pays_first(simulator: Simulator) -> None:
    customer = payer(simulator)
    simulator.stripe.customers.balance_transactions.create(customer, {"amount": -500, "currency": "usd"})
    invoice = draft(simulator, customer, 2000)
    assert (invoice.total, invoice.amount_due) == (2000, 1500)
    paid = simulator.stripe.invoices.pay(invoice.id)
    assert (paid.amount_paid, paid.ending_balance) == (1500, 0)
    assert simulator.stripe.customers.retrieve(customer).balance == 0


def test_a_preview_keeps_nothing(simulator: Simulator) -> None:
    customer = payer(simulator)
    item(simulator, customer, 800)
    items = [{"amount": 200, "currency": "usd"}]
    preview = simulator.stripe.invoices.create_preview({"customer": customer, "invoice_items": items})
    assert (preview.amount_due, preview.status) == (1000, "draft")
    assert simulator.seen()[-1]["executed"] is False
    assert simulator.stripe.invoices.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as nothing:
        simulator.stripe.invoices.create_preview({"customer": payer(simulator)})
    assert nothing.value.code == "invoice_upcoming_none"


def test_a_repeated_payment_replays(simulator: Simulator) -> None:
    invoice = draft(simulator, payer(simulator), 2000)
    first = simulator.post(f"/v1/invoices/{invoice.id}/pay", {}, key="k")
    again = simulator.post(f"/v1/invoices/{invoice.id}/pay", {}, key="k")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.json() == again.json()
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 2000


def test_invoices_are_filtered_and_paged(simulator: Simulator) -> None:
    customer = payer(simulator)
    made = [draft(simulator, customer, 500).id for _ in range(5)]
    simulator.stripe.invoices.pay(made[0])
    paid = simulator.stripe.invoices.list({"status": "paid"}).data
    assert [invoice.id for invoice in paid] == [made[0]]
    everything = simulator.stripe.invoices.list({"customer": customer, "limit": 2})
    assert [invoice.id for invoice in everything.auto_paging_iter()] == made[::-1]
