"""Payment tools for CrewAI. Needs ``spendgate[crewai]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crewai.tools import BaseTool
from pydantic import PrivateAttr

from spendgate.payment_tools import RunTools
from spendgate.vault_deps import VaultDeps

__all__ = ["VaultDeps", "payment_tools"]


def payment_tools(deps: VaultDeps, *, tools: Sequence[str] | None = None) -> list[BaseTool]:
    """Return the tools ``charge``, ``create_payment_intent`` and ``refund`` of one kickoff, or those named.

    Make them for each kickoff, with its own ``deps``, which must name the run;
    raises `ValueError` without. A failure is a text that says whether asking
    again can help: an exception would make CrewAI call the tool again by itself.
    """
    run = RunTools(deps, offered=tools)
    return [_Tool.of(run, name) for name in run.tools]


def _never(*_: object) -> bool:
    return False


class _Tool(BaseTool):  # type: ignore[misc, unused-ignore]
    _run_tools: RunTools = PrivateAttr()

    @classmethod
    def of(cls, run: RunTools, name: str) -> _Tool:
        tool = run.tools[name]
        made = cls(
            name=name,
            description=tool.description,
            args_schema=tool.arguments(run.deps),
            # Spendgate knows what was done before, also in another process.
            cache_function=_never,
        )
        made._run_tools = run
        return made

    def _run(self, **arguments: Any) -> str:
        return self._run_tools.call_sync(self.name, arguments).text

    async def _arun(self, **arguments: Any) -> str:
        return (await self._run_tools.call(self.name, arguments)).text
