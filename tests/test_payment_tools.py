"""The payment tools that all frameworks share: what is one effect, and what a model is told."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from pydantic import SecretStr

from spendgate import errors
from spendgate.payment_tools import PAYMENT_TOOLS, RunTools, ToolAnswer
from spendgate.vault_deps import SharedDepsWarning, VaultDeps
from tests.processes import wait_for
from tests.relay import Relay
from tests.stack import STRIPE_KEY, Stack, VaultKey, cap

CARD: dict[str, Any] = {"amount": 1900, "currency": "usd", "source": "tok_visa"}
INTENT: dict[str, Any] = {
    "amount": 1900, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
}  # fmt: skip


def run_tools(stack: Stack, key: VaultKey, run_id: str = "run-1", **deps: Any) -> RunTools:
    """The tools of one run."""
    sidecar = stack.origin().removesuffix("/stripe")
    return RunTools(VaultDeps(SecretStr(key.text), run_id, sidecar=sidecar, **deps))


def line(answer: ToolAnswer, name: str) -> str:
    """One line of an answer."""
    found = [text for text in answer.text.splitlines() if text.startswith(f"{name}: ")]
    return found[0].removeprefix(f"{name}: ") if found else ""


# --- one effect -------------------------------------------------------------------


async def test_a_model_that_asks_again_is_told_the_first_payment(stack: Stack) -> None:
    """The same arguments once more: done before, the same id, nothing paid."""
    tools = run_tools(stack, stack.key())
    first = await tools.call("charge", CARD)
    again = await asyncio.to_thread(tools.call_sync, "charge", CARD)
    assert first.done and again.done
    assert line(first, "id") == line(again, "id")
    assert (line(first, "charge"), line(first, "amount")) == ("done", "19.00 USD")
    assert "nothing was done again" in line(again, "charge")
    assert line(first, "left").startswith("81.00 USD under usd/day until ")
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.parametrize(
    ("tool", "other"),
    [
        ("charge", {**CARD, "description": "The order, once more"}),
        ("charge", {**CARD, "amount": 1901}),
        ("create_payment_intent", INTENT),
    ],
)
async def test_other_words_pay_nothing_more(stack: Stack, tool: str, other: dict[str, Any]) -> None:
    """Another text, another amount, another way to pay: it is one payment for a run."""
    tools = run_tools(stack, stack.key())
    assert (await tools.call("charge", CARD)).done
    again = await tools.call(tool, other)
    assert (again.done, again.again) == (False, False)
    assert isinstance(again.error, errors.IdempotencyMismatch)
    assert stack.simulator.money["charged"] == 1900


async def test_each_purpose_is_paid_once_and_none_can_be_invented(stack: Stack) -> None:
    """The application names them, and the model picks one."""
    tools = run_tools(stack, stack.key(), purposes=("deposit", "balance"))
    for _ in range(2):
        for purpose in ("deposit", "balance"):
            assert (await tools.call("charge", {**CARD, "purpose": purpose})).done
    assert stack.simulator.money["charged"] == 3800
    for wrong in ({**CARD, "purpose": "tip"}, CARD):
        refused = await tools.call("charge", wrong)
        assert (refused.done, refused.again) == (False, True)
        assert "purpose" in line(refused, "why")
    assert stack.simulator.money["charged"] == 3800


async def test_equal_calls_at_once_are_one_payment(stack: Stack) -> None:
    """As with parallel tool calls."""
    tools = run_tools(stack, stack.key())
    answers = await asyncio.gather(*(tools.call("charge", CARD) for _ in range(8)))
    assert len({line(answer, "id") for answer in answers}) == 1
    assert stack.simulator.money["charged"] == 1900


async def test_a_declined_card_may_be_followed_by_another_way(stack: Stack) -> None:
    """What failed is no payment; the next way is tried afresh."""
    tools = run_tools(stack, stack.key())
    declined = await tools.call("charge", {**CARD, "source": "tok_chargeDeclined"})
    assert (declined.done, declined.again, line(declined, "reason")) == (False, False, "generic_decline")
    assert (await tools.call("create_payment_intent", INTENT)).done
    assert stack.simulator.money["captured"] == 1900


async def test_a_payment_and_its_refund_are_two_effects(stack: Stack) -> None:
    """Each of them once."""
    tools = run_tools(stack, stack.key())
    charge = line(await tools.call("charge", CARD), "id")
    for _ in range(2):
        refunded = await tools.call("refund", {"charge": charge, "amount": 500})
        assert line(refunded, "amount") == "5.00 USD"
    assert stack.simulator.money["refunded"] == 500


# --- what the model is told --------------------------------------------------------


async def test_a_cap_with_room_left_asks_for_less(stack: Stack) -> None:
    """How much, and that waiting is none of the model's business."""
    tools = run_tools(stack, stack.key(caps=[cap(1500)]))
    refused = await tools.call("charge", CARD)
    assert (refused.done, refused.again) == (False, True)
    assert "with at most 15.00 USD" in line(refused, "try again")
    assert (await tools.call("charge", {**CARD, "amount": 1500})).done


