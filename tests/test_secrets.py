"""No secret that a run used is in anything that the run wrote, whatever went wrong in it."""

from __future__ import annotations

import base64
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
import redis as redis_client

from spendgate.v1 import audit_service_pb2, vault_key_service_pb2
from tests import rpc
from tests.certificates import HERE, Authority
from tests.processes import (
    Process,
    ProcessFailed,
    policy_server_address,
    policy_server_process,
    redis_process,
    temporary_folder,
    wait_for,
)
from tests.stack import CHARGE, sidecar_process, simulator_process
from tests.test_cli import Operator
from tests.tls_relay import tls_relay

ACCOUNT = f"AC{secrets.token_hex(16)}"

SIDECAR_THAT_CRASHES = """
from sidecar import gate, upstream
send, decide = upstream.Upstream.send, gate.Gate._decide
async def fail(self, request, **more):
    if b"crash" in bytes(request.body or b""):
        raise RuntimeError(request, self)
    return await send(self, request, **more)
async def fail_to_decide(self, call, vault_key, run_id, step):
    if run_id == "crash-early":
        raise RuntimeError(call, self, self._decisions)
    return await decide(self, call, vault_key, run_id, step)
upstream.Upstream.send, gate.Gate._decide = fail, fail_to_decide
from sidecar.__main__ import main
main()
"""

SERVER_THAT_CRASHES = """
from policy_server.core import authorizer
from policy_server.core.vault_key import parse
authorize = authorizer.Authorizer.authorize
async def fail(self, calls):
    if any(call.run_id == "crash" for call in calls):
        raise RuntimeError(calls, parse(calls[0].vault_key), self._strangers)
    return await authorize(self, calls)
authorizer.Authorizer.authorize = fail
from policy_server.__main__ import main
main()
"""


@dataclass
class Run:
    """One run of everything: what must stay secret, and what was written where."""

    secrets: dict[str, str] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)

    def keep(self, what: str, secret: str) -> str:
        """Note a secret."""
        self.secrets[what] = secret
        return secret

    def write(self, where: str, what: Any) -> None:
        """Note what was written or answered."""
        self.written[f"{where} {len(self.written)}"] = what if isinstance(what, bytes) else str(what).encode()

    def leaks(self) -> list[str]:
        """Where which secret is, in plain, quoted, reversed into a repr or in base64."""
        return [
            f"{secret_name} ({way}) in {where}"
            for secret_name, secret in self.secrets.items()
            for way, form in forms(secret)
            for where, content in self.written.items()
            if form in content
        ]


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """How a secret may look: as it is, in a URL, in hex, and in base64 at any place of a longer text."""
    yield "plain", secret.encode()
    yield "quoted", quote(secret, safe="").encode()
    yield "hex", secret.encode().hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + secret.encode())
        yield "base64", encoded[4 if shift else 0 : len(encoded) - 4]


