"""The control interface under `/_simulator/`: what was seen, what moved, the clock, faults, a fresh start.

What people and banks do outside the API is in `outside`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from stripe_simulator import outside
from stripe_simulator.api import StripeApi
from stripe_simulator.authentication import PLATFORM_ACCOUNT
from stripe_simulator.faults import FaultError, read_fault
from stripe_simulator.forms import parse_form
from stripe_simulator.outside import ControlError, read_object
from stripe_simulator.request_log import LoggedRequest

PREFIX = "/_simulator/"


def answer_control(api: StripeApi, method: str, target: str, body: bytes) -> tuple[int, Any]:
    """The status and JSON for one control request."""
    path, _, query = target.partition("?")
    name = path.removeprefix(PREFIX)
    actions = _ACTIONS.get(name)
    if actions is None:
        return 404, {
            "error": f"there is no {path}; known are {', '.join(PREFIX + known for known in _ACTIONS)}"
        }
    action = actions.get(method)
    if action is None:
        return 405, {"error": f"{path} takes {', '.join(actions)}, not {method}"}
    try:
        return 200, action(api, query, body)
    except (ControlError, FaultError) as refused:
        return 400, {"error": str(refused)}


_REQUEST_FILTERS = frozenset(("account", "after", "executed", "method"))


def _requests(api: StripeApi, query: str, body: bytes) -> Any:
    """In order. `method` may name several, `account` a connected one, `after` the number of an entry."""
    filters = parse_form(query)
    if set(filters) - _REQUEST_FILTERS or not all(isinstance(one, str) for one in filters.values()):
        raise ControlError(f"requests can be filtered by {', '.join(sorted(_REQUEST_FILTERS))} only")
    methods = str(filters["method"]).upper().split(",") if "method" in filters else None
    account, executed, after = filters.get("account"), filters.get("executed"), filters.get("after", "0")
    if executed not in (None, "true", "false") or not str(after).isdecimal():
        raise ControlError("executed is true or false, and after is a whole number")

    def wanted(entry: LoggedRequest) -> bool:
        return (
            (methods is None or entry.method in methods)
            and (account is None or account == (entry.stripe_account or PLATFORM_ACCOUNT))
            and (executed is None or entry.executed == (executed == "true"))
            and entry.n > int(str(after))
        )

    return [entry.json() for entry in api.log if wanted(entry)]


def _money(api: StripeApi, query: str, body: bytes) -> Any:
    """Every movement of money in order, and the request it came from; null for what is outside the API."""
    moved = [
        {**movement.json(), "request": entry.n, "account": entry.stripe_account or PLATFORM_ACCOUNT}
        for entry in api.log
        for movement in entry.money
    ]
    moved += [{**movement.json(), "request": None, "account": account} for account, movement in api.outside]
    return {"movements": sorted(moved, key=lambda one: int(one["n"]))}


def _summary(api: StripeApi, query: str, body: bytes) -> Any:
    """Counts over every account. Money is in minor units."""
    money: dict[str, Counter[str]] = {}
    charges: Counter[str] = Counter(succeeded=0, failed=0)
    for ledger in api.ledgers.values():
        for charge in ledger.charges:
            charges[charge.status] += 1
        for currency, totals in ledger.money().items():
            money.setdefault(currency, Counter()).update(totals)
    return {
        "posts": api.log.posts.json(),
        "endpoints": {name: count.json() for name, count in sorted(api.log.endpoints.items())},
        "charges": dict(charges),
        "refunds": sum(len(ledger.refunds) for ledger in api.ledgers.values()),
        "money": {currency: dict(totals) for currency, totals in sorted(money.items())},
    }


def _now(api: StripeApi, query: str, body: bytes) -> Any:
    return {"now": api.clock.now()}


def _move_clock(api: StripeApi, query: str, body: bytes) -> Any:
    sent = read_object(body)
    if len(sent) != 1 or not set(sent) <= {"advance_seconds", "set"}:
        raise ControlError('send either {"advance_seconds": n} or {"set": unix seconds}')
    name, value = next(iter(sent.items()))
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ControlError(f"{name} must be a number")
    if name == "set":
        api.clock.set(value)
    else:
        api.clock.advance(value)
    return _now(api, query, body)


def _list_faults(api: StripeApi, query: str, body: bytes) -> Any:
    return {"faults": api.faults.json()}


def _add_fault(api: StripeApi, query: str, body: bytes) -> Any:
    fault = read_fault(read_object(body))
    api.faults.add(fault)
    return fault.json()


def _clear_faults(api: StripeApi, query: str, body: bytes) -> Any:
    return {"cleared": api.faults.clear()}


def _read_settings(api: StripeApi, query: str, body: bytes) -> Any:
    return asdict(api.settings)


def _change_settings(api: StripeApi, query: str, body: bytes) -> Any:
    """Set some of the settings; they last until a reset."""
    for name, value in read_object(body).items():
        current = getattr(api.settings, name, None)
        if current is None or type(current) is not type(value):
            known = ", ".join(
                f"{known} ({type(was).__name__})" for known, was in asdict(api.settings).items()
            )
            raise ControlError(f"{name!r} cannot be {value!r}; known are {known}")
        setattr(api.settings, name, value)
    return asdict(api.settings)


def _reset(api: StripeApi, query: str, body: bytes) -> Any:
    api.reset()
    return {"reset": True}


_Action = Callable[[StripeApi, str, bytes], Any]
_ACTIONS: dict[str, dict[str, _Action]] = {
    "requests": {"GET": _requests},
    "summary": {"GET": _summary},
    "clock": {"GET": _now, "POST": _move_clock},
    "faults": {"GET": _list_faults, "POST": _add_fault, "DELETE": _clear_faults},
    "money": {"GET": _money},
    "settings": {"GET": _read_settings, "POST": _change_settings},
    "resolve": {"POST": outside.resolve},
    "pay": {"POST": outside.pay},
    "dispute": {"POST": outside.dispute},
    "fund": {"POST": outside.fund},
    "renew": {"POST": outside.renew},
    "reset": {"POST": _reset},
}
