"""What the sidecar needs from a vendor, in its own words.

A vendor is a package beside this file, such as `sidecar.stripe`; docs/vendors.md
tells how to add one. It reads
requests, knows where money stands in them, names what a repeat is, says what an
answer means, and shapes errors for the vendor's own SDKs. It sends nothing and
decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.exchange import Answer, Forward, Request
from sidecar.refusals import Refused


class Unpriced(Exception):
    """Nobody can tell what the call moves before it is made; the message says why."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency."""

    minor_units: int
    currency: str
    """ISO 4217 code in upper case."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a call commits at most, and which objects that concerns."""

    money: Money
    object_id: str = ""
    """The object whose commitment the call changes, where only the vendor could say which."""
    absorbed: tuple[str, ...] = ()
    """Objects that become part of that one, such as the items of an invoice."""
    refunded: str = ""
    """The object whose money the call gives back to who paid it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that could be read in exactly one way."""

    endpoint: str
    """Method and path template, such as ``POST /v1/charges/{charge}/capture``."""
    changes: bool
    """Whether it changes anything at the vendor."""
    moves_money: bool
    """Whether it does so by moving money, of a known amount or not."""
    forward: Forward
    """What will be sent, written anew from what was judged."""
    fingerprint: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters that the policy may look at; no card or bank details."""
    price: Price | None = None
    """What the call commits at most, as far as the request says it."""
    asks: bool = False
    """Whether the vendor must be asked for the price, where the request does not say it."""
    object_id: str = ""
    """The vendor's object whose commitment the call changes, where the request says which."""
    given_key: str = ""
    """The idempotency key that the agent wrote into the request itself."""
    header_key: str = ""
    """The idempotency key in the header, which SDKs make up for every call."""
    idempotent: bool = False
    """Whether doing it twice is the same as doing it once, so that a repeat may be sent."""
    vendor_account: str = ""
    """The account at the vendor that the call acts for, when it is not the key's own."""
    plan: object = None
    """The vendor's own note on the call, for `Vendor.price` and `Vendor.classify`."""

    @property
    def step_of(self) -> str:
        """The object whose commitment the call changes; empty when it makes a new one."""
        return self.object_id or (self.price.object_id if self.price else "")


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The vendor did it."""

    money: Money | None = None
    """What the object commits now; None when the answer does not say, so that what was held counts."""
    object_id: str = ""
    """The object that the call made or changed; it is fetched to answer a late repeat."""
    counted_id: str = ""
    """The object under which the money counts, when it is another."""
    steps_follow: bool = False
    """Whether later calls may change what the object commits."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The vendor certainly did not do it."""

    money: Money | None = None
    """What the call left behind all the same: a declined payment that can still be paid."""
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The answer does not say whether the vendor did it."""


Reading = Succeeded | Failed | Unclear


@dataclass(frozen=True, slots=True)
class Seen:
    """What an object commits for good, as a read happened to show."""

    object_id: str
    money: Money


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that may have been sent, and of which nobody knows what became."""

    reference: str
    """Names it among others: the authorization."""
    endpoint: str
    upstream_key: str
    """The name by which the vendor recognises a repeat, where it has one."""
    object_id: str
    """The object that it was to change; empty when it was to make one."""
    vendor_account: str
    money: Money | None
    """What it asked for; None when it moves none, or nobody could tell."""
    sent_from_ms: int
    """It was not sent before, in ms since 1970 by the store's clock."""
    sent_until_ms: int
    """It is not sent any more after this."""
    absence_counts: bool
    """Whether it is proof that nothing happened when the vendor shows nothing of it: it was
    sent with the credentials that are used to look, and longer ago than the vendor takes."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a call, and what shows it."""

    reading: Succeeded | Failed
    evidence: str
    """For the record, such as ``event evt_1``; at most 255 bytes."""
    fresh: bool = True
    """Whether the money is what the object commits now, and not at an earlier time."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """Nobody can tell yet what became of a call; says why."""

    why: str


Finding = Found | NotFound

Look = Callable[[Forward], Awaitable[Answer]]
"""Sends a read to the vendor within a budget of requests; raises `CannotLook` when there is no answer."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that the vendor says has moved."""

    id: str
    kind: str
    """What the vendor calls it, such as ``charge``."""
    object_id: str
    """What moved it."""
    money: Money
    """Without its sign: ``leaves`` has that."""
    leaves: bool
    """Whether it left the account."""
    moved_at_s: int
    upstream_keys: tuple[str, ...] = ()
    """Names of the requests that made or changed the object, as far as the vendor tells."""
    related: tuple[str, ...] = ()
    """Objects under which it may be counted, such as the intent of a charge."""
    by_vendor: bool = False
    """Whether the vendor made it by itself, such as a payout on schedule."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What the vendor shows of some time."""

    movements: tuple[Movement, ...]
    objects: frozenset[str]
    """Objects that were seen there, moved money or not."""