def test_the_search_finds_what_it_looks_for() -> None:
    """In each form, also inside of something else."""
    secret = "rk_test_51Hunter2Hunter2Hunter2"
    for hidden in (
        secret,
        quote(f"a/{secret}"),
        base64.b64encode(f"{secret}:".encode()).decode(),
        base64.b64encode(f"user:{secret}".encode()).decode(),
        base64.b64encode(f"ab{secret}".encode()).decode(),
        secret.encode().hex(),
    ):
        run = Run({"key": secret}, {"log": f"...{hidden}...".encode()})
        assert run.leaks(), hidden


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything that a run wrote: charges, refusals, wrong keys, crashes, administration, bad settings."""
    ours = Authority(tmp_path_factory.mktemp("certificates"))
    found = Run()
    with ExitStack() as opened:
        folder = opened.enter_context(temporary_folder())
        _run_everything(found, ours, folder, opened)
        _collect(found, folder)
    return found


def _run_everything(run: Run, ours: Authority, folder: Path, opened: ExitStack) -> None:
    server, client = ours.issue(), ours.issue("sidecar")
    for what, issued in (("the server's TLS key", server), ("the client's TLS key", client)):
        run.keep(what, issued.key.read_text().splitlines()[2])
    password = run.keep("the password of Redis", secrets.token_urlsafe(24))
    redis = opened.enter_context(redis_process(folder))
    socket = folder / "redis.sock"
    with redis_client.Redis(unix_socket_path=str(socket)) as raw:
        raw.config_set("requirepass", password)
    port = opened.enter_context(tls_relay(socket, ours.issue()))
    redis_url = f"rediss://:{password}@{HERE}:{port}/0"
    policy = policy_server_process(
        folder,
        redis_url,
        env={
            "SPENDGATE_LOG_LEVEL": "DEBUG",
            "SPENDGATE_DRAIN_S": "1",
            "SPENDGATE_ADMIN_TOKEN": run.keep("the admin token", secrets.token_urlsafe(32)),
            "SPENDGATE_SIDECAR_TOKEN": run.keep("the sidecar token", secrets.token_urlsafe(32)),
            "SPENDGATE_POLICY_CERT": str(server.certificate),
            "SPENDGATE_POLICY_KEY": str(server.key),
            "SPENDGATE_REDIS_CA": str(ours.file),
        },
    )
    policy.argv = [sys.executable, "-c", SERVER_THAT_CRASHES]
    opened.enter_context(policy)
    stripe = opened.enter_context(simulator_process(folder))
    origin = stripe.found(r"listening on (\S+)")
    assert origin is not None
    settings = {
        "log_level": "DEBUG",
        "decision_timeout_ms": "5000",
        "sidecar_token": run.secrets["the sidecar token"],
        "policy_ca": str(ours.file),
        "client_cert": str(client.certificate),
        "client_key": str(client.key),
        "twilio_account_sid": ACCOUNT,
        "twilio_auth_token": run.keep("Twilio's token", secrets.token_hex(16)),
        "twilio_api_base": f"http://{HERE}:9",
    }
    sidecar = sidecar_process(folder, policy_server_address(policy), origin, **settings)
    run.keep("the key at Stripe", sidecar.env["STRIPE_SECRET_KEY"])
    sidecar.argv = [sys.executable, "-c", SIDECAR_THAT_CRASHES]
    opened.enter_context(sidecar)

    address = policy_server_address(policy)
    admin = rpc.Caller(address, run.secrets["the admin token"], ours.credentials())
    caller = rpc.Caller(address, run.secrets["the sidecar token"], ours.credentials())
    with admin.channel, caller.channel:
        key, key_id = rpc.make_key(admin, rpc.day_cap(5_000), "agent")
        run.keep("the vault key's secret", key.rpartition("_")[2])
        _use_http(run, sidecar, key)
        _use_rpc(run, admin, caller, key, key_id)
    _use_the_command(run, address, ours, folder, key_id)
    _start_badly(run, folder, redis_url, address, ours)
    sidecar.signal(signal.SIGABRT)  # as a crash of an extension does
    assert sidecar.wait() == -signal.SIGABRT
    redis.signal(signal.SIGKILL)
    redis.wait()
    policy.signal(signal.SIGTERM)
    policy.wait()


def _use_http(run: Run, sidecar: Process, key: str) -> None:
    base = sidecar.found(r"sidecar listens on (\S+) for")
    stripe_key = run.secrets["the key at Stripe"]
    wrong = run.keep("a guessed secret", secrets.token_hex(16).translate(str.maketrans("0189", "abcd")))
    guess = f"{key.rpartition('_')[0]}_{wrong}"
    other = f"vk_{'b' * 12}_{wrong}"
    answers = []

    def call(path: str, data: dict[str, str], presented: str, run_id: str, **headers: str) -> httpx.Response:
        given = {"Authorization": f"Bearer {presented}", "Spendgate-Run-Id": run_id, **headers}
        answer = client.post(f"{base}{path}", data=data, headers=given)
        answers.append(answer)
        return answer

    with httpx.Client(timeout=30) as client:
        charges = "/stripe/v1/charges"
        assert call(charges, dict(CHARGE), key, "run-1").status_code == 200
        assert call(charges, dict(CHARGE), key, "run-1").status_code == 200
        assert call(charges, {**CHARGE, "amount": "900000"}, key, "run-2").status_code == 429
        for presented in (guess, other, stripe_key, "nonsense"):
            assert call(charges, dict(CHARGE), presented, "run-3").status_code == 401
        for run_id, more in (
            (key, {}),
            (stripe_key, {}),
            ("run", {"Spendgate-Step": key}),
            ("", {"Idempotency-Key": key}),
        ):
            assert call(charges, dict(CHARGE), key, run_id, **more).status_code == 400
        for path in (f"/stripe/v1/{key}", f"{charges}/{stripe_key}", f"{charges}/{key}"):
            assert call(path, dict(CHARGE), key, "run-4").status_code in {400, 403}
        assert call(f"/{key}", dict(CHARGE), key, "run-4").status_code == 404
        assert call(charges, {**CHARGE, "description": "crash"}, key, "run-5").status_code == 500
        assert call(charges, dict(CHARGE), key, "crash-early").status_code == 500
        assert call(charges, dict(CHARGE), key, "crash").status_code == 503
        answers.append(client.get(f"{base}/stripe/v1/charges", auth=(key, "")))
        answers.append(client.get(f"{base}/stripe/v1/charges", auth=(stripe_key, "")))
        message = {"To": "+15005550006", "From": "+15005550001", "Body": "hello"}
        sent = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        assert call(sent, message, key, "run-6").status_code in {403, 503}
        answers.append(client.get(f"{base}/readyz"))
        intent = call("/stripe/v1/payment_intents", {"amount": "100", "currency": "usd"}, key, "run-7").json()
        run.keep("an intent's client secret", intent["client_secret"])
    for answer in answers[:-1]:  # the last is the one that tells the agent its client secret
        run.write(f"answer to {answer.request.url.path[:20]}", answer.content)
        run.write("headers of an answer", answer.headers.raw)


def _use_rpc(run: Run, admin: rpc.Caller, caller: rpc.Caller, key: str, key_id: str) -> None:
    guess = f"{key.rpartition('_')[0]}_{run.secrets['a guessed secret']}"
    for method, request in (
        (caller.policy.Authorize, rpc.charge(key, 100, "rpc-1")),
        (caller.policy.Authorize, rpc.charge(guess, 100, "rpc-1")),
        (caller.policy.Authorize, rpc.charge(key, -1, "rpc-1")),
        (caller.policy.Authorize, rpc.charge(key, 100, "crash")),
        (caller.keys.ListVaultKeys, vault_key_service_pb2.ListVaultKeysRequest()),
        (admin.keys.ListVaultKeys, vault_key_service_pb2.ListVaultKeysRequest()),
        (admin.keys.GetVaultKey, vault_key_service_pb2.GetVaultKeyRequest(vault_key_id=key_id)),
        (admin.keys.GetVaultKey, vault_key_service_pb2.GetVaultKeyRequest(vault_key_id=key)),
        (admin.audit.ListAuditEvents, audit_service_pb2.ListAuditEventsRequest(page_size=1000)),
    ):
        try:
            run.write("gRPC answer", (caller if "Policy" in str(request) else admin)(method, request))
        except grpc.RpcError as error:
            run.write("gRPC error", f"{error.code()} {error.details()} {error.trailing_metadata()}")


def _use_the_command(run: Run, address: str, ours: Authority, folder: Path, key_id: str) -> None:
    operator = Operator(
        folder,
        {
            "SPENDGATE_POLICY_ADDRESS": address,
            "SPENDGATE_POLICY_CA": str(ours.file),
            "SPENDGATE_ADMIN_TOKEN": run.secrets["the admin token"],
        },
    )
    for arguments in (
        ("keys", "list"),
        ("keys", "show", key_id, "--json"),
        ("usage", key_id),
        ("audit", "list", "--limit", "1000"),
        ("audit", "list", "--json"),
        ("doctor",),
    ):
        done = operator(*arguments)
        run.write(f"spendgate {arguments[0]}", done.out + done.error)


def _start_badly(run: Run, folder: Path, redis_url: str, address: str, ours: Authority) -> None:
    """Programs that can't start tell why, and nothing else."""
    wrong = run.keep("a wrong password of Redis", secrets.token_urlsafe(24))
    right = run.secrets["the password of Redis"]
    authority = {"SPENDGATE_REDIS_CA": str(ours.file)}
    archive = f"//user:{run.keep('the password of the archive', secrets.token_urlsafe(24))}@"
    away = authority | {
        "SPENDGATE_ARCHIVE_URL": f"postgresql:{archive}{HERE}:9/db",
        "SPENDGATE_LOG_LEVEL": "DEBUG",
        "SPENDGATE_DRAIN_S": "1",
    }
    with policy_server_process(folder, redis_url, name="archive-away", env=away) as process:
        wait_for(lambda: "OperationalError" in process.log or "archive" in process.log, "it says so", process)
    bad_archives = {
        "bad-archive": authority | {"SPENDGATE_ARCHIVE_URL": f"postgresql{archive}{HERE}:9/db"},
        "far-archive": authority | {"SPENDGATE_ARCHIVE_URL": f"postgresql:{archive}192.0.2.1:9/db"},
    }
    bad: list[Process] = [
        policy_server_process(folder, redis_url.replace(right, wrong), name="bad-password", env=authority),
        policy_server_process(
            folder, redis_url.replace("rediss", "redis ss"), name="bad-scheme", env=authority
        ),
        policy_server_process(folder, redis_url.replace("/0", "x/0"), name="bad-url", env=authority),
        policy_server_process(
            folder, redis_url.replace(HERE, "192.0.2.1") + "?ssl_cert_reqs=none", name="bad-tls"
        ),
        *(policy_server_process(folder, redis_url, name=name, env=env) for name, env in bad_archives.items()),
        policy_server_process(folder, redis_url, "--hold-ttl-s", "no", name="bad-number", env=authority),
    ]
    stripe_key = run.secrets["the key at Stripe"]
    for name, settings in (
        ("bad-key", {"stripe_secret_key": f"x{stripe_key}"}),
        ("bad-base", {"stripe_api_base": f"https://{stripe_key}@api.stripe.com"}),
        ("bad-sid", {"twilio_account_sid": "no", "twilio_auth_token": run.secrets["Twilio's token"]}),
        ("bad-port", {"sidecar_port": "no", "sidecar_token": run.secrets["the sidecar token"]}),
    ):
        base = settings.pop("stripe_api_base", f"http://{HERE}:9")
        bad.append(sidecar_process(folder, address, base, name=name, **settings))
    for process in bad:
        with pytest.raises(ProcessFailed, match=f"{process.name} ended at once"), process:
            pass
        assert "Traceback" not in process.log, process.log


