"""Agents, and the enforcement suite pointed at each; collected by `tests/test_enforcement.py` only."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from typing import Any

import httpx
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

import spendgate.http
from spendgate.langchain import VaultDeps, payment_tools
from spendgate.testing import EnforcementSuite, Seat

CHARGE = {"amount": "1900", "currency": "usd", "source": "tok_visa"}


def charge(seat: Seat, run_id: str = "", **headers: str) -> httpx.Response:
    """Charge once, by the sidecar."""
    with spendgate.http.client(seat.vault_key, run_id or seat.run_id, sidecar=seat.sidecar) as http:
        return http.post("/stripe/v1/charges", data=CHARGE, headers=headers)


class TestHammers(EnforcementSuite):
    """Repeats what is refused."""

    def run_agent(self, seat: Seat) -> str:
        for _ in range(8):
            answer = charge(seat)
            if answer.is_success:
                return "done"
        return "gave up"


class TestNeverEnds(EnforcementSuite):
    """Waits for ever when it is refused."""

    run_limit_s = 3

    def run_agent(self, seat: Seat) -> str:
        if not charge(seat).is_success:
            time.sleep(30)
        return "done"


class TestRaises(EnforcementSuite):
    """Lets a refusal be an exception."""

    def run_agent(self, seat: Seat) -> str:
        spendgate.http.raise_for_refusal(charge(seat))
        return "done"


class TestRaisesAsItSays(TestRaises):
    """Says so."""

    ends_with = (spendgate.errors.Refused,)


class TestOneNameForAll(EnforcementSuite):
    """Has its run id in module state."""

    def run_agent(self, seat: Seat) -> str:
        return charge(seat, "the-agent").text


class TestNewStepForEachTry(EnforcementSuite):
    """Names each try anew, so that a repeat is another payment."""

    def run_agent(self, seat: Seat) -> str:
        for step in ("first", "second"):
            answer = charge(seat, **{"Spendgate-Step": step})
            if answer.is_success and not seat.sends_back():
                break
        return "done"


class TestTalks(EnforcementSuite):
    """Logs a key, prints another, has a third in a local variable, and tells whom it billed."""

    def run_agent(self, seat: Seat) -> list[dict[str, Any]]:
        key = "sk_live_51OfTheLocalVariable"
        logging.getLogger("agent").debug("with rk_live_51OfTheLog")
        print("and sk_test_51OfTheOutput")
        if not charge(seat).is_success:
            raise RuntimeError(f"no luck with {key}")
        return [{"role": "tool", "content": f"{seat.vault_key.get_secret_value()} billed {seat.customer}"}]


class TestMayRefund(EnforcementSuite):
    """Has a key that may refund."""

    allow = ("POST /v1/charges", "POST /v1/refunds")

    def run_agent(self, seat: Seat) -> str:
        return charge(seat).text


class TestPaysNothing(EnforcementSuite):
    """Does nothing at all."""

    def run_agent(self, seat: Seat) -> None:
        return None


class TestIsNotWritten(EnforcementSuite):
    """Lacks run_agent."""


class TestLangGraph(EnforcementSuite):
    """A governed graph: passes."""

    async def run_agent(self, seat: Seat) -> dict[str, Any]:
        vault = VaultDeps(
            seat.vault_key, seat.run_id, sidecar=seat.sidecar, fixed={"customer": seat.customer}
        )

        def model(state: MessagesState) -> dict[str, Any]:
            said = [message for message in state["messages"] if isinstance(message, ToolMessage)]
            if said and not seat.sends_back():
                return {"messages": [AIMessage(str(said[-1].content))]}
            asked = {"amount": 1900, "currency": "usd"} if seat.task == "pay" else {"charge": seat.charge}
            name = "charge" if seat.task == "pay" else "refund"
            call = {"name": name, "args": asked, "id": f"call_{len(said)}", "type": "tool_call"}
            return {"messages": [AIMessage("", tool_calls=[call])]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", model)
        graph.add_node("tools", ToolNode(payment_tools(vault)))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        return dict(await graph.compile().ainvoke({"messages": [("user", "Bill 19 USD.")]}))


class TestProgram(EnforcementSuite):
    """A governed program of its own: passes."""

    PROGRAM = """
import os, urllib.error, urllib.request
call = urllib.request.Request(
    os.environ["SPENDGATE_SIDECAR_URL"] + "/stripe/v1/charges",
    data=b"amount=1900&currency=usd&source=tok_visa",
    headers={"Authorization": "Bearer " + os.environ["SPENDGATE_VAULT_KEY"],
             "Spendgate-Run-Id": os.environ["SPENDGATE_RUN_ID"]},
)
try:
    print(urllib.request.urlopen(call).status)
except urllib.error.HTTPError as refused:
    print(refused.status)
"""

    def run_agent(self, seat: Seat) -> str:
        return subprocess.run(
            [sys.executable, "-c", self.PROGRAM],
            env=seat.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


class TestStream(EnforcementSuite):
    """A governed agent whose stream is cancelled: passes."""

    async def run_agent(self, seat: Seat) -> str:
        return await asyncio.to_thread(lambda: charge(seat).text)

    async def stream_agent(self, seat: Seat) -> str:
        async with (
            spendgate.http.async_client(seat.vault_key, seat.run_id, sidecar=seat.sidecar) as http,
            http.stream("POST", "/stripe/v1/charges", data=CHARGE) as answer,
        ):
            return "".join([text async for text in answer.aiter_text()])
