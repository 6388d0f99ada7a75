"""`spendgate ledger`: whether the counters are the ones that were counted in, and how they come back."""

from __future__ import annotations

from typing import Annotated

import typer

from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, PolicyServer, connect_with
from spendgate.cli.output import AsJson
from spendgate.v1 import ledger_service_pb2 as pb

app = typer.Typer(help="Show whether counters were lost, and restore them.", no_args_is_help=True)


@app.command("status")
def show_status(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Show of every account whether Redis has the ledger that was counted in, and what is archived."""
    with connect_with(policy_address, data_dir, account) as server:
        ledgers = _ledgers(server)
    if as_json:
        output.print_json([output.as_dict(ledger) for ledger in ledgers])
        return
    output.print_table(
        ("account", "ledger", "state", "event", "known", "archived"),
        (
            (
                *(one.account, one.epoch, _state(one)),
                *map(str, (one.sequence, one.known_sequence, one.archived_sequence)),
            )
            for one in ledgers
        ),
        numbers=("event", "known", "archived"),
    )


@app.command("rebuild")
def rebuild(
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Rebuild every ledger that is lost.", show_default=False)
    ] = False,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze",
            help="Let the account come back frozen, until what was lost has been looked up at the vendor.",
            show_default=False,
        ),
    ] = False,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Restore a lost ledger from the audit archive, and let its account go on.

    Keys, policies, budgets, counters, holds and remembered effects come back as they were after the last
    event that is in the archive or still in Redis. It may take minutes, and may be run again.
    """
    with connect_with(policy_address, data_dir, account) as server:
        accounts = [one.account for one in _ledgers(server) if one.lost] if every else [server.account]
        for name in accounts:
            request = pb.RebuildLedgerRequest(account=name, freeze=freeze)
            _show(server.call(server.ledgers.RebuildLedger, request, deadline_s=None), as_json=as_json)
    if not accounts:
        output.print_line("no ledger is lost")


def _ledgers(server: PolicyServer) -> list[pb.Ledger]:
    return list(server.call(server.ledgers.ListLedgers, pb.ListLedgersRequest()).ledgers)


def _state(ledger: pb.Ledger) -> str:
    if ledger.rebuilt_elsewhere:
        return "rebuilt elsewhere"
    return "lost" if ledger.lost else "whole"


def _show(rebuilt: pb.RebuildLedgerResponse, *, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(rebuilt), on_one_line=True)
        return
    output.print_fields(
        (
            ("account", rebuilt.account),
            ("last event", str(rebuilt.sequence)),
            ("vault keys", str(rebuilt.vault_keys)),
            ("effects", f"{rebuilt.holds}, of which {rebuilt.open_holds} have no outcome yet"),
            ("counters", str(rebuilt.counters)),
            ("objects", str(rebuilt.exposures)),
            ("from Redis", f"{rebuilt.events_from_store} events were not in the archive yet"),
            ("lost", f"{rebuilt.lost_events} events that this server knew of; look at the vendor"),
            ("set aside", f"{rebuilt.events_set_aside} events that do not go on from the archive"),
        )
    )
