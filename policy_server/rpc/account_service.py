"""AccountService: convert, ask the core, convert."""

from __future__ import annotations

from policy_server.core.administration import Administration
from policy_server.rpc import convert
from policy_server.rpc.status import Context
from spendgate.v1 import account_service_pb2 as pb
from spendgate.v1 import account_service_pb2_grpc


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """Freezes accounts and sets their budgets."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    async def GetAccount(self, request: pb.GetAccountRequest, context: Context) -> pb.GetAccountResponse:
        """Show one account."""
        record = await self._administration.get_account(request.account)
        return pb.GetAccountResponse(account=convert.account(record))

    async def FreezeAccount(
        self, request: pb.FreezeAccountRequest, context: Context
    ) -> pb.FreezeAccountResponse:
        """Refuse every call of the account."""
        record = await self._administration.freeze(request.account, request.reason)
        return pb.FreezeAccountResponse(account=convert.account(record))

    async def UnfreezeAccount(
        self, request: pb.UnfreezeAccountRequest, context: Context
    ) -> pb.UnfreezeAccountResponse:
        """End a freeze."""
        record = await self._administration.unfreeze(request.account)
        return pb.UnfreezeAccountResponse(account=convert.account(record))

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Context) -> pb.SetBudgetResponse:
        """Make or replace a budget."""
        convert.refuse_unknown_fields(request, "request")
        record = await self._administration.set_budget(
            request.account, request.budget.name, convert.caps(request.budget.caps)
        )
        return pb.SetBudgetResponse(account=convert.account(record))

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: Context
    ) -> pb.DeleteBudgetResponse:
        """Remove a budget."""
        record = await self._administration.delete_budget(request.account, request.name)
        return pb.DeleteBudgetResponse(account=convert.account(record))

    async def ListFrozenRuns(
        self, request: pb.ListFrozenRunsRequest, context: Context
    ) -> pb.ListFrozenRunsResponse:
        """List the frozen runs of an account."""
        size = convert.page_size(request.page_size)
        offset = convert.page_token(request.page_token) or 0
        runs = await self._administration.frozen_runs(request.account, offset, size + 1)
        return pb.ListFrozenRunsResponse(
            frozen_runs=[convert.frozen_run(run) for run in runs[:size]],
            next_page_token=str(offset + size) if len(runs) > size else "",
        )

    async def UnfreezeRun(self, request: pb.UnfreezeRunRequest, context: Context) -> pb.UnfreezeRunResponse:
        """Let a frozen run go on."""
        await self._administration.unfreeze_run(request.vault_key_id, request.run_id)
        return pb.UnfreezeRunResponse()
