"""Payment tools for LangChain and LangGraph. Needs ``spendgate[langchain]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from spendgate.payment_tools import RunTools, ToolAnswer
from spendgate.vault_deps import VaultDeps

__all__ = ["VaultDeps", "payment_tools"]


def payment_tools(deps: VaultDeps, *, tools: Sequence[str] | None = None) -> list[BaseTool]:
    """Return the tools ``charge``, ``create_payment_intent`` and ``refund`` of one run, or those named.

    Make them for each run, with its own ``deps``: they carry its key and its
    name. LangChain has no run id that outlives a crash, so ``deps`` must have one;
    raises `ValueError` without. A failure is a result with the status ``error``,
    whose text says whether asking again can help.
    """
    run = RunTools(deps, offered=tools)
    return [_tool(run, name) for name in run.tools]


def _tool(run: RunTools, name: str) -> BaseTool:
    def call(**arguments: Any) -> str:
        return _text(run.call_sync(name, arguments))

    async def acall(**arguments: Any) -> str:
        return _text(await run.call(name, arguments))

    tool = run.tools[name]
    return StructuredTool(
        name=name,
        description=tool.description,
        # A schema, and no model: the arguments are checked where the call is made, for all frameworks alike.
        args_schema=tool.schema(run.deps),
        func=call,
        coroutine=acall,
        handle_tool_error=True,
    )


def _text(answer: ToolAnswer) -> str:
    if not answer.done:
        raise ToolException(answer.text)
    return answer.text
