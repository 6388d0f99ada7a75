"""Sends requests to the vendor with the real key, and tells apart what was never sent."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncGenerator
from dataclasses import replace

import aiohttp
from pydantic import SecretStr
from yarl import URL

from sidecar.exchange import Answer, Forward

_CONNECT_S = 10.0
_NOT_ROUNDED_S = 3600.0
"""aiohttp rounds longer times up; others count on when the last call is sent."""

_CONNECTIONS_MAX = 256
_ANSWER_BYTES_MAX = 32 * 1024 * 1024
_IDLE_S = 30.0
"""Idle connections are given up before the vendor would drop them."""


class NotSent(Exception):
    """No byte of the request reached the vendor."""


class NoAnswer(Exception):
    """The request was sent, and no whole answer came back."""


class Upstream:
    """One vendor's API. It follows no redirect, repeats no change and keeps no cookie."""

    def __init__(
        self, origin: str, authorization: SecretStr, *, timeout_s: float, files_origin: str = ""
    ) -> None:
        """``files_origin`` is the host for files, where the vendor has one."""
        self._origin = origin
        self._files_origin = files_origin or origin
        self._authorization = authorization
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        secret = f"{origin} {authorization.get_secret_value()}"
        self.sender = hashlib.sha256(secret.encode()).hexdigest()[:16]
        """Names address and credentials without telling them."""

    async def open(self) -> None:
        """Prepare the connections; they are made when needed."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        # aiohttp sends a DELETE a second time when a kept connection breaks, though the first may be done.
        self._session._retry_connection = False

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, forward: Forward, *, begin_within_s: float | None = None) -> Answer:
        """Send one request; raise `NotSent` or `NoAnswer` when there is no whole answer.

        A request that has waited for a connection for ``begin_within_s`` is not sent any more. An answer
        that streams is whole once its chunks are; they raise `NoAnswer` when it breaks off.
        """
        try:
            response = await self._begin_or_again(forward, self._limits(begin_within_s))
            headers = [(name.lower(), value) for name, value in response.raw_headers]
            if forward.streams and response.status < 300:
                return Answer(response.status, headers, chunks=_chunks(response))
            body = await _whole(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(type(error).__name__) from None
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout_s:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(type(error).__name__) from None
        return _decoded(Answer(response.status, headers, body))

    def _limits(self, begin_within_s: float | None) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=self._timeout_s,
            connect=begin_within_s,
            sock_connect=_CONNECT_S,
            ceil_threshold=_NOT_ROUNDED_S,
        )

    async def _begin_or_again(
        self, forward: Forward, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send a request, and a read once more when the vendor closed the connection that was kept for it."""
        try:
            return await self._begin(forward, limits)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if forward.method != "GET":
                raise
            return await self._begin(forward, limits)

    async def _begin(self, forward: Forward, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._session is None:
            raise NotSent("the connection to the vendor is not open")
        origin = self._files_origin if forward.files else self._origin
        headers = {**forward.headers, "Authorization": self._authorization.get_secret_value()}
        return await self._session.request(
            forward.method,
            URL(origin + forward.target, encoded=True),
            headers=headers,
            data=forward.body or None,
            allow_redirects=False,
            timeout=limits,
        )


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Read a body to its end, which gives its connection back, or close that."""
    try:
        return await _body(response)
    except BaseException:
        response.close()
        raise


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.content_length is not None and response.content_length <= _ANSWER_BYTES_MAX:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_BYTES_MAX:
            raise NoAnswer(f"the answer has more than {_ANSWER_BYTES_MAX} bytes")
    return bytes(body)


async def _chunks(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    async with response:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(type(error).__name__) from None


def _decoded(answer: Answer) -> Answer:
    """Undo a compression that was not asked for, so that the answer can be read."""
    encoding = answer.header(b"content-encoding").lower()
    if encoding in {"", "identity"}:
        return answer
    try:
        if encoding != "gzip":
            raise NoAnswer(f"the answer is encoded as {encoding[:32]}, which was not asked for")
        inflater = zlib.decompressobj(wbits=31)
        body = inflater.decompress(answer.body, _ANSWER_BYTES_MAX)
        if not inflater.eof:
            raise NoAnswer("the answer is cut off or too large")
    except zlib.error:
        raise NoAnswer("the answer is not the gzip that it says") from None
    return replace(answer, headers=[h for h in answer.headers if h[0] != b"content-encoding"], body=body)
