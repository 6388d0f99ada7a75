"""Changes a running subscription: its items, its cycle, its trial; and bills what that comes to.

Proration in its simple form: for each changed item, the unused part of its period is credited at the old
price and charged at the new one, by the second. `create_prorations` leaves both as pending invoice items,
`always_invoice` bills them at once, `none` makes neither. A cycle that begins anew is billed at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from stripe_simulator.billing import invoice_life
from stripe_simulator.billing.invoice_items import add_item
from stripe_simulator.billing.invoice_objects import Described, Line, Priced
from stripe_simulator.billing.line_pricing import LineRequest, name_of
from stripe_simulator.billing.subscription_billing import (
    ERROR_IF_INCOMPLETE,
    PENDING_IF_INCOMPLETE,
    begin_period,
    collect,
    draft_invoice,
    line_for,
    share,
)
from stripe_simulator.billing.subscription_objects import (
    ACTIVE,
    PAST_DUE,
    TRIALING,
    Subscription,
    SubscriptionItem,
)
from stripe_simulator.billing.subscription_reading import ItemRequest, item_at
from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import rounded
from stripe_simulator.errors import StripeError


@dataclass(slots=True)
class Change:
    """What is to change. `restarts` begins a new cycle now; `moment` is the time prorations count from."""

    items: list[ItemRequest]
    proration: str
    behavior: str
    moment: int
    added: list[LineRequest] = field(default_factory=list)
    restarts: bool = False
    off_session: bool = True


@dataclass(slots=True)
class _Before:
    """An item's cost before the change."""

    total: int
    interval: object


class _Snapshot:
    """The items as they were, to put them back when a change is refused."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._items = [
            (item, item.price, item.quantity, item.metadata, item.period_start, item.period_end)
            for item in subscription.items
        ]

    def restore(self) -> None:
        self._subscription.items = [kept[0] for kept in self._items]
        for item, price, quantity, metadata, start, end in self._items:
            item.price, item.quantity, item.metadata = price, quantity, metadata
            item.period_start, item.period_end = start, end


def apply_change(call: Call, subscription: Subscription, change: Change) -> None:
    """Change the items and bill what follows; puts them back when the payment behavior says so."""
    before = _Snapshot(subscription)
    try:
        touched = _change_items(call, subscription, change)
        added = [request.resolve(call, subscription.currency) for request in change.added]
    except StripeError:
        before.restore()
        raise
    restarts = change.restarts or any(
        old.total > 0 and old.interval != _interval(item) for item, old in touched
    )
    if change.proration != "none" and subscription.status != TRIALING:
        for item, old in touched:
            _prorate(call, subscription, item, old, change.moment, restarts=restarts)
    for priced in added:
        described = Described(subscription=subscription.id, period_start=call.now, period_end=call.now)
        add_item(call, subscription.customer, priced, described)
    if restarts or change.proration == "always_invoice":
        _bill(call, subscription, change, before, _restart(call, subscription) if restarts else [])


def _bill(
    call: Call, subscription: Subscription, change: Change, before: _Snapshot, lines: list[Line]
) -> None:
    """Invoice what the change comes to, and see to a payment that fails."""
    previous = subscription.latest_invoice
    invoice = draft_invoice(call, subscription, lines, "subscription_update")
    if not invoice.lines:
        invoice_life.delete_draft(call, invoice)
        subscription.latest_invoice = previous
        return
    refusal = collect(call, subscription, invoice, change.behavior, off_session=change.off_session)
    if refusal is None:
        return
    if change.behavior not in (ERROR_IF_INCOMPLETE, PENDING_IF_INCOMPLETE):
        subscription.status = PAST_DUE if subscription.status == ACTIVE else subscription.status
        return
    before.restore()
    if change.behavior == ERROR_IF_INCOMPLETE:
        invoice_life.void(call, invoice)
        raise refusal
    subscription.pending_update = {
        "billing_cycle_anchor": None,
        "expires_at": call.now + 23 * 60 * 60,
        "subscription_items": [],
        "trial_end": None,
        "trial_from_plan": None,
    }


def _interval(item: SubscriptionItem) -> object:
    rule = item.price.recurring or {}
    return rule.get("interval"), rule.get("interval_count")


def _change_items(
    call: Call, subscription: Subscription, change: Change
) -> list[tuple[SubscriptionItem, _Before]]:
    """Every item that is new, other or gone, with what it cost before."""
    touched = []
    for request in change.items:
        if request.id is None:
            item = _new_item(call, subscription, request)
            touched.append((item, _Before(0, None)))
            continue
        item = item_at(subscription, request.id, request.parameters.full_name("id"))
        old = _Before(item.total(subscription.currency), _interval(item))
        touched.append((item, old))
        if request.deleted:
            subscription.items.remove(item)
            item.quantity = None
            continue
        price = request.find_price(call, subscription.currency)
        item.price = price or item.price
        item.quantity = request.quantity_for(item.price, item.quantity)
        item.metadata = request.parameters.metadata(item.metadata)
    if not subscription.items:
        raise StripeError(400, "A subscription must have at least one active plan.", param="items")
    return touched


def _new_item(call: Call, subscription: Subscription, request: ItemRequest) -> SubscriptionItem:
    price = request.find_price(call, subscription.currency)
    if price is None:
        param = request.parameters.full_name("price")
        raise StripeError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)
    metadata = request.parameters.metadata({})
    item = SubscriptionItem(
        call.new_id("si"), call.now, subscription.id, price, request.quantity_for(price), metadata
    )
    # A new item joins the cycle of those that are there.
    first = subscription.items[0] if subscription.items else None
    begin_period(item, first.period_start if first else call.now, first.period_end if first else None)
    subscription.items.append(item)
    return call.ledger.subscription_items.add(item)


def _prorate(
    call: Call,
    subscription: Subscription,
    item: SubscriptionItem,
    old: _Before,
    moment: int,
    *,
    restarts: bool,
) -> None:
    part = share(item, moment)
    now_costs = 0 if restarts else item.total(subscription.currency)
    if old.total == now_costs and not restarts:
        return
    for word, amount in (("Unused", -rounded(old.total * part)), ("Remaining", rounded(now_costs * part))):
        if amount:
            _pending(call, subscription, item, f"{word} time on {name_of(call, item.price)}", amount)


def _pending(call: Call, subscription: Subscription, item: SubscriptionItem, words: str, amount: int) -> None:
    described = Described(
        description=words,
        proration=True,
        subscription=subscription.id,
        subscription_item=item.id,
        period_start=call.now,
        period_end=item.period_end,
    )
    priced = Priced(amount, subscription.currency, item.price, None, Decimal(item.quantity or 0))
    add_item(call, subscription.customer, priced, described)


def credit_unused(call: Call, subscription: Subscription) -> None:
    """What is paid for and will not be used becomes a pending credit."""
    for item in subscription.items:
        amount = -rounded(item.total(subscription.currency) * share(item, call.now))
        if amount and subscription.status != TRIALING:
            _pending(call, subscription, item, f"Unused time on {name_of(call, item.price)}", amount)


def _restart(call: Call, subscription: Subscription) -> list[Line]:
    """Every item begins a new period now."""
    subscription.billing_cycle_anchor = call.now
    for item in subscription.items:
        begin_period(item, call.now)
    return [line_for(call, subscription, item) for item in subscription.items]
