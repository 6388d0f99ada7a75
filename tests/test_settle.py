"""Settlements: what a hold becomes, what it counts then, and objects that commit money in steps."""

from __future__ import annotations

from typing import Any

import pytest

from policy_server.core.errors import FieldInvalid, HoldClosed, HoldNotFound, SpendgateError
from policy_server.core.policy import Cap
from policy_server.core.types import Amount, DenyReason, HoldState, Outcome, Settlement
from policy_server.core.window import Window
from tests.world import CHARGES, DAY, HOLD_TTL_MS, INTENTS, World, calls, moment, usd

CONFIRM = "POST /v1/payment_intents/{intent}/confirm"
CAPTURE = "POST /v1/payment_intents/{intent}/capture"
INCREMENT = "POST /v1/payment_intents/{intent}/increment_authorization"
CANCEL = "POST /v1/payment_intents/{intent}/cancel"


@pytest.mark.parametrize(
    ("moved", "counted", "overrun"),
    [(600, 600, False), (1000, 1000, False), (0, 0, False), (1300, 1300, True)],
)
async def test_what_moved_is_what_counts(world: World, moved: int, counted: int, overrun: bool) -> None:
    """Below the hold the rest is given back; above it all is counted and flagged."""
    key = await world.key(usd(1000), usd(5000, Window.MONTH))
    verdict = await world.ask(key, 1000)
    result = await world.settle(verdict, moved)
    assert (result.state, result.overrun) == (HoldState.SETTLED, overrun)
    assert await world.counts(key) == {"usd/day": (counted, 0), "usd/month": (counted, 0)}
    left = max(0, 1000 - counted)
    assert not (await world.ask(key, left + 1, "over")).allowed


async def test_without_an_amount_the_hold_is_what_counts(world: World) -> None:
    """A caller that can't say what moved never makes the count smaller."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 700)
    assert await world.settle(verdict) == await world.settle(verdict)
    assert await world.count(key) == (700, 0)


async def test_a_currency_without_decimals_is_counted_in_its_own_units(world: World) -> None:
    """1000 JPY are 1000, not 100000 and not ten dollars."""
    yen = usd(1000)
    key = await world.key(type(yen)(1000, Window.DAY, "JPY"), usd(1000))
    verdict = await world.ask(key, Amount(1000, "JPY"))
    await world.settle(verdict, Amount(1000, "JPY"))
    assert await world.counts(key) == {"jpy/day": (1000, 0), "usd/day": (0, 0)}


async def test_an_amount_that_no_cap_can_count_is_never_passed_over_in_silence(world: World) -> None:
    """Money in another currency, or from a call that named none, is flagged; what was held stays counted."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 700)
    assert (await world.settle(verdict, Amount(5, "EUR"))).overrun
    assert await world.count(key) == (700, 0)
    nothing_asked = await world.ask(key, endpoint="POST /v1/customers")
    assert (await world.settle(nothing_asked, 5)).overrun
    told = [
        (e.fields.get("reason", ""), e.fields["settled_amount"])
        for e in await world.events(kind="settlement")
    ]
    assert told == [("currency_not_held", "700"), ("", "5")]


async def test_a_failed_call_gives_back_everything_it_held(world: World) -> None:
    """A decline frees the cap at once, and counts as a call all the same."""
    key = await world.key(usd(1000), usd(1000, Window.RUN), calls(9, Window.DAY))
    verdict = await world.ask(key, 1000)
    assert (await world.settle(verdict, outcome=Outcome.FAILED)).state is HoldState.RELEASED
    assert await world.counts(key) == {"usd/run": (0, 0), "usd/day": (0, 0), "calls/day": (1, 0)}
    again = await world.ask(key, 1000)
    assert (again.allowed, again.attempt) == (True, 2)


