"""The twin of `validation_loop.py`: the same validator, with Spendgate's tools.

However often the model is sent back, the run has paid once, and its tool says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model

from spendgate.pydantic_ai import PaymentToolset, VaultDeps


@dataclass
class Deps:
    """What a run is given."""

    vault: VaultDeps
    accepts: Callable[[str], bool]


clerk = Agent(
    deps_type=Deps,
    instructions="You bill customers.",
    toolsets=[PaymentToolset[Deps](tools=["charge"], vault=lambda deps: deps.vault)],
    defer_model_check=True,
    retries=3,
)


@clerk.output_validator
def must_be_a_receipt(ctx: RunContext[Deps], answer: str) -> str:
    """Send the model back when its answer is no receipt."""
    if not ctx.deps.accepts(answer):
        raise ModelRetry("this is no receipt, do it again")
    return answer


async def bill(task: str, *, model: Model, deps: Deps) -> bytes:
    """Run the agent; return its messages."""
    return (await clerk.run(task, model=model, deps=deps)).all_messages_json()
