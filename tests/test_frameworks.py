"""The payment tools in LangChain, LangGraph and over MCP, with a real Spendgate."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import httpx
import httpx2
import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import spendgate.langchain
import spendgate.mcp
from spendgate.vault_deps import VaultDeps
from tests.processes import Process, clean_environment
from tests.stack import Stack, VaultKey, cap
from tests.test_cli import free_port

CARD: dict[str, Any] = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


def deps_of(stack: Stack, key: VaultKey, run_id: str = "run-1", **more: Any) -> VaultDeps:
    """What a run is given."""
    return VaultDeps(key.text, run_id, sidecar=stack.origin().removesuffix("/stripe"), **more)


# --- LangChain and LangGraph --------------------------------------------------------


def call(name: str, arguments: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A tool call of a model; its id is another one each time."""
    return {"name": name, "args": dict(arguments), "id": f"call_{number}", "type": "tool_call"}


class State(TypedDict):
    """What a graph keeps."""

    messages: Annotated[list[AnyMessage], add_messages]


def graph_of(deps: VaultDeps, *turns: tuple[str, Mapping[str, Any]], saver: Any = None) -> Any:
    """An agent that calls tools turn by turn, as a model would, and then is done."""

    def model(state: State) -> dict[str, Any]:
        done = sum(isinstance(message, ToolMessage) for message in state["messages"])
        if done == len(turns):
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage("", tool_calls=[call(*turns[done], done)])]}

    graph = StateGraph(State)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode(spendgate.langchain.payment_tools(deps)))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


def tool_messages(state: Mapping[str, Any]) -> list[ToolMessage]:
    """What the tools said."""
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_that_calls_again_pays_once(stack: Stack, asynchronous: bool) -> None:
    """With new call ids, sync and async."""
    graph = graph_of(deps_of(stack, stack.key()), ("charge", CARD), ("charge", CARD))
    begin: Any = {"messages": [("user", "bill")]}
    state = await graph.ainvoke(begin) if asynchronous else await asyncio.to_thread(graph.invoke, begin)
    first, again = tool_messages(state)
    assert (first.status, again.status) == ("success", "success")
    assert "done before in this run" in str(again.content)
    assert stack.simulator.money["charged"] == 1900


async def test_a_graph_resumed_from_its_checkpoint_pays_once(stack: Stack) -> None:
    """Killed after the charge and before its result was stored; the run id is kept with the thread."""
    key, saver = stack.key(), InMemorySaver()
    config: Any = {"configurable": {"thread_id": "order-42"}}
    lost = graph_of(deps_of(stack, key, "order-42"), ("charge", CARD), saver=saver)
    await lost.ainvoke({"messages": [("user", "bill")]}, config, interrupt_before=["tools"])
    # The tool ran, and the process died before the graph went on.
    tool = spendgate.langchain.payment_tools(deps_of(stack, key, "order-42"), tools=["charge"])[0]
    await tool.ainvoke(CARD)
    resumed = graph_of(deps_of(stack, key, "order-42"), ("charge", CARD), saver=saver)
    state = await resumed.ainvoke(None, config)
    assert "done before in this run" in str(tool_messages(state)[0].content)
    assert stack.simulator.money["charged"] == 1900


async def test_a_refusal_is_a_result_with_an_error(stack: Stack) -> None:
    """The graph goes on, and the model reads why."""
    graph = graph_of(deps_of(stack, stack.key(caps=[cap(1000)])), ("charge", CARD), ("charge", {"amount": 1}))
    state = await graph.ainvoke({"messages": [("user", "bill")]})
    capped, malformed = tool_messages(state)
    assert (capped.status, malformed.status) == ("error", "error")
    assert "with at most 10.00 USD" in str(capped.content)
    assert "currency: Field required" in str(malformed.content)
    assert stack.simulator.posts() == []


def test_langchain_tools_need_a_run(stack: Stack) -> None:
    """They are made for one."""
    with pytest.raises(ValueError, match="name the run"):
        spendgate.langchain.payment_tools(deps_of(stack, stack.key(), ""))


# --- MCP ------------------------------------------------------------------------------


def text(result: Any) -> str:
    """What a tool said."""
    return "\n".join(part.text for part in result.content)


async def test_mcp_offers_what_the_key_may_call(stack: Stack) -> None:
    """A billing key has no refund; calling it all the same is refused by the sidecar, and explained."""
    key = stack.key("POST /v1/charges", "GET /v1/*")
    server = spendgate.mcp.stdio_server(deps_of(stack, key))
    async with Client(server) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["charge"]
        assert tools[0].input_schema["properties"]["amount"]["type"] == "integer"
        refused = await client.call_tool("refund", {"charge": "ch_1"})
        assert refused.is_error
        assert "allowed: POST /v1/charges, GET /v1/*" in text(refused)


