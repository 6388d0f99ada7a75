"""Refunds that give back, and objects that become part of others: exact alone, never too little in a race."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_server.core.errors import SpendgateError
from policy_server.core.policy import Cap, RefundRule
from policy_server.core.types import Amount, DenyReason, Outcome, Settlement, Verdict
from policy_server.core.window import Window
from tests.ledger_model import Asked, LedgerModel, Report
from tests.world import CHARGES, DAY, HOLD_TTL_MS, NOON, World, calls, usd

REFUNDS = "POST /v1/refunds"
ITEMS = "POST /v1/invoiceitems"
INVOICES = "POST /v1/invoices"
RESTORE: dict[str, Any] = {"refunds": RefundRule.RESTORE}


async def made(world: World, key: str, amount: int, object_id: str, endpoint: str = CHARGES) -> None:
    """An object of ``amount``, settled."""
    verdict = await world.ask(key, amount, f"make {object_id}", endpoint)
    assert verdict.allowed, verdict
    await world.settle(verdict, amount, object_id=object_id)


async def refund(world: World, key: str, amount: int, step: str = "", **more: Any) -> Verdict:
    """Ask for a refund of the charge ch_1."""
    wanted: dict[str, Any] = {"endpoint": REFUNDS, "refunded_object_id": "ch_1", "step": step, **more}
    return await world.ask(key, amount, "refund", **wanted)


# The rule of the policy.


async def test_refunds_flips_a_decision(world: World) -> None:
    """On a full cap a refund is refused as any money, allowed under a cap of its own, or gives back."""
    own = usd(500, endpoints=(REFUNDS,))
    for rule, reason, counted in (
        (RefundRule.COUNTED, DenyReason.CAP_EXCEEDED, (1000, 0)),
        (RefundRule.OWN_CAP, None, (1000, 0)),
        (RefundRule.RESTORE, None, (600, 0)),
    ):
        key = await world.key(usd(1000), own, refunds=rule)
        await made(world, key, 1000, "ch_1")
        verdict = await refund(world, key, 400)
        assert verdict.reason is reason
        if verdict.allowed:
            await world.settle(verdict, 400, object_id="re_1")
        assert await world.count(key) == counted
        under_its_own = (await world.counts(key))[f"usd/day on {REFUNDS}"]
        assert under_its_own == ((400, 0) if rule is RefundRule.OWN_CAP else (0, 0))


async def test_a_refund_with_a_cap_of_its_own_needs_one(world: World) -> None:
    """Caps of the key and its budgets that name endpoints count it, and no others; it says so."""
    admin = world.server.administration
    await admin.set_budget("", "team", [usd(70, endpoints=(REFUNDS,)), usd(10)])
    rule: dict[str, Any] = {"refunds": RefundRule.OWN_CAP}
    without = await world.key(usd(1000), calls(1, Window.DAY), usd(5, Window.CALL), **rule)
    refused = await refund(world, without, 1)
    assert refused.reason is DenyReason.CURRENCY_NOT_ALLOWED
    assert "cap of their own" in refused.message
    euros = await world.key(usd(1000), Cap(9, Window.DAY, "EUR", endpoints=(REFUNDS,)), **rule)
    assert (await refund(world, euros, 1)).reason is DenyReason.CURRENCY_NOT_ALLOWED
    no_money = await world.key(usd(1000), calls(9, Window.DAY, endpoints=(REFUNDS,)), **rule)
    assert (await refund(world, no_money, 1)).reason is DenyReason.CURRENCY_NOT_ALLOWED
    shared = await world.key(usd(10), calls(1, Window.DAY), budgets=("team",), **rule)
    assert (await refund(world, shared, 60, "1")).allowed
    assert (await refund(world, shared, 11, "2")).rule == f"team: usd/day on {REFUNDS}"
    assert (await refund(world, shared, 10, "3")).allowed
    assert (await world.ask(shared, 11, endpoint=REFUNDS)).rule == "usd/day", "it names no object: no refund"


async def test_a_refund_is_another_request_for_another_object(world: World) -> None:
    """The second refund of a run is never taken for a repeat of the first."""
    key = await world.key(usd(1000))
    assert (await refund(world, key, 10)).allowed
    assert (await refund(world, key, 10)).duplicate
    other = await refund(world, key, 10, refunded_object_id="ch_2")
    assert other.reason is DenyReason.IDEMPOTENCY_MISMATCH


# Giving back.


async def test_a_refund_gives_back_where_the_object_was_counted(world: World) -> None:
    """Days later, the newest count first, in the windows of then."""
    key = await world.key(usd(1000), usd(5000, Window.MONTH), **RESTORE)
    await made(world, key, 600, "ch_1")
    world.now_ms += DAY
    raised = await world.ask(key, 900, "raise", object_id="ch_1")
    await world.settle(raised, 900, object_id="ch_1")
    world.now_ms += DAY
    verdict = await refund(world, key, 500)
    assert await world.counts(key) == {"usd/day": (0, 0), "usd/month": (900, 0)}
    assert not (await world.settle(verdict, 500, object_id="re_1")).overrun
    counts = []
    for _ in range(3):
        counts.append(await world.counts(key))
        world.now_ms -= DAY
    assert [one["usd/day"] for one in counts] == [(0, 0), (0, 0), (400, 0)]
    assert counts[0]["usd/month"] == (400, 0)


async def test_an_object_that_a_refund_gave_back_to_is_lowered_again_and_again(world: World) -> None:
    """Its count stands in three parts then; the middle one, which counts nowhere, goes out whole."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 100, "ch_1")
    await made(world, key, 50, "re_1", REFUNDS)
    raised = await refund(world, key, 100, object_id="re_1")
    await world.settle(raised, 100, object_id="re_1")
    before, _ = await world.count(key)
    for seen in (10, 5, 0):
        await world.observe(key, "re_1", seen)
    assert await world.count(key) == (before - 50, 0)


