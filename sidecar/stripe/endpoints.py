"""The endpoints of Stripe that Spendgate knows, and where money stands in them.

A row says what is read from the request and what must be asked of Stripe. A
changing endpoint that has no row is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.vendor import Money

Object = Mapping[str, Any]
Given = Mapping[str, str]

Total = Callable[[Object, int | None], int]
"""From the object as it is and the amount given, what the object commits after the call."""


@dataclass(frozen=True, slots=True)
class Direct:
    """The request names amount and currency."""

    amount: str = "amount"
    currency: str = "currency"


@dataclass(frozen=True, slots=True)
class Asked:
    """The amount, or its currency, must be asked of Stripe with a GET first."""

    total: Total
    amount: str = "amount"
    """The parameter that may name an amount."""
    sources: tuple[tuple[str, str], ...] = ()
    """Parameters that name the object, each with the path to GET; empty when the path itself does."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: an endpoint and where its money stands."""

    method: str
    template: str
    money: Direct | Asked | None = None
    when: str = ""
    """Money moves only when this parameter is given; empty means always."""
    commits: str = ""
    """What the answer is, such as ``payment_intent``, when it says what is committed."""
    step: bool = False
    """Whether the object in the path is the one whose commitment changes."""
    refused: frozenset[str] = frozenset()
    """Parameters that move money in a way that is not priced here."""

    @property
    def name(self) -> str:
        """Method and template."""
        return f"{self.method} {self.template}"


def _refund_total(source: Object, given: int | None) -> int:
    charge = source.get("latest_charge", source)
    if not isinstance(charge, Mapping):
        return given if given is not None else 0
    # After a partial capture, amount_refunded already holds the part given back.
    left = int(charge["amount"]) - int(charge["amount_refunded"])
    return left if given is None else given


def _intent_capture_total(intent: Object, given: int | None) -> int:
    more = int(intent["amount_capturable"]) if given is None else given
    return int(intent["amount_received"]) + more


def _whole_unless_given(source: Object, given: int | None) -> int:
    return int(source["amount"]) if given is None else given


_CHARGE, _INTENT = "/v1/charges/{charge}", "/v1/payment_intents/{intent}"
_BALANCE = frozenset({"balance", "cash_balance"})

ENDPOINTS = (
    Endpoint("POST", "/v1/charges", Direct(), commits="charge"),
    Endpoint("POST", _CHARGE),
    Endpoint("POST", f"{_CHARGE}/capture", Asked(_whole_unless_given), commits="charge", step=True),
    Endpoint("POST", "/v1/payment_intents", Direct(), commits="payment_intent"),
    Endpoint(
        "POST",
        _INTENT,
        Asked(_whole_unless_given),
        when="amount",
        commits="payment_intent",
        step=True,
        # An intent is priced in the currency that it has.
        refused=frozenset({"currency"}),
    ),
    Endpoint(
        "POST",
        f"{_INTENT}/confirm",
        Asked(_whole_unless_given, amount="amount_to_confirm"),
        commits="payment_intent",
        step=True,
    ),
    Endpoint(
        "POST",
        f"{_INTENT}/capture",
        Asked(_intent_capture_total, amount="amount_to_capture"),
        commits="payment_intent",
        step=True,
    ),
    Endpoint(
        "POST",
        f"{_INTENT}/increment_authorization",
        Asked(_whole_unless_given),
        commits="payment_intent",
        step=True,
    ),
    Endpoint("POST", f"{_INTENT}/cancel", commits="payment_intent", step=True),
    Endpoint(
        "POST",
        "/v1/refunds",
        Asked(
            _refund_total,
            sources=(
                ("charge", "/v1/charges/{id}"),
                ("payment_intent", "/v1/payment_intents/{id}?expand[]=latest_charge"),
            ),
        ),
        commits="refund",
    ),
    Endpoint("POST", "/v1/refunds/{refund}"),
    Endpoint("POST", "/v1/customers", refused=_BALANCE),
    Endpoint("POST", "/v1/customers/{customer}", refused=_BALANCE),
    Endpoint("DELETE", "/v1/customers/{customer}"),
    Endpoint("GET", _CHARGE),
    Endpoint("GET", _INTENT),
    Endpoint("GET", "/v1/refunds/{refund}"),
    Endpoint("GET", "/v1/customers/{customer}"),
    Endpoint("GET", "/v1/events/{event}"),
)

_PATH = re.compile(r"/v1(?:/[A-Za-z0-9_-]+)+")
_PATH_BYTES_MAX = 200


class EndpointTable:
    """Finds the row of a raw path in one look at each of its segments."""

    def __init__(self, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> None:
        self._root: dict[str, Any] = {}
        for endpoint in endpoints:
            node = self._root
            for segment in (endpoint.method, *endpoint.template[1:].split("/")):
                node = node.setdefault("{}" if segment.startswith("{") else segment, {})
            node[""] = endpoint

    def find(self, method: str, path: str) -> tuple[Endpoint, str] | None:
        """Return the row and the last id in the path; None when there is no such row."""
        node: dict[str, Any] | None = self._root.get(method)
        object_id = ""
        for segment in path[1:].split("/"):
            if node is None:
                return None
            if segment in node:
                node = node[segment]
            else:
                node = node.get("{}")
                object_id = segment
        endpoint: Endpoint | None = node.get("") if node else None
        return (endpoint, object_id) if endpoint else None


def is_plain(path: str) -> bool:
    """Tell whether a raw path can be read in one way only."""
    return len(path) <= _PATH_BYTES_MAX and _PATH.fullmatch(path) is not None


def committed(answer: Object) -> Money | None:
    """Return what a charge, payment intent or refund commits as it is now; None for other objects."""
    read = _COMMITTED.get(str(answer.get("object")))
    currency = answer.get("currency")
    if read is None or not isinstance(currency, str):
        return None
    return Money(read(answer), currency.upper())


def is_final(answer: Object) -> bool:
    """Tell whether no later call can change what the object commits."""
    if answer.get("object") == "payment_intent":
        return answer.get("status") in {"succeeded", "canceled"}
    return answer.get("object") != "charge" or bool(answer.get("captured"))


def _committed_by_charge(charge: Object) -> int:
    if charge.get("status") == "failed":
        return 0
    if charge.get("captured"):
        return int(charge["amount_captured"])
    # A hold that expired or was given back shows as refunded.
    return 0 if charge.get("refunded") else int(charge["amount"])


def _committed_by_intent(intent: Object) -> int:
    status = intent.get("status")
    if status in {"succeeded", "canceled"}:
        return int(intent["amount_received"])
    if status == "requires_capture":
        return int(intent["amount_received"]) + int(intent["amount_capturable"])
    # Not confirmed yet, or on its way: its client secret can still move all of it.
    return int(intent["amount"])


def _committed_by_refund(refund: Object) -> int:
    return 0 if refund.get("status") in {"failed", "canceled"} else int(refund["amount"])


_COMMITTED: dict[str, Callable[[Object], int]] = {
    "charge": _committed_by_charge,
    "payment_intent": _committed_by_intent,
    "refund": _committed_by_refund,
}
