"""The options that describe a policy, and the policy they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from spendgate import cap_text, currencies, parameter_text
from spendgate.cli import moments
from spendgate.cli.failure import UsageWrong
from spendgate.v1 import policy_pb2

_PANEL = "Policy"


class Effects(StrEnum):
    """How a call that names no effect of its own is named within a run."""

    BY_ENDPOINT = "by-endpoint"
    BY_PARAMETERS = "by-parameters"


class Refunds(StrEnum):
    """How a call counts that gives money back."""

    COUNTED = "counted"
    OWN_CAP = "own-cap"
    RESTORE = "restore"


Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="ENDPOINT",
        help="An endpoint the key may call, such as `'POST /v1/charges'` or `'GET /v1/*'`. May be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Caps = Annotated[
    list[str] | None,
    typer.Option(
        "--cap",
        metavar="CAP",
        help="A limit: `CURRENCY AMOUNT/WINDOW [in ZONE] [on ENDPOINT[, ENDPOINT...]]` or "
        "`calls COUNT/WINDOW ...`, amounts in major units, WINDOW one of call, run, hour, day, week, "
        "month, total. "
        "Such as `'usd 500.00/day'`, `'jpy 5000/month in Asia/Tokyo'` or "
        "`'calls 20/run on POST /v1/charges'`. May be repeated; "
        "money moves only in currencies that have a cap.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Currencies = Annotated[
    list[str] | None,
    typer.Option(
        "--currency",
        metavar="CODE",
        help="Allow only this currency, also where a budget has caps in others. May be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        metavar="RULE",
        help="A condition on a request parameter: "
        "`NAME=VALUE[,VALUE...] [required] [on ENDPOINT[, ENDPOINT...]]` "
        "allows only these values, `!NAME [on ...]` forbids the parameter. "
        "Such as `'customer=cus_1,cus_2 required'` or `'!destination'`. May be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME",
        help="A budget of the account that the key also draws from. May be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
VendorAccounts = Annotated[
    list[str] | None,
    typer.Option(
        "--vendor-account",
        metavar="ACCT",
        help="An account at the vendor, such as acct_1, that calls may act for besides the key's own. "
        "May be repeated; the caps count them together.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Unpriced = Annotated[
    list[str] | None,
    typer.Option(
        "--unpriced",
        metavar="ENDPOINT",
        help="An endpoint that may be called although nobody can tell the amount before; one such call may "
        "exceed a cap by its own amount. May be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Shadow = Annotated[
    bool,
    typer.Option(
        "--shadow",
        help="Refuse nothing: allow, count, and record what would have been refused.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
EffectsOption = Annotated[
    Effects | None,
    typer.Option(
        "--effects",
        help="When a repeat within a run is the same payment: the same endpoint, or also the same "
        "parameters. by-endpoint unless said.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
RefundsOption = Annotated[
    Refunds | None,
    typer.Option(
        "--refunds",
        help="How refunds count: as any money, only under caps that name endpoints, or by giving back what "
        "is counted for the refunded object. counted unless said.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
RepeatedRefusals = Annotated[
    int | None,
    typer.Option(
        "--repeated-refusals",
        min=0,
        max=1_000_000,
        metavar="COUNT",
        help="How often the same call may be refused in one run before the run is frozen; 0: any number. "
        "10 unless said.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="MOMENT",
        help="When the key stops working, such as 2027-01-31T00:00:00Z.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ExpiresIn = Annotated[
    str | None,
    typer.Option(
        "--expires-in",
        metavar="STRETCH",
        help="After how long the key stops working, such as 12h or 30d.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy-file",
        metavar="FILE",
        help="The whole policy as proto JSON, as `keys show --json` prints it, "
        "instead of the other options here.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def build_policy(
    *,
    allow: Sequence[str] | None,
    caps: Sequence[str] | None,
    currency: Sequence[str] | None,
    parameter: Sequence[str] | None,
    budget: Sequence[str] | None,
    vendor_account: Sequence[str] | None,
    unpriced: Sequence[str] | None,
    shadow: bool,
    effects: Effects | None,
    refunds: Refunds | None,
    repeated_refusals: int | None,
    expires: str | None,
    expires_in: str | None,
    policy_file: Path | None,
) -> policy_pb2.Policy:
    """Return the policy that the options describe, or raise `UsageWrong`."""
    if policy_file is not None:
        others = (
            allow,
            caps,
            currency,
            parameter,
            budget,
            vendor_account,
            unpriced,
            shadow,
            effects,
            refunds,
        )
        if any((*others, expires, expires_in)) or repeated_refusals is not None:
            raise UsageWrong("--policy-file is the whole policy; leave the other policy options out")
        return read_policy(policy_file)
    if not allow:
        raise UsageWrong("the policy allows nothing: add --allow 'POST /v1/charges', or give --policy-file")
    try:
        return policy_pb2.Policy(
            allow=allow,
            caps=[cap_text.parse(cap) for cap in caps or ()],
            currencies=[_currency(code) for code in currency or ()],
            parameter_rules=[parameter_text.parse(rule) for rule in parameter or ()],
            mode=policy_pb2.POLICY_MODE_SHADOW if shadow else policy_pb2.POLICY_MODE_ENFORCE,
            effects=policy_pb2.EFFECT_NAMING_BY_PARAMETERS
            if effects is Effects.BY_PARAMETERS
            else policy_pb2.EFFECT_NAMING_BY_ENDPOINT,
            expire_time=_expiry(expires, expires_in),
            budgets=budget,
            vendor_accounts=vendor_account,
            unpriced=unpriced,
            refunds=f"REFUND_RULE_{(refunds or Refunds.COUNTED).name}",
            repeated_refusals_max=repeated_refusals,
        )
    except ValueError as error:
        raise UsageWrong(str(error)) from None


def parse_caps(caps: Sequence[str]) -> list[policy_pb2.Cap]:
    """Return the caps of --cap options, or raise `UsageWrong`."""
    try:
        return [cap_text.parse(cap) for cap in caps]
    except ValueError as error:
        raise UsageWrong(str(error)) from None


def read_policy(path: Path) -> policy_pb2.Policy:
    """Return the policy in a file of proto JSON, also inside a vault key as `keys show --json` prints it.

    Raises `UsageWrong`, also for fields nobody knows.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        within = stored.get("policy", stored) if isinstance(stored, dict) else stored
        return json_format.Parse(json.dumps(within), policy_pb2.Policy())
    except OSError as error:
        raise UsageWrong(f"the policy file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageWrong(f"the policy file {path} is not UTF-8") from None
    except (json.JSONDecodeError, json_format.ParseError) as error:
        problem = " ".join(str(error).split())
        raise UsageWrong(f"the policy file {path} is not the JSON of a policy: {problem}") from None


def expiry(expires: str | None, expires_in: str | None) -> Timestamp | None:
    """Return when a key stops working, or raise `UsageWrong`."""
    try:
        return _expiry(expires, expires_in)
    except ValueError as error:
        raise UsageWrong(str(error)) from None


def _currency(code: str) -> str:
    currencies.decimals(code)
    return code.upper()


def _expiry(expires: str | None, expires_in: str | None) -> Timestamp | None:
    if expires and expires_in:
        raise ValueError("--expires and --expires-in say the same; give one of them")
    now = datetime.now(UTC)
    if expires_in:
        return moments.timestamp(now + moments.parse_stretch(expires_in))
    if not expires:
        return None
    moment = moments.parse_moment(expires)
    if moment <= now:
        raise ValueError(f"--expires {expires} is in the past; the key would never work")
    return moments.timestamp(moment)
