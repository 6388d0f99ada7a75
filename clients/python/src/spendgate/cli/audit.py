"""`spendgate audit`: what was decided, done and changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from spendgate.cli import moments, output
from spendgate.cli.connection import Account, DataDir, PolicyAddress, PolicyServer, connect_with
from spendgate.cli.failure import UsageWrong
from spendgate.cli.key_lookup import find_key
from spendgate.cli.output import AsJson
from spendgate.v1 import audit_service_pb2 as pb

app = typer.Typer(help="Show what was decided, done and changed.", no_args_is_help=True)

_PANEL = "Filters"
_PAGE_MAX = 1000


class Kind(StrEnum):
    """What an event tells of."""

    DECISION = "decision"
    SETTLEMENT = "settlement"
    REFUSAL = "refusal"
    ADMINISTRATION = "administration"


class Decision(StrEnum):
    """The verdict on a call."""

    ALLOW = "allow"
    DENY = "deny"


def _filter_option(flag: str, metavar: str | None, explanation: str) -> object:
    return typer.Option(flag, metavar=metavar, help=explanation, show_default=False, rich_help_panel=_PANEL)


Run = Annotated[str, _filter_option("--run", "RUN", "Only this agent run.")]
Key = Annotated[str, _filter_option("--key", "NAME_OR_ID", "Only this vault key; a revoked one by its id.")]
DecisionOption = Annotated[Decision | None, _filter_option("--decision", None, "Only this verdict.")]
KindOption = Annotated[Kind | None, _filter_option("--kind", None, "Only events of this kind.")]
EffectPrefix = Annotated[
    str, _filter_option("--idempotency-key", "PREFIX", "Only effects whose name begins so.")
]
ObjectId = Annotated[str, _filter_option("--object", "ID", "Only this object of Stripe's, such as ch_1.")]
Since = Annotated[
    str,
    _filter_option("--since", "MOMENT", "Only from then on: 2027-01-31T00:00:00Z, or 2h for two hours ago."),
]
Until = Annotated[str, _filter_option("--until", "MOMENT", "Only before then, written as --since.")]


@app.command("list")
def list_events(
    *,
    run: Run = "",
    key: Key = "",
    decision: DecisionOption = None,
    kind: KindOption = None,
    idempotency_key: EffectPrefix = "",
    object_id: ObjectId = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Show at most this many events.")] = 50,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """List audit events, newest first."""
    wanted = _filter(
        run=run,
        decision=decision,
        kind=kind,
        idempotency_key=idempotency_key,
        object_id=object_id,
        since=since,
        until=until,
    )
    with connect_with(policy_address, data_dir, account) as server:
        if key:
            wanted.vault_key_id = find_key(server, key).vault_key_id
        events = list(itertools.islice(_events(server, wanted, limit), limit))
    if as_json:
        output.print_json({"auditEvents": [output.as_dict(event) for event in events]})
        return
    output.print_table(
        ("#", "time", "kind", "outcome", "amount", "endpoint", "run", "key", "what"),
        (_row(event) for event in events),
        numbers=("#", "amount"),
    )


@app.command("tail")
def tail_events(
    *,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the first event there is.", show_default=False)
    ] = False,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", min=0, metavar="SEQUENCE", help="Begin after this event.", show_default=False
        ),
    ] = None,
    run: Run = "",
    key: Key = "",
    decision: DecisionOption = None,
    kind: KindOption = None,
    idempotency_key: EffectPrefix = "",
    object_id: ObjectId = "",
    since: Since = "",
    until: Until = "",
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Print audit events as they are written, one on each line, until Ctrl-C.

    Begins with the next event unless `--from-start` or `--after` is given. With `--json` every line is one
    JSON document.
    """
    if from_start and after is not None:
        raise UsageWrong("--from-start and --after say where to begin; give one of them")
    wanted = _filter(
        run=run,
        decision=decision,
        kind=kind,
        idempotency_key=idempotency_key,
        object_id=object_id,
        since=since,
        until=until,
    )
    try:
        with connect_with(policy_address, data_dir, account) as server:
            if key:
                wanted.vault_key_id = find_key(server, key).vault_key_id
            request = pb.WatchAuditEventsRequest(
                account=server.account, after_sequence=0 if from_start else after, filter=wanted
            )
            for message in server.stream(server.audit.WatchAuditEvents, request):
                if message.HasField("audit_event"):
                    _print_event(message.audit_event, as_json=as_json)
    except KeyboardInterrupt:
        return


def _filter(
    *,
    run: str,
    decision: Decision | None,
    kind: Kind | None,
    idempotency_key: str,
    object_id: str,
    since: str,
    until: str,
) -> pb.AuditFilter:
    """Return the filter that the options describe, without the vault key; raises `UsageWrong`."""
    try:
        return pb.AuditFilter(
            run_id=run,
            decision=decision or "",
            kind=f"AUDIT_EVENT_KIND_{kind.name}" if kind else None,
            idempotency_key_prefix=idempotency_key,
            object_id=object_id,
            start_time=moments.timestamp(moments.parse_past(since)) if since else None,
            end_time=moments.timestamp(moments.parse_past(until)) if until else None,
        )
    except ValueError as error:
        raise UsageWrong(str(error)) from None


def _events(server: PolicyServer, wanted: pb.AuditFilter, limit: int) -> Iterator[pb.AuditEvent]:
    request = pb.ListAuditEventsRequest(
        page_size=min(limit, _PAGE_MAX), account=server.account, filter=wanted
    )
    while True:
        page = server.call(server.audit.ListAuditEvents, request)
        yield from page.audit_events
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _print_event(event: pb.AuditEvent, *, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(event), on_one_line=True)
    else:
        output.print_line("  ".join(part for part in _row(event) if part))


def _row(event: pb.AuditEvent) -> list[str]:
    """Return the columns of an event; "what" has what is special about it."""
    amount = event.settled_amount if event.HasField("settled_amount") else event.amount
    what = (
        event.detail,
        event.reason,
        event.rule,
        "duplicate" if event.duplicate else "",
        "overrun" if event.overrun else "",
        f"HTTP {event.http_status}" if event.http_status else "",
        event.object_id,
        event.idempotency_key,
    )
    return [
        str(event.sequence),
        output.time_text(event.create_time),
        output.enum_text(pb.AuditEventKind, event.kind, "AUDIT_EVENT_KIND_"),
        event.decision or event.state,
        output.amount_text(amount) if amount.currency_code else "",
        event.endpoint,
        event.run_id,
        event.vault_key_id,
        "; ".join(part for part in what if part),
    ]
