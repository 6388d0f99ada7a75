"""The endpoints for payouts, transfers, top-ups and customer balances, and the parameters each knows."""

from __future__ import annotations

from stripe_simulator.funds import customer_balances, payouts, topups, transfers
from stripe_simulator.routing import Routes


def add_to(routes: Routes) -> None:
    _serve_payouts(routes)
    _serve_transfers(routes)
    _serve_topups(routes)
    _serve_customer_balances(routes)


def _serve_payouts(routes: Routes) -> None:
    kind = "payout"
    routes.serve(
        "POST",
        "payouts",
        payouts.create,
        kind,
        "amount currency description destination metadata method payout_method source_type "
        "statement_descriptor",
    )
    routes.serve("GET", "payouts/*", payouts.retrieve, kind)
    routes.serve("POST", "payouts/*", payouts.update, kind, "metadata")
    routes.serve("POST", "payouts/*/cancel", payouts.cancel, kind)
    routes.serve("POST", "payouts/*/reverse", payouts.reverse, kind, "metadata")
    routes.serve_list("payouts", payouts.list_payouts, kind, "arrival_date destination status")


def _serve_transfers(routes: Routes) -> None:
    kind = "transfer"
    routes.serve(
        "POST",
        "transfers",
        transfers.create,
        kind,
        "amount currency description destination metadata source_transaction source_type transfer_group",
    )
    routes.serve("GET", "transfers/*", transfers.retrieve, kind)
    routes.serve("POST", "transfers/*", transfers.update, kind, "description metadata")
    routes.serve_list("transfers", transfers.list_transfers, kind, "destination transfer_group")
    below, kind = "transfers/*/reversals", "transfer_reversal"
    reversed_with = "amount description metadata refund_application_fee"
    routes.serve("POST", below, transfers.create_reversal, kind, reversed_with)
    routes.serve("GET", f"{below}/*", transfers.retrieve_reversal, kind)
    routes.serve("POST", f"{below}/*", transfers.update_reversal, kind, "metadata")
    routes.serve_list(below, transfers.list_reversals, kind)


def _serve_topups(routes: Routes) -> None:
    kind = "topup"
    routes.serve(
        "POST",
        "topups",
        topups.create,
        kind,
        "amount currency description metadata payment_method payment_method_options source "
        "statement_descriptor transfer_group",
    )
    routes.serve("GET", "topups/*", topups.retrieve, kind)
    routes.serve("POST", "topups/*", topups.update, kind, "description metadata")
    routes.serve("POST", "topups/*/cancel", topups.cancel, kind)
    routes.serve_list("topups", topups.list_topups, kind, "amount status")


def _serve_customer_balances(routes: Routes) -> None:
    path, kind = "customers/*/balance_transactions", "customer_balance_transaction"
    known = "description metadata"
    routes.serve("POST", path, customer_balances.create, kind, known + " amount currency")
    routes.serve("GET", f"{path}/*", customer_balances.retrieve, kind)
    routes.serve("POST", f"{path}/*", customer_balances.update, kind, known)
    routes.serve_list(path, customer_balances.list_transactions, kind, "invoice")
