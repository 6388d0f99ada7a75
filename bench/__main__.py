"""Runs the benchmark and prints what it measured.

Load generator, proxies, policy server, Redis and upstream share one machine:
read the figures as ratios within one run. What is compared takes turns, and
each figure is the median of the turns, so that a machine that has other work
for a while disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
from rich.console import Console
from rich.table import Table

from spendgate.v1 import amount_pb2, policy_pb2, vault_key_service_pb2
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1.vault_key_service_pb2_grpc import VaultKeyServiceStub

HERE = Path(__file__).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CHARGE = {
    "id": "ch_$request_id",  # nginx makes each its own
    "object": "charge",
    "amount": 100,
    "amount_captured": 100,
    "amount_refunded": 0,
    "captured": True,
    "currency": "usd",
    "status": "succeeded",
    "paid": True,
    "refunded": False,
    "livemode": False,
    "description": "An order of the usual size, as the vendor would answer it",
    "metadata": {"order": "0123456789"},
    "outcome": {"type": "authorized", "network_status": "approved_by_network", "risk_level": "normal"},
}
CONNECTIONS = (1, 16, 64)
TURNS = 5


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_us: dict[str, float]
    """CPU time per request of each process, in microseconds."""

    @classmethod
    def median(cls, turns: Sequence[Load]) -> Load:
        """Return the median of each figure; of the failures, their sum."""
        return cls(
            per_second=median(one.per_second for one in turns),
            p50_ms=median(one.p50_ms for one in turns),
            p99_ms=median(one.p99_ms for one in turns),
            failed=sum(one.failed for one in turns),
            cpu_us={name: median(one.cpu_us[name] for one in turns) for name in turns[0].cpu_us},
        )


@dataclass(frozen=True)
class Target:
    """A URL under load."""

    origin: str
    path: str


class Running:
    """The processes under load, by name."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}

    @contextmanager
    def process(self, name: str, *command: str, env: dict[str, str] | None = None) -> Iterator[None]:
        """Run one process until the block ends."""
        process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
        self._pids[name] = process.pid
        try:
            yield
        finally:
            del self._pids[name]
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def name_child(self, name: str, of: str) -> None:
        """Show the one child of a process by itself."""
        while not (children := _children(self._pids[of])):
            time.sleep(0.05)
        (self._pids[name],) = children

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time each process has used, with its children that have no name, in seconds."""
        named = set(self._pids.values())
        return {
            name: sum(map(_cpu_s, [pid, *(child for child in _children(pid) if child not in named)]))
            for name, pid in self._pids.items()
        }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(url: str) -> None:
    """Wait until something answers at ``url``."""
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing answers at {url}")


def nginx_upstream(folder: Path, port: int) -> list[str]:
    """Return the command of an upstream that answers every charge at once."""
    config = folder / "nginx.conf"
    body = json.dumps(CHARGE).replace("'", "")
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 1024; }}
        http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder};
          proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
          scgi_temp_path {folder};
          server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json;
            return 200 '{body}'; }} }} }}"""
    )
    return ["nginx", "-e", str(folder / "nginx.log"), "-c", str(config)]


def load(running: Running, target: Target, key: str, *, connections: int, seconds: int) -> Load:
    """Put load on one URL."""
    env = {
        **os.environ,
        "BENCH_VAULT_KEY": key,
        "BENCH_PATH": target.path,
        "BENCH_SALT": str(time.monotonic_ns() % 10**9),
    }
    before = running.cpu_s()
    output = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            "charge.lua",
            target.origin,
        ],
        cwd=HERE,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    after = running.cpu_s()
    fields = next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1:]
    requests, duration_us, p50_us, p99_us, failed = (float(field) for field in fields)
    return Load(
        per_second=requests / duration_us * 1e6,
        p50_ms=p50_us / 1000,
        p99_ms=p99_us / 1000,
        failed=int(failed),
        cpu_us={name: (after[name] - before[name]) / requests * 1e6 for name in after},
    )


def make_key(address: str, token: str) -> str:
    """Make a vault key with three caps that the load never reaches."""
    windows = (policy_pb2.WINDOW_CALL, policy_pb2.WINDOW_DAY, policy_pb2.WINDOW_MONTH)
    limit = amount_pb2.Amount(minor_units=10**14, currency_code="USD")
    policy = policy_pb2.Policy(
        allow=["POST /v1/charges", "GET /v1/*"],
        caps=[policy_pb2.Cap(amount=limit, window=window) for window in windows],
    )
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(10)
        reply = VaultKeyServiceStub(channel).CreateVaultKey(
            vault_key_service_pb2.CreateVaultKeyRequest(name="bench", policy=policy),
            metadata=[("authorization", f"Bearer {token}")],
            timeout=5,
        )
    return str(reply.secret_vault_key)


