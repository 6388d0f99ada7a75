"""One API request as the endpoints see it: no HTTP, only parameters, the account and the time."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.forms import Upload
from stripe_simulator.ledger import Ledger
from stripe_simulator.money import Movement
from stripe_simulator.parameters import Parameters
from stripe_simulator.settings import Settings


@dataclass(slots=True)
class Call:
    """An endpoint checks its parameters, then calls `begin`, then acts.

    Stripe keeps the answer of a keyed request only once the endpoint began to execute, so `begin` is the line
    between a refusal that may be corrected under the same key and one that is repeated for it.

    What happens outside the API, such as a customer who pays, is a call without a request id.
    """

    ledger: Ledger
    parameters: Parameters
    path: str
    path_ids: tuple[str, ...]
    request_id: str | None
    idempotency_key: str | None
    now: int
    settings: Settings
    uploads: dict[str, Upload] = field(default_factory=dict)
    began: bool = False
    movements: list[Movement] = field(default_factory=list)

    def begin(self) -> None:
        self.began = True

    def new_id(self, prefix: str) -> str:
        return self.ledger.identifiers.new(prefix)
