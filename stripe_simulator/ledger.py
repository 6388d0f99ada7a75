"""Everything one Stripe account holds, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from stripe_simulator.errors import JsonObject, no_such_object
from stripe_simulator.events import Event
from stripe_simulator.identifiers import Identifiers
from stripe_simulator.objects import Charge, Customer, PaymentIntent, PaymentMethod, Price, Product, Refund


class Stored(Protocol):
    """What every kept object has: an id, a creation time and a JSON form."""

    @property
    def id(self) -> str: ...
    @property
    def created(self) -> int: ...
    def json(self) -> JsonObject: ...


S = TypeVar("S", bound=Stored)


class Collection(Generic[S]):
    """Objects of one kind in the order of their creation."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._in_order: list[S] = []
        self._position: dict[str, int] = {}

    def add(self, item: S) -> S:
        self._position[item.id] = len(self._in_order)
        self._in_order.append(item)
        return item

    def get(self, object_id: str) -> S | None:
        position = self._position.get(object_id)
        return None if position is None else self._in_order[position]

    def require(self, object_id: str, *, param: str, status: int = 404) -> S:
        found = self.get(object_id)
        if found is None:
            raise no_such_object(self.noun, object_id, param=param, status=status)
        return found

    def position(self, object_id: str) -> int | None:
        return self._position.get(object_id)

    def newest_first(self, before: int | None = None) -> Iterator[S]:
        """From the newest object, or from the one just older than this position."""
        start = len(self._in_order) if before is None else before
        for position in range(start - 1, -1, -1):
            yield self._in_order[position]

    def oldest_first(self, after: int) -> Iterator[S]:
        """The objects newer than this position, the oldest of them first."""
        for position in range(after + 1, len(self._in_order)):
            yield self._in_order[position]

    def __iter__(self) -> Iterator[S]:
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._in_order)


class Ledger:
    """One account's objects. A request for another account (`Stripe-Account`) sees none of them."""

    def __init__(self, account: str, identifiers: Identifiers) -> None:
        self.account = account
        self.identifiers = identifiers
        self.charges: Collection[Charge] = Collection("charge")
        self.payment_intents: Collection[PaymentIntent] = Collection("payment_intent")
        self.payment_methods: Collection[PaymentMethod] = Collection("PaymentMethod")
        self.refunds: Collection[Refund] = Collection("refund")
        self.customers: Collection[Customer] = Collection("customer")
        self.products: Collection[Product] = Collection("product")
        self.prices: Collection[Price] = Collection("price")
        self.events: Collection[Event] = Collection("event")
        self._by_prefix: dict[str, Collection[Any]] = {
            "ch": self.charges,
            "pi": self.payment_intents,
            "pm": self.payment_methods,
            "card": self.payment_methods,
            "re": self.refunds,
            "cus": self.customers,
            "prod": self.products,
            "price": self.prices,
        }

    def find(self, object_id: str) -> JsonObject | None:
        """The object with this id, of whatever kind, for `expand`."""
        collection = self._by_prefix.get(object_id.partition("_")[0])
        found = collection.get(object_id) if collection is not None else None
        return found.json() if found is not None else None

    def money(self) -> dict[str, dict[str, int]]:
        """Per currency in minor units: authorised, captured, and given back after a capture."""
        totals: dict[str, dict[str, int]] = {}
        for charge in self.charges:
            if charge.decline is not None:
                continue
            total = totals.setdefault(charge.currency, {"charged": 0, "captured": 0, "refunded": 0})
            total["charged"] += charge.amount
            total["captured"] += charge.amount_captured
            # Released money was never taken, so giving it up is not a refund.
            total["refunded"] += charge.amount_refunded - charge.released
        return totals
