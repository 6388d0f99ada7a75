"""A CrewAI crew that bills, as a program of its own: CrewAI lives in an environment of its own.

It is told what to do in the environment, and prints what its model was told.
"""

import json
import os
from typing import Any, ClassVar

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_TRACING_ENABLED": "false",
}

from crewai import Agent, BaseLLM, Crew, Task

from spendgate.crewai import VaultDeps, payment_tools

ASKED: list[list[Any]] = json.loads(os.environ["CALLS"])
"""Tools with their arguments, one after the other, in each try of the task."""

REJECTIONS = int(os.environ.get("REJECTIONS", "0"))


class Scripted(BaseLLM):
    """Calls the tools in their order, and then is done; sent back, it begins again."""

    asked: int = 0
    heard: ClassVar[list[str]] = []

    def call(self, messages: Any, *_: Any, **__: Any) -> str:
        """Answer in CrewAI's format for models without tool calls."""
        if self.asked % (len(ASKED) + 1) < len(ASKED):
            tool, arguments = ASKED[self.asked % (len(ASKED) + 1)]
            self.asked += 1
            return f"Thought: I work.\nAction: {tool}\nAction Input: {json.dumps(arguments)}"
        self.asked += 1
        own = [str(one["content"]) for one in messages if one["role"] == "assistant"]
        self.heard.extend(
            text.rpartition("Observation:")[2].strip() for text in own if "Observation:" in text
        )
        return "Thought: I am done.\nFinal Answer: done"

    def supports_function_calling(self) -> bool:
        """Tell CrewAI to use its own format."""
        return False


def main() -> None:
    """Kick the crew off once."""
    model, rejected = Scripted(model="fake"), 0
    deps = VaultDeps(
        os.environ["SPENDGATE_VAULT_KEY"],
        os.environ["RUN"],
        sidecar=os.environ["SPENDGATE_SIDECAR_URL"],
        fixed=json.loads(os.environ.get("FIXED", "{}")),
    )

    def guardrail(_output: Any) -> tuple[bool, Any]:
        nonlocal rejected
        rejected += 1
        return (rejected > REJECTIONS, "bill again" if rejected <= REJECTIONS else "billed")

    clerk = Agent(
        role="Billing clerk", goal="Bill", backstory="You bill.", llm=model, tools=payment_tools(deps)
    )
    task = Task(description="Bill 19 USD.", expected_output="done", agent=clerk, guardrail=guardrail)
    Crew(agents=[clerk], tasks=[task]).kickoff()
    print(json.dumps(model.heard))


main()
