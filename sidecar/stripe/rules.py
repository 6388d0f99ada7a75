"""How an endpoint is priced: what a call commits at most, read from the request or asked of Stripe.

The request names the amount; or an object at Stripe says what the request
leaves open; or prices and quantities are added up; or nobody can tell before.
When several amounts are possible, the highest counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sidecar.refusals import Refused
from sidecar.stripe.asking import Object, at, currency_of, fetched, item_ids, readable
from sidecar.stripe.given import Given
from sidecar.vendor import Fetch, Money, Price, Unpriced


class Rule(Protocol):
    """How one endpoint is priced."""

    @property
    def says(self) -> str:
        """Where the amount stands, in words, for the documentation."""

    def moves(self, given: Given) -> bool:
        """Tell whether a call with these parameters moves money at all."""

    def read(self, given: Given) -> Price | None:
        """Return the price as far as the request alone says it; None when Stripe must be asked."""

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price | None:
        """Ask Stripe; None when the call moves no money after all."""


@dataclass(frozen=True, slots=True)
class Named:
    """The request names amount and currency."""

    amount: str = "amount"
    currency: str = "currency"
    signed: bool = False
    """Either sign moves money, in one direction or the other."""
    optional: bool = False
    """Without the amount the call moves nothing."""

    @property
    def says(self) -> str:
        """Where the amount stands."""
        return f"`{self.amount}`, in `{self.currency}`"

    def moves(self, given: Given) -> bool:
        """Tell whether an amount is given, where it may be left out."""
        return not self.optional or self.amount in given

    def read(self, given: Given) -> Price:
        """Return the amount that the request names."""
        amount = given.integer(self.amount, signed=self.signed)
        if amount is None:
            raise given.missing(self.amount)
        return Price(Money(abs(amount), given.currency(self.currency)))

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price:
        """Never needed: the request says it all."""
        return self.read(given)


Total = Callable[[Object, int | None], int]
"""From the object as it is and the amount given, what is committed after the call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The object that the call is about says what the request leaves open."""

    path: str
    """Where to GET it; ``{}`` is the id in the request's path, or the parameter in ``by``."""
    total: Total
    says: str
    amount: str = "amount"
    """The parameter that may name an amount."""
    by: str = ""
    """The parameter that names the object, when the path does not."""
    signed: bool = False
    currency: str = "currency"
    """Where the object names its currency."""
    unless: tuple[str, str] = ("", "")
    """With this parameter at this value, the call moves nothing through Stripe."""
    when: str = ""
    """Without this parameter, the call moves nothing."""
    step_by: bool = False
    """Whether the call is a step on the object that ``by`` names."""
    items: bool = False
    """Whether the object's lines are invoice items, which are counted already where they were made."""

    def moves(self, given: Given) -> bool:
        """Tell whether ``when`` and ``unless`` let money move."""
        name, value = self.unless
        return (not self.when or self.when in given) and not (name and given.get(name) == value)

    def read(self, given: Given) -> None:
        """Check what the request names; the rest must be asked."""
        given.integer(self.amount, signed=self.signed, zero=self.signed)
        if self.by and not given.object_id(self.by):
            raise given.missing(self.by)

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price:
        """GET the object and add up what it commits after the call."""
        about = given.object_id(self.by) if self.by else object_id
        source = await fetched(fetch, self.path.replace("{}", about))
        amount = given.integer(self.amount, signed=self.signed, zero=self.signed)
        money = readable(lambda: Money(self.total(source, amount), currency_of(source, self.currency)))
        if money.minor_units < 0 or (money.minor_units == 0 and amount is None and self.total is not nothing):
            raise Refused(400, "amount_unknown", "There is nothing left that this call could move.")
        return Price(
            money,
            object_id=about if self.step_by else "",
            absorbed=item_ids(source) if self.items else (),
        )