async def test_a_full_cap_is_final(stack: Stack) -> None:
    """No room until the reset: nothing to ask again for."""
    key = stack.key(caps=[cap(1900)])
    assert (await run_tools(stack, key, "run-1").call("charge", CARD)).done
    refused = await run_tools(stack, key, "run-2").call("charge", CARD)
    assert (refused.done, refused.again) == (False, False)
    assert "resets at" in line(refused, "why")
    assert line(refused, "try again").startswith("no")


async def test_an_endpoint_that_is_not_allowed_is_final(stack: Stack) -> None:
    """With what is."""
    refused = await run_tools(stack, stack.key("POST /v1/charges")).call("refund", {"charge": "ch_1"})
    assert (refused.done, refused.again) == (False, False)
    assert line(refused, "allowed") == "POST /v1/charges"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {**CARD, "amount": 19.5},
        {**CARD, "amount": "1900"},
        {**CARD, "amount": 0},
        {**CARD, "amount": True},
        {**CARD, "currency": "dollars"},
        {**CARD, "api_key": "sk_test_1"},
    ],
)
async def test_wrong_arguments_are_told_and_not_sent(stack: Stack, arguments: dict[str, Any]) -> None:
    """Nothing is guessed or rounded."""
    answer = await run_tools(stack, stack.key()).call("charge", arguments)
    assert (answer.done, answer.again) == (False, True)
    assert stack.simulator.posts() == []


async def test_what_stripe_can_not_use_may_be_corrected(stack: Stack) -> None:
    """Stripe's own words."""
    tools = run_tools(stack, stack.key())
    wrong = await tools.call("charge", {**CARD, "customer": "cus_nobody"})
    assert (wrong.done, wrong.again) == (False, True)
    assert "cus_nobody" in line(wrong, "why")
    assert (await tools.call("charge", CARD)).done


async def test_a_lost_answer_is_found_out_by_repeating(stack: Stack) -> None:
    """The tool repeats the same effect by itself; the model sees one payment."""
    stack.simulator.fault("drop_reply")
    answer = await run_tools(stack, stack.key()).call("charge", CARD)
    assert answer.done
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_connection_that_breaks_is_repeated(stack: Stack, asynchronous: bool) -> None:
    """The sidecar's own answer is lost: the same effect again, and its first answer."""
    with Relay(stack.origin().removesuffix("/stripe")) as relay:
        tools = RunTools(VaultDeps(stack.key().text, "run-1", sidecar=relay.origin))
        relay.lose = 2
        call = (
            tools.call("charge", CARD) if asynchronous else asyncio.to_thread(tools.call_sync, "charge", CARD)
        )
        answer = await call
        assert answer.done
        assert len(relay.passed) == 3
    assert stack.simulator.money["charged"] == 1900


async def test_a_sidecar_that_is_away_is_a_final_answer(stack: Stack) -> None:
    """Nothing was sent, and the model is not made to hammer."""
    key = VaultDeps(stack.key().text, "run-1", sidecar="http://127.0.0.1:1")
    answer = await RunTools(key).call("charge", CARD)
    assert (answer.done, answer.again) == (False, False)
    assert "nothing was sent" in answer.text


async def test_a_cancelled_call_loses_nothing(stack: Stack) -> None:
    """The sidecar goes on, and the same run finds the payment."""
    key = stack.key()
    tools = run_tools(stack, key)
    stack.simulator.fault("delay", seconds=60)
    call = asyncio.create_task(tools.call("charge", CARD))
    await asyncio.to_thread(wait_for, lambda: stack.simulator.posts("/v1/charges"), "Stripe is asked")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    stack.simulator.heal()
    assert (await tools.call("charge", CARD)).done
    assert stack.simulator.money["charged"] == 1900
    stack.settled(key, 1900)


