"""LedgerService: convert, ask the core, convert."""

from __future__ import annotations

from policy_server.core.restoration import Restoration
from policy_server.rpc import convert
from policy_server.rpc.status import Context
from spendgate.v1 import ledger_service_pb2 as pb
from spendgate.v1 import ledger_service_pb2_grpc


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Shows and rebuilds ledgers."""

    def __init__(self, restoration: Restoration) -> None:
        self._restoration = restoration

    async def ListLedgers(self, request: pb.ListLedgersRequest, context: Context) -> pb.ListLedgersResponse:
        """List the ledger of every known account."""
        return pb.ListLedgersResponse(
            ledgers=[
                pb.Ledger(
                    account=one.account,
                    lost=one.lost,
                    epoch=one.known.epoch,
                    sequence=one.present.sequence,
                    known_sequence=one.known.sequence,
                    archived_sequence=one.archived,
                    rebuilt_elsewhere=one.rebuilt_elsewhere,
                )
                for one in await self._restoration.statuses()
            ]
        )

    async def RebuildLedger(
        self, request: pb.RebuildLedgerRequest, context: Context
    ) -> pb.RebuildLedgerResponse:
        """Make a lost ledger anew."""
        rebuilt = await self._restoration.rebuild(
            convert.account_name(request.account), freeze=request.freeze
        )
        restored = rebuilt.restored
        return pb.RebuildLedgerResponse(
            account=rebuilt.account,
            sequence=restored.sequence,
            vault_keys=restored.vault_keys,
            holds=restored.holds,
            open_holds=restored.open_holds,
            counters=restored.counters,
            exposures=restored.exposures,
            events_from_store=restored.from_stream,
            lost_events=rebuilt.lost_events,
            events_set_aside=restored.set_aside,
        )
