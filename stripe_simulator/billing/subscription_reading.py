"""Reads what a request says about a subscription's items, trial and payment."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.billing.line_pricing import LineRequest, read_line
from stripe_simulator.billing.subscription_billing import (
    ALLOW_INCOMPLETE,
    DEFAULT_INCOMPLETE,
    ERROR_IF_INCOMPLETE,
    PENDING_IF_INCOMPLETE,
)
from stripe_simulator.billing.subscription_objects import Subscription, SubscriptionItem
from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price
from stripe_simulator.errors import StripeError, missing_parameter, no_such_object
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import (
    PriceRequest,
    read_price_request,
    read_quantity,
    refuse_custom,
    refused,
    require_type,
)

ITEM = (
    "billing_thresholds clear_usage current_trial deleted discounts id metadata plan price price_data "
    "quantity tax_rates"
)
ADDED = "discountable discounts metadata period price price_data quantity tax_rates"
BEHAVIORS = (ALLOW_INCOMPLETE, DEFAULT_INCOMPLETE, ERROR_IF_INCOMPLETE, PENDING_IF_INCOMPLETE)
PRORATIONS = ("always_invoice", "create_prorations", "none")
DAY_SECONDS = 24 * 60 * 60


@dataclass(slots=True)
class ItemRequest:
    """One item as asked for: a new one, or a change of the one with this id."""

    parameters: Parameters
    id: str | None
    price: PriceRequest | None
    quantity: int | None
    deleted: bool = False

    def find_price(self, call: Call, currency: str | None) -> Price | None:
        """The new price, if one is named; it must recur and have an amount in the currency."""
        if self.price is None:
            return None
        price = self.price.find(call)
        require_type(self.price, price, "recurring")
        refuse_custom(self.price, price)
        if currency is not None and currency != price.currency and currency not in price.currency_options:
            raise refused(
                f"The price has no amount in {currency}, the currency of the subscription.",
                self.price.parameters,
                self.price.name,
            )
        return price

    def quantity_for(self, price: Price, current: int | None = None) -> int | None:
        if price.is_metered:
            if self.quantity is not None:
                raise refused(
                    "You cannot set the quantity of an item with a metered price.",
                    self.parameters,
                    "quantity",
                )
            return None
        if self.quantity is not None:
            return self.quantity
        return 1 if current is None else current


def read_item(parameters: Parameters) -> ItemRequest:
    name = "price" if "plan" not in parameters else "plan"
    return ItemRequest(
        parameters,
        parameters.text("id"),
        read_price_request(parameters, name=name),
        read_quantity(parameters),
        parameters.boolean("deleted", default=False),
    )


def read_items(parameters: Parameters) -> list[ItemRequest]:
    """The array `items`."""
    return [read_item(sent) for sent in parameters.hashes("items", ITEM)]


def read_added(parameters: Parameters) -> list[LineRequest]:
    """What comes onto the next invoice once, beside the items."""
    added = [read_line(sent) for sent in parameters.hashes("add_invoice_items", ADDED)]
    for one in added:
        if one.price is None:
            raise missing_parameter(one.parameters.full_name("price"))
    return added


def item_at(subscription: Subscription, item_id: str, param: str) -> SubscriptionItem:
    for item in subscription.items:
        if item.id == item_id:
            return item
    raise no_such_object("subscription_item", item_id, param=param, status=400)


def read_trial_end(parameters: Parameters, now: int) -> int | None:
    """When the trial ends, in unix seconds; None when the request says nothing about a trial."""
    days = parameters.integer("trial_period_days")
    sent = parameters.text("trial_end")
    if days is not None and sent is not None:
        raise refused(
            "You may only specify one of these parameters: trial_end, trial_period_days.",
            parameters,
            "trial_end",
        )
    if days is not None:
        if not 0 <= days <= 730:
            raise refused("Trial periods are at most two years.", parameters, "trial_period_days")
        return now + days * DAY_SECONDS
    if sent is None:
        return None
    if sent == "now":
        return now
    end = parameters.integer("trial_end") or 0
    if end <= now:
        raise StripeError(400, "Trial end must be in the future, or `now`.", param="trial_end")
    return end


def read_behavior(parameters: Parameters) -> str:
    return parameters.choice("payment_behavior", BEHAVIORS) or ALLOW_INCOMPLETE


def read_proration(parameters: Parameters) -> str:
    return parameters.choice("proration_behavior", PRORATIONS) or "create_prorations"
