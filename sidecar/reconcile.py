"""``python -m sidecar.reconcile``: finds out unknown outcomes once, and reports what nobody explains."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence

import grpc
import uvloop
from pydantic import SecretStr, ValidationError, field_validator
from pydantic_settings import CliApp, CliImplicitFlag

from sidecar.backends import (
    CannotStart,
    admin_token,
    backends,
    policy_channel,
    reconciler,
    sidecar_token,
)
from sidecar.policy_link import PolicyLink
from sidecar.report import Comparison, Report, as_json, as_text
from sidecar.settings import SidecarSettings
from sidecar.trail import Trail
from sidecar.vendor import CannotLook
from spendgate.cli.moments import parse_past
from spendgate.process_memory import keep_private
from spendgate.setting_errors import problems
from spendgate.v1 import policy_service_pb2 as pb

_BATCH_MAX = 256
_TIMEOUT_S = 5.0
NOT_ALL_EXPLAINED = 3
"""Exit status when something is left that people should look at."""


class ReconcileOptions(
    SidecarSettings,
    cli_prog_name="spendgate reconcile",
    cli_kebab_case=True,
    cli_shortcuts={"print-json": "json"},
):
    """Find out unknown outcomes at the vendors, and report what no authorization explains.

    Exits with 0 when all is explained, 3 when something is left to look at, 1 when that can't be told.
    Takes the sidecar's settings, and the admin token to read the audit trail.
    """

    admin_token: SecretStr | None = None
    """Token that reads the audit trail, instead of the one in admin.token."""

    since: str = "24h"
    """Compare movements since this moment, or so long ago, such as 7d; Stripe lists events of 30 days."""

    account: str = "default"
    """Accounts whose audit trail explains movements, several with commas between."""

    dry_run: CliImplicitFlag[bool] = False
    """Close no hold, only say what would be."""

    wait: CliImplicitFlag[bool] = False
    """Look again after SPENDGATE_RECONCILE_QUIET_S, and release what never arrived; else sidecars do."""

    print_json: CliImplicitFlag[bool] = False
    """Print one JSON document; --json for short."""

    @field_validator("since")
    @classmethod
    def _is_past(cls, value: str) -> str:
        parse_past(value)
        return value


async def reconcile_once(settings: ReconcileOptions) -> Report:
    """Find out unknown outcomes, compare what moved, and return what there is to tell.

    Raises `CannotStart`, `CannotLook` and `grpc.aio.AioRpcError`.
    """
    since_ms = int(parse_past(settings.since).timestamp() * 1000)
    report = Report(since_ms, time.time_ns() // 1_000_000, settings.dry_run)
    channel = policy_channel(settings)
    found = backends(settings)
    accounts = [name.strip() for name in settings.account.split(",")]
    trail = Trail(channel, admin_token(settings.admin_token, settings.data_dir), accounts)
    policy = PolicyLink(channel, sidecar_token(settings))
    for backend in found:
        await backend.upstream.open()
    try:
        unknown = reconciler(settings, policy, found, dry_run=settings.dry_run)
        report.looked = await (unknown.look_until_quiet() if settings.wait else unknown.look())
        settlements = await trail.settlements(since_ms)
        for backend in found:
            await Comparison(backend.vendor, backend.reads, trail, report).run(settlements)
        if not settings.dry_run:
            await _count(policy, report.prices)
    finally:
        for backend in found:
            await backend.upstream.close()
        await channel.close()
    return report


async def _count(policy: PolicyLink, prices: Sequence[pb.Observation]) -> None:
    for begin in range(0, len(prices), _BATCH_MAX):
        await policy.batch_record_observations(
            pb.BatchRecordObservationsRequest(observations=prices[begin : begin + _BATCH_MAX]),
            timeout_s=_TIMEOUT_S,
        )


def main() -> None:
    """Reconcile once and print the report."""
    keep_private()
    try:
        settings = CliApp.run(ReconcileOptions)
        logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        report = uvloop.run(reconcile_once(settings))
    except ValidationError as error:
        lines = [f"  {problem}" for problem in problems(ReconcileOptions, error)]
        sys.exit("the settings can't be used:\n" + "\n".join(lines) + "\nSee docs/settings.md.")
    except CannotStart as error:
        sys.exit(f"nothing could be compared: {error}")
    except CannotLook as error:
        sys.exit(f"not all could be compared: the vendor can't be asked: {error}")
    except grpc.aio.AioRpcError as error:
        sys.exit(
            f"not all could be compared: the policy server answers {error.code().name}: {error.details()}"
        )
    sys.stdout.write(
        (json.dumps(as_json(report), indent=2) if settings.print_json else as_text(report)) + "\n"
    )
    sys.exit(0 if report.all_explained else NOT_ALL_EXPLAINED)


if __name__ == "__main__":
    main()
