"""Money that leaves or enters the account beside payments, in the Stripe simulator."""

from __future__ import annotations

import pytest
import stripe

from tests.simulator import CHARGE, Simulator, error_of
from tests.test_stripe_simulator_invoices import draft, payer

USD = {"amount": 5000, "currency": "usd"}


# --- payouts, top-ups, transfers


def test_a_payout_is_under_way_until_the_bank_takes_it(simulator: Simulator) -> None:
    payout = simulator.stripe.payouts.create(USD)
    assert (payout.status, payout.amount) == ("pending", 5000)
    assert simulator.money_of_last() == [("committed", "out", 5000, 5000)]
    assert simulator.stripe.balance.retrieve().available[0].amount == -5000
    paid = simulator.control("resolve", {"id": payout.id, "outcome": "succeeded"})
    assert [(one["step"], one["new"]) for one in paid["money"]] == [("moved", 0)]
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.payouts.cancel(payout.id)
    back = simulator.stripe.payouts.reverse(payout.id)
    assert (back.amount, back.original_payout) == (-5000, payout.id)
    assert simulator.money_of_last() == [("moved", "in", 5000, 5000)]
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.payouts.reverse(payout.id)


@pytest.mark.parametrize(("end", "status"), [("cancel", "canceled"), ("failed", "failed")])
def test_a_payout_that_does_not_happen_is_released(simulator: Simulator, end: str, status: str) -> None:
    payout = simulator.stripe.payouts.create(USD)
    if end == "cancel":
        assert simulator.stripe.payouts.cancel(payout.id).status == status
    else:
        assert simulator.resolve(payout.id, end)["status"] == status
    assert simulator.stripe.balance.retrieve().available[0].amount == 0
    assert [one.id for one in simulator.stripe.payouts.list({"status": status}).data] == [payout.id]


def test_limited_funds_bound_what_leaves(simulator: Simulator) -> None:
    simulator.control("settings", {"limited_funds": True})
    simulator.control("fund", {"amount": 6000, "currency": "usd"})
    simulator.stripe.payouts.create(USD)
    with pytest.raises(stripe.InvalidRequestError) as short:
        simulator.stripe.transfers.create({**USD, "destination": "acct_other"})
    assert short.value.code == "balance_insufficient"
    assert simulator.stripe.transfers.create({**USD, "amount": 1000, "destination": "acct_other"}).id


def test_payouts_of_some_currencies_are_whole(simulator: Simulator) -> None:
    refused = simulator.post("/v1/payouts", {"amount": "150", "currency": "huf"})
    assert error_of(refused)["param"] == "amount"


