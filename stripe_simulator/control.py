"""The control interface under `/_simulator/`: what was seen, the clock, the faults, and a fresh start."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from stripe_simulator.api import StripeApi
from stripe_simulator.faults import FaultError, read_fault
from stripe_simulator.forms import parse_form

PREFIX = "/_simulator/"


class ControlError(ValueError):
    """A control request that is not understood; the message says why."""


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


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        raise ControlError("the body is not JSON") from None
    if not isinstance(read, dict):
        raise ControlError("the body is not a JSON object")
    return read


def _requests(api: StripeApi, query: str, body: bytes) -> Any:
    filters = parse_form(query)
    if set(filters) - {"method"}:
        raise ControlError("requests can be filtered by method only")
    method = filters.get("method")
    wanted = method.upper() if isinstance(method, str) else None
    return [entry.json() for entry in api.log if wanted in (None, entry.method)]


def _summary(api: StripeApi, query: str, body: bytes) -> Any:
    """Counts over every account. Money is in minor units."""
    money: dict[str, Counter[str]] = {}
    charges: Counter[str] = Counter(succeeded=0, failed=0)
    for ledger in api.ledgers.values():
        for charge in ledger.charges:
            charges["failed" if charge.decline else "succeeded"] += 1
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
    sent = _read_object(body)
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
    fault = read_fault(_read_object(body))
    api.faults.add(fault)
    return fault.json()


def _clear_faults(api: StripeApi, query: str, body: bytes) -> Any:
    return {"cleared": api.faults.clear()}


def _reset(api: StripeApi, query: str, body: bytes) -> Any:
    api.reset()
    return {"reset": True}


_Action = Callable[[StripeApi, str, bytes], Any]
_ACTIONS: dict[str, dict[str, _Action]] = {
    "requests": {"GET": _requests},
    "summary": {"GET": _summary},
    "clock": {"GET": _now, "POST": _move_clock},
    "faults": {"GET": _list_faults, "POST": _add_fault, "DELETE": _clear_faults},
    "reset": {"POST": _reset},
}