@pytest.mark.parametrize(
    ("outcome", "counted", "state"),
    [(Outcome.SUCCEEDED, (900, 0), HoldState.SETTLED), (Outcome.FAILED, (0, 0), HoldState.RELEASED)],
)
async def test_an_unknown_outcome_keeps_counting_until_it_is_known(
    world: World, outcome: Outcome, counted: tuple[int, int], state: HoldState
) -> None:
    """Money that may be gone is never spent again; evidence settles or releases it."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 1000)
    assert (await world.settle(verdict, outcome=Outcome.UNKNOWN)).state is HoldState.UNKNOWN
    world.now_ms += 60_000
    assert await world.count(key) == (0, 1000)
    assert not (await world.ask(key, 1, "other")).allowed
    amount = 900 if outcome is Outcome.SUCCEEDED else None
    assert (await world.settle(verdict, amount, outcome)).state is state
    assert await world.count(key) == counted


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, HoldState.RELEASED),
        ({"stale": True}, HoldState.UNKNOWN),
        ({"stale": True, "replayed": True}, HoldState.RELEASED),
        ({"stale": True, "evidence": "event evt_1"}, HoldState.RELEASED),
    ],
)
async def test_a_repeat_that_was_turned_away_says_nothing_of_the_first_try(
    world: World, more: dict[str, Any], state: HoldState
) -> None:
    """The first may have paid: only its own answer, given again, or evidence gives the money back."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 1000)
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    again = await world.ask(key, 1000)
    assert again.duplicate
    assert (await world.settle(again, outcome=Outcome.FAILED, **more)).state is state
    assert await world.count(key) == (0, 0 if state is HoldState.RELEASED else 1000)


@pytest.mark.parametrize("lazily", [False, True])
async def test_a_hold_without_an_outcome_becomes_unknown_and_keeps_counting(
    world: World, lazily: bool
) -> None:
    """At its deadline, by the sweeper or at the next look, a hold turns unknown, once, and on record."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 600)
    short = await world.ask(key, 100, "short", hold_ttl_ms=1_000)
    world.now_ms += HOLD_TTL_MS - 1
    assert await world.server.settler.expire_holds() == 1
    assert (await world.hold(short))["state"] == "unknown"
    assert (await world.ask(key, 600)).replay == "join"
    world.now_ms += 1
    if lazily:
        assert (await world.ask(key, 600)).replay == "forward"
        assert await world.server.settler.expire_holds() == 0
    else:
        assert await world.server.settler.expire_holds() == 1
    assert (await world.hold(verdict))["state"] == "unknown"
    assert await world.count(key) == (0, 700)
    late = [event.fields for event in await world.events(kind="settlement")]
    assert [(e["state"], e["reason"], e["amount"]) for e in late] == [
        ("unknown", "deadline_passed", "100"),
        ("unknown", "deadline_passed", "600"),
    ]
    await world.settle(verdict, 600)
    assert await world.count(key) == (600, 100)


async def test_the_sweeper_finds_every_overdue_hold_of_every_account(world: World) -> None:
    """However many there are, no hold is left without an owner."""
    for account in ("", "other"):
        key = await world.key(usd(100_000), account=account)
        for n in range(520 if not account else 3):
            await world.ask(key, 1, f"run {n}")
    assert await world.server.settler.expire_holds() == 0
    world.now_ms += HOLD_TTL_MS
    assert await world.server.settler.expire_holds() == 523
    assert await world.server.settler.expire_holds() == 0


async def test_the_lost_ledger_of_one_account_does_not_stop_the_sweep_of_others(world: World) -> None:
    """Holds of every other account become unknown at their deadline; then the trouble is told."""
    held = {}
    for account in ("alpha", "broken", "omega"):
        key = await world.key(usd(100_000), account=account)
        held[account] = await world.ask(key, 1, account)
    await world.redis.delete("spendgate:{broken}:account")
    world.now_ms += HOLD_TTL_MS
    with pytest.raises(SpendgateError, match="account broken"):
        await world.server.settler.expire_holds()
    states = {account: (await world.hold(verdict))["state"] for account, verdict in held.items()}
    assert states == {"alpha": "unknown", "broken": "held", "omega": "unknown"}


async def test_settling_twice_is_harmless(world: World) -> None:
    """A repeated report changes no count and leaves no second record."""
    key = await world.key(usd(1000))
    for amount, outcome in ((600, Outcome.SUCCEEDED), (None, Outcome.FAILED), (None, Outcome.UNKNOWN)):
        verdict = await world.ask(key, 300, f"run {outcome}")
        first = await world.settle(verdict, amount, outcome, object_id="ch_1")
        before = await world.dump()
        assert await world.settle(verdict, amount, outcome, object_id="ch_1") == first
        assert await world.dump() == before


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (Outcome.SUCCEEDED, Outcome.FAILED, True),
        (Outcome.FAILED, Outcome.UNKNOWN, True),
        (Outcome.SUCCEEDED, Outcome.UNKNOWN, False),
    ],
)
async def test_a_known_outcome_is_not_taken_back(
    world: World, first: Outcome, second: Outcome, refused: bool
) -> None:
    """A settled hold can't be released; a late 'unknown' about a settled one changes nothing."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 500)
    await world.settle(verdict, outcome=first)
    before = await world.dump()
    if refused:
        with pytest.raises(HoldClosed):
            await world.settle(verdict, outcome=second)
    else:
        assert (await world.settle(verdict, outcome=second)).state is HoldState.SETTLED
    assert await world.dump() == before


