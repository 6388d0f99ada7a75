"""NAIVE, not to be copied: a billing agent and a support agent that share one key of Stripe.

What goes wrong: the key can refund, so the billing agent can. Its model finds a way.
The twin is `shared_key_governed.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
from pydantic_ai import Agent, RunContext
from pydantic_ai.models import Model


@dataclass
class Stripe:
    """Stripe, for every agent of the company."""

    origin: str
    secret_key: str = field(repr=False)

    async def post(self, path: str, form: dict[str, str]) -> str:
        """Post a form; return the answer."""
        headers = {"Authorization": f"Bearer {self.secret_key}"}
        async with httpx.AsyncClient(base_url=self.origin, headers=headers) as http:
            return (await http.post(path, data=form)).text


billing = Agent(deps_type=Stripe, instructions="You bill customers.", defer_model_check=True)
support = Agent(deps_type=Stripe, instructions="You help customers, and refund.", defer_model_check=True)


@billing.tool
@support.tool
async def stripe_post(ctx: RunContext[Stripe], path: str, form: dict[str, str]) -> str:
    """Post a form to Stripe."""
    return await ctx.deps.post(path, form)


async def bill(task: str, *, model: Model, stripe: Stripe) -> bytes:
    """Run the billing agent; return its messages."""
    return (await billing.run(task, model=model, deps=stripe)).all_messages_json()