async def test_mcp_follows_the_policy_as_it_changes(stack: Stack) -> None:
    """A revoked key lists nothing, and says why."""
    key = stack.key()
    async with Client(spendgate.mcp.stdio_server(deps_of(stack, key))) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["charge", "create_payment_intent", "refund"]
        stack.revoke(key)
        with pytest.raises(Exception, match="revoked"):
            await client.list_tools()


async def test_mcp_pays_once_for_each_purpose(stack: Stack) -> None:
    """As every framework's tools do."""
    server = spendgate.mcp.stdio_server(deps_of(stack, stack.key(), purposes=("deposit", "balance")))
    async with Client(server) as client:
        for _ in range(2):
            for purpose in ("deposit", "balance"):
                paid = await client.call_tool("charge", {**CARD, "purpose": purpose})
                assert not paid.is_error, text(paid)
    assert stack.simulator.money["charged"] == 3800


async def test_the_command_serves_stdio(stack: Stack) -> None:
    """As an MCP client starts it: key and run from the environment, and nothing but messages on stdout."""
    key = stack.key()
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "spendgate.cli", "mcp", "--fixed", "source=tok_visa"],
        env=clean_environment()
        | {
            "SPENDGATE_VAULT_KEY": key.text,
            "SPENDGATE_RUN_ID": "order-42",
            "SPENDGATE_SIDECAR_URL": stack.origin().removesuffix("/stripe"),
        },
    )
    async with Client(parameters) as client:
        paid = await client.call_tool("charge", {"amount": 1900, "currency": "usd"})
        assert "id: ch_" in text(paid)
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"order-42"}


@pytest.fixture
def http_mcp(stack: Stack, tmp_path: Any) -> Iterator[str]:
    """Where the command serves streamable HTTP."""
    port = free_port()
    process = Process(
        "mcp",
        [
            *(sys.executable, "-m", "spendgate.cli", "mcp", "--port", str(port)),
            *("--sidecar-url", stack.origin().removesuffix("/stripe")),
        ],
        folder=tmp_path,
        ready=lambda process: answers(port),
    )
    with process:
        yield f"http://127.0.0.1:{port}/mcp"


def answers(port: int) -> bool:
    """Whether somebody listens."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return False
    return True


@asynccontextmanager
async def mcp_client(url: str, **headers: str) -> AsyncIterator[Client]:
    """An MCP client with its headers."""
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


async def test_the_command_serves_many_clients_over_http(stack: Stack, http_mcp: str) -> None:
    """Each with its own key and run; one server holds none of them."""
    keys = [stack.key(), stack.key("POST /v1/charges")]
    for key in keys:
        for _ in range(2):
            headers = {"Authorization": f"Bearer {key.text}", "Spendgate-Run-Id": "order-42"}
            async with mcp_client(http_mcp, **headers) as client:
                assert not (await client.call_tool("charge", CARD)).is_error
                assert len((await client.list_tools()).tools) == (3 if key is keys[0] else 1)
    assert stack.simulator.money["charged"] == 3800


async def test_over_http_a_key_is_needed(stack: Stack, http_mcp: str) -> None:
    """None, a raw one, and no run where there is no session."""
    for headers in ({}, {"Authorization": "Bearer sk_test_1"}):
        async with mcp_client(http_mcp, **headers) as client:
            with pytest.raises(Exception, match=r"vault key|raw Stripe key"):
                await client.call_tool("charge", CARD)
    assert stack.simulator.posts() == []


async def test_over_http_a_session_is_a_run(stack: Stack, http_mcp: str) -> None:
    """Of a client that has one and names no run."""
    key = stack.key()
    headers = {
        "Authorization": f"Bearer {key.text}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    call = {"name": "charge", "arguments": CARD}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:

        async def send(method: str, params: Mapping[str, Any], number: int | None, **more: str) -> Any:
            message = {"jsonrpc": "2.0", "method": method, "params": params}
            named = message if number is None else {**message, "id": number}
            return await http.post(http_mcp, json=named, headers=more)

        session = (await send("initialize", hello, 1)).headers["Mcp-Session-Id"]
        await send("notifications/initialized", {}, None, **{"Mcp-Session-Id": session})
        for number in (2, 3):
            said = await send("tools/call", call, number, **{"Mcp-Session-Id": session})
            assert "id: ch_" in said.text
    assert {event.run_id for event in stack.events(key) if event.run_id} == {session}
    assert stack.simulator.money["charged"] == 1900
