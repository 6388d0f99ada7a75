"""The payment tools in LangChain, LangGraph and over MCP, with a real Spendgate."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
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
from mcp.shared.exceptions import MCPError

import spendgate.langchain
import spendgate.mcp
from spendgate.derived_keys import derive_key
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


async def test_a_frozen_run_is_told_as_such(stack: Stack) -> None:
    """The refusal that freezes it says so in LangChain and over MCP, and no longer to ask for less."""
    for number, call_once in enumerate((langchain_charge, mcp_charge)):
        key = stack.key(caps=[cap(1000)], repeated_refusals_max=2)
        deps = deps_of(stack, key, f"run-{number}")
        before, froze, after = [await call_once(deps) for _ in range(3)]
        assert "with at most 10.00 USD" in before
        assert "frozen" not in before
        for said in (froze, after):
            assert "try again: no, this run is frozen; tell the user" in said
    assert stack.simulator.posts() == []


async def langchain_charge(deps: VaultDeps) -> str:
    """What a graph's model is told; as an error."""
    graph = graph_of(deps, ("charge", CARD))
    (message,) = tool_messages(await graph.ainvoke({"messages": [("user", "bill")]}))
    assert message.status == "error"
    return str(message.content)


async def mcp_charge(deps: VaultDeps) -> str:
    """What an MCP client's model is told; as an error."""
    async with Client(spendgate.mcp.stdio_server(deps)) as client:
        refused = await client.call_tool("charge", CARD)
    assert refused.is_error
    return text(refused)


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


