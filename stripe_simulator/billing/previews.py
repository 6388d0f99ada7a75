"""Invoice previews in a simple form: what the customer's next invoice would be. Nothing is kept."""

from __future__ import annotations

from stripe_simulator.billing.invoice_items import pending_items
from stripe_simulator.billing.invoice_objects import Described, Invoice, Line
from stripe_simulator.billing.line_pricing import LINE, read_line
from stripe_simulator.billing.subscription_billing import line_for
from stripe_simulator.billing.subscription_objects import ENDED, Subscription, SubscriptionItem
from stripe_simulator.billing.subscription_reading import ITEM, ItemRequest, item_at, read_item
from stripe_simulator.call import Call
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError

_DETAILS = (
    "billing_cycle_anchor billing_mode billing_schedules cancel_at cancel_at_period_end cancel_now "
    "default_tax_rates items metadata pause proration_behavior proration_date resume_at start_date trial_end"
)


def create_preview(call: Call) -> JsonObject:
    """A full period of the subscription with the changes named, the pending items, and those in the request.

    Prorations that a change would make are not previewed.
    """
    parameters = call.parameters
    requests = [read_line(sent) for sent in parameters.hashes("invoice_items", LINE + " invoiceitem")]
    details = parameters.hash("subscription_details", _DETAILS)
    changes = [read_item(sent) for sent in details.hashes("items", ITEM)] if details is not None else []
    customer_id, subscription_id = parameters.text("customer"), parameters.text("subscription")
    currency = parameters.currency() if "currency" in parameters else None
    subscription = _subscription(call, subscription_id)
    if subscription is not None:
        customer_id, currency = subscription.customer, subscription.currency
    if customer_id is not None:
        existing_customer(call, customer_id)
    items = _items_after(call, subscription, changes, currency)
    if items and currency is None:
        currency = items[0].price.currency
    resolved = [request.resolve(call, currency) for request in requests]
    waiting = pending_items(call, customer_id, currency) if customer_id is not None else []
    if currency is None:
        currency = resolved[0].currency if resolved else waiting[0].priced.currency if waiting else "usd"
    shown = subscription or Subscription("sub_preview", call.now, customer_id or "", currency, "", {})
    lines = [line_for(call, shown, item) for item in items]
    lines += [Line(call.new_id("il"), "", one.priced, one.described, one.id) for one in waiting]
    lines += [Line(call.new_id("il"), "", priced, Described()) for priced in resolved]
    if not lines:
        raise StripeError(404, "No upcoming invoices for customer", code="invoice_upcoming_none")
    return _draft(call, customer_id, currency, lines, subscription).json()


def _subscription(call: Call, subscription_id: str | None) -> Subscription | None:
    if subscription_id is None:
        return None
    found = call.ledger.subscriptions.require(subscription_id, param="subscription")
    if found.status in ENDED:
        raise StripeError(404, "No upcoming invoices for this subscription", code="invoice_upcoming_none")
    return found


def _items_after(
    call: Call, subscription: Subscription | None, changes: list[ItemRequest], currency: str | None
) -> list[SubscriptionItem]:
    """Copies of the items as they would be; the subscription's own stay as they are."""
    items = {item.id: _copy(item) for item in subscription.items} if subscription is not None else {}
    for change in changes:
        price = change.find_price(call, currency)
        if change.id is not None and subscription is not None:
            item = items[item_at(subscription, change.id, change.parameters.full_name("id")).id]
            item.price = price or item.price
            item.quantity = change.quantity_for(item.price, item.quantity)
            if change.deleted:
                del items[item.id]
        elif price is not None:
            made = SubscriptionItem(call.new_id("si"), call.now, "", price, change.quantity_for(price))
            items[made.id] = made
    return list(items.values())


def _copy(item: SubscriptionItem) -> SubscriptionItem:
    return SubscriptionItem(
        item.id,
        item.created,
        item.subscription,
        item.price,
        item.quantity,
        item.metadata,
        item.period_start,
        item.period_end,
    )


def _draft(
    call: Call, customer_id: str | None, currency: str, lines: list[Line], subscription: Subscription | None
) -> Invoice:
    customer = call.ledger.customers.get(customer_id or "")
    return Invoice(
        id=call.new_id("upcoming_in"),
        created=call.now,
        customer=customer_id or "",
        currency=currency,
        collection_method="charge_automatically",
        auto_advance=False,
        metadata={},
        billing_reason="upcoming",
        subscription=subscription.id if subscription is not None else None,
        lines=lines,
        starting_balance=customer.balance if customer is not None else 0,
    )
