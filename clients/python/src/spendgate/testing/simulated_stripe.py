"""The simulated Stripe: what it was asked, what it did, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

_TIMEOUT_S = 30.0
_PREPARES = "sk_test_preparation_of_the_test"
"""Opens the simulator, and tells what a test prepares from what the agent does."""


@dataclass(frozen=True, slots=True)
class StripeCall:
    """One request that reached the simulated Stripe."""

    number: int
    seconds: int
    """Unix time, by Stripe's clock."""
    endpoint: str
    amount: int | None
    currency: str
    status: int | None
    """None while it is under way, and after a connection that broke."""
    executed: bool
    replayed: bool
    object_id: str
    fault: str
    idempotency_key: str
    key_end: str
    """The last four characters of the key that it came with."""
    paid: int
    """What it moved or committed towards the account, in minor units."""
    refunded: int
    """What it moved or committed away from the account, in minor units."""
    shown: str
    """Query, headers and body as they came; a key that is where it belongs is left out."""

    @property
    def is_clear(self) -> bool:
        """Whether whoever asked knows from the answer what happened."""
        return (
            self.status is not None
            and self.status < 500
            and self.status not in {409, 429}
            and self.fault != "drop_reply"
        )


class SimulatedStripe:
    """A client of the simulator, for preparing it and for looking behind the agent's back."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._http = httpx.Client(base_url=origin, timeout=_TIMEOUT_S, trust_env=False)

    def create(self, path: str, **form: str) -> dict[str, Any]:
        """Make an object for the agent to find: ``create("/v1/customers", source="tok_visa")``."""
        answer = self._http.post(path, data=form, headers={"Authorization": f"Bearer {_PREPARES}"})
        return dict(answer.raise_for_status().json())

    def calls(self) -> list[StripeCall]:
        """Return the agent's requests in order, straight or by the sidecar."""
        logged = self._http.get("/_simulator/requests").raise_for_status().json()
        calls = [_call(one) for one in logged]
        return [call for call in calls if call.key_end != _PREPARES[-4:]]

    def fault(self, kind: str, *, times: int | None = 1, **more: Any) -> None:
        """Let the next POSTs fail: ``drop_reply``, ``error_before``, ``error_after``, ``delay``, ``refuse``.

        ``times`` None is until `heal`. A ``delay`` has ``seconds`` and a ``stage``, an error a ``status``.
        """
        body = {"fault": kind, "times": times, "match": {"method": "POST"}, **more}
        self._http.post("/_simulator/faults", json=body).raise_for_status()

    def heal(self) -> None:
        """End all faults; requests that were delayed go on."""
        self._http.delete("/_simulator/faults").raise_for_status()

    def reset(self) -> None:
        """Forget everything."""
        self.heal()
        self._http.post("/_simulator/reset").raise_for_status()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _call(logged: Mapping[str, Any]) -> StripeCall:
    parameters, moved = logged["parameters"], logged["money"]
    amount = parameters.get("amount")
    if amount is None and moved:
        amount = moved[0]["amount"]
    currency = parameters.get("currency") or (moved[0]["currency"] if moved else "")
    return StripeCall(
        number=logged["n"],
        seconds=logged["time"],
        endpoint=f"{logged['method']} {logged['path']}",
        amount=int(amount) if str(amount).isdecimal() else None,
        currency=str(currency).upper(),
        status=logged["status"],
        executed=logged["executed"],
        replayed=logged["replayed"],
        object_id=logged["object_id"] or "",
        fault=logged["fault"] or "",
        idempotency_key=logged["idempotency_key"] or "",
        key_end=logged["authorization"]["last4"],
        paid=sum(one["new"] or 0 for one in moved if one["direction"] == "in"),
        refunded=sum(one["new"] or 0 for one in moved if one["direction"] == "out"),
        shown=f"{logged['query']}\n{logged['headers']}\n{logged['body'] or ''}",
    )
