"""An MCP client that starts `spendgate mcp` and pays with its tools, as any MCP client does.

Run it against `make run`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import TextContent

SIDECAR = os.environ.get("SPENDGATE_SIDECAR_URL", "http://127.0.0.1:8787")
VAULT_KEY = os.environ.get("SPENDGATE_VAULT_KEY") or Path(".spendgate/demo.key").read_text().strip()

SERVER = StdioServerParameters(
    command=sys.executable,
    args=["-m", "spendgate.cli", "mcp", "--sidecar-url", SIDECAR, "--run-id", "order-63"],
    env={"SPENDGATE_VAULT_KEY": VAULT_KEY},
)


async def main() -> None:
    """List the tools, and pay twice with one of them."""
    async with Client(SERVER) as client:
        print([tool.name for tool in (await client.list_tools()).tools])
        for _ in range(2):
            paid = await client.call_tool("charge", {"amount": 1900, "currency": "usd", "source": "tok_visa"})
            print(*(part.text for part in paid.content if isinstance(part, TextContent)))


if __name__ == "__main__":
    asyncio.run(main())
