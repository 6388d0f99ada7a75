"""`spendgate budgets`: caps that several vault keys share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from spendgate import cap_text
from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, connect_with
from spendgate.cli.output import AsJson
from spendgate.cli.policy_options import parse_caps
from spendgate.v1 import account_service_pb2 as pb

app = typer.Typer(help="Set and remove the caps that several vault keys share.", no_args_is_help=True)

BudgetName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the budget: 1 to 64 of A-Z a-z 0-9 . _ -")
]


@app.command("set")
def set_budget(
    *,
    name: BudgetName,
    cap: Annotated[
        list[str],
        typer.Option(
            "--cap",
            metavar="CAP",
            help="A limit, written as in `spendgate keys create --help`, such as `'usd 2000.00/month'`, "
            "over any window but one call. May be repeated.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Make or replace a budget; keys draw from it with `--budget NAME`.

    What its caps have counted stays counted.
    """
    caps = parse_caps(cap)
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.SetBudgetRequest(account=server.account, budget=pb.Budget(name=name, caps=caps))
        changed = server.call(server.accounts.SetBudget, request).account
    _show(changed.budgets, as_json=as_json)


@app.command("list")
def list_budgets(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """List the budgets of the account."""
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.GetAccountRequest(account=server.account)
        found = server.call(server.accounts.GetAccount, request).account
    _show(found.budgets, as_json=as_json)


@app.command("delete")
def delete_budget(
    *,
    name: BudgetName,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Remove a budget; keys that name it are refused until it is there again."""
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.DeleteBudgetRequest(account=server.account, name=name)
        changed = server.call(server.accounts.DeleteBudget, request).account
    _show(changed.budgets, as_json=as_json)


def _show(budgets: Sequence[pb.Budget], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"budgets": [output.as_dict(budget) for budget in budgets]})
        return
    output.print_table(
        ("budget", "caps"), ((budget.name, "\n".join(map(cap_text.text, budget.caps))) for budget in budgets)
    )
