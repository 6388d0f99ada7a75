"""`spendgate audit`: what was decided, done and changed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from spendgate import derived_keys
from spendgate.cli import export_table, moments, output, servers
from spendgate.cli.connection import (
    Account,
    DataDir,
    OperatorSettings,
    PolicyAddress,
    PolicyServer,
    connect_with,
    read_settings,
)
from spendgate.cli.failure import CommandFailed, UsageWrong
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


class ExportForm(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


def _filter_option(flag: str, metavar: str | None, explanation: str) -> object:
    return typer.Option(flag, metavar=metavar, help=explanation, show_default=False, rich_help_panel=_PANEL)


Run = Annotated[str, _filter_option("--run", "RUN", "Only this agent run.")]
Key = Annotated[str, _filter_option("--key", "NAME_OR_ID", "Only this vault key; a revoked one by its id.")]
Derived = Annotated[
    str,
    _filter_option(
        "--derived",
        "ID",
        "Only the derived key with this public id, and those derived from it; --key takes one whole.",
    ),
]
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
    derived: Derived = "",
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
    only = derived or derived_keys.derived_key_id(key)
    with connect_with(policy_address, data_dir, account) as server:
        if key:
            wanted.vault_key_id = find_key(server, key).vault_key_id
        found = (event for event in _events(server, wanted, limit) if _is_of(event, only))
        events = list(itertools.islice(found, limit))
    if as_json:
        output.print_json({"auditEvents": [output.as_dict(event) for event in events]})
        return
    if not events:
        output.print_line("No event matches.")
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
    derived: Derived = "",
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
    only = derived or derived_keys.derived_key_id(key)
    try:
        with connect_with(policy_address, data_dir, account) as server:
            if key:
                wanted.vault_key_id = find_key(server, key).vault_key_id
            request = pb.WatchAuditEventsRequest(
                account=server.account, after_sequence=0 if from_start else after, filter=wanted
            )
            for message in server.stream(server.audit.WatchAuditEvents, request):
                if message.HasField("audit_event") and _is_of(message.audit_event, only):
                    _print_event(message.audit_event, as_json=as_json)
    except KeyboardInterrupt:
        return


@app.command("export")
def export_events(
    *,
    form: Annotated[
        ExportForm, typer.Option("--format", help="jsonl can be verified; csv is for spreadsheets.")
    ] = ExportForm.JSONL,
    after: Annotated[
        int, typer.Option("--after", min=0, metavar="SEQUENCE", help="Begin after this archived event.")
    ] = 0,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write to a file that is not there yet.", show_default=False
        ),
    ] = None,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Write down all archived events of an account, oldest first.

    As jsonl it has what `spendgate audit verify` needs: every event unchanged, hashes and checkpoints.
    """
    with connect_with(policy_address, data_dir, account) as server, _new_file(file) as written:
        request = pb.ExportAuditEventsRequest(account=server.account, after_sequence=after)
        parts = server.stream(server.audit.ExportAuditEvents, request)
        lines = (line for part in parts for line in part.lines)
        if form is ExportForm.JSONL:
            written.writelines(f"{line}\n" for line in lines)
        else:
            export_table.write(lines, written)


@app.command("verify")
def verify_trail(
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="[TARGET]",
            help="An export, an SQLite file or postgresql://…; else SPENDGATE_ARCHIVE_URL, "
            "else audit.sqlite in the data directory.",
            show_default=False,
        ),
    ] = "",
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="Only this account.", show_default=False)
    ] = "",
    public_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            help="PEM of a key that signs; else the data directory's, else those that the trail brings.",
            show_default=False,
        ),
    ] = None,
    expect: Annotated[
        str,
        typer.Option(
            "--expect", metavar="SEQUENCE:HASH", help="An event that must be part of it.", show_default=False
        ),
    ] = "",
    after: Annotated[
        str,
        typer.Option(
            "--after",
            metavar="SEQUENCE[:HASH]",
            help="The event that an export was made to begin after.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Verify an archive or an export, without any server.

    Names each event that was changed, removed or inserted. The exit code is 1 when something is wrong with
    the trail, and 2 when it can't be read.
    """
    settings = read_settings(OperatorSettings, data_dir=data_dir)
    servers.become(
        "policy_server.archive",
        [
            *("--data-dir", str(settings.data_dir)),
            *(["--account", account] if account else []),
            *(part for one in public_key or () for part in ("--public-key", str(one))),
            *(["--expect", expect] if expect else []),
            *(["--after", after] if after else []),
            *(["--json"] if as_json else []),
            *(["--", target] if target else []),
        ],
    )


@app.command("checkpoint")
def make_checkpoint(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Sign the newest archived event, and show it with the public key.

    Keep what it shows where nobody who can change the archive can change it. `spendgate audit verify
    --expect` then finds whatever of it was rewritten or cut off.
    """
    with connect_with(policy_address, data_dir, account) as server:
        reply = server.call(
            server.audit.CreateAuditCheckpoint, pb.CreateAuditCheckpointRequest(account=server.account)
        )
    if as_json:
        output.print_json(output.as_dict(reply))
        return
    signed = reply.audit_checkpoint
    output.print_line(f"{signed.sequence}:{signed.hash}")
    output.print_line(f"signed {output.time_text(signed.create_time)} by {signed.key_id}: {signed.signature}")
    output.print_line(reply.public_key.strip())


@app.command("archive")
def show_archive(
    *, as_json: AsJson = False, policy_address: PolicyAddress = None, data_dir: DataDir = None
) -> None:
    """Show how far the archive is with each account, and what is wrong; then the exit code is 1."""
    with connect_with(policy_address, data_dir, None) as server:
        reply = server.call(server.audit.GetAuditArchive, pb.GetAuditArchiveRequest())
    if as_json:
        output.print_json(output.as_dict(reply))
    else:
        output.print_table(
            ("account", "newest", "archived", "waiting", "hash"),
            (
                [
                    one.account,
                    str(one.sequence),
                    str(one.archived_sequence),
                    f"{one.backlog} of {reply.backlog_max}",
                    one.archived_hash,
                ]
                for one in reply.accounts
            ),
            numbers=("newest", "archived"),
        )
        if reply.problem:
            output.print_line(f"wrong: {reply.problem}")
    if reply.problem:
        raise typer.Exit(1)


@app.command("accept-loss")
def accept_loss(
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why they are lost, for the record.")
    ],
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Let an archive that has lost events go on after them, when no backup has them.

    The gap stays visible: `spendgate audit verify` tells how many events are missing. Run it again when it
    ended with an error: what accepts the loss is an event, and without it nobody believes it.
    """
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.AcceptAuditLossRequest(account=server.account, reason=reason)
        reply = server.call(server.audit.AcceptAuditLoss, request)
    output.print_line(f"events {reply.first_sequence} to {reply.last_sequence} are lost; the archive goes on")


@contextmanager
def _new_file(path: Path | None) -> Iterator[TextIO]:
    """Open a new file, or standard output; raises `CommandFailed`."""
    if path is None:
        yield sys.stdout
        return
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise CommandFailed(f"{path} can't be written: {error.strerror}") from None


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


def _is_of(event: pb.AuditEvent, derived_key_id: str) -> bool:
    """Tell whether the event is of this derived key, or of one that comes from it; of "" all are."""
    # Of a chain as the trail has it, the last is meant.
    wanted = derived_key_id.rpartition("/")[2]
    return not wanted or wanted in event.derived_key_id.split("/")


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
        f"derived key {event.derived_key_id}" if event.derived_key_id else "",
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
