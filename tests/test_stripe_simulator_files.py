"""Files and quotes of the Stripe simulator: bodies that are not JSON, up and down."""

from __future__ import annotations

import io

import pytest
import stripe

from tests.simulator import KEY, Simulator, error_of
from tests.test_stripe_simulator_invoices import payer
from tests.test_stripe_simulator_subscriptions import monthly

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
PICTURE = bytes(range(256)) * 12_000


def upload(simulator: Simulator, content: bytes = PICTURE) -> str:
    file = io.BytesIO(content)
    file.name = "proof.png"
    return str(simulator.stripe.files.create({"purpose": "dispute_evidence", "file": file}).id)


def test_a_file_comes_back_as_it_was_sent(simulator: Simulator) -> None:
    file_id = upload(simulator)
    shown = simulator.stripe.files.retrieve(file_id)
    assert (shown.size, shown.filename, shown.type) == (len(PICTURE), "proof.png", "png")
    answer = simulator.raw.get(f"/v1/files/{file_id}/contents", headers=AUTHORIZED)
    assert answer.content == PICTURE
    assert answer.headers["Content-Type"].startswith(("image/png", "application/octet-stream"))


def test_files_are_listed_by_purpose(simulator: Simulator) -> None:
    made = [upload(simulator, b"x") for _ in range(3)]
    listed = simulator.stripe.files.list({"purpose": "dispute_evidence", "limit": 2})
    assert [file.id for file in listed.auto_paging_iter()] == made[::-1]
    assert simulator.stripe.files.list({"purpose": "selfie"}).data == []


def test_the_same_key_with_another_file_is_refused(simulator: Simulator) -> None:
    headers = {**AUTHORIZED, "Idempotency-Key": "k"}

    def post(content: bytes) -> int:
        files = {"purpose": (None, "dispute_evidence"), "file": ("a.txt", content)}
        return simulator.raw.post("/v1/files", files=files, headers=headers).status_code

    assert [post(b"one"), post(b"one"), post(b"two")] == [200, 200, 400]
    assert simulator.seen()[0]["body"] is None and simulator.seen()[0]["body_bytes"] > 0


def test_a_file_must_be_a_file(simulator: Simulator) -> None:
    refused = simulator.post("/v1/files", {"purpose": "dispute_evidence", "file": "hello"})
    assert error_of(refused)["param"] == "file"
    assert error_of(simulator.post("/v1/files", {"purpose": "fun"}))["param"] == "purpose"


def quote(simulator: Simulator, **line: object) -> str:
    customer = payer(simulator)
    made = simulator.stripe.quotes.create({"customer": customer, "line_items": [line]})
    assert (made.status, made.amount_total) == ("draft", 1500)
    return str(made.id)


def test_an_accepted_quote_of_a_recurring_price_is_a_paid_subscription(simulator: Simulator) -> None:
    made = quote(simulator, price=monthly(simulator), quantity=1)
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.quotes.accept(made)
    final = simulator.stripe.quotes.finalize_quote(made)
    assert final.status == "open"
    assert simulator.money_of_last() == [("committed", "in", 1500, 1500)]
    accepted = simulator.stripe.quotes.accept(made, {"expand": ["subscription.latest_invoice"]})
    assert (accepted.status, accepted.subscription.latest_invoice.amount_paid) == ("accepted", 1500)
    assert sum(one["new"] for one in simulator.seen()[-1]["money"]) == 0
    with pytest.raises(stripe.InvalidRequestError):
        simulator.stripe.quotes.accept(made)


def test_an_accepted_quote_of_a_one_time_price_is_a_draft(simulator: Simulator) -> None:
    product = simulator.stripe.products.create({"name": "Mug"}).id
    data = {"currency": "usd", "product": product, "unit_amount": 750}
    made = quote(simulator, price_data=data, quantity=2)
    simulator.stripe.quotes.finalize_quote(made)
    accepted = simulator.stripe.quotes.accept(made)
    invoice = simulator.stripe.invoices.retrieve(accepted.invoice)
    assert (invoice.status, invoice.amount_due) == ("draft", 1500)
    assert sum(one["new"] for one in simulator.seen("money")["movements"]) == 1500
    assert simulator.stripe.invoices.pay(invoice.id).amount_paid == 1500


def test_a_canceled_quote_commits_nothing(simulator: Simulator) -> None:
    made = quote(simulator, price=monthly(simulator), quantity=1)
    simulator.stripe.quotes.finalize_quote(made)
    assert simulator.stripe.quotes.cancel(made).status == "canceled"
    assert simulator.money_of_last() == [("released", "in", 1500, 0)]
    assert [one.id for one in simulator.stripe.quotes.list({"status": "canceled"}).data] == [made]
    assert simulator.stripe.quotes.line_items.list(made).data[0].amount_total == 1500


def test_a_quotes_pdf_is_streamed(simulator: Simulator) -> None:
    made = quote(simulator, price=monthly(simulator), quantity=1)
    refused = simulator.raw.get(f"/v1/quotes/{made}/pdf", headers=AUTHORIZED)
    assert refused.status_code == 400
    simulator.stripe.quotes.finalize_quote(made)
    simulator.control("settings", {"quote_pdf_bytes": 3_000_000})
    with simulator.raw.stream("GET", f"/v1/quotes/{made}/pdf", headers=AUTHORIZED) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        pieces = list(answer.iter_raw())
    assert len(pieces) > 1
    body = b"".join(pieces)
    assert (len(body), body[:5]) == (3_000_000, b"%PDF-")
    assert simulator.stripe.quotes.pdf(made).io.read()[:5] == b"%PDF-"
