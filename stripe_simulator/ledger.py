"""Everything one Stripe account holds, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from stripe_simulator.errors import JsonObject, no_such_object
from stripe_simulator.identifiers import Identifiers
from stripe_simulator.money import Booking, Commitments

if TYPE_CHECKING:
    from stripe_simulator.billing.credit_notes import CreditNote
    from stripe_simulator.billing.invoice_objects import Invoice, InvoiceItem
    from stripe_simulator.billing.quotes import Quote
    from stripe_simulator.billing.subscription_objects import Subscription, SubscriptionItem
    from stripe_simulator.catalog_objects import Price, Product
    from stripe_simulator.checkout.payment_links import PaymentLink
    from stripe_simulator.checkout.session_objects import Session
    from stripe_simulator.checkout.shipping_rates import ShippingRate
    from stripe_simulator.customer_objects import Customer
    from stripe_simulator.disputes import Dispute
    from stripe_simulator.events import Event
    from stripe_simulator.files import File
    from stripe_simulator.funds.customer_balances import BalanceTransaction
    from stripe_simulator.funds.payouts import Payout
    from stripe_simulator.funds.topups import Topup
    from stripe_simulator.funds.transfers import Reversal, Transfer
    from stripe_simulator.objects import Charge, PaymentIntent, PaymentMethod, Refund
    from stripe_simulator.setup_intents import SetupIntent
    from stripe_simulator.v2.event_destinations import EventDestination
    from stripe_simulator.v2.outbound import Outbound


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
        self._removed: set[int] = set()

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

    def remove(self, object_id: str) -> None:
        """Make an object unfindable and leave it out of lists; its place in the order stays."""
        position = self._position.pop(object_id)
        self._removed.add(position)

    def position(self, object_id: str) -> int | None:
        return self._position.get(object_id)

    def newest_first(self, before: int | None = None) -> Iterator[S]:
        """From the newest object, or from the one just older than this position."""
        start = len(self._in_order) if before is None else before
        for position in range(start - 1, -1, -1):
            if position not in self._removed:
                yield self._in_order[position]

    def oldest_first(self, after: int) -> Iterator[S]:
        """The objects newer than this position, the oldest of them first."""
        for position in range(after + 1, len(self._in_order)):
            if position not in self._removed:
                yield self._in_order[position]

    def __iter__(self) -> Iterator[S]:
        return self.oldest_first(-1)

    def __len__(self) -> int:
        return len(self._position)


class Ledger:
    """One account's objects. A request for another account (`Stripe-Account`) sees none of them."""

    def __init__(self, account: str, identifiers: Identifiers) -> None:
        self.account = account
        self.identifiers = identifiers
        self.commitments = Commitments()
        # What moved in less what moved out, by currency in minor units.
        self.funds: dict[str, int] = {}
        self._by_prefix: dict[str, Collection[Any]] = {}
        self.events: Collection[Event] = self._collection("event", "evt")
        self._begin_payments()
        self._begin_billing()
        self._begin_checkout()
        self._begin_funds()

    def _collection(self, noun: str, *prefixes: str) -> Collection[Any]:
        """An empty collection of objects whose ids have these prefixes; `noun` is what refusals call one."""
        made: Collection[Any] = Collection(noun)
        self._by_prefix.update(dict.fromkeys(prefixes, made))
        return made

    def _begin_payments(self) -> None:
        self.charges: Collection[Charge] = self._collection("charge", "ch")
        self.payment_intents: Collection[PaymentIntent] = self._collection("payment_intent", "pi")
        self.payment_methods: Collection[PaymentMethod] = self._collection("PaymentMethod", "pm", "card")
        self.setup_intents: Collection[SetupIntent] = self._collection("setupintent", "seti")
        self.refunds: Collection[Refund] = self._collection("refund", "re")
        self.disputes: Collection[Dispute] = self._collection("dispute", "du")
        self.customers: Collection[Customer] = self._collection("customer", "cus")
        self.files: Collection[File] = self._collection("file upload", "file")

    def _begin_billing(self) -> None:
        self.products: Collection[Product] = self._collection("product", "prod")
        self.prices: Collection[Price] = self._collection("price", "price")
        self.invoice_items: Collection[InvoiceItem] = self._collection("invoiceitem", "ii")
        self.invoices: Collection[Invoice] = self._collection("invoice", "in")
        self.subscriptions: Collection[Subscription] = self._collection("subscription", "sub")
        self.subscription_items: Collection[SubscriptionItem] = self._collection("subscription_item", "si")
        self.credit_notes: Collection[CreditNote] = self._collection("credit_note", "cn")
        self.quotes: Collection[Quote] = self._collection("quote", "qt")

    def _begin_checkout(self) -> None:
        self.sessions: Collection[Session] = self._collection("checkout.session", "cs")
        self.payment_links: Collection[PaymentLink] = self._collection("payment_link", "plink")
        self.shipping_rates: Collection[ShippingRate] = self._collection("shipping_rate", "shr")

    def _begin_funds(self) -> None:
        self.payouts: Collection[Payout] = self._collection("payout", "po")
        self.transfers: Collection[Transfer] = self._collection("transfer", "tr")
        self.reversals: Collection[Reversal] = self._collection("transfer_reversal", "trr")
        self.topups: Collection[Topup] = self._collection("topup", "tu")
        self.balance_transactions: Collection[BalanceTransaction] = self._collection(
            "customer_balance_transaction", "cbtxn"
        )
        self.bookings: Collection[Booking] = self._collection("balance transaction", "txn")
        self.event_destinations: Collection[EventDestination] = self._collection("event_destination", "ed")
        self.outbound_payments: Collection[Outbound] = self._collection("outbound_payment", "obp")
        self.outbound_transfers: Collection[Outbound] = self._collection("outbound_transfer", "obt")

    def get(self, object_id: str) -> Any:
        """The kept record with this id, of whatever kind, or None."""
        collection = self._by_prefix.get(object_id.partition("_")[0])
        if collection is None:
            # Only a product may have an id that its maker chose.
            return self.products.get(object_id)
        return collection.get(object_id)

    def find(self, object_id: str) -> JsonObject | None:
        """The object with this id, of whatever kind, for `expand`."""
        found: Stored | None = self.get(object_id)
        return found.json() if found is not None else None

    def money(self) -> dict[str, dict[str, int]]:
        """Per currency in minor units: authorised, captured, and given back after a capture."""
        totals: dict[str, dict[str, int]] = {}
        for charge in self.charges:
            if charge.decline is not None or charge.pending:
                continue
            total = totals.setdefault(charge.currency, {"charged": 0, "captured": 0, "refunded": 0})
            total["charged"] += charge.amount
            total["captured"] += charge.amount_captured
            # Released money was never taken, so giving it up is not a refund.
            total["refunded"] += charge.amount_refunded - charge.released
        return totals