def test_a_topup_arrives_or_not(simulator: Simulator) -> None:
    topup = simulator.stripe.topups.create({**USD, "description": "float"})
    assert (topup.status, simulator.money_of_last()) == ("pending", [("committed", "in", 5000, 5000)])
    assert simulator.resolve(topup.id, "succeeded")["status"] == "succeeded"
    assert simulator.stripe.balance.retrieve().available[0].amount == 5000
    other = simulator.stripe.topups.create({**USD, "description": "float"})
    assert simulator.stripe.topups.cancel(other.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.topups.cancel(other.id)


def test_a_transfer_comes_back_in_parts_and_never_more(simulator: Simulator) -> None:
    transfer = simulator.stripe.transfers.create({**USD, "destination": "acct_other"})
    assert simulator.money_of_last() == [("moved", "out", 5000, 5000)]
    part = simulator.stripe.transfers.reversals.create(transfer.id, {"amount": 2000})
    assert (part.object, part.amount) == ("transfer_reversal", 2000)
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.transfers.reversals.create(transfer.id, {"amount": 3001})
    assert simulator.stripe.transfers.reversals.create(transfer.id).amount == 3000
    assert simulator.money_of_last() == [("moved", "in", 3000, 3000)]
    after = simulator.stripe.transfers.retrieve(transfer.id)
    assert (after.reversed, after.amount_reversed) == (True, 5000)
    assert len(simulator.stripe.transfers.reversals.list(transfer.id).data) == 2


def test_a_transfer_of_a_charge_takes_no_more_than_it(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    body = {"currency": "usd", "destination": "acct_other", "source_transaction": charge.id}
    assert simulator.stripe.transfers.create({**body, "amount": 500}).amount == 500
    assert simulator.stripe.transfers.create(body).amount == 1500
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.transfers.create({**body, "amount": 1})
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.transfers.create({**USD, "destination": "ba_1"})


# --- customer balances


def test_the_sign_of_a_customers_balance_tells_who_owes(simulator: Simulator) -> None:
    customer = payer(simulator)
    transactions = simulator.stripe.customers.balance_transactions
    credit = transactions.create(customer, {"amount": -700, "currency": "usd"})
    assert (credit.amount, credit.ending_balance) == (-700, -700)
    assert simulator.money_of_last() == [("committed", "out", 700, 700)]
    debit = transactions.create(customer, {"amount": 200, "currency": "usd"})
    assert debit.ending_balance == -500
    assert simulator.money_of_last() == [("released", "out", 200, 0)]
    transactions.create(customer, {"amount": 600, "currency": "usd"})
    assert simulator.money_of_last() == [("released", "out", 500, 0), ("committed", "in", 100, 100)]
    assert len(transactions.list(customer).data) == 3
    for sent in ({"amount": 0, "currency": "usd"}, {"amount": 5, "currency": "eur"}, {"currency": "usd"}):
        with pytest.raises(stripe.InvalidRequestError):
            transactions.create(customer, sent)


def test_a_customers_balance_is_set_and_the_difference_counts(simulator: Simulator) -> None:
    customer = simulator.stripe.customers.create({"balance": -300}).id
    assert simulator.money_of_last() == [("committed", "out", 300, 300)]
    simulator.stripe.customers.update(customer, {"balance": -1000})
    assert simulator.money_of_last() == [("committed", "out", 700, 700)]
    simulator.stripe.customers.update(customer, {"balance": -1000})
    assert simulator.money_of_last() == []


# --- credit notes


def test_a_credit_note_on_a_paid_invoice_refunds_or_credits(simulator: Simulator) -> None:
    customer = payer(simulator)
    invoice = simulator.stripe.invoices.pay(draft(simulator, customer, 2000).id)
    sent = {"invoice": invoice.id, "amount": 900, "refund_amount": 500, "credit_amount": 400}
    note = simulator.stripe.credit_notes.create(sent)
    assert (note.type, note.post_payment_amount) == ("post_payment", 900)
    assert simulator.money_of_last() == [("moved", "out", 500, 500), ("committed", "out", 400, 400)]
    assert simulator.stripe.customers.retrieve(customer).balance == -400
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.credit_notes.create({"invoice": invoice.id, "refund_amount": 1101})
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.credit_notes.create({**sent, "amount": 901})
    plain = simulator.stripe.credit_notes.create({"invoice": invoice.id, "amount": 100})
    assert simulator.money_of_last() == [("committed", "out", 100, 100)]
    assert plain.customer_balance_transaction is not None


def test_a_credit_note_on_an_open_invoice_lowers_what_is_due(simulator: Simulator) -> None:
    invoice = simulator.stripe.invoices.finalize_invoice(draft(simulator, payer(simulator), 2000).id)
    note = simulator.stripe.credit_notes.create({"invoice": invoice.id, "amount": 500})
    assert simulator.money_of_last() == [("released", "in", 500, 0)]
    assert simulator.stripe.credit_notes.void_credit_note(note.id).status == "void"
    assert simulator.money_of_last() == [("committed", "in", 500, 500)]
    simulator.stripe.credit_notes.create({"invoice": invoice.id, "amount": 600})
    assert simulator.stripe.invoices.pay(invoice.id).amount_paid == 1400
    assert simulator.seen("summary")["money"]["usd"]["captured"] == 1400


def test_a_credit_note_of_everything_pays_an_open_invoice(simulator: Simulator) -> None:
    invoice = simulator.stripe.invoices.finalize_invoice(draft(simulator, payer(simulator), 2000).id)
    simulator.stripe.credit_notes.create({"invoice": invoice.id, "amount": 2000})
    after = simulator.stripe.invoices.retrieve(invoice.id)
    assert (after.status, after.amount_due, after.amount_paid) == ("paid", 0, 0)
    assert simulator.seen("summary")["money"] == {}


def test_a_credit_note_is_previewed_without_being_made(simulator: Simulator) -> None:
    invoice = simulator.stripe.invoices.pay(draft(simulator, payer(simulator), 2000).id)
    seen = simulator.stripe.credit_notes.preview({"invoice": invoice.id, "amount": 300})
    assert seen.amount == 300
    assert simulator.stripe.credit_notes.list().data == []


# --- disputes


def test_a_disputed_charge_is_not_refunded_as_well(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "source": "tok_createDispute"})
    dispute = simulator.stripe.disputes.list({"charge": charge.id}).data[0]
    assert (dispute.status, dispute.amount, dispute.reason) == ("needs_response", 2000, "fraudulent")
    refused = simulator.post("/v1/refunds", {"charge": charge.id})
    assert error_of(refused)["code"] == "charge_disputed"
    answered = simulator.stripe.disputes.update(dispute.id, {"evidence": {"product_description": "x"}})
    assert answered.status == "under_review"
    assert simulator.stripe.disputes.close(dispute.id).status == "lost"
    assert simulator.money_of_last() == [("moved", "out", 2000, 0)]
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.disputes.close(dispute.id)


def test_a_test_disputes_a_charge_and_decides_it(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    opened = simulator.control("dispute", {"charge": charge.id, "amount": 900})["object"]
    assert simulator.stripe.charges.retrieve(charge.id).disputed is True
    assert simulator.resolve(opened["id"], "succeeded")["status"] == "won"
    again = simulator.raw.post("/_simulator/dispute", json={"charge": charge.id})
    assert again.status_code == 400
    types = simulator.event_types()
    assert {"charge.dispute.created", "charge.dispute.closed"} <= set(types)


def test_the_older_dispute_paths_lie_below_the_charge(simulator: Simulator) -> None:
    charge = simulator.stripe.charges.create({**CHARGE, "source": "tok_createDispute"})
    path = f"/v1/charges/{charge.id}/dispute"
    assert simulator.get(path)["charge"] == charge.id
    evidence = {"evidence[product_description]": "x", "submit": "false"}
    assert simulator.post(path, evidence).json()["status"] == "needs_response"
    assert simulator.post(f"{path}/close").json()["status"] == "lost"
    clean = simulator.stripe.charges.create({**CHARGE, "amount": 2000})
    assert simulator.post(f"/v1/charges/{clean.id}/dispute/close").status_code == 404
