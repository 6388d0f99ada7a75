"""Payment tools for PydanticAI agents. Needs ``spendgate[pydantic-ai]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self, cast

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelRetry, ToolFailed, UserError
from pydantic_ai.tools import AgentDepsT, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from spendgate.payment_tools import RunTools
from spendgate.vault_deps import SharedDepsWarning, VaultDeps

__all__ = ["PaymentToolset", "SharedDepsWarning", "VaultDeps"]

# The arguments are checked where the call is made, for all frameworks alike.
_ANYTHING = SchemaValidator(core_schema.any_schema())


class PaymentToolset(AbstractToolset[AgentDepsT]):
    """The tools ``charge``, ``create_payment_intent`` and ``refund``, for the run that calls them.

    Give it to an agent, and a `VaultDeps` to each run as ``deps``. A refusal is a
    `ModelRetry` only where the model can help by asking otherwise, such as for
    less; any other failure is a final, explained `ToolFailed`.
    """

    def __init__(
        self,
        *,
        tools: Sequence[str] | None = None,
        vault: Callable[[AgentDepsT], VaultDeps] | None = None,
        max_retries: int = 2,
        id: str | None = "spendgate",
    ) -> None:
        """Offer the ``tools`` named, else all.

        ``vault`` finds the `VaultDeps` in deps of your own. ``max_retries`` is how
        often in a row the model may correct a call.
        """
        self._offered = tools
        self._vault = vault
        self._max_retries = max_retries
        self._id = id

    @property
    def id(self) -> str | None:
        """The toolset's id, as durable execution wants it."""
        return self._id

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        """Return the toolset of one run, which takes note that the run uses its deps."""
        return _RunToolset(self, self._deps(ctx), ctx.run_id)

    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        """List the tools, with the run's purposes and without what is fixed."""
        run = self._run(ctx)
        return {
            tool.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=tool.name,
                    description=tool.description,
                    parameters_json_schema=tool.schema(run.deps),
                    metadata={"endpoint": tool.endpoint},
                ),
                max_retries=self._max_retries,
                args_validator=_ANYTHING,
            )
            for tool in run.tools.values()
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> str:
        """Make the call. A cancelled call goes on at the sidecar, and the same run finds it there."""
        answer = await self._run(ctx).call(name, tool_args)
        if answer.done:
            return answer.text
        if answer.again and not ctx.last_attempt:
            raise ModelRetry(answer.text)
        raise ToolFailed(answer.text)

    def _run(self, ctx: RunContext[AgentDepsT]) -> RunTools:
        try:
            return RunTools(self._deps(ctx), ctx.run_id or "", self._offered)
        except ValueError as error:
            raise UserError(str(error)) from None

    def _deps(self, ctx: RunContext[AgentDepsT]) -> VaultDeps:
        deps = cast(Any, ctx.deps) if self._vault is None else self._vault(ctx.deps)
        if not isinstance(deps, VaultDeps):
            raise UserError(
                "give the run a VaultDeps: agent.run(…, deps=VaultDeps(vault_key)), or tell the toolset "
                "where it is in your own deps: PaymentToolset(vault=lambda deps: deps.vault)"
            )
        return deps


class _RunToolset(PaymentToolset[AgentDepsT]):
    """The toolset while one run lasts."""

    def __init__(self, base: PaymentToolset[AgentDepsT], deps: VaultDeps, run: object) -> None:
        super().__init__(tools=base._offered, vault=base._vault, max_retries=base._max_retries, id=base._id)
        self._run_deps = deps
        self._run_name = run
        self._used = ExitStack()

    async def __aenter__(self) -> Self:
        self._used.enter_context(self._run_deps.used_by(self._run_name))
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._used.close()