class CannotLook(Exception):
    """The vendor can't be asked now; the message says why. Nothing follows for any call."""


Fetch = Callable[[str], Awaitable[Answer]]
"""Sends a GET for a path to the vendor; raises `Refused` when there is no answer."""


class Vendor(Protocol):
    """One vendor's ways."""

    name: str
    """What people call it, such as ``Stripe``."""

    prefix: str
    """First path segment on the shared port, such as ``/stripe``."""

    versions: tuple[str, ...]
    """First path segments of the vendor's own paths, such as ``/v1``, for the port without prefixes."""

    replays: bool
    """Whether a repeat under the same upstream key gets the first answer, and is never done twice."""

    request_id_header: bytes
    """The header, in lower case, by which the vendor finds a request in its logs."""

    def owns_key(self, key: str) -> bool:
        """Tell whether a key is one of the vendor's own, which no agent should hold."""

    def read(self, request: Request) -> Call:
        """Read a request strictly, or raise `Refused`."""

    async def price(self, call: Call, fetch: Fetch) -> Price | None:
        """Ask the vendor what ``call`` commits at most; None when it moves no money after all.

        Raises `Unpriced` when nobody can tell before, and `Refused` when the call can't be right.
        """

    def lookup(self, call: Call, path: str) -> Forward:
        """Return what to send to GET an object that ``call`` is about."""

    def named(self, call: Call, upstream_key: str) -> Forward:
        """Return what to send, with the name by which the vendor recognises a repeat, where it has one.

        Where the request leaves its amount open, the price that was decided on is
        written into it, so that nothing that happened at the vendor meanwhile
        makes it another amount.
        """

    def classify(self, call: Call, answer: Answer, *, repeat: bool) -> Reading:
        """Say what the vendor's answer to a changing call means.

        With ``repeat``, the call was sent before under the same key and nobody
        knows what became of it: only an answer that tells of that first try may
        be read as failed.
        """

    def seen(self, call: Call, answer: Answer) -> Sequence[Seen]:
        """Return what a read, or a fetch for a repeat, shows of objects that nothing can change any more."""

    def object_path(self, object_id: str) -> str | None:
        """Return where an object can be fetched; None when that is not known."""

    def made(self, endpoint: str) -> bool:
        """Tell whether an endpoint is the vendor's, as `Call.endpoint` names it."""

    async def investigate(
        self, calls: Sequence[OpenCall], look: Look, *, now_ms: int
    ) -> Mapping[str, Finding]:
        """Find out what became of calls, by their references, from what the vendor shows.

        It reads only, and repeats nothing: a repeat may be the first that is carried out.
        """

    async def statement(self, look: Look, account: str, *, since_ms: int, until_ms: int) -> Statement | None:
        """Return what moved in an account at the vendor; None when the vendor can't be asked that."""

    async def related(self, movement: Movement, look: Look, account: str) -> Sequence[str]:
        """Return more objects under which a movement may be counted, each found by asking for this one."""

    async def exists(self, object_id: str, look: Look, account: str) -> bool | None:
        """Tell whether the vendor has an object; None when it can't be asked for that one."""

    async def final(self, object_id: str, look: Look, account: str) -> Seen | None:
        """Return what an object commits for good; None while that may change, or nobody can tell."""

    def refusal(self, refused: Refused, request_id: str) -> Answer:
        """Write a refusal so that the vendor's own SDKs raise the right error."""

    def pass_back(self, answer: Answer) -> Answer:
        """Return the vendor's answer with only the headers that an agent may see."""
