"""Pages of a v2 list: newest first, with an address for the page before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.forms import flatten

if TYPE_CHECKING:
    from stripe_simulator.call import Call
    from stripe_simulator.ledger import Collection, Stored

S = TypeVar("S", bound="Stored")

_DEFAULT_LIMIT = 20
_LARGEST_LIMIT = 100
_PAGE = "page_"


def page_v2(call: Call, objects: Collection[S], keep: Callable[[S], bool]) -> JsonObject:
    """One page. A page token names the position its first object comes after."""
    limit = _read_limit(call)
    found = [item for item in objects.newest_first() if keep(item)]
    start = _read_start(call, found)
    end = start + limit
    return {
        "data": [item.json() for item in found[start:end]],
        "next_page_url": _url(call, found, end) if end < len(found) else None,
        "previous_page_url": _url(call, found, max(0, start - limit)) if start > 0 else None,
    }


def _read_limit(call: Call) -> int:
    sent = call.parameters.text("limit")
    if sent is None:
        return _DEFAULT_LIMIT
    if not (sent.isascii() and sent.isdigit()) or int(sent) < 1:
        raise StripeError(400, f"Invalid limit: {sent}.", code="invalid_fields")
    return min(int(sent), _LARGEST_LIMIT)


def _read_start(call: Call, found: list[S]) -> int:
    token = call.parameters.text("page")
    if token is None or token == f"{_PAGE}first":
        return 0
    for index, item in enumerate(found):
        if token == _PAGE + item.id:
            return index
    raise StripeError(400, f"Invalid page: {token}.", code="invalid_fields")


def _url(call: Call, found: list[S], start: int) -> str:
    """The same list from this position on, relative, with every filter kept."""
    query = {name: value for name, value in flatten(call.parameters.form).items() if name != "page"}
    query["page"] = _PAGE + (found[start].id if start else "first")
    return f"{call.path}?{urlencode(query)}"