async def test_what_is_refunded_above_the_count_is_held_and_counted(world: World) -> None:
    """A refund of what another key charged is money as any other."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 300, "ch_1")
    assert (await refund(world, key, 1001, "too much")).reason is DenyReason.CAP_EXCEEDED
    verdict = await refund(world, key, 1000)
    assert await world.count(key) == (300, 700)
    await world.settle(verdict, 1000, object_id="re_1")
    assert await world.count(key) == (700, 0)
    (event,) = [one for one in await world.events(kind="settlement") if one.fields["object_id"] == "re_1"]
    assert event.fields["settled_amount"] == "1000"
    assert (await refund(world, key, 301, "more")).reason is DenyReason.CAP_EXCEEDED


async def test_a_refund_that_is_looked_at_later_counts_nothing_again(world: World) -> None:
    """Its own total is the refund's; when it failed later, what it counted itself is given back, no more."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 300, "ch_1")
    verdict = await refund(world, key, 500)
    await world.settle(verdict, 500, object_id="re_1")
    assert await world.count(key) == (200, 0)
    described = await world.ask(key, 500, "describe", "POST /v1/refunds/{refund}", object_id="re_1")
    assert not (await world.settle(described, 500, object_id="re_1")).overrun
    assert await world.observe(key, "re_1", 500) == []
    assert await world.count(key) == (200, 0)
    assert await world.observe(key, "re_1", 0) == [False]
    assert await world.count(key) == (0, 0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
async def test_a_refund_that_did_not_succeed_gives_nothing_back(world: World, outcome: Outcome) -> None:
    """While it is unknown nobody else may count on it; when it failed, another may."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await refund(world, key, 1000)
    await world.settle(verdict, outcome=outcome)
    assert await world.count(key) == (1000, 0)
    again = await refund(world, key, 1, "again")
    assert again.allowed is (outcome is Outcome.FAILED)
    await world.settle(verdict, 1000, object_id="re_1")
    # What was released gave its promise up: it counts in full, above what it held.
    assert await world.count(key) == ((2000, 0) if outcome is Outcome.FAILED else (0, 0))


async def test_a_refund_without_a_said_amount_gives_nothing_back(world: World) -> None:
    """Nobody said that money came back."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 600, "ch_1")
    verdict = await refund(world, key, 700)
    assert not (await world.settle(verdict, object_id="re_1")).overrun
    assert await world.count(key) == (700, 0)


async def test_two_refunds_never_give_back_the_same_money(world: World) -> None:
    """What the first one will give back is not promised to the second, which holds as any money."""
    key = await world.key(usd(1500), **RESTORE)
    await made(world, key, 1000, "ch_1")
    first, second = await refund(world, key, 700, "1"), await refund(world, key, 700, "2")
    assert await world.count(key) == (1000, 400)
    assert (await refund(world, key, 101, "3")).reason is DenyReason.CAP_EXCEEDED
    await world.settle(second, 700, object_id="re_2")
    assert await world.count(key) == (1100, 0)
    await world.settle(first, 700, object_id="re_1")
    assert await world.count(key) == (400, 0)


@pytest.mark.parametrize("closed", [False, True])
async def test_a_step_under_way_keeps_a_refund_from_giving_back(world: World, closed: bool) -> None:
    """Whether the step's total has the refund in it nobody knows, so both stay counted."""
    key = await world.key(usd(5000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await refund(world, key, 600)
    raised = await world.ask(key, 1500, "raise", object_id="ch_1")
    # The refund's part is no longer there to stand for the raise.
    assert await world.count(key) == (1000, 1100)
    if closed:
        await world.settle(raised, 900, object_id="ch_1")
    assert (await world.settle(verdict, 600, object_id="re_1")).overrun
    assert await world.count(key) == ((1500, 0) if closed else (1600, 1100))
    if not closed:
        await world.settle(raised, 900, object_id="ch_1")
        assert await world.count(key) == (1500, 0)


async def test_a_refund_asked_for_while_a_step_is_under_way_is_held_in_full(world: World) -> None:
    """It will not give back, so it must have room."""
    key = await world.key(usd(2000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    raised = await world.ask(key, 1500, "raise", object_id="ch_1")
    assert (await refund(world, key, 501, "much")).reason is DenyReason.CAP_EXCEEDED
    verdict = await refund(world, key, 500)
    await world.settle(raised, 1500, object_id="ch_1")
    assert not (await world.settle(verdict, 500, object_id="re_1")).overrun
    assert await world.count(key) == (2000, 0)


async def test_nothing_that_was_seen_is_given_back_twice(world: World) -> None:
    """The vendor tells of all that was paid; what refunds gave back of it stays given back, once."""
    key = await world.key(usd(2000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await refund(world, key, 400)
    assert await world.observe(key, "ch_1", 900) == []
    await world.settle(verdict, 400, object_id="re_1")
    assert await world.observe(key, "ch_1", 1000) == []
    assert await world.count(key) == (600, 0)
    assert await world.observe(key, "ch_1", 900) == [False]
    assert await world.count(key) == (500, 0)


async def test_what_was_seen_to_be_more_is_not_refunded_from_the_count(world: World) -> None:
    """It may have the refund in it already, so the refund counts by itself."""
    key = await world.key(usd(2000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await refund(world, key, 400)
    assert await world.observe(key, "ch_1", 1200) == [True]
    assert (await world.settle(verdict, 400, object_id="re_1")).overrun
    assert await world.count(key) == (1600, 0)


async def test_a_refund_in_another_currency_gives_nothing_back(world: World) -> None:
    """Ten dollars are not ten euros."""
    key = await world.key(usd(1000), Cap(1000, Window.DAY, "EUR"), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await world.ask(key, Amount(400, "EUR"), "refund", REFUNDS, refunded_object_id="ch_1")
    await world.settle(verdict, Amount(400, "EUR"), object_id="re_1")
    assert await world.counts(key) == {"usd/day": (1000, 0), "eur/day": (400, 0)}


async def test_a_refund_without_a_price_gives_back_what_it_turns_out_to_be(world: World) -> None:
    """All that is counted is promised to it; what is above that counts."""
    key = await world.key(usd(1001), unpriced=(REFUNDS,), **RESTORE)
    await made(world, key, 1000, "ch_1")
    verdict = await world.ask(key, None, "refund", REFUNDS, refunded_object_id="ch_1", unpriced=True)
    assert (await refund(world, key, 2, "other")).reason is DenyReason.CAP_EXCEEDED
    assert not (await world.settle(verdict, 1200, object_id="re_1")).overrun
    assert await world.count(key) == (200, 0)
    await made(world, key, 300, "ch_2")
    other = await world.ask(key, None, "euros", REFUNDS, refunded_object_id="ch_2", unpriced=True)
    assert (await world.settle(other, Amount(300, "EUR"), object_id="re_2")).overrun
    assert await world.count(key) == (500, 0)


@dataclass
class Vendor:
    """One object at the vendor: what it took in, and what it gave back."""

    taken: int
    refunded: int = 0

    @property
    def kept(self) -> int:
        """What the vendor really keeps."""
        return self.taken - self.refunded


@dataclass
class Call:
    """A call on the object, which is asked for, then done by the vendor, then reported."""

    refunds: bool
    amount: int
    phase: int = 0
    attempt: int = 0
    said: int | None = None


CALL = st.builds(Call, st.booleans(), st.sampled_from([0, 10, 40, 60, 100, 150]))


@given(st.lists(CALL, min_size=2, max_size=5), st.data())
@settings(max_examples=600, deadline=None)
def test_no_race_counts_less_than_the_vendor_kept(calls_: list[Call], data: st.DataObject) -> None:
    """However steps, refunds and looks at the object meet, what is held and settled covers what was kept."""
    calls_ = [replace(call) for call in calls_]
    model, vendor = LedgerModel(HOLD_TTL_MS), Vendor(100)
    caps = [usd(10_000, Window.TOTAL)]
    counted = model.count(("usd/total", "0"))
    first = model.authorize(NOON, caps, ("run", "first"), Asked(100))
    model.settle(("run", "first"), Report(first.attempt, "succeeded", 100, "ch_1"))
    while left := [number for number, call in enumerate(calls_) if call.phase < 3]:
        number = data.draw(st.sampled_from([*left, -1]))
        if number < 0:
            if all(call.refunds or call.phase in {0, 3} for call in calls_):
                model.observe("ch_1", vendor.taken)
        else:
            _advance(model, vendor, caps, calls_[number], ("run", str(number)))
        assert counted.settled + counted.held >= vendor.kept


def _advance(
    model: LedgerModel, vendor: Vendor, caps: list[Cap], call: Call, effect: tuple[str, str]
) -> None:
    """Ask for a call, let the vendor do it, or report what the vendor said."""
    call.phase += 1
    if call.phase == 1:
        asked = Asked(call.amount, refunded="ch_1") if call.refunds else Asked(call.amount, "ch_1")
        call.attempt = model.authorize(NOON, caps, effect, asked).attempt
    elif call.phase == 2 and call.refunds and call.amount <= vendor.kept:
        vendor.refunded += call.amount
        call.said = call.amount
    elif call.phase == 2 and not call.refunds and call.amount >= vendor.refunded:
        vendor.taken = call.amount
        call.said = vendor.taken
    elif call.phase == 3:
        outcome = "failed" if call.said is None else "succeeded"
        object_id = f"re_{effect[1]}" if call.refunds else "ch_1"
        model.settle(effect, Report(call.attempt, outcome, call.said, object_id))


# Objects that become part of others.


async def test_what_is_absorbed_is_not_held_again_and_moves(world: World) -> None:
    """An invoice holds what is above its items; a later cancel gives back in the windows of each."""
    key = await world.key(usd(1000), usd(5000, Window.MONTH))
    await made(world, key, 300, "ii_1", ITEMS)
    world.now_ms += DAY
    await made(world, key, 200, "ii_2", ITEMS)
    verdict = await world.ask(key, 600, "invoice", INVOICES, absorbed_object_ids=("ii_1", "ii_2", "ii_1"))
    assert await world.counts(key, "invoice") == {"usd/day": (200, 100), "usd/month": (500, 100)}
    assert not (await world.settle(verdict, 600, object_id="in_1")).overrun
    assert (await world.counts(key))["usd/month"] == (600, 0)
    again = await world.ask(key, 300, "again", ITEMS, object_id="ii_1")
    assert (await world.counts(key))["usd/month"] == (600, 300), "it is counted under the invoice now"
    await world.settle(again, outcome=Outcome.FAILED)
    assert await world.observe(key, "ii_1", 300) == []
    assert await world.observe(key, "in_1", 250) == [False]
    assert (await world.counts(key))["usd/month"] == (250, 0)
    assert await world.count(key) == (0, 0), "the newest is given back first"
    world.now_ms -= DAY
    assert await world.count(key) == (250, 0)


async def test_items_join_the_invoice_that_they_are_part_of(world: World) -> None:
    """Also when the invoice is counted already, or counts under another id than was made."""
    key = await world.key(usd(1000))
    await made(world, key, 300, "ii_1", ITEMS)
    await made(world, key, 100, "in_1", INVOICES)
    finalize = "POST /v1/invoices/{invoice}/finalize"
    verdict = await world.ask(key, 450, "f", finalize, object_id="in_1", absorbed_object_ids=("ii_1",))
    assert await world.count(key) == (400, 50)
    await world.settle(verdict, 450, object_id="in_1")
    assert await world.count(key) == (450, 0)
    await made(world, key, 200, "ii_2", ITEMS)
    subscribed = await world.ask(key, 250, "s", "POST /v1/subscriptions", absorbed_object_ids=("ii_2",))
    await world.settle(subscribed, 250, object_id="sub_1", counted_object_id="in_2")
    assert await world.count(key) == (700, 0)
    assert await world.observe(key, "in_2", 0) == [False]
    assert await world.count(key) == (450, 0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
async def test_nothing_moves_until_the_call_succeeds(world: World, outcome: Outcome) -> None:
    """A released call gives its promise up, an unknown one keeps it."""
    key = await world.key(usd(1000))
    await made(world, key, 300, "ii_1", ITEMS)
    verdict = await world.ask(key, 300, "invoice", INVOICES, absorbed_object_ids=("ii_1",))
    await world.settle(verdict, outcome=outcome)
    assert await world.count(key) == (300, 0)
    other = await world.ask(key, 300, "other", INVOICES, absorbed_object_ids=("ii_1",))
    assert await world.count(key) == ((300, 0) if outcome is Outcome.FAILED else (300, 300))
    await world.settle(other, 300, object_id="in_2")
    assert await world.count(key) == ((300, 0) if outcome is Outcome.FAILED else (600, 0))


async def test_an_item_that_changes_meanwhile_stays_counted(world: World) -> None:
    """Whether the invoice has the old item or the new one nobody knows."""
    key = await world.key(usd(5000))
    await made(world, key, 300, "ii_1", ITEMS)
    verdict = await world.ask(key, 300, "invoice", INVOICES, absorbed_object_ids=("ii_1",))
    changed = await world.ask(key, 500, "change", "POST /v1/invoiceitems/{item}", object_id="ii_1")
    await world.settle(changed, 500, object_id="ii_1")
    assert (await world.settle(verdict, 300, object_id="in_1")).overrun
    assert await world.count(key) == (800, 0)


async def test_an_item_that_a_refund_counts_on_stays_by_itself(world: World) -> None:
    """What is promised to the refund is not taken over, so that there is something to give back."""
    key = await world.key(usd(5000), **RESTORE)
    await made(world, key, 300, "ch_1", ITEMS)
    back = await refund(world, key, 100)
    verdict = await world.ask(key, 300, "invoice", INVOICES, absorbed_object_ids=("ch_1",))
    assert await world.count(key) == (300, 100)
    assert (await world.ask(key, 300, "other", INVOICES, absorbed_object_ids=("ch_1",))).allowed
    assert await world.count(key) == (300, 400)
    assert (await world.settle(verdict, 300, object_id="in_1")).overrun
    assert not (await world.settle(back, 100, object_id="re_1")).overrun
    assert await world.count(key) == (500, 300)


async def test_a_question_alone_promises_nothing(world: World) -> None:
    """A dry run knows what would be held, and leaves every key of Redis as it was."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 1000, "ch_1")
    before = await world.dump()
    assert (await refund(world, key, 1000, validate_only=True)).allowed
    assert (await refund(world, key, 1001, validate_only=True)).reason is DenyReason.CAP_EXCEEDED
    absorbed = await world.ask(key, 1000, "i", INVOICES, absorbed_object_ids=("ch_1",), validate_only=True)
    assert absorbed.allowed
    assert await world.dump() == before


async def test_settling_again_moves_nothing_again(world: World) -> None:
    """A repeated report of a refund or of an invoice changes nothing."""
    key = await world.key(usd(1000), **RESTORE)
    await made(world, key, 500, "ch_1")
    await made(world, key, 300, "ii_1", ITEMS)
    verdicts = [
        await refund(world, key, 200),
        await world.ask(key, 300, "invoice", INVOICES, absorbed_object_ids=("ii_1",)),
    ]
    reports = [
        Settlement(verdict.authorization_id, 1, Outcome.SUCCEEDED, Amount(amount, "USD"), object_id)
        for verdict, amount, object_id in zip(verdicts, (200, 300), ("re_1", "in_1"), strict=True)
    ]
    first = await world.server.settler.settle(reports)
    assert not any(isinstance(result, SpendgateError) for result in first)
    before = await world.dump()
    assert await world.server.settler.settle(reports) == first
    assert await world.dump() == before
    assert await world.count(key) == (600, 0)
