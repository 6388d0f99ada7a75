"""`spendgate account`: shows an account, and stops it."""

from __future__ import annotations

from typing import Annotated

import typer

from spendgate import cap_text
from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, connect_with
from spendgate.cli.output import AsJson
from spendgate.v1 import account_service_pb2 as pb

app = typer.Typer(help="Show an account, and stop all of its keys at once.", no_args_is_help=True)


@app.command("show")
def show_account(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Show whether the account is frozen, and its budgets."""
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.GetAccountRequest(account=server.account)
        _show(server.call(server.accounts.GetAccount, request).account, as_json=as_json)


@app.command("freeze")
def freeze_account(
    *,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Why; recorded, and shown in refusals.", show_default=False
        ),
    ],
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Refuse every call of every key of the account, from the next call on."""
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.FreezeAccountRequest(account=server.account, reason=reason)
        _show(server.call(server.accounts.FreezeAccount, request).account, as_json=as_json)


@app.command("unfreeze")
def unfreeze_account(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """End a freeze."""
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.UnfreezeAccountRequest(account=server.account)
        _show(server.call(server.accounts.UnfreezeAccount, request).account, as_json=as_json)


def _show(account: pb.Account, *, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(account))
        return
    budgets = (f"{budget.name}: {'; '.join(map(cap_text.text, budget.caps))}" for budget in account.budgets)
    output.print_fields(
        (
            ("account", account.account),
            ("frozen", f"yes: {account.freeze_reason}" if account.frozen else "no"),
            ("budgets", "\n".join(budgets)),
        )
    )
