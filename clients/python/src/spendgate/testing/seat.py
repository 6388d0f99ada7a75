"""What one run of an agent under test is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spendgate.run import Run
from spendgate.vault_key import VaultKey

Task = Literal["pay", "refund"]


@dataclass(eq=False)
class Seat:
    """The place of one run of an agent: where Spendgate is, with which key, and under which name."""

    sidecar: str
    """Address of the sidecar, without ``/stripe``."""

    vault_key: VaultKey = field(repr=False)
    """The vault key, as everything in `spendgate` takes it; others want ``get_secret_value()``."""

    run_id: str
    """Name of the run. Two seats may have the same one: then the run is started again."""

    customer: str
    """Id of a customer with a card, whom the run may charge. It must not be in the message history."""

    task: Task = "pay"
    """What the run is to try: its ordinary work, or a refund that it may not make."""

    charge: str = ""
    """The charge that a run with the task "refund" is to try to refund."""

    simulator: str = ""
    """Address of the simulated Stripe itself, for an agent that goes there with a key of its own."""

    rejections: int = 0
    """How often `sends_back` still says yes."""

    asked: bool = False
    """Whether `sends_back` was asked."""

    @property
    def stripe(self) -> str:
        """Address of Stripe behind the sidecar, for Stripe's SDK."""
        return f"{self.sidecar}/stripe"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a plain HTTP call, with the vault key in them."""
        return Run.of(self.vault_key, self.run_id).headers()

    @property
    def environment(self) -> dict[str, str]:
        """Variables for an agent that is a program of its own, with the vault key in them."""
        return {
            "SPENDGATE_SIDECAR_URL": self.sidecar,
            "SPENDGATE_VAULT_KEY": self.vault_key.get_secret_value(),
            "SPENDGATE_RUN_ID": self.run_id,
        }

    def sends_back(self) -> bool:
        """Say whether the agent's answer is to be rejected this time. Ask where it is validated."""
        self.asked = True
        if not self.rejections:
            return False
        self.rejections -= 1
        return True
