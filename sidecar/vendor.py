"""What the sidecar needs from a vendor, in its own words.

A vendor is a package beside this file. It reads requests, knows where money
stands in them, and says what an answer means; it sends nothing and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.exchange import Answer, Forward, Request
from sidecar.refusals import Refused


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency."""

    minor_units: int
    currency: str
    """ISO 4217 code in upper case."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that could be read in exactly one way."""

    endpoint: str
    """Method and path template, such as ``POST /v1/charges/{charge}/capture``."""
    changes: bool
    """Whether it changes anything at the vendor."""
    moves_money: bool
    forward: Forward
    """What will be sent, written anew from what was judged."""
    fingerprint: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters that the policy may look at; no card or bank details."""
    money: Money | None = None
    """What the call commits at most; None when it must be asked of the vendor."""
    object_id: str = ""
    """The vendor's object whose commitment the call changes."""
    given_key: str = ""
    """The idempotency key that the agent wrote into the request itself."""
    header_key: str = ""
    """The idempotency key in the header, which SDKs make up for every call."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The vendor did it."""

    money: Money | None = None
    """What the object commits now; None when the call moves no money."""
    object_id: str = ""
    steps_follow: bool = False
    """Whether later calls may change what the object commits."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The vendor certainly did not do it."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The answer does not say whether the vendor did it."""


Reading = Succeeded | Failed | Unclear

Fetch = Callable[[str], Awaitable[Answer]]
"""Sends a GET for a path to the vendor; raises `Refused` when there is no answer."""


class Vendor(Protocol):
    """One vendor's ways."""

    prefix: str
    """First path segment on the shared port, such as ``/stripe``."""

    def read(self, request: Request) -> Call:
        """Read a request strictly, or raise `Refused`."""

    async def price(self, call: Call, fetch: Fetch) -> Money:
        """Return what ``call`` commits at most, asking the vendor; `Refused` when it stays unknown."""

    def classify(self, call: Call, answer: Answer, *, repeat: bool) -> Reading:
        """Say what the vendor's answer to a changing call means.

        With ``repeat``, the call was sent before under the same key and nobody
        knows what became of it: only an answer that tells of that first try may
        be read as failed.
        """

    def object_path(self, object_id: str) -> str | None:
        """Return where an object can be fetched; None when that is not known."""

    def refusal(self, refused: Refused, request_id: str) -> Answer:
        """Write a refusal so that the vendor's own SDKs raise the right error."""

    def pass_back(self, answer: Answer) -> Answer:
        """Return the vendor's answer with only the headers that an agent may see."""
