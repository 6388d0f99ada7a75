"""The twin of `shared_key.py`: each agent has a vault key of its own, and none has a key of Stripe.

The billing agent's key may charge and read. That its tools offer a refund changes
nothing: the sidecar refuses it.
"""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.models import Model

from spendgate.pydantic_ai import PaymentToolset, VaultDeps

billing = Agent(
    deps_type=VaultDeps,
    instructions="You bill customers.",
    toolsets=[PaymentToolset()],
    defer_model_check=True,
)
support = Agent(
    deps_type=VaultDeps,
    instructions="You help customers, and refund.",
    toolsets=[PaymentToolset(tools=["refund"])],
    defer_model_check=True,
)


async def bill(task: str, *, model: Model, vault: VaultDeps) -> bytes:
    """Run the billing agent; return its messages."""
    return (await billing.run(task, model=model, deps=vault)).all_messages_json()
