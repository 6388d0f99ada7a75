"""AuditService: convert, ask the trail, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator

from policy_server.core.ports import AuditTrail
from policy_server.rpc import convert
from policy_server.rpc.status import Context
from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1 import audit_service_pb2_grpc


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Shows the audit trail."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Context
    ) -> pb.ListAuditEventsResponse:
        """List audit events, newest first."""
        events, before = await self._trail.page(
            convert.account_name(request.account),
            convert.audit_filter(request.filter),
            convert.page_token(request.page_token),
            convert.page_size(request.page_size),
        )
        return pb.ListAuditEventsResponse(
            audit_events=[convert.audit_event(event) for event in events],
            next_page_token="" if before is None else str(before),
        )

    async def WatchAuditEvents(
        self, request: pb.WatchAuditEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAuditEventsResponse]:
        """Stream audit events as they are written."""
        account = convert.account_name(request.account)
        after = convert.sequence(request.after_sequence) if request.HasField("after_sequence") else None
        wanted = convert.audit_filter(request.filter)
        async for event, sequence in self._trail.watch(account, wanted, after):
            yield pb.WatchAuditEventsResponse(
                audit_event=convert.audit_event(event) if event else None, sequence=sequence
            )
