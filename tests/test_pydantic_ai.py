"""The three failures that agent frameworks cause, with and without Spendgate.

The agent is written as a blog post would: a tool that posts with httpx, and a
model that does what models do, played by PydanticAI's own FunctionModel.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.stack import STRIPE_KEY, Stack, cap


@dataclass
class Deps:
    """What one run of the agent is given."""

    http: httpx.AsyncClient
    run_id: str
    governed: bool
    """Stripe itself refuses the form field by which Spendgate names the effect."""

    async def post(self, path: str, what: str, **form: str) -> httpx.Response:
        """Post a form, as the blog post does it."""
        if self.governed:
            form["idempotency_key"] = f"{self.run_id}-{what}"
        return await self.http.post(path, data=form)


def retry_on_refusal(answer: httpx.Response) -> None:
    """Let the model know that it was refused."""
    if answer.status_code in {403, 429}:
        raise ModelRetry(answer.json()["error"]["message"])


def calls_a_tool_again_after_each_retry(tool: str) -> FunctionModel:
    """A model that calls ``tool``, again whenever it is told to retry, and then says that it is done."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart) and last.outcome == "success":
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(tool, {})])

    return FunctionModel(model)


def flaky_agent() -> Agent[Deps, str]:
    """An agent whose tool asks the model to retry after the charge has gone through."""
    agent = Agent(calls_a_tool_again_after_each_retry("charge"), deps_type=Deps, retries=3)
    tried = []

    @agent.tool
    async def charge(ctx: RunContext[Deps]) -> str:
        answer = await ctx.deps.post(
            "/v1/charges", "charge", amount="1900", currency="usd", source="tok_visa"
        )
        retry_on_refusal(answer)
        tried.append(answer.json()["id"])
        if len(tried) == 1:
            raise ModelRetry("the receipt could not be read, try again")
        return f"charged {answer.json()['id']}"

    return agent


def unsure_agent() -> Agent[Deps, str]:
    """An agent whose output validator sends the model back once, which calls the tool again."""
    agent = Agent(calls_a_tool_again_after_each_retry("charge"), deps_type=Deps, retries=3)
    seen = []

    @agent.tool
    async def charge(ctx: RunContext[Deps]) -> str:
        answer = await ctx.deps.post(
            "/v1/charges", "charge", amount="1900", currency="usd", source="tok_visa"
        )
        retry_on_refusal(answer)
        return f"charged {answer.json()['id']}"

    @agent.output_validator
    def must_be_a_receipt(ctx: RunContext[Deps], output: str) -> str:
        seen.append(output)
        if len(seen) == 1:
            raise ModelRetry("the answer must name the charge")
        return output

    return agent


def curious_agent() -> Agent[Deps, str]:
    """A billing agent that finds that it can refund as well."""
    agent = Agent(calls_a_tool_again_after_each_retry("refund"), deps_type=Deps, retries=2)

    @agent.tool
    async def refund(ctx: RunContext[Deps]) -> str:
        made = await ctx.deps.http.get("/v1/charges")
        answer = await ctx.deps.post("/v1/refunds", "refund", charge=made.json()["data"][0]["id"])
        retry_on_refusal(answer)
        return f"refunded {answer.json()['id']}"

    return agent


@pytest.fixture
async def ungoverned(stack: Stack) -> AsyncIterator[Deps]:
    """A run that holds the real key and talks to Stripe directly."""
    headers = {"Authorization": f"Bearer {STRIPE_KEY}"}
    async with httpx.AsyncClient(base_url=stack.simulator.origin, headers=headers) as http:
        yield Deps(http, str(uuid.uuid4()), governed=False)


@pytest.fixture
async def governed(stack: Stack) -> AsyncIterator[Deps]:
    """A run that holds a billing vault key: charges up to 100 USD a day, and reads."""
    key = stack.key("POST /v1/charges", "GET /v1/*", caps=[cap(10_000)])
    headers = {"Authorization": f"Bearer {key.text}"}
    async with httpx.AsyncClient(base_url=stack.origin(), headers=headers) as http:
        yield Deps(http, str(uuid.uuid4()), governed=True)


async def test_a_retried_tool_charges_twice_without_spendgate(stack: Stack, ungoverned: Deps) -> None:
    """ModelRetry after a charge runs the tool again: two charges."""
    await flaky_agent().run("bill the customer", deps=ungoverned)
    assert stack.simulator.money["charged"] == 3800


async def test_a_retried_tool_charges_once_with_spendgate(stack: Stack, governed: Deps) -> None:
    """The same agent through the sidecar: one charge, and the tool is told its id both times."""
    result = await flaky_agent().run("bill the customer", deps=governed)
    assert result.output == "done"
    assert stack.simulator.money["charged"] == 1900
    assert len(stack.simulator.executed()) == 1


async def test_a_validation_loop_charges_twice_without_spendgate(stack: Stack, ungoverned: Deps) -> None:
    """A failing output validator makes the model call the tool again: two charges."""
    await unsure_agent().run("bill the customer", deps=ungoverned)
    assert stack.simulator.money["charged"] == 3800


async def test_a_validation_loop_charges_once_with_spendgate(stack: Stack, governed: Deps) -> None:
    """The same loop through the sidecar: one charge."""
    await unsure_agent().run("bill the customer", deps=governed)
    assert stack.simulator.money["charged"] == 1900


async def test_a_shared_key_refunds_without_spendgate(stack: Stack, ungoverned: Deps) -> None:
    """A billing agent with the real key can refund whatever it finds."""
    await ungoverned.post("/v1/charges", "charge", amount="1900", currency="usd", source="tok_visa")
    await curious_agent().run("look around", deps=ungoverned)
    assert stack.simulator.money["refunded"] == 1900


async def test_a_billing_key_can_not_refund_with_spendgate(stack: Stack, governed: Deps) -> None:
    """The same agent through the sidecar: every try is refused with 403 and nothing is refunded."""
    await governed.post("/v1/charges", "charge", amount="1900", currency="usd", source="tok_visa")
    with pytest.raises(UnexpectedModelBehavior, match="refund"):
        await curious_agent().run("look around", deps=governed)
    assert stack.simulator.money["refunded"] == 0
    assert stack.simulator.posts("/v1/refunds") == []


async def test_a_reached_cap_reaches_the_model_as_a_sentence(stack: Stack, governed: Deps) -> None:
    """429 becomes a ModelRetry that says what is left and when it resets."""
    await governed.http.post(
        "/v1/charges",
        data={"amount": "9000", "currency": "usd", "source": "tok_visa"},
        headers={"Spendgate-Run-Id": "earlier"},
    )
    with pytest.raises(UnexpectedModelBehavior) as ended:
        await flaky_agent().run("bill the customer", deps=governed)
    assert isinstance(ended.value.__cause__, ModelRetry)
    assert "1000 of 10000 left" in ended.value.__cause__.message
    assert stack.simulator.money["charged"] == 9000
