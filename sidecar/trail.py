"""Reads the audit trail, for an operator who has the admin token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr

from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1.audit_service_pb2_grpc import AuditServiceStub

if TYPE_CHECKING:
    from spendgate.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

_TIMEOUT_S = 10.0
_AROUND_MS = 86_400_000
_UPSTREAM_KEY = re.compile(r".*~(az_([^_~]+)_[^_~]+)~([1-9][0-9]*)", re.DOTALL)


def authorization_in(upstream_key: str) -> tuple[str, str, int] | None:
    """Return authorization, vault key id and attempt of a key that Spendgate made; None for any other."""
    match = _UPSTREAM_KEY.fullmatch(upstream_key)
    return (match[1], match[2], int(match[3])) if match else None


class Trail:
    """The events of some accounts. Every method raises `grpc.aio.AioRpcError` when they can't be read."""

    def __init__(self, channel: grpc.aio.Channel, token: SecretStr, accounts: Sequence[str]) -> None:
        self._stub = cast("AuditServiceAsyncStub", AuditServiceStub(cast(Any, channel)))
        self._metadata = (("authorization", f"Bearer {token.get_secret_value()}"),)
        self._accounts = accounts

    async def settlements(self, since_ms: int) -> list[pb.AuditEvent]:
        """Return all settlements since then, the newest of each account first."""
        wanted = pb.AuditFilter(kind=pb.AUDIT_EVENT_KIND_SETTLEMENT, start_time=_timestamp(since_ms))
        return [event async for event in self._events(wanted)]

    async def counts(self, object_id: str) -> bool:
        """Tell whether any vault key has ever counted money for an object."""
        wanted = pb.AuditFilter(kind=pb.AUDIT_EVENT_KIND_SETTLEMENT, object_id=object_id)
        async for event in self._events(wanted):
            if counts(event):
                return True
        return False

    async def state(self, authorization_id: str, vault_key_id: str, around_ms: int) -> str:
        """Return where an authorization was last, within a day of a moment: a state, or empty for no such."""
        wanted = pb.AuditFilter(
            vault_key_id=vault_key_id,
            start_time=_timestamp(around_ms - _AROUND_MS),
            end_time=_timestamp(around_ms + _AROUND_MS),
        )
        async for event in self._events(wanted):
            if event.authorization_id == authorization_id and (event.state or event.decision == "allow"):
                return event.state or "held"
        return ""

    async def _events(self, wanted: pb.AuditFilter) -> AsyncIterator[pb.AuditEvent]:
        for account in self._accounts:
            token = ""
            while True:
                page = await self._stub.ListAuditEvents(
                    pb.ListAuditEventsRequest(
                        page_size=1000, page_token=token, account=account, filter=wanted
                    ),
                    metadata=self._metadata,
                    timeout=_TIMEOUT_S,
                )
                for event in page.audit_events:
                    yield event
                token = page.next_page_token
                if not token:
                    break


def counts(event: pb.AuditEvent) -> bool:
    """Tell whether a settlement says that money of its object is counted."""
    return event.HasField("settled_amount") and event.state in {"settled", "released", ""}


def _timestamp(milliseconds: int) -> Timestamp:
    message = Timestamp()
    message.FromMilliseconds(max(0, milliseconds))
    return message
