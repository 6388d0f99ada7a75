"""Spendgate's toolset in PydanticAI agents, in every way in which an agent runs, with a real Spendgate."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from spendgate.pydantic_ai import PaymentToolset, SharedDepsWarning, VaultDeps
from tests.processes import wait_for
from tests.stack import STRIPE_KEY, Stack, VaultKey, cap

CARD: dict[str, Any] = {"amount": 1900, "currency": "usd", "source": "tok_visa"}
Model = Callable[[list[ModelMessage], AgentInfo], ModelResponse]


def returns(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    """What tools returned so far."""
    return [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


def ended(messages: list[ModelMessage], outcome: str) -> list[str]:
    """What the model was told by the calls that ended so."""
    return [str(part.content) for part in returns(messages) if part.outcome == outcome]


def calls(*tools: tuple[str, dict[str, Any]], at_once: bool = False) -> FunctionModel:
    """A model that calls tools, one after the other or at once, and then says what the last one returned."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done = len(returns(messages))
        if done >= len(tools):
            return ModelResponse(parts=[TextPart(str(returns(messages)[-1].content))])
        wanted = tools if at_once else tools[done : done + 1]
        return ModelResponse(parts=[ToolCallPart(name, arguments) for name, arguments in wanted])

    return FunctionModel(model)


def agent_of(model: FunctionModel, **toolset: Any) -> Agent[VaultDeps, str]:
    """An agent with the payment tools."""
    return Agent(model, deps_type=VaultDeps, toolsets=[PaymentToolset(**toolset)], retries=3)


@pytest.fixture
def deps(stack: Stack) -> Callable[..., VaultDeps]:
    """Makes the deps of a run; each with its own key unless one is given."""

    def make(run_id: str = "", key: VaultKey | None = None, **more: Any) -> VaultDeps:
        text = SecretStr((key or stack.key()).text)
        return VaultDeps(text, run_id, sidecar=stack.origin().removesuffix("/stripe"), **more)

    return make


# --- ways to run -----------------------------------------------------------------


