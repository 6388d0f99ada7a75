"""A LangGraph agent that may pay: one run, one payment, within the caps of its vault key.

Run it against `make run`. The model is a function, so that it needs no account;
put your own model in its place: `model.bind_tools(tools)`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from spendgate.langchain import VaultDeps, payment_tools

SIDECAR = os.environ.get("SPENDGATE_SIDECAR_URL", "http://127.0.0.1:8787")
VAULT_KEY = os.environ.get("SPENDGATE_VAULT_KEY") or Path(".spendgate/demo.key").read_text()
CHARGE = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


def bills_twice(state: MessagesState) -> dict[str, Any]:
    """Do what models do: call the tool, and once more because the answer is not to their liking."""
    said = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    if len(said) == 2:
        return {"messages": [AIMessage(str(said[-1].content))]}
    call = {"name": "charge", "args": CHARGE, "id": f"call_{len(said)}", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def bill(order: str) -> str:
    """Run the agent for one order; the order names the run, so that a second start pays nothing again."""
    tools = payment_tools(VaultDeps(VAULT_KEY, order, sidecar=SIDECAR), tools=["charge", "refund"])
    graph = StateGraph(MessagesState)
    graph.add_node("model", bills_twice)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    state = graph.compile().invoke({"messages": [HumanMessage(f"Bill {order}: 19 USD.")]})
    return str(state["messages"][-1].content)


if __name__ == "__main__":
    print(bill("order-62"))
