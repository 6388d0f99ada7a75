"""`spendgate explain`: what would be decided on a call, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from spendgate import currencies, derived_keys
from spendgate.cli import output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, connect_with
from spendgate.cli.failure import UsageWrong
from spendgate.cli.key_lookup import KeyArgument, find_key
from spendgate.cli.output import AsJson
from spendgate.v1 import amount_pb2, policy_service_pb2
from spendgate.v1 import vault_key_service_pb2 as pb


def explain_call(
    *,
    key: KeyArgument,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Such as 'POST /v1/charges'.")],
    amount: Annotated[
        str,
        typer.Option("--amount", metavar="AMOUNT", help="Such as 'usd 19.00'.", show_default=False),
    ] = "",
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="The run that makes the call.", show_default=False)
    ] = "",
    step: Annotated[
        str, typer.Option("--step", metavar="STEP", help="The step within the run.", show_default=False)
    ] = "",
    idempotency_key: Annotated[
        str,
        typer.Option(
            "--idempotency-key", metavar="NAME", help="Names the effect outright.", show_default=False
        ),
    ] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            metavar="NAME=VALUE",
            help="A parameter of the request, for the policy's rules on them. May be repeated.",
            show_default=False,
        ),
    ] = None,
    object_id: Annotated[
        str,
        typer.Option(
            "--object", metavar="ID", help="The object whose commitment the call changes.", show_default=False
        ),
    ] = "",
    vendor_account: Annotated[
        str,
        typer.Option(
            "--vendor-account", metavar="ACCT", help="The account that it acts for.", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Say what would be decided on a call now, by which rule, and what would be left.

    Nothing is counted, held or recorded. A whole derived key is asked with, so that its caveats count too.
    Example:

    `spendgate explain shop 'POST /v1/charges' --amount 'usd 19.00' --run run-7`
    """
    call = policy_service_pb2.AuthorizeRequest(
        endpoint=endpoint,
        run_id=run,
        step=step,
        idempotency_key=idempotency_key,
        parameters=_parameters(parameter or ()),
        object_id=object_id,
        vendor_account=vendor_account,
    )
    if amount:
        call.amount.CopyFrom(_amount(amount))
    changes = not endpoint.startswith("GET ")
    if changes and not (run or idempotency_key or derived_keys.run_of(key)):
        raise UsageWrong("say with --run which run makes the call: a change without a name is not decided")
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.ExplainAuthorizationRequest(call=call)
        if derived_keys.derived_key_id(key):
            request.call.vault_key = key
        else:
            request.vault_key_id = find_key(server, key).vault_key_id
        explained = server.call(server.vault_keys.ExplainAuthorization, request)
    if as_json:
        output.print_json(output.as_dict(explained))
        return
    output.print_line(_conclusion(explained.answer))
    if changes and not amount and explained.answer.decision == policy_service_pb2.DECISION_ALLOW:
        output.print_line("No cap on money was looked at; give what the call moves with --amount.")
    output.print_table(
        ("refused with", "rule", "verdict", "left", "left after", "resets at"),
        map(_row, explained.rules),
        numbers=("left", "left after"),
    )


def _conclusion(answer: policy_service_pb2.AuthorizeResponse) -> str:
    if answer.decision != policy_service_pb2.DECISION_ALLOW:
        return f"It would be refused: {answer.message}"
    if answer.duplicate:
        return f"It would be allowed as a repeat of {answer.idempotency_key}, and count nothing."
    if answer.shadow_deny_reason:
        return f"It would be allowed, in shadow mode only: else {_reason(answer.shadow_deny_reason)}."
    return "It would be allowed."


def _row(one: pb.ExaminedRule) -> Sequence[str]:
    verdict = output.enum_text(pb.RuleVerdict, one.verdict, "RULE_VERDICT_").replace("-", " ")
    looked_at = _reason(one.reason)
    if not one.HasField("cap"):
        return looked_at, one.rule, verdict, "", "", ""
    cap = one.cap

    def count(value: int) -> str:
        return currencies.text(value, cap.currency_code) if cap.currency_code else str(value)

    resets = output.time_text(cap.reset_time) if cap.HasField("reset_time") else "never"
    return looked_at, one.rule, verdict, count(cap.remaining), count(one.remaining_after), resets


def _reason(reason: policy_service_pb2.DenyReason) -> str:
    name = output.enum_text(policy_service_pb2.DenyReason, reason, "DENY_REASON_")
    return name.replace("-", "_")


def _amount(text: str) -> amount_pb2.Amount:
    currency, _, number = text.strip().partition(" ")
    try:
        minor = currencies.minor_units(currency, number.strip())
    except ValueError as error:
        raise UsageWrong(f"in --amount {text!r}, {error}; write one such as 'usd 19.00'") from None
    return amount_pb2.Amount(minor_units=minor, currency_code=currency.upper())


def _parameters(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise UsageWrong(
                f"--parameter {one!r} is not a name and a value; write one such as customer=cus_1"
            )
        found[name] = value
    return found
