"""One API request as the endpoints see it: no HTTP, only parameters, the account and the time."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.ledger import Ledger
from stripe_simulator.parameters import Parameters


@dataclass(slots=True)
class Call:
    """An endpoint checks its parameters, then calls `begin`, then acts.

    Stripe keeps the answer of a keyed request only once the endpoint began to execute, so `begin` is the line
    between a refusal that may be corrected under the same key and one that is repeated for it.
    """

    ledger: Ledger
    parameters: Parameters
    path: str
    path_ids: tuple[str, ...]
    request_id: str
    idempotency_key: str | None
    now: int
    began: bool = False

    def begin(self) -> None:
        self.began = True

    def new_id(self, prefix: str) -> str:
        return self.ledger.identifiers.new(prefix)
