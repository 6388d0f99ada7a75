"""`spendgate up`: every part of Spendgate in one terminal."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from spendgate.cli import demo_key, output, probes
from spendgate.cli.connection import connect, read_settings
from spendgate.cli.failure import CommandFailed
from spendgate.cli.output import AsJson
from spendgate.cli.servers import require_module
from spendgate.cli.supervisor import Program, StopAsked, Supervisor
from spendgate.cli.up_settings import UpSettings, bare_environment
from spendgate.process_memory import keep_private

_LISTENS = re.compile(r"(?:policy server|sidecar) listens on \S+:(\d+)")
_STYLES = {"redis": "red", "policy": "cyan", "sidecar": "green", "stripe": "magenta"}


def up(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Counters, tokens and sockets; .spendgate unless said.", show_default=False
        ),
    ] = None,
    policy_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="gRPC port of the policy server; 50051 unless said, 0 for a free one.",
        ),
    ] = None,
    sidecar_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Port of /stripe/v1/...; 8787 unless said, 0 for a free one."),
    ] = None,
    sidecar_root_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Port of /v1/... at the root; 8788 unless said, 0 for a free one."),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A Redis to count in, instead of a private one in the data directory."
        ),
    ] = None,
    demo: Annotated[
        bool | None,
        typer.Option(
            "--demo-key/--no-demo-key",
            help="Make a vault key to try with; only with the Stripe simulator unless said.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start Redis, the policy server, the sidecar, and without a Stripe key the Stripe simulator.

    Set STRIPE_SECRET_KEY to go to Stripe itself. Every option can also be set as `SPENDGATE_<NAME>`, such as
    SPENDGATE_SIDECAR_PORT; settings that have no option here go to the servers by their environment.

    Ctrl-C stops everything, the sidecar first and Redis last; a second Ctrl-C does not wait. When one part
    ends, all are stopped and the exit code is 1. The parts' logs go to standard error.
    """
    keep_private()
    settings = read_settings(
        UpSettings,
        data_dir=data_dir,
        policy_port=policy_port,
        sidecar_port=sidecar_port,
        sidecar_root_port=sidecar_root_port,
        redis_url=redis_url,
    )
    # Redis and the servers may not agree on where a relative path begins.
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    settings = settings.model_copy(update={"policy_address": settings.local_policy_address})
    settings.check()
    for module in ("policy_server", "sidecar", *(["stripe_simulator"] if settings.simulates_stripe else [])):
        require_module(module)
    wants_demo = settings.simulates_stripe if demo is None else demo
    with _locked(settings.data_dir):
        _check_can_start(settings)
        asyncio.run(_run(settings, wants_demo=wants_demo, as_json=as_json))


async def _run(settings: UpSettings, *, wants_demo: bool, as_json: bool) -> None:
    """Run every part until a signal; raises `CommandFailed` when one of them fails."""
    try:
        lines = _LogLines()
        async with Supervisor(lines, stop_limit_s=settings.stop_limit_s) as supervisor:
            if settings.redis_url is None:
                await supervisor.start(_redis(settings))
            simulator_url = (
                await _start_simulator(supervisor, settings) if settings.simulates_stripe else None
            )
            await supervisor.start(_policy_server(settings, lines))
            await supervisor.start(_sidecar(settings, simulator_url, lines))
            settings = lines.listening(settings)
            key, remark = await asyncio.to_thread(_demo_key, settings) if wants_demo else ("", "")
            _print_summary(settings, simulator_url, key, remark, as_json=as_json)
            await supervisor.run()
    except StopAsked:
        return


def _redis(settings: UpSettings) -> Program:
    return Program(
        name="redis",
        title="Redis",
        module="policy_server.embedded_redis",
        arguments=(str(settings.data_dir),),
        environment=bare_environment(),
        problem=lambda: probes.redis_problem(settings.data_dir / "redis.sock"),
    )


async def _start_simulator(supervisor: Supervisor, settings: UpSettings) -> str:
    ready_file = settings.data_dir / "simulator.url"
    ready_file.unlink(missing_ok=True)
    await supervisor.start(
        Program(
            name="stripe",
            title="the Stripe simulator",
            module="stripe_simulator",
            arguments=("--port", "0", "--ready-file", str(ready_file)),
            environment=bare_environment(),
            problem=lambda: "" if ready_file.exists() else "it does not listen yet",
        )
    )
    return ready_file.read_text().strip()


def _policy_server(settings: UpSettings, lines: _LogLines) -> Program:
    return Program(
        name="policy",
        title="the policy server",
        module="policy_server",
        environment=settings.policy_environment(),
        problem=lambda: (
            probes.administration_problem(lines.listening(settings))
            if lines.ports["policy"]
            else "it does not listen yet"
        ),
    )