@dataclass(frozen=True, slots=True)
class Refund:
    """Gives money back to who paid a charge or a payment intent."""

    path_is_charge: bool = False
    """Whether the path names the charge; otherwise a parameter does."""
    says: str = "`amount`, else what is left of the charge"

    def moves(self, given: Given) -> bool:
        """A refund always moves money."""
        return True

    def read(self, given: Given) -> None:
        """Check what the request names."""
        given.integer("amount")
        if not self.path_is_charge:
            self._source(given)

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price:
        """GET the charge and see what is left of it."""
        name, of = ("charge", object_id) if self.path_is_charge else self._source(given)
        path = f"/v1/charges/{of}" if name == "charge" else f"/v1/payment_intents/{of}?expand[]=latest_charge"
        source = await fetched(fetch, path)
        amount = given.integer("amount")
        charge = source.get("latest_charge") if name == "payment_intent" else source
        if not isinstance(charge, Mapping):
            raise Refused(400, "amount_unknown", f"{of} has no charge that could be refunded.")
        # After a partial capture, amount_refunded already holds the part given back.
        left = readable(lambda: int(charge["amount"]) - int(charge["amount_refunded"]))
        if amount is None and left <= 0:
            raise Refused(400, "charge_already_refunded", f"Nothing of {of} is left to refund.")
        intent = charge.get("payment_intent") or (of if name == "payment_intent" else "")
        # What was paid through an intent is counted under the intent.
        paid = intent if isinstance(intent, str) and intent else str(charge.get("id", of))
        return Price(
            Money(left if amount is None else amount, readable(lambda: currency_of(charge))), refunded=paid
        )

    @staticmethod
    def _source(given: Given) -> tuple[str, str]:
        named = [name for name in ("charge", "payment_intent") if given.object_id(name)]
        if len(named) != 1:
            raise Refused(400, "amount_unknown", "A refund needs exactly one of charge or payment_intent.")
        return named[0], given.get(named[0])


Compute = Callable[[Given, str, Fetch], Awaitable[Price | None]]


@dataclass(frozen=True, slots=True)
class Computed:
    """Several prices are added up."""

    compute: Compute
    says: str
    understood: frozenset[str] = frozenset()
    """The parameters that pricing knows; with any other the call is not priced. Empty means all."""
    harmless: frozenset[str] = frozenset()
    """A call that gives nothing but these parameters moves no money; empty means that every call may."""
    unless: tuple[str, str] = ("", "")
    """With this parameter at this value, the call moves nothing."""

    def moves(self, given: Given) -> bool:
        """Tell whether anything is given that could move money."""
        name, value = self.unless
        if name and given.get(name) == value:
            return False
        return not (self.harmless and given.names <= self.harmless)

    def read(self, given: Given) -> None:
        """Nothing is known before Stripe is asked."""

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price | None:
        """Ask for every price and add up; `Unpriced` with a parameter that pricing does not know."""
        unknown = given.unknown(self.understood) if self.understood else ""
        if unknown:
            raise Unpriced(f"what the parameter {unknown} adds is not known")
        return await self.compute(given, object_id, fetch)


@dataclass(frozen=True, slots=True)
class NotPriced:
    """Nobody can tell before, so the policy must allow it by name."""

    why: str
    when: tuple[str, ...] = ()
    """Without any of these parameters, the call moves nothing; empty means that every call may."""
    harmless: frozenset[str] = frozenset()
    """A call that gives nothing but these parameters moves nothing; empty means that every call may."""

    @property
    def says(self) -> str:
        """Why it is not priced."""
        named = " or ".join(f"`{name}`" for name in self.when)
        return f"with {named}: not priced: {self.why}" if named else f"not priced: {self.why}"

    def moves(self, given: Given) -> bool:
        """Tell whether anything is given that could move money."""
        if self.harmless:
            return bool(given.unknown(self.harmless))
        return not self.when or any(name in given for name in self.when)

    def read(self, given: Given) -> None:
        """Nothing can be read."""

    async def ask(self, given: Given, object_id: str, fetch: Fetch) -> Price:
        """Say that nobody knows."""
        raise Unpriced(self.why)


def whole(field: str = "amount") -> Total:
    """What is given, else all of one field."""
    return lambda source, given: int(at(source, field)) if given is None else given


def rest(field: str, less: str) -> Total:
    """What is given, else one field less another."""
    return lambda source, given: int(source[field]) - int(source[less]) if given is None else given


def nothing(source: Object, given: int | None) -> int:
    """The object commits nothing any more; only its currency is asked for."""
    return 0


def captured(intent: Object, given: int | None) -> int:
    """What an intent has received after one more capture."""
    more = int(intent["amount_capturable"]) if given is None else given
    return int(intent["amount_received"]) + more


def balance_change(customer: Object, given: int | None) -> int:
    """How far a customer's balance is moved to the one given."""
    return abs((given or 0) - int(customer.get("balance") or 0))