async def test_evidence_that_money_moved_is_taken_after_a_release(world: World) -> None:
    """A released hold that did move money counts again, above the cap if need be, and is flagged."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 800)
    await world.settle(verdict, outcome=Outcome.FAILED)
    await world.spend(key, 1000, "other")
    result = await world.settle(verdict, 800)
    assert (result.state, result.overrun) == (HoldState.SETTLED, True)
    assert await world.count(key) == (1800, 0)


async def test_a_report_is_about_one_attempt(world: World) -> None:
    """A late report about an earlier attempt never closes the hold of a later one."""
    key = await world.key(usd(1000))
    first = await world.ask(key, 500)
    await world.settle(first, outcome=Outcome.FAILED)
    second = await world.ask(key, 500)
    assert second.attempt == 2
    for attempt in (1, 3):
        with pytest.raises(HoldClosed):
            await world.settle(second, outcome=Outcome.FAILED, attempt=attempt)
    assert await world.count(key) == (0, 500)


async def test_a_report_about_nothing_is_refused(world: World) -> None:
    """Only what was authorized can be settled."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 500)
    unknown = verdict.authorization_id[:-1] + "x"
    foreign = f"az_{'a' * 12}_{'0' * 32}"
    results = await world.server.settler.settle(
        [
            Settlement(unknown, 1, Outcome.FAILED),
            Settlement(verdict.authorization_id, 1, Outcome.FAILED),
            Settlement(foreign, 1, Outcome.FAILED),
            Settlement("nonsense", 1, Outcome.FAILED),
        ]
    )
    kinds = [type(result) for result in results]
    assert kinds[:1] + kinds[2:] == [HoldNotFound, HoldNotFound, FieldInvalid]
    assert await world.count(key) == (0, 0)


async def test_a_hold_can_be_settled_when_its_key_is_gone(world: World) -> None:
    """A revoke or a freeze stops new money and never the record of money that moved."""
    key = await world.key(usd(1000))
    verdict = await world.ask(key, 500)
    await world.server.administration.freeze("", "an incident")
    await world.server.administration.revoke_key(verdict.vault_key_id)
    await world.settle(verdict, 500)
    assert await world.count(key) == (500, 0)


# Exposure: one object counts once over all its steps.


