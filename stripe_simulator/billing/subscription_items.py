"""The items of a subscription by their own paths; the answers are items and name no amount."""

from __future__ import annotations

from stripe_simulator.billing.subscription_changes import Change, apply_change
from stripe_simulator.billing.subscription_objects import ENDED, Subscription, SubscriptionItem
from stripe_simulator.billing.subscription_reading import (
    ItemRequest,
    read_behavior,
    read_item,
    read_proration,
)
from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, missing_parameter, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page_of


def _change(call: Call, request: ItemRequest) -> Change:
    parameters = call.parameters
    return Change(
        items=[request],
        proration=read_proration(parameters),
        behavior=read_behavior(parameters),
        moment=parameters.integer("proration_date") or call.now,
        off_session=parameters.boolean("off_session", default=True),
    )


def _apply(call: Call, subscription: Subscription, change: Change) -> None:
    before = subscription.json()
    apply_change(call, subscription, change)
    record_event(call, "customer.subscription.updated", subscription.json(), before)


def _running(call: Call, subscription_id: str, param: str, status: int) -> Subscription:
    subscription = call.ledger.subscriptions.require(subscription_id, param=param, status=status)
    if subscription.status in ENDED:
        raise no_such_object("subscription", subscription.id, param=param, status=status)
    return subscription


def create(call: Call) -> JsonObject:
    subscription_id = call.parameters.required_text("subscription")
    request = read_item(call.parameters)
    if request.price is None:
        raise missing_parameter("price")
    change = _change(call, request)
    call.begin()
    subscription = _running(call, subscription_id, "subscription", 400)
    _apply(call, subscription, change)
    return subscription.items[-1].json()


def _at_path(call: Call) -> tuple[Subscription, SubscriptionItem]:
    item = call.ledger.subscription_items.require(call.path_ids[0], param="id")
    subscription = _running(call, item.subscription, "id", 404)
    if item not in subscription.items:
        raise no_such_object("subscription_item", item.id, param="id")
    return subscription, item


def retrieve(call: Call) -> JsonObject:
    return _at_path(call)[1].json()


def update(call: Call) -> JsonObject:
    request = read_item(call.parameters)
    change = _change(call, request)
    call.begin()
    subscription, item = _at_path(call)
    request.id = item.id
    _apply(call, subscription, change)
    return item.json()


def delete(call: Call) -> JsonObject:
    request = read_item(call.parameters)
    request.deleted = True
    change = _change(call, request)
    subscription, item = _at_path(call)
    request.id = item.id
    _apply(call, subscription, change)
    return {"id": item.id, "object": "subscription_item", "deleted": True}


def list_items(call: Call) -> JsonObject:
    subscription_id = call.parameters.required_text("subscription")
    subscription = call.ledger.subscriptions.require(subscription_id, param="subscription")
    return page_of(call, subscription.items, "subscription_item")