def _sidecar(settings: UpSettings, simulator_url: str | None, lines: _LogLines) -> Program:
    return Program(
        name="sidecar",
        title="the sidecar",
        module="sidecar",
        environment=settings.sidecar_environment(simulator_url),
        problem=lambda: (
            probes.sidecar_problem(lines.listening(settings), "/readyz")
            if len(lines.ports["sidecar"]) == 2
            else "it does not listen yet"
        ),
    )


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process; raises `CommandFailed` when another has it."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where the other commands work
    except ModuleNotFoundError:
        raise CommandFailed(
            "'spendgate up' needs Linux or macOS; run the servers in a container instead"
        ) from None
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandFailed(f"the data directory {data_dir} can't be used: {error.strerror}") from None
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(
                f"another 'spendgate up' (process {lock.read().strip() or 'unknown'}) uses {data_dir}; "
                "stop it, or give another --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _check_can_start(settings: UpSettings) -> None:
    """Raise `CommandFailed` for what would let a part fail, before any part is started."""
    ports = (
        (settings.policy_host, settings.policy_port, "--policy-port"),
        (settings.sidecar_host, settings.sidecar_port, "--sidecar-port"),
        (settings.sidecar_host, settings.sidecar_root_port, "--sidecar-root-port"),
    )
    problems = [(probes.port_problem(host, port), option) for host, port, option in ports]
    taken = [f"{problem} ({option})" for problem, option in problems if problem]
    if taken:
        raise CommandFailed(
            f"{'; '.join(taken)}. Stop what listens there, or choose other ports with these options, "
            "or with SPENDGATE_POLICY_PORT, SPENDGATE_SIDECAR_PORT and SPENDGATE_SIDECAR_ROOT_PORT"
        )
    # Two servers that append to the same file would ruin the count.
    socket_path = settings.data_dir / "redis.sock"
    if settings.redis_url is None and not probes.redis_problem(socket_path):
        raise CommandFailed(
            f"a Redis that was left behind still runs in {settings.data_dir}; "
            f"stop it with: redis-cli -s {socket_path} shutdown"
        )


def _demo_key(settings: UpSettings) -> tuple[str, str]:
    """Return the demo key, or "" and why there is none."""
    try:
        with connect(settings) as server:
            return demo_key.demo_key(server, settings.data_dir / "demo.key"), ""
    except CommandFailed as error:
        return "", str(error)


def _print_summary(
    settings: UpSettings, simulator_url: str | None, key: str, remark: str, *, as_json: bool
) -> None:
    data_dir = settings.data_dir
    key_file = str(data_dir / "demo.key") if key else ""
    facts = {
        "sidecar": f"{settings.sidecar_url}/stripe",
        "sidecarRoot": settings.sidecar_root_url,
        "policyServer": settings.local_policy_address,
        "redis": settings.redis_text,
        "upstream": settings.upstream_text(),
        "simulator": simulator_url or "",
        "dataDir": str(data_dir),
        "adminTokenFile": "" if settings.admin_token else str(settings.admin_token_file),
        "sidecarTokenFile": "" if settings.sidecar_token else str(data_dir / "sidecar.token"),
        "demoKeyFile": key_file,
    }
    remarks = [text for text in (settings.warning(), remark) if text]
    if as_json:
        output.print_json({**facts, "remarks": remarks})
        return
    lines = (
        ("agents", f"{facts['sidecar']}/v1/...   (at the root: {facts['sidecarRoot']}/v1/...)"),
        ("policy server", facts["policyServer"]),
        ("upstream", facts["upstream"]),
        ("Redis", facts["redis"]),
        ("data directory", facts["dataDir"]),
        ("admin token", facts["adminTokenFile"] or "from SPENDGATE_ADMIN_TOKEN"),
        ("sidecar token", facts["sidecarTokenFile"] or "from SPENDGATE_SIDECAR_TOKEN"),
        ("demo key", key_file or "none"),
    )
    body = Text("\n").join(Text.assemble((f"{name:<16}", "bold"), value) for name, value in lines)
    output.console().print(Panel.fit(body, title="Spendgate is up", subtitle="Ctrl-C stops everything"))
    for text in remarks:
        output.print_line(f"Warning: {text}")
    if key:
        for line in _suggestion(facts["sidecar"], key, pays=settings.moves_no_money):
            output.print_line(line)


def _suggestion(base: str, key: str, *, pays: bool) -> tuple[str, str]:
    """Return what to try with the demo key, and the line to paste."""
    authorization = f"-H 'Authorization: Bearer {key}'"
    if not pays:
        return (
            "Try the demo key with a call that moves no money:\n",
            f"curl {base}/v1/balance {authorization}",
        )
    return (
        "Try the demo key; the same line again is the same payment:\n",
        f"curl {base}/v1/charges {authorization} -H 'Spendgate-Run-Id: demo-1' "
        "-d amount=1900 -d currency=usd -d source=tok_visa",
    )


class _LogLines:
    """Prints the parts' lines with their names in front, and takes note where they say that they listen."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self.ports: dict[str, list[int]] = {"policy": [], "sidecar": []}

    def __call__(self, name: str, line: str) -> None:
        listens = _LISTENS.search(line)
        if listens and name in self.ports:
            self.ports[name].append(int(listens[1]))
        text = Text.assemble((f"{name:<7} | ", _STYLES.get(name, "")), line)
        self._console.print(text, soft_wrap=True)

    def listening(self, settings: UpSettings) -> UpSettings:
        """Return the settings with the ports that the servers have: 0 lets the system choose one."""
        ports = [
            *(self.ports["policy"][:1] or [settings.policy_port]),
            *(self.ports["sidecar"] or [settings.sidecar_port, settings.sidecar_root_port]),
        ]
        names = ("policy_port", "sidecar_port", "sidecar_root_port")
        there = settings.model_copy(update=dict(zip(names, ports, strict=True)))
        return there.model_copy(update={"policy_address": there.local_policy_address})
