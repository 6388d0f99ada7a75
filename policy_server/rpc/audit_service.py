"""AuditService: convert, ask the trail, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator

from policy_server.core.ports import ArchiveCare, AuditTrail
from policy_server.rpc import convert
from policy_server.rpc.status import Context
from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1 import audit_service_pb2_grpc


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Shows the audit trail, and takes care of its archive."""

    def __init__(self, trail: AuditTrail, care: ArchiveCare) -> None:
        self._trail = trail
        self._care = care

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

    async def ExportAuditEvents(
        self, request: pb.ExportAuditEventsRequest, context: Context
    ) -> AsyncIterator[pb.ExportAuditEventsResponse]:
        """Stream an export."""
        account = convert.account_name(request.account)
        async for lines in self._care.export(account, convert.sequence(request.after_sequence)):
            yield pb.ExportAuditEventsResponse(lines=lines)

    async def GetAuditArchive(
        self, request: pb.GetAuditArchiveRequest, context: Context
    ) -> pb.GetAuditArchiveResponse:
        """Tell how far the archive is."""
        return convert.audit_archive(await self._care.progress(), self._care.public_key)

    async def CreateAuditCheckpoint(
        self, request: pb.CreateAuditCheckpointRequest, context: Context
    ) -> pb.CreateAuditCheckpointResponse:
        """Sign the newest archived event."""
        signed = await self._care.checkpoint(convert.account_name(request.account))
        return pb.CreateAuditCheckpointResponse(
            audit_checkpoint=convert.audit_checkpoint(signed), public_key=self._care.public_key
        )

    async def AcceptAuditLoss(
        self, request: pb.AcceptAuditLossRequest, context: Context
    ) -> pb.AcceptAuditLossResponse:
        """Let the archive go on after events that it has lost."""
        account, reason = convert.account_name(request.account), convert.loss_reason(request.reason)
        first, last = await self._care.accept_loss(account, reason)
        return pb.AcceptAuditLossResponse(first_sequence=first, last_sequence=last)