async def test_run(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """The model calls twice, as after a retry, and one charge is made, in the framework's own run."""
    key = stack.key()
    agent = agent_of(calls(("charge", CARD), ("charge", {**CARD, "description": "again"}), ("charge", CARD)))
    result = await agent.run("bill", deps=deps(key=key))
    assert "done before in this run" in result.output
    assert stack.simulator.money["charged"] == 1900
    assert {event.run_id for event in stack.events(key) if event.run_id} == {result.run_id}


def test_run_sync(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """In a program without a running loop; the framework leaves open the loop that it makes itself."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        result = agent_of(calls(("charge", CARD))).run_sync("bill", deps=deps())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert "id: ch_" in result.output
    assert stack.simulator.money["charged"] == 1900


async def test_parallel_tool_calls_are_one_payment(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """A model that asks three times in one response pays once."""
    await agent_of(calls(*[("charge", CARD)] * 3, at_once=True)).run("bill", deps=deps())
    assert stack.simulator.money["charged"] == 1900


async def test_an_output_validator_that_retries_pays_once(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """The model is sent back, and calls the tool again."""
    seen: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if isinstance(messages[-1].parts[-1], ToolReturnPart):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart("charge", CARD)])

    agent = agent_of(FunctionModel(model))

    @agent.output_validator
    def must_be_right(output: str) -> str:
        seen.append(output)
        if len(seen) < 3:
            raise ModelRetry("the answer must name the charge")
        return output

    await agent.run("bill", deps=deps())
    assert len(seen) == 3
    assert stack.simulator.money["charged"] == 1900


async def test_a_stream_that_is_left_in_mid_call_loses_nothing(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """The client hangs up while Stripe works; the resumed run finds the charge."""
    key = stack.key()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        if returns(messages):
            yield str(returns(messages)[-1].content)
        else:
            yield {0: DeltaToolCall("charge", '{"amount": 1900, "currency": "usd", "source": "tok_visa"}')}

    agent = agent_of(FunctionModel(stream_function=stream))

    async def watch(run_id: str) -> str:
        async with agent.run_stream("bill", deps=deps(run_id, key)) as result:
            return await result.get_output()

    stack.simulator.fault("delay", seconds=60)
    watching = asyncio.create_task(watch("order-42"))
    await asyncio.to_thread(wait_for, lambda: stack.simulator.posts("/v1/charges"), "Stripe is asked")
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    stack.simulator.heal()
    assert "charge: done before in this run" in await watch("order-42")
    assert stack.simulator.money["charged"] == 1900
    stack.settled(key, 1900)


async def test_a_resumed_run_pays_once_when_its_id_is_kept(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """A crash after the charge, before its result was stored: the same id finds it; a new run pays again."""
    key, agent = stack.key(), agent_of(calls(("charge", CARD)))
    for _ in range(2):
        await agent.run("bill", deps=deps("order-42", key))
    assert stack.simulator.money["charged"] == 1900
    await agent.run("bill", deps=deps(key=key))
    assert stack.simulator.money["charged"] == 3800


async def test_runs_at_once_have_their_own_names(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """And pay each."""
    key, agent = stack.key(), agent_of(calls(("charge", CARD)))
    results = await asyncio.gather(*(agent.run("bill", deps=deps(key=key)) for _ in range(4)))
    names = {event.run_id for event in stack.events(key) if event.run_id}
    assert names == {result.run_id for result in results}
    assert stack.simulator.money["charged"] == 4 * 1900


async def test_purposes_are_in_what_the_model_sees(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """As the only values, for the run that has them."""
    seen: list[AgentInfo] = []
    two = [("charge", {**CARD, "purpose": purpose}) for purpose in ("deposit", "balance")]
    wanted = calls(*two, at_once=True).function
    assert wanted is not None

    def model(messages: list[ModelMessage], info: AgentInfo) -> Any:
        seen.append(info)
        return wanted(messages, info)

    agent = agent_of(FunctionModel(model), tools=["charge"])
    await agent.run("bill", deps=deps(purposes=("deposit", "balance"), fixed={"description": "order 42"}))
    (tool,) = seen[0].function_tools
    properties = tool.parameters_json_schema["properties"]
    assert properties["purpose"]["enum"] == ["deposit", "balance"]
    assert "description" not in properties
    assert stack.simulator.money["charged"] == 3800


# --- refusals -----------------------------------------------------------------------


async def test_a_refusal_that_less_can_mend_is_a_retry(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """The model is told how much, and pays that."""
    key = stack.key(caps=[cap(1500)])
    agent = agent_of(calls(("charge", CARD), ("charge", {**CARD, "amount": 1500})))
    result = await agent.run("bill", deps=deps(key=key))
    (retry,) = ended(result.all_messages(), "retried")
    assert "at most 15.00 USD" in retry
    assert stack.simulator.money["charged"] == 1500


async def test_a_reached_cap_ends_the_run_gracefully(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """A failed result that explains, no retry, no exception, and one question to the sidecar."""
    key, agent = stack.key(caps=[cap(1900)]), agent_of(calls(("charge", CARD)))
    await agent.run("bill", deps=deps(key=key))
    result = await agent.run("bill", deps=deps(key=key))
    (failed,) = ended(result.all_messages(), "failed")
    assert "usd/day" in failed and "try again: no" in failed
    assert ended(result.all_messages(), "retried") == []
    refused = [event for event in stack.events(key) if event.run_id == result.run_id]
    assert len(refused) == 1


async def test_a_stubborn_model_is_stopped_without_an_exception(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """It asks for too much again and again: the last retry is a final failure."""
    key = stack.key(caps=[cap(1500)])
    result = await agent_of(calls(*[("charge", CARD)] * 3), max_retries=2).run("bill", deps=deps(key=key))
    assert len(ended(result.all_messages(), "retried")) == 2
    assert len(ended(result.all_messages(), "failed")) == 1
    assert stack.simulator.posts() == []


async def test_a_refusal_that_freezes_the_run_is_no_retry(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """The model is told once more to ask for less, then that the run is frozen, which it can't mend."""
    key = stack.key(caps=[cap(1000)], repeated_refusals_max=2)

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "frozen" in str(messages[-1].parts[-1]):
            return ModelResponse(parts=[TextPart(str(returns(messages)[-1].content))])
        return ModelResponse(parts=[ToolCallPart("charge", CARD)])

    result = await agent_of(FunctionModel(model), max_retries=9).run("bill", deps=deps("run-1", key))
    assert [part.outcome for part in returns(result.all_messages())] == ["retried", "failed"]
    assert "try again: no, this run is frozen" in result.output
    assert stack.simulator.posts() == []


async def test_a_billing_key_can_not_refund(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """The failure says what is allowed."""
    key = stack.key("POST /v1/charges")
    result = await agent_of(calls(("refund", {"charge": "ch_1"}))).run("look around", deps=deps(key=key))
    assert "allowed: POST /v1/charges" in result.output
    assert stack.simulator.posts() == []


# --- deps ---------------------------------------------------------------------------


def test_a_raw_stripe_key_is_refused_before_any_run() -> None:
    """When the deps are made."""
    with pytest.raises(ValueError, match="raw Stripe key"):
        VaultDeps(SecretStr(STRIPE_KEY))


async def test_deps_that_two_runs_share_at_once_are_warned_of(
    stack: Stack, deps: Callable[..., VaultDeps]
) -> None:
    """From the second run's first step; runs after another are fine."""
    both = asyncio.Barrier(2)
    agent = Agent(calls(("wait", {})), deps_type=VaultDeps, toolsets=[PaymentToolset()])

    @agent.tool_plain
    async def wait() -> str:
        await both.wait()
        return "waited"

    shared = deps("order-42")
    with pytest.warns(SharedDepsWarning, match="order-42"):
        await asyncio.gather(agent.run("one", deps=shared), agent.run("two", deps=shared))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = agent_of(calls(("charge", CARD)))
        for _ in range(2):
            await quiet.run("bill", deps=shared)


@dataclass
class Own:
    """Deps of an application."""

    vault: VaultDeps


async def test_deps_of_ones_own_may_hold_them(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """The toolset is told where; without that it says what to do."""
    toolset = PaymentToolset[Own](vault=lambda own: own.vault)
    agent = Agent(calls(("charge", CARD)), deps_type=Own, toolsets=[toolset])
    await agent.run("bill", deps=Own(deps()))
    assert stack.simulator.money["charged"] == 1900
    lost: Agent[Own, str] = Agent(calls(("charge", CARD)), deps_type=Own, toolsets=[PaymentToolset[Own]()])
    with pytest.raises(UserError, match="vault=lambda"):
        await lost.run("bill", deps=Own(deps()))


async def test_no_key_is_in_the_message_history(stack: Stack, deps: Callable[..., VaultDeps]) -> None:
    """What leaves the process when the history is stored or sent to a model."""
    key = stack.key()
    agent = agent_of(calls(("charge", CARD), ("refund", {"charge": "ch_1"}), ("charge", {})))
    result = await agent.run("bill", deps=deps(key=key))
    assert key.text.rpartition("_")[2].encode() not in result.all_messages_json()
    assert STRIPE_KEY.encode() not in result.all_messages_json()
