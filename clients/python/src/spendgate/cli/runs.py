"""`spendgate runs`: shows runs that are frozen, and lets them go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, PolicyServer, connect_with
from spendgate.cli.key_lookup import KeyArgument, find_key
from spendgate.cli.output import AsJson
from spendgate.v1 import account_service_pb2 as pb

app = typer.Typer(
    help="Show runs that are frozen because the same call was refused again and again.", no_args_is_help=True
)

_PAGE_SIZE = 1000


@app.command("frozen")
def list_frozen_runs(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """List the frozen runs of the account, the latest first."""
    with connect_with(policy_address, data_dir, account) as server:
        found = list(_frozen_runs(server))
    if as_json:
        output.print_json({"frozenRuns": [output.as_dict(run) for run in found]})
        return
    if not found:
        output.print_line("No run is frozen.")
        return
    output.print_table(
        ("run", "vault key", "frozen", "because of", "at"),
        (
            (run.run_id, run.vault_key_id, output.time_text(run.freeze_time), run.reason, run.endpoint)
            for run in found
        ),
    )


@app.command("unfreeze")
def unfreeze_run(
    *,
    key: KeyArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run, as `spendgate runs frozen` shows it.")],
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Let a frozen run of a vault key go on; its refusals count from 0 again."""
    with connect_with(policy_address, data_dir, account) as server:
        found = find_key(server, key)
        request = pb.UnfreezeRunRequest(vault_key_id=found.vault_key_id, run_id=run)
        server.call(server.accounts.UnfreezeRun, request)
    output.print_line(f"The run {run} of the vault key {found.name} ({found.vault_key_id}) may go on.")


def _frozen_runs(server: PolicyServer) -> Iterator[pb.FrozenRun]:
    request = pb.ListFrozenRunsRequest(page_size=_PAGE_SIZE, account=server.account)
    while True:
        page = server.call(server.accounts.ListFrozenRuns, request)
        yield from page.frozen_runs
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
