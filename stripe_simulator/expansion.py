"""`expand`: ids in an answer replaced by the objects they name."""

from __future__ import annotations

from collections.abc import Iterable

from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.ledger import Ledger
from stripe_simulator.objects import Refund

_DEEPEST = 4

# For each kind of object, its expandable fields and the kind each leads to; an empty kind leads nowhere.
_EXPANDABLE: dict[str, dict[str, str]] = {
    "charge": {
        "application_fee": "",
        "balance_transaction": "",
        "customer": "customer",
        "failure_balance_transaction": "",
        "on_behalf_of": "",
        "payment_intent": "payment_intent",
        "payment_method": "",
        "refunds": "",
        "review": "",
        "source_transfer": "",
        "transfer": "",
    },
    "payment_intent": {
        "customer": "customer",
        "latest_charge": "charge",
        "on_behalf_of": "",
        "payment_method": "payment_method",
        "review": "",
    },
    "payment_method": {"customer": "customer"},
    "refund": {
        "balance_transaction": "",
        "charge": "charge",
        "payment_intent": "payment_intent",
        "transfer_reversal": "",
    },
    "customer": {
        "default_source": "",
        "sources": "",
        "subscriptions": "",
        "tax": "",
        "tax_ids": "",
        "cash_balance": "",
    },
    "product": {"default_price": "price", "tax_code": ""},
    "price": {"product": "product", "currency_options": "", "tiers": ""},
    "event": {},
    "balance": {},
}


def check_expansions(paths: Iterable[str], kind: str, in_list: bool) -> None:
    """Refuse a path that no object of this kind has."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > _DEEPEST:
            raise StripeError(400, f"You cannot expand more than {_DEEPEST} levels of a property ({path}).")
        if in_list:
            if steps[0] != "data":
                hint = f" You may want to try expanding 'data.{path}' instead."
                raise StripeError(400, f"This property cannot be expanded ({path}).{hint}")
            steps = steps[1:]
        current = kind
        for step in steps:
            if step not in _EXPANDABLE.get(current, {}):
                raise StripeError(400, f"This property cannot be expanded ({path}).")
            current = _EXPANDABLE[current][step]


def expand(ledger: Ledger, answer: JsonObject, paths: Iterable[str]) -> None:
    """Replace, in place, what each checked path leads to."""
    for path in paths:
        steps = path.split(".")
        if steps[0] == "data" and answer.get("object") == "list":
            for item in answer["data"]:
                _expand_one(ledger, item, steps[1:])
        else:
            _expand_one(ledger, answer, steps)


def _expand_one(ledger: Ledger, item: JsonObject, steps: list[str]) -> None:
    if not steps:
        return
    name = steps[0]
    if name == "refunds" and item.get("object") == "charge":
        item["refunds"] = _refunds_of(ledger, str(item["id"]))
        return
    value = item.get(name)
    if isinstance(value, str):
        value = item[name] = ledger.find(value) or value
    if isinstance(value, dict):
        _expand_one(ledger, value, steps[1:])


def _refunds_of(ledger: Ledger, charge_id: str) -> JsonObject:
    charge = ledger.charges.get(charge_id)
    newest_first: list[Refund] = list(reversed(charge.refunds)) if charge is not None else []
    return {
        "object": "list",
        "data": [refund.json() for refund in newest_first],
        "has_more": False,
        "url": f"/v1/charges/{charge_id}/refunds",
    }
