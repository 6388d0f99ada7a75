"""What comes in, what goes to the vendor, and what goes back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the agent sent it, its path raw and below the vendor's prefix."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, Sequence[bytes]] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: bytes) -> str:
        """Return a header that is given at most once; empty when absent, None-free."""
        values = self.headers.get(name, ())
        return values[0].decode("latin-1").strip() if values else ""


@dataclass(frozen=True, slots=True)
class Forward:
    """One HTTP request to the vendor; its key is added where it is sent."""

    method: str
    target: str
    """Path and query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    files: bool = False
    """Whether it goes to the vendor's host for files."""
    streams: bool = False
    """Whether the answer may be large and is passed on as it comes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, whole or as it comes."""

    status: int
    headers: Headers
    body: bytes = field(default=b"", repr=False)
    chunks: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)
    """What follows, in place of ``body``; whoever takes it must go to its end or close it."""

    def header(self, name: bytes) -> str:
        """Return the first header of this name, empty when absent."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    def extended(self, *more: tuple[bytes, bytes]) -> Answer:
        """Return the same answer with more headers."""
        return self.with_headers([*self.headers, *more])

    def with_headers(self, headers: Headers) -> Answer:
        """Return the same answer with these headers and no others."""
        return Answer(self.status, headers, self.body, self.chunks)


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    """Return an answer of the sidecar itself."""
    return Answer(status, [(b"content-type", b"application/json")], json.dumps(body).encode())


def again(*, retryable: bool) -> str:
    """Return the sentence with which a refusal says whether repeating the call can help."""
    return "Repeating the call later can help." if retryable else "Repeating the call can't help."


def error_answer(status: int, code: str, message: str, *, retryable: bool = False) -> Answer:
    """Return a refusal where the vendor is not known, in the shape that the SDKs understand."""
    kind = "api_error" if status >= 500 else "invalid_request_error"
    error = {
        "type": kind,
        "code": code,
        "message": f"{message} {again(retryable=retryable)}",
        "spendgate": {"reason": code, "retryable": retryable},
    }
    answer = json_answer(status, {"error": error})
    return answer.extended((b"stripe-should-retry", b"false"))