def stdio_command(stack: Stack, key: VaultKey, **more: str) -> StdioServerParameters:
    """How an MCP client starts the command: key and run in its environment."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "spendgate.cli", "mcp", "--fixed", "source=tok_visa"],
        env=clean_environment()
        | {"SPENDGATE_VAULT_KEY": key.text, "SPENDGATE_SIDECAR_URL": stack.origin().removesuffix("/stripe")}
        | more,
    )


async def test_the_command_serves_stdio(stack: Stack) -> None:
    """As an MCP client starts it: key and run from the environment, and nothing but messages on stdout."""
    key = stack.key()
    parameters = stdio_command(stack, key, SPENDGATE_RUN_ID="order-42")
    async with Client(parameters) as client:
        paid = await client.call_tool("charge", {"amount": 1900, "currency": "usd"})
        assert "id: ch_" in text(paid)
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"order-42"}


async def test_a_restarted_stdio_server_continues_its_run(stack: Stack) -> None:
    """With the same setting; the answer to the first payment was lost with the first server."""
    named = stdio_command(stack, stack.key(), SPENDGATE_RUN_ID="order-42")
    for _ in range(2):
        async with Client(named) as client:
            paid = await client.call_tool("charge", {"amount": 1900, "currency": "usd"})
            assert not paid.is_error, text(paid)
    assert stack.simulator.money["charged"] == 1900


def test_a_stdio_server_says_which_run_it_made_up(stack: Stack) -> None:
    """So that a restart can continue it."""
    parameters = stdio_command(stack, stack.key())
    started = subprocess.run(
        [parameters.command, *parameters.args],
        env=parameters.env,
        input="",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.search(r"set SPENDGATE_RUN_ID=[0-9a-f-]{36} to continue it", started.stderr), started.stderr
    assert started.stdout == ""


AWAY = "http://127.0.0.1:1"
"""Where no sidecar is."""


def test_a_stdio_server_without_a_sidecar_says_so_at_once(stack: Stack) -> None:
    """On standard error, which MCP clients keep in their log; it serves all the same."""
    parameters = stdio_command(stack, stack.key(), SPENDGATE_RUN_ID="order-42", SPENDGATE_SIDECAR_URL=AWAY)
    started = subprocess.run(
        [parameters.command, *parameters.args],
        env=parameters.env,
        input="",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"{AWAY} does not answer" in started.stderr
    assert "start the sidecar with 'spendgate up'" in started.stderr
    assert "SPENDGATE_SIDECAR_URL" in started.stderr
    assert started.stdout == ""


def test_an_http_server_without_a_sidecar_says_so_at_once(tmp_path: Path) -> None:
    """And listens: it works as soon as the sidecar does."""
    port = free_port()
    process = Process(
        "mcp",
        [sys.executable, "-m", "spendgate.cli", "mcp", "--port", str(port), "--sidecar-url", AWAY],
        folder=tmp_path,
        ready=lambda process: answers(port),
    )
    with process:
        assert f"{AWAY} does not answer" in process.log
        assert "start the sidecar with 'spendgate up'" in process.log


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


async def test_over_http_key_and_run_are_needed(stack: Stack, http_mcp: str) -> None:
    """No key, a raw one, no name of a run; the error says what to set, before any tool is seen."""
    key = {"Authorization": f"Bearer {stack.key().text}"}
    for headers, told in (
        ({}, "vault key"),
        ({"Authorization": "Bearer sk_test_1"}, "raw Stripe key"),
        (key, "Spendgate-Run-Id: order-42"),
        ({**key, "Spendgate-Run-Id": ""}, "Spendgate-Run-Id: order-42"),
    ):
        refused = pytest.RaisesExc(MCPError, match=told)
        with pytest.RaisesGroup(refused, allow_unwrapped=True, flatten_subgroups=True):
            async with mcp_client(http_mcp, **headers):
                pass
    assert stack.simulator.posts() == []


class Session:
    """A session over HTTP of an MCP client that has them, to send what no client of the SDK would."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: dict[str, str] = {}
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def begin(self, key: VaultKey, *runs: str) -> str:
        """Open the session; returns what the server said."""
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        answer = await self._send(key, runs, "initialize", hello)
        self._session = {"Mcp-Session-Id": answer.headers.get("Mcp-Session-Id", "")}
        await self._send(key, runs, "notifications/initialized", {}, answered=False)
        return answer.text

    async def charge(self, key: VaultKey, *runs: str) -> str:
        """Call the tool with a key, in the runs named; returns what the server said."""
        return (await self._send(key, runs, "tools/call", {"name": "charge", "arguments": CARD})).text

    async def _send(
        self, key: VaultKey, runs: Sequence[str], method: str, params: Any, *, answered: bool = True
    ) -> httpx.Response:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        headers = [
            ("Authorization", f"Bearer {key.text}"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2025-06-18"),
            *(("Spendgate-Run-Id", run) for run in runs),
            *self._session.items(),
        ]
        number = {"id": next(self._numbers)} if answered else {}
        return await self._http.post(self._url, json=message | number, headers=headers)


async def test_over_http_a_new_session_continues_the_run(stack: Stack, http_mcp: str) -> None:
    """The run is the caller's: a client that lost its connection, or the answer, asks again and pays once."""
    key = stack.key()
    for _ in range(2):
        async with Session(http_mcp) as session:
            await session.begin(key, "order-42")
            assert "id: ch_" in await session.charge(key, "order-42")
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"order-42"}
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.parametrize("runs", [(), ("order-42", "order-43")])
async def test_over_http_no_session_names_a_run(stack: Stack, http_mcp: str, runs: Sequence[str]) -> None:
    """A new session would be a new run, and pay again; and of two names nobody says which one is meant."""
    async with Session(http_mcp) as session:
        assert "Spendgate-Run-Id: order-42" in await session.begin(stack.key(), *runs)
    assert stack.simulator.posts() == []


async def test_over_http_a_session_keeps_its_key_and_run(stack: Stack, http_mcp: str) -> None:
    """A call with another key, or in another run, is refused, and the session goes on for whose it is."""
    key, other = stack.key(), stack.key()
    async with Session(http_mcp) as session:
        await session.begin(key, "order-42")
        for refused in (
            await session.charge(other, "order-42"),
            await session.charge(key, "order-43"),
            await session.charge(key),
        ):
            assert "began with another vault key or run" in refused
        assert stack.simulator.posts() == []
        assert "id: ch_" in await session.charge(key, "order-42")
    assert stack.simulator.money["charged"] == 1900


async def test_a_key_for_a_run_names_it(stack: Stack, http_mcp: str) -> None:
    """A derived key for one run needs no header, as the sidecar needs none."""
    derived = derive_key(stack.key().text, run_id="order-42")
    async with mcp_client(http_mcp, Authorization=f"Bearer {derived}") as client:
        assert len((await client.list_tools()).tools) == 3
        paid = await client.call_tool("charge", CARD)
        assert not paid.is_error, text(paid)
    assert stack.simulator.money["charged"] == 1900