def grpc_load(address: str, token: str, key: str, folder: Path, seconds: int) -> str:
    """Put load on Authorize alone; return h2load's own line on it."""
    message = pb.AuthorizeRequest(
        vault_key=key, endpoint="GET /v1/charges", run_id="bench"
    ).SerializeToString()
    body = folder / "authorize.bin"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    output = subprocess.run(
        [
            *("h2load", "-c", "4", "-m", "16", "-D", str(seconds), "-d", str(body)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-H", f"authorization: Bearer {token}"),
            f"http://{address}/spendgate.v1.PolicyService/Authorize",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return next(line for line in output.splitlines() if line.startswith("finished in"))


def missing_programs() -> list[str]:
    """Return the programs that the benchmark needs and that are not here."""
    return [name for name in ("wrk", "h2load", "nginx") if shutil.which(name) is None]


def measure(seconds: int, console: Console) -> dict[str, dict[int, Load]]:
    """Start everything, put load on it and return what was measured."""
    results: dict[str, dict[int, Load]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spendgate-bench-")))
        running = Running()

        def start(name: str, *command: str, env: dict[str, str] | None = None) -> None:
            stack.enter_context(running.process(name, *command, env=env))

        python = sys.executable
        upstream, bare, shared, root, policy = 18881, 18882, 18883, 18884, 18885
        start("upstream", *nginx_upstream(folder, upstream))
        start("redis", python, "-m", "policy_server.embedded_redis", str(folder))
        while not (folder / "redis.sock").exists():
            time.sleep(0.05)
        env = {
            "SPENDGATE_REDIS_URL": f"unix://{folder}/redis.sock",
            "SPENDGATE_DATA_DIR": str(folder),
            "SPENDGATE_LOG_LEVEL": "WARNING",
        }
        listens = ["--policy-port", str(policy), "--policy-socket", f"{folder}/policy.sock"]
        start("policy server", python, "-m", "policy_server", *listens, env=env)
        while not (folder / "sidecar.token").exists():
            time.sleep(0.05)
        running.name_child("drainer", of="policy server")
        sidecar_env = {
            **env,
            "STRIPE_SECRET_KEY": "rk_test_bench",
            "SPENDGATE_STRIPE_API_BASE": f"http://127.0.0.1:{upstream}",
            "SPENDGATE_POLICY_ADDRESS": f"unix:{folder}/policy.sock",
        }
        ports = ["--sidecar-port", str(shared), "--sidecar-root-port", str(root)]
        start("sidecar", python, "-m", "sidecar", *ports, env=sidecar_env)
        start("bare proxy", python, "-m", "bench.bare_proxy", str(bare), f"http://127.0.0.1:{upstream}")
        key = make_key(f"127.0.0.1:{policy}", (folder / "admin.token").read_text().strip())
        targets = {
            "direct": Target(f"http://127.0.0.1:{upstream}", "/v1/charges"),
            "bare proxy": Target(f"http://127.0.0.1:{bare}", "/v1/charges"),
            "spendgate": Target(f"http://127.0.0.1:{shared}", "/stripe/v1/charges"),
        }
        for target in targets.values():
            wait_for(target.origin)
            load(running, target, key, connections=16, seconds=2)
        for connections in CONNECTIONS:
            turns: dict[str, list[Load]] = {name: [] for name in targets}
            for turn in range(TURNS):
                for name, target in targets.items():
                    with console.status(f"{connections} connections, turn {turn + 1}: {name}"):
                        one = load(running, target, key, connections=connections, seconds=seconds)
                    turns[name].append(one)
            for name, loads in turns.items():
                results.setdefault(name, {})[connections] = Load.median(loads)
        token = (folder / "sidecar.token").read_text().strip()
        console.print("\nAuthorize alone (reads, unary, h2load -c 4 -m 16):")
        console.print("  " + grpc_load(f"127.0.0.1:{policy}", token, key, folder, seconds))
    return results


def report(results: dict[str, dict[int, Load]], console: Console) -> None:
    """Print the figures beside each other."""
    table = Table(title="POST of a charge: every one authorized, audited and settled by Spendgate")
    for column in ("connections", "what", "requests/s", "of bare", "p50 ms", "p99 ms", "failed"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for connections in CONNECTIONS:
        bare = results["bare proxy"][connections]
        for name, by_connections in results.items():
            one = by_connections[connections]
            table.add_row(
                str(connections),
                name,
                f"{one.per_second:,.0f}",
                f"{one.per_second / bare.per_second:.2f}",
                f"{one.p50_ms:.2f}",
                f"{one.p99_ms:.2f}",
                str(one.failed),
            )
    console.print(table)
    cpu = Table(title="CPU time per request, µs")
    cpu.add_column("connections", justify="right")
    cpu.add_column("what")
    processes = list(results["spendgate"][CONNECTIONS[0]].cpu_us)
    for process in processes:
        cpu.add_column(process, justify="right")
    for connections in CONNECTIONS:
        for name, by_connections in results.items():
            figures = by_connections[connections].cpu_us
            cpu.add_row(str(connections), name, *(f"{figures[process]:.0f}" for process in processes))
    console.print(cpu)
    lone, many = CONNECTIONS[0], CONNECTIONS[1]
    busy = results["spendgate"][many].cpu_us
    drainer = busy["drainer"] / busy["policy server"]
    console.print(f"the drainer's CPU time beside the policy server's: {drainer:.2f} (ceiling 0.20)")
    gap = results["spendgate"][lone].p50_ms - results["bare proxy"][lone].p50_ms
    share = results["spendgate"][many].per_second / results["bare proxy"][many].per_second
    console.print(f"share of the bare proxy's throughput at {many} connections: {share:.2f} (floor 0.33)")
    console.print(f"p50 above the bare proxy's at {lone} connection: {gap:.2f} ms (floor 1.5 ms)")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "--seconds", type=int, default=2, help="how long each load lasts, of which there are 45"
    )
    arguments = parser.parse_args()
    absent = missing_programs()
    if absent:
        sys.exit(
            f"the benchmark needs {', '.join(absent)}; "
            "on Debian: apt-get install wrk nghttp2-client nginx-light"
        )
    console = Console(width=120)
    report(measure(arguments.seconds, console), console)


if __name__ == "__main__":
    main()
