"""Sends requests to the vendor with the real key, and tells apart what was never sent."""

from __future__ import annotations

import aiohttp
from pydantic import SecretStr
from yarl import URL

from sidecar.exchange import Answer, Forward

_CONNECT_S = 10.0
_CONNECTIONS_MAX = 256
_IDLE_S = 30.0
"""Idle connections are given up before the vendor would drop them."""


class NotSent(Exception):
    """No byte of the request reached the vendor."""


class NoAnswer(Exception):
    """The request was sent, and no whole answer came back."""


class Upstream:
    """One vendor's API. It follows no redirect, repeats nothing and keeps no cookie."""

    def __init__(self, origin: str, secret_key: SecretStr, *, timeout_s: float) -> None:
        self._origin = origin
        self._authorization = SecretStr(f"Bearer {secret_key.get_secret_value()}")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Prepare the connections; they are made when needed."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, forward: Forward) -> Answer:
        """Send one request; raise `NotSent` or `NoAnswer` when there is no whole answer."""
        if self._session is None:
            raise NotSent("the connection to the vendor is not open")
        headers = {**forward.headers, "Authorization": self._authorization.get_secret_value()}
        try:
            async with self._session.request(
                forward.method,
                URL(self._origin + forward.target, encoded=True),
                headers=headers,
                data=forward.body or None,
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(type(error).__name__) from None
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout.total:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(type(error).__name__) from None
        return Answer(response.status, [(name.lower(), value) for name, value in response.raw_headers], body)
