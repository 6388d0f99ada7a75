"""Every API request the simulator saw, in order, and running counts that outlive the bounded list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from stripe_simulator.errors import JsonObject
from stripe_simulator.forms import Form, flatten
from stripe_simulator.money import Movement

KEPT_ENTRIES = 100_000

_SHOWN_HEADERS = (
    "Accept-Encoding",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "Stripe-Account",
    "Stripe-Context",
    "Stripe-Version",
    "User-Agent",
)
_LONGEST_SHOWN_BODY = 64 * 1024
_TEXTUAL = ("", "application/json", "application/x-www-form-urlencoded")


@dataclass(slots=True)
class LoggedRequest:
    """One request. `status` is None while it is in progress, and stays so if the connection was refused."""

    n: int
    time: int
    method: str
    path: str
    query: str
    request_id: str
    idempotency_key: str | None
    stripe_account: str | None = None
    authorization: str = "none"
    key_last4: str = ""
    parameters: Form = field(default_factory=dict)
    status: int | None = None
    executed: bool = False
    replayed: bool = False
    object_id: str | None = None
    fault: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    money: list[Movement] = field(default_factory=list)

    def _shown_body(self) -> str | None:
        """The body as it came, except for an API key in it; None for one that is no text."""
        media_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type not in _TEXTUAL or len(self.body) > _LONGEST_SHOWN_BODY:
            return None
        return without_key(self.body.decode("utf-8", "replace"))

    def json(self) -> JsonObject:
        return {
            "n": self.n,
            "time": self.time,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "request_id": self.request_id,
            "idempotency_key": self.idempotency_key,
            "authorization": {"kind": self.authorization, "last4": self.key_last4},
            "parameters": flatten(self.parameters),
            "stripe_account": self.stripe_account,
            "status": self.status,
            "executed": self.executed,
            "replayed": self.replayed,
            "object_id": self.object_id,
            "fault": self.fault,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self._shown_body(),
            "body_bytes": len(self.body),
            "money": [movement.json() for movement in self.money],
        }


@dataclass(slots=True)
class Count:
    received: int = 0
    executed: int = 0
    replayed: int = 0

    def json(self) -> dict[str, int]:
        return {"received": self.received, "executed": self.executed, "replayed": self.replayed}


class RequestLog:
    """The last requests, and counts of all of them."""

    def __init__(self, kept: int = KEPT_ENTRIES) -> None:
        self._entries: deque[LoggedRequest] = deque(maxlen=kept)
        self._seen = 0
        self.posts = Count()
        self.endpoints: dict[str, Count] = {}

    def open(
        self,
        method: str,
        path: str,
        query: str,
        *,
        request_id: str,
        idempotency_key: str | None,
        time: int,
        headers: Mapping[str, str],
    ) -> LoggedRequest:
        self._seen += 1
        entry = LoggedRequest(
            self._seen,
            time,
            method,
            path,
            without_key(query),
            request_id,
            idempotency_key,
            headers={name: headers[name] for name in _SHOWN_HEADERS if name in headers},
        )
        self._entries.append(entry)
        if method == "POST":
            self.posts.received += 1
        return entry

    def at_endpoint(self, name: str) -> Count:
        return self.endpoints.setdefault(name, Count())

    def __iter__(self) -> Iterator[LoggedRequest]:
        return iter(self._entries)


def without_key(query: str) -> str:
    """The raw query string with the value of a `key` parameter cut to its last four characters."""
    if not query:
        return query
    return "&".join(_without_key(pair) for pair in query.split("&"))


def _without_key(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return f"{name}{equals}...{value[-4:]}" if unquote_plus(name) == "key" else pair
