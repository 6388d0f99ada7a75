"""A CrewAI crew that may pay: one kickoff, one payment, within the caps of its vault key.

Run it against `make run`. The model is a class, so that it needs no account; put
your own model in its place.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# The example talks to nobody but Spendgate.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import Agent, BaseLLM, Crew, Task

from spendgate.crewai import VaultDeps, payment_tools

SIDECAR = os.environ.get("SPENDGATE_SIDECAR_URL", "http://127.0.0.1:8787")
VAULT_KEY = os.environ.get("SPENDGATE_VAULT_KEY") or Path(".spendgate/demo.key").read_text()
CHARGE = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


class BillsTwice(BaseLLM):
    """Does what models do: calls the tool, and once more because the answer is not to its liking."""

    asked: int = 0

    def call(self, messages: Any, *_: Any, **__: Any) -> str:
        """Answer in CrewAI's format for models without tool calls."""
        self.asked += 1
        if self.asked <= 2:
            asked = CHARGE if self.asked == 1 else {**CHARGE, "description": "The same, in other words"}
            return f"Thought: I bill the customer.\nAction: charge\nAction Input: {json.dumps(asked)}"
        observed = [str(one["content"]) for one in messages if "Observation:" in str(one["content"])]
        said = [text.rpartition("Observation:")[2].strip() for text in observed]
        return "Thought: I am done.\nFinal Answer: " + "\n".join(said)

    def supports_function_calling(self) -> bool:
        """Tell CrewAI to use its own format."""
        return False


def bill(order: str) -> str:
    """Kick off the crew for one order; the order names the run, so that a second start pays nothing again."""
    clerk = Agent(
        role="Billing clerk",
        goal="Bill customers",
        backstory="You bill customers. Amounts are in the currency's smallest unit.",
        llm=BillsTwice(model="fake"),
        tools=payment_tools(VaultDeps(VAULT_KEY, order, sidecar=SIDECAR), tools=["charge", "refund"]),
    )
    task = Task(description=f"Bill {order}: 19 USD.", expected_output="The id of the charge", agent=clerk)
    return str(Crew(agents=[clerk], tasks=[task]).kickoff())


if __name__ == "__main__":
    print(bill("order-64"))
