"""`spendgate usage`: how full the caps of a vault key are."""

from __future__ import annotations

from typing import Annotated

import typer

from spendgate import currencies, derived_keys
from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, connect_with
from spendgate.cli.key_lookup import KeyArgument, find_key
from spendgate.cli.output import AsJson
from spendgate.v1 import policy_pb2
from spendgate.v1 import vault_key_service_pb2 as pb


def show_usage(
    *,
    key: KeyArgument,
    run: Annotated[
        str,
        typer.Option(
            "--run", metavar="RUN", help="Also show the caps per run, for this run.", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Show what a vault key has spent, holds and has left under each cap.

    Caps of one call hold nothing and are not shown. A whole derived key is shown with its own caps, those
    per run for the run that it is for, and with its parent's.
    """
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.GetVaultKeyUsageRequest(
            vault_key_id=find_key(server, key).vault_key_id,
            run_id=run,
            derived_key=key if derived_keys.derived_key_id(key) else "",
        )
        usage = server.call(server.vault_keys.GetVaultKeyUsage, request)
    if as_json:
        output.print_json(output.as_dict(usage))
        return
    amounts = ("limit", "settled", "held", "remaining")
    output.print_table(
        ("cap", "budget or derived key", *amounts, "resets at"),
        (_row(status) for status in usage.caps),
        numbers=amounts,
    )


def _row(status: policy_pb2.CapStatus) -> list[str]:
    def count(value: int) -> str:
        return currencies.text(value, status.currency_code) if status.currency_code else str(value)

    return [
        status.cap,
        status.budget or status.derived_key_id,
        count(status.limit),
        count(status.settled),
        count(status.held),
        count(status.remaining),
        output.time_text(status.reset_time) if status.HasField("reset_time") else "never",
    ]
