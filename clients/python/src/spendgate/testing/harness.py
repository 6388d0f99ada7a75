"""A running Spendgate as a test sees it: keys, seats for agents, the audit trail and Stripe's side."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence

import grpc

from spendgate import cap_text, rpc
from spendgate.cli.up_settings import SIMULATOR_KEY
from spendgate.testing import timeline
from spendgate.testing.embedded import Addresses
from spendgate.testing.seat import Seat, Task
from spendgate.testing.simulated_stripe import SimulatedStripe, StripeCall
from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1 import audit_service_pb2_grpc, policy_pb2, vault_key_service_pb2, vault_key_service_pb2_grpc
from spendgate.vault_key import VaultKey

_DEADLINE_S = 30.0
_OUTCOMES_LIMIT_S = 30.0
_LOOK_EVERY_S = 0.02


class Harness:
    """Spendgate and the simulated Stripe behind it. One test at a time uses it."""

    def __init__(self, addresses: Addresses) -> None:
        self.sidecar = addresses.sidecar
        """Address of the sidecar, without ``/stripe``."""
        self.sidecar_root = addresses.sidecar_root
        """Address of the sidecar for clients that take no path, such as Stripe's SDK for Node."""
        self.stripe = SimulatedStripe(addresses.simulator)
        """What Stripe saw and did."""
        self._channel = grpc.insecure_channel(addresses.policy_server, list(rpc.CHANNEL_OPTIONS))
        self._metadata = (("authorization", f"Bearer {addresses.admin_token_file.read_text().strip()}"),)
        self._audit = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self._vault_keys = vault_key_service_pb2_grpc.VaultKeyServiceStub(self._channel)
        self._runs = itertools.count(1)
        self._since = 0

    def reset(self) -> None:
        """Begin a test: Stripe forgets everything, and what was on record before is not looked at."""
        self.stripe.reset()
        self._since = max((event.sequence for event in self._page("", 1)[0]), default=0)

    def close(self) -> None:
        """Close the connections."""
        self.stripe.close()
        self._channel.close()

    def key(
        self,
        *,
        allow: Sequence[str] = (),
        caps: Sequence[str] = (),
        policy: policy_pb2.Policy | None = None,
    ) -> VaultKey:
        """Make a vault key: what it may call and its caps as the command takes them, or a whole policy.

        ``key(allow=["POST /v1/charges"], caps=["usd 100.00/day"])``. Raises `ValueError` for a cap that is
        not written so.
        """
        policy = policy or policy_pb2.Policy(allow=allow, caps=[cap_text.parse(cap) for cap in caps])
        made = self._vault_keys.CreateVaultKey(
            vault_key_service_pb2.CreateVaultKeyRequest(name=f"test-{secrets.token_hex(6)}", policy=policy),
            timeout=_DEADLINE_S,
            metadata=self._metadata,
        )
        return VaultKey(made.secret_vault_key)

    def revoke(self, key: VaultKey) -> None:
        """Revoke a key: its next call is refused."""
        self._vault_keys.RevokeVaultKey(
            vault_key_service_pb2.RevokeVaultKeyRequest(vault_key_id=key.key_id),
            timeout=_DEADLINE_S,
            metadata=self._metadata,
        )

    def seat(self, key: VaultKey, *, task: Task = "pay", run_id: str = "", rejections: int = 0) -> Seat:
        """Prepare one run of an agent, with a customer of its own."""
        charge = ""
        if task == "refund":
            charge = self.stripe.create("/v1/charges", amount="1900", currency="usd", source="tok_visa")["id"]
        return Seat(
            sidecar=self.sidecar,
            vault_key=key,
            run_id=run_id or f"run-{next(self._runs)}",
            customer=self.stripe.create("/v1/customers", source="tok_visa")["id"],
            task=task,
            charge=charge,
            simulator=self.stripe.origin,
            rejections=rejections,
        )

    def events(self, run_id: str = "") -> list[pb.AuditEvent]:
        """Return what this test put on record, of one run or of all, oldest first.

        Outcomes arrive a moment after the agent has its answer: they are waited for.
        """
        give_up_at = time.monotonic() + _OUTCOMES_LIMIT_S
        found: list[pb.AuditEvent] = []
        while time.monotonic() < give_up_at:
            # Stripe's side first: what is on record afterwards may be newer, and never older.
            calls = self.stripe.calls()
            found = self._recorded()
            if not open_calls(found) and not _clear_since(unknown_calls(found), calls):
                break
            time.sleep(_LOOK_EVERY_S)
        return [event for event in found if not run_id or event.run_id == run_id]

    def straight_calls(self) -> list[StripeCall]:
        """Return the calls that reached Stripe with another key than the sidecar's."""
        return [call for call in self.stripe.calls() if call.key_end != SIMULATOR_KEY[-4:]]

    def payments(self) -> list[StripeCall]:
        """Return the calls with which money was taken, or committed to be taken."""
        return [call for call in self.stripe.calls() if call.paid]

    def refunds(self) -> list[StripeCall]:
        """Return the calls with which money was given back or sent away."""
        return [call for call in self.stripe.calls() if call.refunded]

    def timeline(self) -> str:
        """Tell call by call what was done since the test began."""
        return timeline.text(timeline.rows(self.events(), self.straight_calls()))

    def _recorded(self) -> list[pb.AuditEvent]:
        found: list[pb.AuditEvent] = []
        token = ""
        while True:
            page, token = self._page(token, 1000)
            new = [event for event in page if event.sequence > self._since]
            found += new
            if not token or len(new) < len(page):
                return found[::-1]

    def _page(self, token: str, size: int) -> tuple[list[pb.AuditEvent], str]:
        answer = self._audit.ListAuditEvents(
            pb.ListAuditEventsRequest(page_size=size, page_token=token),
            timeout=_DEADLINE_S,
            metadata=self._metadata,
        )
        return list(answer.audit_events), answer.next_page_token


def open_calls(events: Sequence[pb.AuditEvent]) -> list[pb.AuditEvent]:
    """Return the calls that were allowed and have no outcome on record."""
    told = _outcomes(events)
    return [
        event
        for event in events
        if event.kind == pb.AUDIT_EVENT_KIND_DECISION
        and event.decision == "allow"
        and not event.duplicate
        and (event.authorization_id, event.attempt) not in told
    ]


def unknown_calls(events: Sequence[pb.AuditEvent]) -> list[pb.AuditEvent]:
    """Return the outcomes that are still not known."""
    return [event for event in _outcomes(events).values() if event.state == "unknown"]


def _outcomes(events: Sequence[pb.AuditEvent]) -> dict[tuple[str, int], pb.AuditEvent]:
    """Return the newest outcome of each try of each effect."""
    return {
        (event.authorization_id, event.attempt): event
        for event in events
        if event.kind == pb.AUDIT_EVENT_KIND_SETTLEMENT
    }


def _clear_since(unknown: Sequence[pb.AuditEvent], calls: Sequence[StripeCall]) -> bool:
    """Tell whether Stripe has answered a repeat of what is unknown, so that the outcome is on its way."""
    newest = {call.idempotency_key: call for call in calls}
    return any(
        call.is_clear
        for event in unknown
        for key, call in newest.items()
        if key.endswith(f"~{event.authorization_id}~{event.attempt}")
    )
