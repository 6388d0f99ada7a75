"""Events that an archive has lost: what it notes of them, and the event that says who took it on himself.

A note in the archive proves nothing: whoever can remove events can write one. The
event is in the chain, and signed with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import from_json

from policy_server.core.types import AuditKind

WORDS = "accepted that the archive has lost events"
"""What the event says first, to find it by."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Events that are noted as lost, up to the one with this hash."""

    first: int
    last: int
    last_hash: bytes

    def acceptance(self, account: str, reason: str) -> str:
        """Return what the event of the operator who accepts it says."""
        return f"{WORDS} {self.first} to {self.last} of the account {account}: {reason}"

    def is_accepted_by(self, fields: Mapping[str, str], account: str) -> bool:
        """Tell whether an event with these fields, of which the call can be read, accepts just this loss."""
        if fields.get("kind") != AuditKind.ADMINISTRATION:
            return False
        detail = from_json(fields["call"]).get("detail")
        return isinstance(detail, str) and detail.startswith(self.acceptance(account, ""))