async def create(world: World, key: str, amount: int = 1000, *, object_id: str = "pi_1") -> None:
    """An intent of ``amount``, made and settled."""
    verdict = await world.ask(key, amount, f"make {object_id}", INTENTS)
    assert verdict.allowed
    await world.settle(verdict, amount, object_id=object_id)


async def step(
    world: World, key: str, endpoint: str, total: int, *, held: int, object_id: str = "pi_1"
) -> None:
    """A later step that brings the object to ``total`` and should hold only ``held`` for it."""
    before = await world.count(key)
    verdict = await world.ask(key, total, f"{endpoint} {total}", endpoint, object_id=object_id)
    assert verdict.allowed, verdict
    assert verdict.object_id == object_id
    assert (await world.count(key))[1] - before[1] == held
    await world.settle(verdict, total, object_id=object_id)


async def test_steps_of_one_object_count_it_once(world: World) -> None:
    """Created and confirmed at 1000 counts 1000; capturing 600 gives 400 back; a cancel gives all back."""
    key = await world.key(usd(1000))
    await create(world, key)
    assert await world.count(key) == (1000, 0)
    await step(world, key, CONFIRM, 1000, held=0)
    assert await world.count(key) == (1000, 0)
    await step(world, key, CAPTURE, 600, held=0)
    assert await world.count(key) == (600, 0)
    await step(world, key, CANCEL, 0, held=0)
    assert await world.count(key) == (0, 0)


async def test_a_step_that_names_no_money_still_lowers_the_object(world: World) -> None:
    """A cancel asks for nothing; its outcome says that the object commits nothing any more."""
    key = await world.key(usd(1000))
    await create(world, key)
    cancel = await world.ask(key, None, "cancel", CANCEL, object_id="pi_1")
    assert await world.count(key) == (1000, 0)
    assert not (await world.settle(cancel, 0, object_id="pi_1")).overrun
    assert await world.count(key) == (0, 0)


async def test_what_an_object_gives_back_goes_where_it_was_counted(world: World) -> None:
    """A capture on a later day lowers the day of the creation, not its own."""
    key = await world.key(usd(1000), usd(5000, Window.MONTH))
    await create(world, key)
    made_at = world.now_ms
    world.now_ms += DAY
    await step(world, key, CAPTURE, 600, held=0)
    assert await world.counts(key) == {"usd/day": (0, 0), "usd/month": (600, 0)}
    world.now_ms = made_at
    assert await world.counts(key) == {"usd/day": (600, 0), "usd/month": (600, 0)}


async def test_raising_an_object_is_never_free(world: World) -> None:
    """An increment holds what is above the exposure, in its own window, and is refused without room."""
    key = await world.key(usd(1400))
    await create(world, key)
    refused = await world.ask(key, 1401, "raise", INCREMENT, object_id="pi_1")
    assert refused.reason is DenyReason.CAP_EXCEEDED
    first_day = world.now_ms
    world.now_ms += DAY
    await step(world, key, INCREMENT, 1500, held=500)
    assert await world.count(key) == (500, 0)
    world.now_ms += DAY
    await step(world, key, CAPTURE, 1200, held=0)
    counts = []
    for day in range(3):
        world.now_ms = first_day + day * DAY
        counts.append(await world.count(key))
    assert counts == [(1000, 0), (200, 0), (0, 0)], "the newest booking gives back first"
    world.now_ms = first_day + 2 * DAY
    await step(world, key, CANCEL, 0, held=0)
    for day in range(3):
        world.now_ms = first_day + day * DAY
        assert await world.count(key) == (0, 0)


async def test_more_than_asked_for_is_counted_also_when_nothing_was_held(world: World) -> None:
    """A confirm that commits more than the object's exposure counts the difference and is flagged."""
    key = await world.key(usd(2000))
    await create(world, key)
    verdict = await world.ask(key, 1000, "confirm", CONFIRM, object_id="pi_1")
    result = await world.settle(verdict, 1700, object_id="pi_1")
    assert result.overrun
    assert await world.count(key) == (1700, 0)
    await step(world, key, CANCEL, 0, held=0)
    assert await world.count(key) == (0, 0)