# --- what the run is given -----------------------------------------------------------


async def test_what_is_fixed_is_sent_and_never_shown(stack: Stack) -> None:
    """The model neither names the customer nor reads of it."""
    key = stack.key()
    with stack.agent(key, "setup") as http:
        customer = http.post("/customers", data={"source": "tok_visa"}).json()["id"]
    tools = run_tools(stack, key, fixed={"customer": customer, "metadata[order]": "order-42"})
    schema = tools.tools["charge"].schema(tools.deps)
    assert "customer" not in schema["properties"]
    paid = await tools.call("charge", {"amount": 1900, "currency": "usd"})
    assert paid.done
    assert customer not in paid.text
    assert (await tools.call("charge", {**CARD, "customer": "cus_other"})).again
    with stack.agent(key) as http:
        made = http.get(f"/charges/{line(paid, 'id')}").json()
    assert (made["customer"], made["metadata"]["order"]) == (customer, "order-42")
    lost = run_tools(stack, key, "run-2", fixed={"customer": "cus_secret_1"})
    assert "cus_secret_1" not in (await lost.call("charge", {"amount": 1900, "currency": "usd"})).text


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"vault_key": STRIPE_KEY}, "raw Stripe key"),
        ({"vault_key": SecretStr("sk_live_1")}, "raw Stripe key"),
        ({"run_id": "a\n"}, "Spendgate-Run-Id"),
        ({"purposes": ("",)}, "purpose"),
        ({"purposes": ("a" * 121,)}, "purpose"),
        ({"purposes": "deposit"}, "list of names"),
    ],
)
def test_deps_that_can_not_work_are_refused_when_they_are_made(wrong: dict[str, Any], what: str) -> None:
    """Before any run begins, and without repeating a key."""
    good: dict[str, Any] = {"vault_key": "vk_aaaaaaaaaaaa_" + "a" * 32, "run_id": "run-1"}
    with pytest.raises(ValueError, match=what) as refused:
        VaultDeps(**{**good, **wrong})
    assert STRIPE_KEY not in str(refused.value)


def test_what_no_tool_sends_can_not_be_fixed() -> None:
    """A misspelt name would otherwise be ignored."""
    deps = VaultDeps("vk_aaaaaaaaaaaa_" + "a" * 32, "run-1", fixed={"custommer": "cus_1"})
    with pytest.raises(ValueError, match="custommer"):
        RunTools(deps)


def test_a_run_must_have_a_name() -> None:
    """A made-up one would be another at every call."""
    with pytest.raises(ValueError, match="name the run"):
        RunTools(VaultDeps("vk_aaaaaaaaaaaa_" + "a" * 32))


def test_deps_show_no_secret() -> None:
    """In their text, and in the schemas that go to models."""
    deps = VaultDeps("vk_aaaaaaaaaaaa_" + "b" * 32, "run-1", fixed={"customer": "cus_1"})
    shown = repr(deps) + str([tool.schema(deps) for tool in PAYMENT_TOOLS])
    assert "b" * 32 not in shown
    assert "cus_1" not in repr(deps)


def test_two_runs_at_once_with_the_same_deps_are_warned_of() -> None:
    """And one run that is entered twice, or two after another, are not."""
    deps = VaultDeps("vk_aaaaaaaaaaaa_" + "a" * 32, "run-1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for run in ("first", "second"):
            with deps.used_by(run), deps.used_by(run):
                pass
    with pytest.warns(SharedDepsWarning, match="one VaultDeps for each run"), deps.used_by("first"):
        deps.used_by("second").__enter__()


async def test_a_cap_refusal_that_freezes_the_run_ends_it(stack: Stack) -> None:
    """It says that the run is frozen: asking for less would be refused as well."""
    key = stack.key(caps=[cap(1000)], repeated_refusals_max=2)
    run = run_tools(stack, key)
    before, froze, after = [await run.call("charge", CARD) for _ in range(3)]
    assert before.again and "try again: with at most 10.00 USD" in before.text
    for answer in (froze, after, await run.call("charge", {**CARD, "amount": 500})):
        assert not answer.again
        assert "frozen" in answer.text
        assert "try again: no, this run is frozen; tell the user" in answer.text
    assert stack.simulator.posts() == []
