"""NAIVE, not to be copied: an agent whose answer is validated after it has paid.

What goes wrong: a rejected answer sends the model back, the model calls its tool
again, and the customer is charged again. The twin is `validation_loop_governed.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model


@dataclass
class Deps:
    """What a run is given."""

    stripe: str
    customer: str
    accepts: Callable[[str], bool]
    secret_key: str = field(repr=False)


clerk = Agent(deps_type=Deps, instructions="You bill customers.", defer_model_check=True, retries=3)


@clerk.tool
async def charge(ctx: RunContext[Deps], amount: int) -> str:
    """Charge the customer, in cents."""
    headers = {"Authorization": f"Bearer {ctx.deps.secret_key}"}
    form = {"amount": amount, "currency": "usd", "customer": ctx.deps.customer}
    async with httpx.AsyncClient(base_url=ctx.deps.stripe, headers=headers) as http:
        return (await http.post("/v1/charges", data=form)).text


@clerk.output_validator
def must_be_a_receipt(ctx: RunContext[Deps], answer: str) -> str:
    """Send the model back when its answer is no receipt."""
    if not ctx.deps.accepts(answer):
        raise ModelRetry("this is no receipt, do it again")
    return answer


async def bill(task: str, *, model: Model, deps: Deps) -> bytes:
    """Run the agent; return its messages."""
    return (await clerk.run(task, model=model, deps=deps)).all_messages_json()