async def test_concurrent_raises_hold_twice_and_count_once(world: World) -> None:
    """Until it is known which raise came through, both are held; in the end the object counts once."""
    key = await world.key(usd(2000))
    await create(world, key)
    raises = [await world.ask(key, 1500, f"raise {n}", INCREMENT, object_id="pi_1") for n in range(2)]
    assert await world.count(key) == (1000, 1000)
    third = await world.ask(key, 1500, "raise 3", INCREMENT, object_id="pi_1")
    assert third.reason is DenyReason.CAP_EXCEEDED
    for verdict in raises:
        assert not (await world.settle(verdict, 1500, object_id="pi_1")).overrun
    assert await world.count(key) == (1500, 0)


async def test_a_failed_step_leaves_the_exposure_as_it_was(world: World) -> None:
    """A declined increment gives back what it held and nothing else."""
    key = await world.key(usd(2000))
    await create(world, key)
    verdict = await world.ask(key, 1500, "raise", INCREMENT, object_id="pi_1")
    await world.settle(verdict, outcome=Outcome.FAILED, object_id="pi_1")
    assert await world.count(key) == (1000, 0)
    await step(world, key, INCREMENT, 1500, held=500)


async def test_an_unknown_step_without_an_amount_counts_what_it_held(world: World) -> None:
    """Without a reported total the object is taken to have reached what was asked."""
    key = await world.key(usd(2000))
    await create(world, key)
    verdict = await world.ask(key, 1500, "raise", INCREMENT, object_id="pi_1")
    await world.settle(verdict, outcome=Outcome.UNKNOWN)
    await world.settle(verdict)
    assert await world.count(key) == (1500, 0)
    await step(world, key, INCREMENT, 1600, held=100)


async def test_exposures_are_of_one_vault_key_one_object_and_one_currency(world: World) -> None:
    """What another key, another object or another currency counted does not make a step free."""
    caps = (usd(5000), type(usd(1))(5000, Window.DAY, "EUR"))
    key, other = await world.key(*caps), await world.key(*caps)
    await create(world, key)
    elsewhere = await world.ask(other, 1000, "confirm", CONFIRM, object_id="pi_1")
    assert await world.counts(other) == {"usd/day": (0, 1000), "eur/day": (0, 0)}
    await world.settle(elsewhere, 1000, object_id="pi_1")
    await step(world, key, CONFIRM, 1000, held=1000, object_id="pi_2")
    euros = await world.ask(key, Amount(1000, "EUR"), "euros", CONFIRM, object_id="pi_1")
    assert (await world.counts(key))["eur/day"] == (0, 1000)
    await world.settle(euros, Amount(1000, "EUR"), object_id="pi_1")
    assert await world.counts(key) == {"usd/day": (2000, 0), "eur/day": (1000, 0)}


async def test_a_window_that_is_forgotten_is_not_given_back_into(world: World) -> None:
    """A cancel long after the window was forgotten leaves no count below zero to spend from."""
    key = await world.key(usd(1000, Window.RUN))
    verdict = await world.ask(key, 1000, "run", INTENTS)
    await world.settle(verdict, 1000, object_id="pi_1")
    (counter,) = await world.redis.keys("*:count:*")
    await world.redis.delete(counter)
    cancel = await world.ask(key, 0, "run", CANCEL, object_id="pi_1")
    await world.settle(cancel, 0, object_id="pi_1")
    assert (await world.counts(key))["usd/run"] == (0, 0)
    assert not (await world.ask(key, 1001, "run", step="next")).allowed


