"""Pages of a list: newest first, with the cursors and the creation-time filter every list has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.parameters import Parameters

if TYPE_CHECKING:
    from stripe_simulator.call import Call
    from stripe_simulator.ledger import Collection, Stored

S = TypeVar("S", bound="Stored")

_DEFAULT_LIMIT = 10
_LARGEST_LIMIT = 100
_SHOWN_INSIDE = 10

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda created, bound: created > bound,
    "gte": lambda created, bound: created >= bound,
    "lt": lambda created, bound: created < bound,
    "lte": lambda created, bound: created <= bound,
}


def page_of(call: Call, objects: Iterable[S], noun: str) -> JsonObject:
    """One page of a list that has an order of its own, such as the lines of an invoice."""
    # Imported late: the ledger's own module needs this one.
    from stripe_simulator.ledger import Collection  # noqa: PLC0415

    newest_last: Collection[S] = Collection(noun)
    for item in reversed(list(objects)):
        newest_last.add(item)
    return page(call, newest_last)


def page(call: Call, objects: Collection[S], keep: Callable[[S], bool] = lambda _: True) -> JsonObject:
    """One page of the objects that pass the endpoint's own filter and `created`."""
    parameters = call.parameters
    created = _created_filter(parameters)
    limit = _limit(parameters)
    after = _cursor(parameters, objects, "starting_after")
    before = _cursor(parameters, objects, "ending_before")
    if after is not None and before is not None:
        raise StripeError(400, "You may only specify one of these parameters: starting_after, ending_before.")
    walk = objects.newest_first(after) if before is None else objects.oldest_first(before)
    found = list(islice((item for item in walk if keep(item) and created(item.created)), limit + 1))
    data = found[:limit]
    if before is not None:
        data.reverse()
    return {
        "object": "list",
        "data": [item.json() for item in data],
        "has_more": len(found) > limit,
        "url": call.path,
    }


def _limit(parameters: Parameters) -> int:
    """Out of range is clamped, not refused, as Stripe does."""
    limit = parameters.integer("limit")
    return _DEFAULT_LIMIT if limit is None else max(1, min(limit, _LARGEST_LIMIT))


def _cursor(parameters: Parameters, objects: Collection[S], name: str) -> int | None:
    object_id = parameters.text(name)
    if object_id is None:
        return None
    objects.require(object_id, param=name, status=400)
    return objects.position(object_id)


def _created_filter(parameters: Parameters) -> Callable[[int], bool]:
    """`created=5` is an exact time; `created[gte]=5` and its kin are bounds. Unix seconds."""
    if "created" not in parameters:
        return lambda _: True
    try:
        bounds = parameters.mapping("created")
    except StripeError:
        exact = parameters.integer("created")
        return lambda created: created == exact
    if bounds is None:
        return lambda _: True
    inner = Parameters(bounds)
    inner.refuse_unknown(frozenset(_COMPARISONS))
    checks = [(_COMPARISONS[name], inner.integer(name)) for name in bounds]
    return lambda created: all(bound is None or compare(created, bound) for compare, bound in checks)


def whole_list(items: list[JsonObject], url: str) -> JsonObject:
    """A list inside an object: its first page, and where the rest is."""
    return {
        "object": "list",
        "data": items[:_SHOWN_INSIDE],
        "has_more": len(items) > _SHOWN_INSIDE,
        "url": url,
    }
