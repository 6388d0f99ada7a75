"""A PydanticAI agent that may pay: one run, one payment, within the caps of its vault key.

Run it against `make run`. The model is PydanticAI's own fake, so that it needs
no account; put your own model in its place.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from spendgate.pydantic_ai import PaymentToolset, VaultDeps

SIDECAR = os.environ.get("SPENDGATE_SIDECAR_URL", "http://127.0.0.1:8787")
VAULT_KEY = SecretStr(os.environ.get("SPENDGATE_VAULT_KEY") or Path(".spendgate/demo.key").read_text())


def bills_twice(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Do what models do: call the tool, and once more because the answer is not to their liking."""
    returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    if len(returned) == 2:
        return ModelResponse(parts=[TextPart(str(returned[-1].content))])
    return ModelResponse(
        parts=[ToolCallPart("charge", {"amount": 1900, "currency": "usd", "source": "tok_visa"})]
    )


agent = Agent(
    FunctionModel(bills_twice),
    deps_type=VaultDeps,
    instructions="You bill customers. Amounts are in the currency's smallest unit.",
    toolsets=[PaymentToolset(tools=["charge", "refund"])],
)

if __name__ == "__main__":
    # One VaultDeps for each run. Without a run id it has PydanticAI's own.
    result = agent.run_sync("Bill order 61: 19 USD.", deps=VaultDeps(VAULT_KEY, sidecar=SIDECAR))
    print(result.output)