async def test_a_step_settled_in_a_later_window_counts_in_its_own(world: World) -> None:
    """An increment held before midnight and settled after it counts before midnight."""
    key = await world.key(usd(2000))
    await create(world, key)
    world.now_ms = moment("2031-03-13T00:00") - 1
    verdict = await world.ask(key, 1500, "raise", INCREMENT, object_id="pi_1")
    world.now_ms += 1
    await world.settle(verdict, 1500, object_id="pi_1")
    assert await world.count(key) == (0, 0)
    world.now_ms -= 1
    assert await world.count(key) == (1500, 0)
    assert (await world.ask(key, 500, "rest", CHARGES)).allowed


async def test_an_answer_that_may_be_old_never_lowers_what_an_object_commits(world: World) -> None:
    """A replay tells of an earlier time: what a later step has raised stays counted."""
    key = await world.key(usd(5000))
    made = await world.ask(key, 100, endpoint=INTENTS)
    await world.settle(made, outcome=Outcome.UNKNOWN)
    raised = await world.ask(key, 1000, object_id="pi_1", endpoint=f"{INTENTS}/{{intent}}")
    await world.settle(raised, 1000, object_id="pi_1")
    await world.settle(made, 100, object_id="pi_1", stale=True)
    assert await world.count(key) == (1000, 0)


async def test_of_two_steps_under_way_at_once_none_lowers_what_the_object_commits(world: World) -> None:
    """Nobody knows which the vendor did last, so the higher total stays counted until a later step."""
    key = await world.key(usd(5000))
    update = f"{INTENTS}/{{intent}}"
    up = await world.ask(key, 2000, object_id="pi_1", endpoint=update, step="up")
    down = await world.ask(key, 100, object_id="pi_1", endpoint=update, step="down")
    await world.settle(up, 2000, object_id="pi_1")
    await world.settle(down, 100, object_id="pi_1")
    assert await world.count(key) == (2000, 0)
    alone = await world.ask(key, 100, object_id="pi_1", endpoint=update, step="alone")
    await world.settle(alone, 100, object_id="pi_1")
    assert await world.count(key) == (100, 0)


# What somebody saw at the vendor, and counting under another object.


async def test_what_an_object_was_seen_to_commit_is_what_counts(world: World) -> None:
    """Less is given back in the day of the creation; more is counted there, flagged and on record; once."""
    key = await world.key(usd(1000))
    await create(world, key)
    made_at = world.now_ms
    world.now_ms += DAY
    assert await world.observe(key, "pi_1", 1000) == []
    assert await world.observe(key, "pi_1", 600) == [False]
    assert await world.observe(key, "pi_1", 1400) == [True]
    before = await world.dump()
    assert await world.observe(key, "pi_1", 1400) == []
    assert await world.dump() == before
    assert await world.count(key) == (0, 0)
    world.now_ms = made_at
    assert await world.count(key) == (1400, 0)


async def test_money_seen_after_a_cancel_counts_where_it_counted_before(world: World) -> None:
    """An object that committed nothing any more is not forgotten."""
    key = await world.key(usd(1000))
    await create(world, key)
    await step(world, key, CANCEL, 0, held=0)
    world.now_ms += DAY
    assert await world.observe(key, "pi_1", 300) == [True]
    world.now_ms -= DAY
    assert await world.count(key) == (300, 0)


async def test_nothing_is_given_back_while_a_step_is_under_way(world: World) -> None:
    """What was seen may be older than the step, or newer: until it is settled the count stays."""
    key = await world.key(usd(5000))
    await create(world, key)
    raised = await world.ask(key, 1500, "raise", INCREMENT, object_id="pi_1")
    assert await world.observe(key, "pi_1", 0) == []
    other = await world.ask(key, 1500, "again", INCREMENT, object_id="pi_1")
    await world.settle(other, outcome=Outcome.FAILED)
    assert await world.observe(key, "pi_1", 0) == []
    assert await world.count(key) == (1000, 500)
    await world.settle(raised, 1500, object_id="pi_1")
    assert await world.observe(key, "pi_1", 0) == [False]
    assert await world.count(key) == (0, 0)


