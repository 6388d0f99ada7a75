"""What counts as evidence of a call at Stripe: of this call, its object and its change, and complete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sidecar.exchange import Answer, Forward
from sidecar.stripe.vendor import Stripe
from sidecar.vendor import CannotLook, Failed, Finding, Found, Money, NotFound, OpenCall, Succeeded

NOW_S = 1_900_000_000
KEY = "run~az~1"
DELETE = "DELETE /v1/invoiceitems/{invoiceitem}"
PAY = "POST /v1/invoices/{invoice}/pay"
CAPTURE = "POST /v1/payment_intents/{intent}/capture"
CONFIRM = "POST /v1/payment_intents/{intent}/confirm"
INTENTS = "POST /v1/payment_intents"

Body = dict[str, Any]


class Shows:
    """A Stripe that shows these events, the newest first, and these objects; page by page."""

    def __init__(self, events: Sequence[Body] = (), page: int = 100, **objects: Body) -> None:
        self._events = list(events)
        self._page = page
        self._objects = objects
        self.more: dict[str, Any] = {}
        """What pages say beside their entries, if not whether there is more."""

    async def look(self, forward: Forward) -> Answer:
        """Answer a read."""
        path, _, query = forward.target.partition("?")
        if query:
            body: Body | None = self._listed(path, dict(parse_qsl(query)))
        else:
            body = self._objects.get(path.rpartition("/")[2])
        if body is None:
            return Answer(404, [], b"{}")
        return Answer(200, [], json.dumps(body).encode())

    def _listed(self, path: str, query: Mapping[str, str]) -> Body:
        entries = self._events
        if path != "/v1/events":
            kind = path.rpartition("/")[2].removesuffix("s")
            entries = [one for one in self._objects.values() if one["object"] == kind]
        types = {value for name, value in query.items() if name.startswith("types[")}
        if types:
            entries = [one for one in entries if one["type"] in types]
        ids = [one["id"] for one in entries]
        begin = ids.index(query["starting_after"]) + 1 if "starting_after" in query else 0
        more = {"has_more": begin + self._page < len(entries)}
        return {"object": "list", "data": entries[begin : begin + self._page], **(self.more or more)}


def event(kind: str, subject: Body, key: str = KEY, number: int = 1) -> Body:
    """An event that a request with a key has caused."""
    request = {"id": f"req_{number}", "idempotency_key": key}
    return {"id": f"evt_{number}", "type": kind, "request": request, "data": {"object": subject}}


def call(endpoint: str, object_id: str = "", amount: int = 700, *, absence_counts: bool = False) -> OpenCall:
    """A call of which nobody knows what became, an hour ago."""
    return OpenCall(
        reference="az",
        endpoint=endpoint,
        upstream_key=KEY,
        object_id=object_id,
        vendor_account="",
        money=Money(amount, "USD"),
        sent_from_ms=(NOW_S - 3600) * 1000,
        sent_until_ms=(NOW_S - 3400) * 1000,
        absence_counts=absence_counts,
    )


async def found(stripe: Shows, one: OpenCall, *others: OpenCall) -> Finding:
    """What is found out about a call, looked for together with others."""
    findings = await Stripe().investigate([one, *others], stripe.look, now_ms=NOW_S * 1000)
    return findings[one.reference]


def item(item_id: str = "ii_1", **more: Any) -> Body:
    """An invoice item."""
    return {"id": item_id, "object": "invoiceitem", "amount": 700, "currency": "usd", **more}


def intent(status: str, intent_id: str = "pi_1", **more: Any) -> Body:
    """A payment intent."""
    amounts = {"amount": 700, "amount_received": 0, "amount_capturable": 0, "currency": "usd"}
    return {"id": intent_id, "object": "payment_intent", "status": status, **amounts, **more}


def invoice(status: str, **more: Any) -> Body:
    """An invoice."""
    amounts = {"amount_due": 700, "amount_paid": 0, "currency": "usd"}
    return {"id": "in_1", "object": "invoice", "status": status, **amounts, **more}


def other(endpoint: str = "POST /v1/quotes/{quote}/accept") -> OpenCall:
    """A call that leaves no event of a known type, so that events of every type are read."""
    one = call(endpoint)
    return OpenCall(**{name: getattr(one, name) for name in one.__slots__} | {"reference": "other"})


@pytest.mark.parametrize(
    "told",
    [
        event("invoiceitem.deleted", item("ii_other")),
        event("invoiceitem.updated", item()),
        event("invoice.updated", invoice("draft")),
    ],
    ids=["of another item", "of another change", "of its invoice"],
)
async def test_a_deletion_is_believed_only_by_its_own_event(told: Body) -> None:
    """Anything else that the key did leaves the item counted, whatever else is looked for."""
    for others in ((), (other(),)):
        finding = await found(Shows([told], ii_1=item()), call(DELETE, "ii_1"), *others)
        assert isinstance(finding, NotFound)


async def test_what_was_deleted_commits_nothing_and_what_is_there_does() -> None:
    """The event says so, and the item is gone; an item that is there keeps its count."""
    told = event("invoiceitem.deleted", item())
    gone = await found(Shows([told]), call(DELETE, "ii_1"))
    assert isinstance(gone, Found)
    assert gone.reading == Succeeded(Money(0, "USD"), "ii_1")
    assert gone.fresh
    there = await found(Shows([told], ii_1=item()), call(DELETE, "ii_1"))
    assert isinstance(there, Found)
    assert there.reading == Succeeded(None, "ii_1")


async def test_that_an_item_is_there_proves_that_nobody_deleted_it() -> None:
    """Nobody can take a deletion back; that it is gone proves nothing of this call."""
    late = call(DELETE, "ii_1", absence_counts=True)
    there = await found(Shows(ii_1=item()), late)
    assert isinstance(there, Found)
    assert there.reading == Failed()
    assert isinstance(await found(Shows(), late), NotFound)
    assert isinstance(await found(Shows(ii_1=item(deleted=True)), late), NotFound)
    assert isinstance(await found(Shows(ii_1=item()), call(DELETE, "ii_1")), NotFound)


async def test_a_step_is_found_out_from_its_own_object_alone() -> None:
    """An event of another intent, or another object in the answer, says nothing of this one."""
    captured = intent("succeeded", "pi_other", amount_received=100)
    elsewhere = Shows([event("payment_intent.succeeded", captured)], pi_other=captured)
    assert isinstance(await found(elsewhere, call(CAPTURE, "pi_1")), NotFound)
    for answer in (
        intent("requires_capture", "pi_other"),
        {**intent("requires_capture"), "object": "charge"},
    ):
        finding = await found(Shows(pi_1=answer), call(CAPTURE, "pi_1", absence_counts=True))
        assert isinstance(finding, NotFound)
    finding = await found(Shows(pi_1=intent("requires_capture")), call(CAPTURE, "pi_1", absence_counts=True))
    assert isinstance(finding, Found)
    assert finding.reading == Failed()


@pytest.mark.parametrize("first", ["invoice.paid", "invoice.payment_failed"])
async def test_a_decline_before_the_same_call_paid_gives_nothing_back(first: str) -> None:
    """One call may try twice at Stripe, and leave the events of both."""
    second = "invoice.payment_failed" if first == "invoice.paid" else "invoice.paid"
    paid = invoice("paid", amount_paid=700)
    events = [event(first, paid, number=2), event(second, paid)]
    finding = await found(Shows(events, in_1=paid), call(PAY, "in_1"))
    assert isinstance(finding, Found)
    assert isinstance(finding.reading, Succeeded)
    assert finding.reading.money == Money(700, "USD")


async def test_a_charge_that_failed_beside_one_that_did_not_gives_nothing_back() -> None:
    """Whichever event is the newer one."""
    good = {"id": "ch_1", "object": "charge", "status": "succeeded", "captured": True, "amount": 700}
    good |= {"amount_captured": 700, "currency": "usd"}
    bad = {**good, "id": "ch_2", "status": "failed", "captured": False, "amount_captured": 0}
    told = [event("charge.succeeded", good, number=1), event("charge.failed", bad, number=2)]
    for events in (told, told[::-1]):
        finding = await found(Shows(events, ch_1=good, ch_2=bad), call("POST /v1/charges"))
        assert isinstance(finding, Found)
        assert isinstance(finding.reading, Succeeded)
        assert finding.reading.money == Money(700, "USD")
    finding = await found(Shows(told[1:], ch_1=good, ch_2=bad), call("POST /v1/charges"))
    assert isinstance(finding, Found)
    assert finding.reading == Failed()


async def test_a_declined_intent_of_unknown_amount_keeps_what_it_held() -> None:
    """It can still be paid, and nobody can tell what it commits."""
    odd = intent("requires_payment_method", amount=None)
    told = [event("payment_intent.payment_failed", odd, number=2), event("payment_intent.created", odd)]
    finding = await found(Shows(told, pi_1=odd), call(INTENTS))
    assert isinstance(finding, Found)
    assert isinstance(finding.reading, Succeeded)
    assert finding.reading.money is None


async def test_a_declined_intent_is_read_as_it_was_only_where_it_is_not_there_any_more() -> None:
    """Then what is counted for it is not lowered by that."""
    waits = intent("requires_payment_method")
    told = [event("payment_intent.payment_failed", waits)]
    for shows, fresh in ((Shows(told, pi_1=waits), True), (Shows(told), False)):
        finding = await found(shows, call(CONFIRM, "pi_1"))
        assert isinstance(finding, Found)
        assert finding.reading == Failed(Money(700, "USD"), "pi_1")
        assert finding.fresh is fresh


def payout(payout_id: str) -> Body:
    """A payout that a request made."""
    return {"id": payout_id, "object": "payout", "amount": 700, "currency": "usd", "status": "paid"}


async def test_absence_is_proof_only_over_every_page() -> None:
    """The event of the call stands on the last page; or an object that no event explains does."""
    late = call("POST /v1/payouts", absence_counts=True)
    made = [payout(f"po_{number}") for number in range(5)]
    objects = {one["id"]: one for one in made}
    events = [event("payout.created", one, f"key-{n}", n) for n, one in enumerate(made)]
    finding = await found(Shows(events, 2, **objects), late)
    assert isinstance(finding, Found)
    assert finding.reading == Failed()
    own = [*events[:4], event("payout.created", made[4], KEY, 4)]
    finding = await found(Shows(own, 2, **objects), late)
    assert isinstance(finding, Found)
    assert isinstance(finding.reading, Succeeded)
    assert isinstance(await found(Shows(events[:4], 2, **objects), late), NotFound)


@pytest.mark.parametrize("more", [{"object": "list"}, {"has_more": None}, {"has_more": "false"}])
async def test_a_page_that_does_not_say_whether_it_is_the_last_proves_nothing(more: Body) -> None:
    """Taking it for the last would take half a list for a whole one."""
    shows = Shows()
    shows.more = more
    with pytest.raises(CannotLook, match="whether there is more"):
        await found(shows, call("POST /v1/payouts", absence_counts=True))