def _collect(run: Run, folder: Path) -> None:
    run.keep("the key that signs the record", (folder / "audit.key").read_text().splitlines()[1])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in {"admin.token", "sidecar.token", "audit.key"}:
            run.write(f"file {path.name}", path.read_bytes())


def test_nothing_that_was_written_holds_a_secret(run: Run) -> None:
    """Logs at DEBUG with tracebacks, Redis on disk, answers, errors, audit: searched for every secret."""
    everything = b"".join(run.written.values())
    for proof in (
        b"DEBUG",
        b"Traceback",
        b"cap_exceeded",
        b"vault_key_unknown",
        b"{default}:audit",
        b"secret_hash",
    ):
        assert proof in everything, f"the run did what it should, and the search sees it: {proof!r}"
    assert len(run.secrets) == 13
    assert all(len(secret) >= 24 for secret in run.secrets.values())
    assert run.leaks() == [], "\n".join(run.leaks())


def test_a_program_with_secrets_leaves_no_core_dump(run: Run) -> None:
    """The kernel writes none, even of a program that aborts."""
    assert not [name for name in run.written if name.startswith("file core")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the limits of another process")
@pytest.mark.parametrize("module", ["policy_server", "sidecar"])
def test_core_dumps_are_off_from_the_start(module: str) -> None:
    """Before any setting is read."""
    code = (
        f"import {module}.__main__ as program, resource, ctypes\n"
        "from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) "
        "if resource.getrlimit(resource.RLIMIT_CORE)[1] == resource.RLIM_INFINITY else None\n"
        "program.CliApp.run = lambda *_: print(\n"
        "    resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        ") or program.sys.exit(0)\n"
        "program.main()\n"
    )
    with temporary_folder() as folder:
        process = Process("limits", [sys.executable, "-c", code], folder=folder, ready=lambda _: False)
        process.launch()
        assert process.wait() == 0, process.log
        assert process.log.strip() == "(0, 0) 0"