async def test_what_the_key_has_not_counted_is_not_observed(world: World) -> None:
    """Another object, another key's object, another currency, a key that is none: nothing changes."""
    key, other = await world.key(usd(2000)), await world.key(usd(2000))
    await create(world, key)
    started = await world.ask(key, 10, "begun", CONFIRM, object_id="pi_3")
    before = await world.dump()
    assert await world.observe(key, "pi_2", 500) == []
    assert await world.observe(key, "pi_3", 500) == []
    assert await world.observe(other, "pi_1", 500) == []
    assert await world.observe(key, "pi_1", Amount(500, "EUR")) == []
    assert await world.observe(f"vk_{'a' * 12}_{'b' * 32}", "pi_1", 500) == []
    assert await world.dump() == before
    assert started.allowed


async def test_a_call_may_count_under_another_object_than_it_made(world: World) -> None:
    """A subscription counts under its invoice, so paying the invoice counts nothing again."""
    key = await world.key(usd(1000))
    made = await world.ask(key, 700, endpoint="POST /v1/subscriptions")
    await world.settle(made, 700, object_id="sub_1", counted_object_id="in_1")
    assert (await world.hold(made))["object_id"] == "sub_1"
    assert [event.fields["object_id"] for event in await world.events(kind="settlement")] == ["sub_1"]
    await step(world, key, "POST /v1/invoices/{invoice}/pay", 700, held=0, object_id="in_1")
    assert await world.count(key) == (700, 0)
    world.now_ms += DAY
    assert (await world.ask(key, 700, endpoint="POST /v1/subscriptions")).object_id == "sub_1"


async def test_a_step_that_says_no_amount_keeps_the_object_as_it_is(world: World) -> None:
    """A change of a description neither counts nor forgets what the object commits."""
    key = await world.key(usd(1000))
    await create(world, key)
    described = await world.ask(key, None, "describe", "POST /v1/payment_intents/{intent}", object_id="pi_1")
    assert not (await world.settle(described, object_id="pi_1")).overrun
    assert await world.count(key) == (1000, 0)
    await step(world, key, CANCEL, 0, held=0)
    assert await world.count(key) == (0, 0)


# Calls whose amount nobody could tell before.


async def test_a_call_without_a_price_counts_what_it_moved_and_is_marked(world: World) -> None:
    """It holds nothing, counts in the caps of its currency, and may exceed a cap by its own amount."""
    euros = Cap(1000, Window.DAY, "EUR")
    key = await world.key(usd(1000), usd(5000, Window.MONTH), euros, unpriced=(CHARGES,))
    verdict = await world.ask(key, unpriced=True)
    assert await world.counts(key) == {"usd/day": (0, 0), "usd/month": (0, 0), "eur/day": (0, 0)}
    assert not (await world.settle(verdict, 1700, object_id="pi_1")).overrun
    assert await world.counts(key) == {"usd/day": (1700, 0), "usd/month": (1700, 0), "eur/day": (0, 0)}
    assert (await world.ask(key, run="next", unpriced=True)).rule == "usd/day"
    marked = [event.fields.get("unpriced") for event in await world.events(run_id="run")]
    assert marked == ["1", "1"]
    assert await world.observe(key, "pi_1", 0) == [False]
    assert await world.count(key) == (0, 0)


