"""A pass-through proxy that governs nothing: uvicorn and aiohttp, the yardstick.

``python -m bench.bare_proxy PORT ORIGIN``
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import uvicorn
from yarl import URL


class BareProxy:
    """Sends every request on and its answer back."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {
            name.decode(): value.decode()
            for name, value in scope["headers"]
            if name not in {b"host", b"content-length"}
        }
        url = URL(self._origin + scope["path"], encoded=True)
        async with self._session.request(
            scope["method"], url, headers=headers, data=body or None, allow_redirects=False
        ) as response:
            content = await response.read()
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(content)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(
        BareProxy(sys.argv[2]),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