@pytest.mark.parametrize(
    ("moved", "counted", "reason"),
    [
        (Amount(5, "JPY"), {"usd/day": (0, 0), "eur/day": (0, 0)}, "currency_not_held"),
        (Amount(5, "EUR"), {"usd/day": (0, 0), "eur/day": (5, 0)}, "currency_not_held"),
        (None, {"usd/day": (0, 0), "eur/day": (0, 0)}, ""),
    ],
)
async def test_money_that_a_call_without_a_price_should_not_move_is_flagged(
    world: World, moved: Amount | None, counted: dict[str, tuple[int, int]], reason: str
) -> None:
    """A currency without a cap, or that the policy does not want, and an amount that nobody says."""
    key = await world.key(usd(1000), Cap(1000, Window.DAY, "EUR"), unpriced=(CHARGES,), currencies=("USD",))
    verdict = await world.ask(key, unpriced=True)
    assert (await world.settle(verdict, moved)).overrun
    assert await world.counts(key) == counted
    (event,) = await world.events(kind="settlement")
    assert event.fields.get("reason", "") == reason


async def test_a_call_without_a_price_that_failed_counts_nothing(world: World) -> None:
    """It is released as any other, and counted and flagged when it did move money after all."""
    key = await world.key(usd(1000), unpriced=(CHARGES,))
    verdict = await world.ask(key, unpriced=True)
    await world.settle(verdict, outcome=Outcome.FAILED)
    assert await world.count(key) == (0, 0)
    assert (await world.settle(verdict, 300)).overrun
    assert await world.count(key) == (300, 0)


# What an attack found once.


async def test_a_step_that_held_nothing_makes_no_later_step_free(world: World) -> None:
    """An update of an intent shows its amount; that is not counted, and the confirm must hold all of it."""
    key = await world.key(usd(1000))
    update = "POST /v1/payment_intents/{intent}"
    shown = await world.ask(key, endpoint=update, object_id="pi_1")
    assert not (await world.settle(shown, 900, object_id="pi_1")).overrun
    assert await world.count(key) == (0, 0)
    confirm = await world.ask(key, 900, "run", f"{update}/confirm", object_id="pi_1")
    assert await world.count(key) == (0, 900)
    await world.settle(confirm, 900, object_id="pi_1")
    assert (await world.ask(key, 101, "other")).reason is DenyReason.CAP_EXCEEDED


async def test_a_late_outcome_of_the_call_that_made_an_object_lowers_nothing(world: World) -> None:
    """The create is told of after later steps were counted: it did not know of them."""
    key = await world.key(usd(10_000))
    created = await world.ask(key, 100, endpoint="POST /v1/payment_intents")
    confirm = "POST /v1/payment_intents/{intent}/confirm"
    raised = await world.ask(key, 5000, "run", confirm, object_id="pi_1")
    await world.settle(raised, 5000, object_id="pi_1")
    await world.settle(created, 100, object_id="pi_1")
    assert await world.count(key) == (5000, 0)


async def test_a_failed_call_counts_what_it_left_behind(world: World) -> None:
    """A declined intent can still be paid: it stays counted until a cancel, and a fresh try is possible."""
    key = await world.key(usd(1000))
    declined = await world.ask(key, 600, endpoint="POST /v1/payment_intents")
    result = await world.settle(declined, 600, Outcome.FAILED, object_id="pi_1")
    assert result.state is HoldState.RELEASED
    assert await world.count(key) == (600, 0)
    assert (await world.ask(key, 600, endpoint="POST /v1/payment_intents")).reason is DenyReason.CAP_EXCEEDED
    cancel = await world.ask(key, endpoint="POST /v1/payment_intents/{intent}/cancel", object_id="pi_1")
    await world.settle(cancel, 0, object_id="pi_1")
    assert await world.count(key) == (0, 0)
    again = await world.ask(key, 600, endpoint="POST /v1/payment_intents")
    assert (again.allowed, again.attempt) == (True, 2)


async def test_a_duplicate_is_told_what_the_first_call_asked_for(world: World) -> None:
    """So that an amount which was asked of the vendor is written into the repeat as it was."""
    key = await world.key(usd(1000))
    first = await world.ask(key, 700, fingerprint="f")
    assert first.asked is None
    again = await world.ask(key, None, fingerprint="f", moves_money=True)
    assert (again.duplicate, again.asked) == (True, Amount(700, "USD"))
