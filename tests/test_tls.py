"""TLS between all parts: who is not who it should be gets nothing, and no secret travels in the clear."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from policy_server.archive.database import Database
from policy_server.archive.reader import ArchiveReader
from policy_server.settings import PolicyServerSettings
from spendgate import transport
from tests import rpc
from tests.certificates import HERE, Authority, Issued
from tests.operation import operation
from tests.postgres import Postgres, postgres_server
from tests.processes import (
    Process,
    ProcessFailed,
    policy_server_address,
    policy_server_process,
    redis_process,
    temporary_folder,
    token,
    wait_for,
)
from tests.stack import CHARGE, Simulator, Stack, sidecar_process, simulator_process
from tests.test_cli import Operator, free_port, running
from tests.test_grpcurl import GRPCURL
from tests.tls_relay import tls_relay

EXPIRED = datetime(2002, 1, 1)


@dataclass
class Secured:
    """Everything running, each hop with TLS and certificates on both ends."""

    folder: Path
    ours: Authority
    policy_server: Process
    sidecar: Process
    client: Issued
    server: Issued
    agents: Issued
    simulator: Simulator

    @property
    def origin(self) -> str:
        """Where agents go."""
        found = self.sidecar.found(r"sidecar listens on (https:\S+) for")
        assert found is not None
        return found

    def caller(self, which: str = "admin") -> rpc.Caller:
        """A caller of the policy server with a certificate and a token."""
        return rpc.Caller(
            policy_server_address(self.policy_server),
            token(self.policy_server, which),
            self.ours.credentials(self.client),
        )

    def operator(self, **without: Any) -> Operator:
        """The command with a certificate, or without what is None."""
        given = {
            "SPENDGATE_POLICY_ADDRESS": policy_server_address(self.policy_server),
            "SPENDGATE_DATA_DIR": str(self.folder),
            "SPENDGATE_POLICY_CA": str(self.ours.file),
            "SPENDGATE_CLIENT_CERT": str(self.client.certificate),
            "SPENDGATE_CLIENT_KEY": str(self.client.key),
        } | without
        return Operator(self.folder, {name: value for name, value in given.items() if value is not None})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that all parts trust."""
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one, which nobody trusts."""
    return Authority(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="module")
def secured(ours: Authority) -> Iterator[Secured]:
    """Everything running: Redis behind TLS, policy server, sidecar."""
    server, client, agents = ours.issue(), ours.issue("sidecar.internal"), ours.issue()
    with ExitStack() as opened:
        folder = opened.enter_context(temporary_folder())
        redis = opened.enter_context(redis_process(folder))
        port = opened.enter_context(tls_relay(redis.folder / "redis.sock", ours.issue(), ours))
        policy = opened.enter_context(
            policy_server_process(
                folder, f"rediss://{HERE}:{port}/0", env=settings_of_server(ours, server, client)
            )
        )
        simulator = opened.enter_context(simulator_process(folder))
        origin = simulator.found(r"listening on (\S+)")
        assert origin is not None
        sidecar = opened.enter_context(
            sidecar_process(
                folder,
                policy_server_address(policy),
                origin,
                decision_timeout_ms="5000",
                policy_ca=str(ours.file),
                client_cert=str(client.certificate),
                client_key=str(client.key),
                sidecar_cert=str(agents.certificate),
                sidecar_key=str(agents.key),
                sidecar_client_ca=str(ours.file),
            )
        )
        seen = Simulator(origin)
        opened.callback(seen.http.close)
        yield Secured(folder, ours, policy, sidecar, client, server, agents, seen)


def settings_of_server(ours: Authority, server: Issued, redis_client: Issued) -> dict[str, str]:
    """A policy server that asks everybody for a certificate, and shows Redis one."""
    return {
        "SPENDGATE_POLICY_CERT": str(server.certificate),
        "SPENDGATE_POLICY_KEY": str(server.key),
        "SPENDGATE_POLICY_CLIENT_CA": str(ours.file),
        "SPENDGATE_REDIS_CA": str(ours.file),
        "SPENDGATE_REDIS_CERT": str(redis_client.certificate),
        "SPENDGATE_REDIS_KEY": str(redis_client.key),
    }


def agent(secured: Secured, ca: Authority, own: Issued | None) -> httpx.Client:
    """An agent's client that trusts ``ca`` and may have a certificate."""
    context = ssl.create_default_context(cafile=str(ca.file))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return httpx.Client(base_url=secured.origin, verify=context, timeout=30)


def check(address: str, credentials: grpc.ChannelCredentials) -> str:
    """Ask a policy server for its health; return its status or the code and the reason of the failure."""
    with grpc.secure_channel(
        address, credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_a_charge_goes_through_with_certificates_on_every_hop(secured: Secured, ours: Authority) -> None:
    """Agent, sidecar, policy server and Redis: the same as without, once, and the rest is refused."""
    before = secured.simulator.money["charged"]
    caller = secured.caller()
    with caller.channel:
        key, key_id = rpc.make_key(caller, rpc.day_cap(2_000), "over-tls")
        headers = {"Authorization": f"Bearer {key}", "Spendgate-Run-Id": "run-1"}
        with agent(secured, ours, secured.client) as client:
            first = client.post("/stripe/v1/charges", data=dict(CHARGE), headers=headers)
            again = client.post("/stripe/v1/charges", data=dict(CHARGE), headers=headers)
            other = client.post(
                "/stripe/v1/charges", data=dict(CHARGE), headers={**headers, "Spendgate-Run-Id": "run-2"}
            )
        assert (first.status_code, again.status_code, other.status_code) == (200, 200, 429), other.text
        assert first.json()["id"] == again.json()["id"]
        wait_for(lambda: rpc.usage(caller, key_id).settled == 1_900, "the charge is settled")
    assert secured.simulator.money["charged"] - before == 1_900
    assert secured.operator()("usage", "over-tls", "--json").json


def test_a_policy_server_takes_no_caller_without_a_certificate_of_its_ca(
    secured: Secured, ours: Authority, theirs: Authority
) -> None:
    """None, one of another CA, and one that has expired: no answer, not even of health."""
    address = policy_server_address(secured.policy_server)
    assert check(address, ours.credentials(secured.client)) == "SERVING"
    for wrong in (None, theirs.issue("sidecar.internal"), ours.issue("sidecar.internal", until=EXPIRED)):
        assert check(address, ours.credentials(wrong)).startswith("UNAVAILABLE"), wrong
    with rpc.Caller(address, None).channel as plain, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest(), timeout=10)


@pytest.mark.parametrize(
    "what",
    ["wrong CA", "expired", "wrong host"],
)
def test_a_caller_takes_no_server_that_is_not_the_one_it_knows(
    secured: Secured, ours: Authority, theirs: Authority, tmp_path: Path, what: str
) -> None:
    """Of another CA, expired, or of another name: it gets no token, and the command says what is wrong."""
    shown = shown_instead(what, ours, theirs)
    with policy_server_process(
        tmp_path,
        redis_url_of(secured),
        env={"SPENDGATE_POLICY_CERT": str(shown.certificate), "SPENDGATE_POLICY_KEY": str(shown.key)},
    ) as impostor:
        address = policy_server_address(impostor)
        says = "Hostname Verification Check failed" if what == "wrong host" else "CERTIFICATE_VERIFY_FAILED"
        assert says in check(address, ours.credentials())
        refused = secured.operator(SPENDGATE_POLICY_ADDRESS=address)("keys", "list")
        assert refused.code == 1
        assert "no policy server answers" in refused.error
        assert "with a certificate" in refused.error
        if what == "wrong host":
            named = secured.operator(
                SPENDGATE_POLICY_ADDRESS=address,
                SPENDGATE_POLICY_NAME="elsewhere.internal",
                SPENDGATE_DATA_DIR=str(tmp_path),
            )
            assert named("keys", "list").code == 0


def shown_instead(what: str, ours: Authority, theirs: Authority) -> Issued:
    """What a server shows that should not be trusted, except where something else is wrong."""
    if what == "wrong CA":
        return theirs.issue()
    if what == "wrong host":
        return ours.issue("elsewhere.internal")
    return ours.issue(until=EXPIRED if what == "expired" else None)


def redis_url_of(secured: Secured) -> str:
    """The Redis of the secured parts, past its TLS."""
    return f"unix://{secured.folder}/redis.sock"


def test_agents_need_a_certificate_where_the_sidecar_asks_for_one(
    secured: Secured, ours: Authority, theirs: Authority
) -> None:
    """And trust the sidecar only by its own; without TLS nothing is answered."""
    with agent(secured, ours, secured.client) as client:
        assert client.get("/readyz").status_code == 200
    for trusted, own in (
        (ours, None),
        (ours, theirs.issue("agent")),
        (ours, ours.issue("agent", until=EXPIRED)),
        (theirs, secured.client),
    ):
        with agent(secured, trusted, own) as client, pytest.raises(httpx.TransportError):
            client.get("/readyz")
    in_the_clear = httpx.Client(base_url=secured.origin.replace("https", "http"))
    with in_the_clear as plain, pytest.raises(httpx.TransportError):
        plain.get("/readyz")


@pytest.mark.parametrize("what", ["wrong CA", "no client certificate", "expired", "wrong host"])
def test_a_policy_server_takes_no_redis_that_is_not_the_one_it_knows(
    secured: Secured, ours: Authority, theirs: Authority, tmp_path: Path, what: str
) -> None:
    """It does not start: what it counts would be in the hands of somebody else."""
    shown = shown_instead(what, ours, theirs)
    env = settings_of_server(ours, secured.server, secured.client)
    if what == "no client certificate":
        del env["SPENDGATE_REDIS_CERT"], env["SPENDGATE_REDIS_KEY"]
    with tls_relay(secured.folder / "redis.sock", shown, ours) as port:
        process = policy_server_process(tmp_path, f"rediss://:hunter2@{HERE}:{port}/0", env=env)
        with pytest.raises(ProcessFailed, match="Redis does not answer"), process:
            pass
    assert "hunter2" not in process.log


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, which speaks no TLS itself."""
    with postgres_server() as server:
        yield server


def verified(port: int, ca: Authority, name: str = HERE) -> str:
    """The address of a PostgreSQL that must show a certificate of ``ca`` for ``name``."""
    where = f"postgresql://spendgate:hunter2@{name}:{port}/postgres"
    return f"{where}?hostaddr={HERE}&sslmode=verify-full&sslrootcert={ca.file}"


def test_the_archive_is_reached_over_tls_that_verifies(
    redis: str, ours: Authority, postgres: Postgres
) -> None:
    """With a certificate on both ends, as docs/operating.md shows it."""
    own = ours.issue("spendgate")
    own.key.chmod(0o600)
    with tls_relay(postgres.socket, ours.issue(), ours, as_postgres=True) as port:
        url = f"{verified(port, ours)}&sslcert={own.certificate}&sslkey={own.key}"
        with operation(redis, SPENDGATE_ARCHIVE_URL=url) as running:
            running.spend(5)
            running.wait_until_well()
            archived = running.progress()[1].archived_sequence
    assert 0 < archived == newest_archived(postgres)


def newest_archived(postgres: Postgres) -> int:
    """How far the archive in a database is, asked without TLS."""
    database = Database(SecretStr(postgres.url), Path())
    try:
        return ArchiveReader(database).head("default")
    finally:
        database.close()


NO_ARCHIVE = {
    "wrong CA": "certificate verify failed",
    "expired": "certificate verify failed",
    "wrong host": 'certificate for "elsewhere.internal" does not match host name',
    "no TLS": "does not support SSL",
}


@pytest.mark.parametrize("what", NO_ARCHIVE)
def test_no_archive_is_taken_that_is_not_the_one_it_knows(
    redis: str, ours: Authority, theirs: Authority, postgres: Postgres, what: str
) -> None:
    """Nothing is decided, no password is sent and none is told, and it is said what is wrong."""
    shown = shown_instead(what, ours, theirs)
    with tls_relay(postgres.socket, shown, as_postgres=True) as port:
        url = verified(postgres.port if what == "no TLS" else port, ours)
        with (
            temporary_folder() as folder,
            policy_server_process(folder, redis, env={"SPENDGATE_ARCHIVE_URL": url}) as server,
            rpc.calling(server, "sidecar") as caller,
        ):
            request = rpc.charge("vk_" + 12 * "a" + "_" + 32 * "a", 1, "run-1")
            _, reason, _, message = rpc.failure(caller, caller.policy.Authorize, request)
            assert reason == "ARCHIVE_UNAVAILABLE"
            assert NO_ARCHIVE[what] in message
            assert "hunter2" not in server.log + message


def test_a_client_that_never_ends_its_handshake_is_given_up(ours: Authority, tmp_path: Path) -> None:
    """As one is that never ends its request: nobody keeps a connection open by saying nothing."""
    shown = ours.issue()
    settings = {
        "sidecar_token": "token",
        "read_timeout_s": "0.5",
        "sidecar_cert": str(shown.certificate),
        "sidecar_key": str(shown.key),
    }
    with sidecar_process(tmp_path, f"{HERE}:9", f"http://{HERE}:9", **settings) as sidecar:
        port = int(str(sidecar.found(r"https://127.0.0.1:(\d+) for")))
        with socket.create_connection((HERE, port), timeout=30) as silent:
            assert silent.recv(1) == b""


def test_certificates_are_renewed_without_a_restart(
    secured: Secured, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    """New connections get the new ones; a half-written pair leaves the old one in use."""
    address = policy_server_address(secured.policy_server)
    server, agents = secured.server, secured.agents
    good = Issued(tmp_path / "good.pem", tmp_path / "good.key")
    for kept, used in ((good.certificate, server.certificate), (good.key, server.key)):
        kept.write_bytes(used.read_bytes())
    server.key.write_bytes(theirs.issue().key.read_bytes())
    assert check(address, ours.credentials(secured.client)) == "SERVING"
    wait_for(lambda: "the certificate in use stays" in secured.policy_server.log, "it is said")
    server.replace_with(theirs.issue())
    assert "CERTIFICATE_VERIFY_FAILED" in check(address, ours.credentials(secured.client))
    assert check(address, theirs.credentials(secured.client)) == "SERVING"
    server.replace_with(good)
    assert check(address, ours.credentials(secured.client)) == "SERVING"

    agents.replace_with(theirs.issue())
    with agent(secured, theirs, secured.client) as client:
        assert client.get("/healthz").status_code == 200
    with agent(secured, theirs, None) as client, pytest.raises(httpx.TransportError):
        client.get("/healthz")
    agents.replace_with(ours.issue())
    with agent(secured, ours, secured.client) as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed; `make grpcurl` builds it where Go is")
def test_grpcurl_reaches_health_over_mtls(secured: Secured) -> None:
    """As docs/operating.md shows it."""
    done = subprocess.run(
        [
            *(str(GRPCURL), "-cacert", str(secured.ours.file)),
            *("-cert", str(secured.client.certificate), "-key", str(secured.client.key)),
            *(policy_server_address(secured.policy_server), "grpc.health.v1.Health/Check"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "SERVING"}


def test_up_runs_everything_with_certificates_and_doctor_finds_it_in_order(ours: Authority) -> None:
    """With no setting beyond those that the parts have by themselves, and the CAs that `up` needs."""
    server, client = ours.issue(), ours.issue("operator")
    ports = {f"SPENDGATE_{name}_PORT": str(free_port()) for name in ("POLICY", "SIDECAR", "SIDECAR_ROOT")}
    with temporary_folder() as folder:
        operator = Operator(
            folder,
            {
                **ports,
                "SPENDGATE_POLICY_ADDRESS": f"{HERE}:{ports['SPENDGATE_POLICY_PORT']}",
                **{
                    f"SPENDGATE_{part}": str(path)
                    for who in ("POLICY", "SIDECAR")
                    for part, path in (
                        (f"{who}_CERT", server.certificate),
                        (f"{who}_KEY", server.key),
                        (f"{who}_CLIENT_CA", ours.file),
                        (f"{who}_CA", ours.file),
                    )
                },
                "SPENDGATE_CLIENT_CERT": str(client.certificate),
                "SPENDGATE_CLIENT_KEY": str(client.key),
            },
        )
        with running(operator) as (_, summary):
            assert summary["sidecar"].startswith("https://")
            context = ssl.create_default_context(cafile=str(ours.file))
            context.load_cert_chain(client.certificate, client.key)
            headers = {
                "Authorization": f"Bearer {Path(summary['demoKeyFile']).read_text().strip()}",
                "Spendgate-Run-Id": "run-1",
            }
            with httpx.Client(verify=context, timeout=30, headers=headers) as agent_client:
                answer = agent_client.post(f"{summary['sidecar']}/v1/charges", data=dict(CHARGE))
            assert answer.json()["amount"] == 1_900
            checked = operator("doctor", "--json").json
            assert checked["healthy"], checked
            assert operator("usage", "demo", "--json").json["caps"]
        del operator.environment["SPENDGATE_SIDECAR_CA"]
        assert "SPENDGATE_SIDECAR_CA" in operator("up").error


def found_wrong(operator: Operator, **more: str) -> dict[str, str]:
    """What doctor says is wrong, by the name of the part."""
    checks = json.loads(operator("doctor", "--json", **more).out)["checks"]
    return {one["name"]: f"{one['detail']}: {one['remedy']}" for one in checks if one["result"] == "wrong"}


def test_doctor_says_what_is_wrong_with_tls(secured: Secured, theirs: Authority) -> None:
    """Which side lacks it, whose CA is wrong, which name, whose certificate; and which variable to set."""
    sidecar = {
        "SPENDGATE_SIDECAR_PORT": secured.origin.rpartition(":")[2],
        "SPENDGATE_SIDECAR_CA": str(secured.ours.file),
    }
    assert found_wrong(secured.operator(**sidecar)) == {}
    stranger = theirs.issue()
    no_client = {"SPENDGATE_CLIENT_CERT": None, "SPENDGATE_CLIENT_KEY": None}
    for change, policy, agents in (
        (
            {"SPENDGATE_POLICY_CA": None},
            "uses TLS, and this side does not: set SPENDGATE_POLICY_CA",
            "",
        ),
        ({"SPENDGATE_POLICY_CA": str(theirs.file)}, f"not trusted with {theirs.file}", ""),
        (
            {"SPENDGATE_POLICY_NAME": "other.internal"},
            "is not for other.internal: set SPENDGATE_POLICY_NAME",
            "",
        ),
        (no_client, "turns a client without certificate away: set SPENDGATE_CLIENT_CERT", "turns a client"),
        (
            {
                "SPENDGATE_CLIENT_CERT": str(stranger.certificate),
                "SPENDGATE_CLIENT_KEY": str(stranger.key),
            },
            "turns the certificate in SPENDGATE_CLIENT_CERT away",
            "SPENDGATE_SIDECAR_CLIENT_CA",
        ),
        ({"SPENDGATE_SIDECAR_CA": None}, "", "uses TLS, and this side does not: set SPENDGATE_SIDECAR_CA"),
        ({"SPENDGATE_SIDECAR_CA": str(theirs.file)}, "", f"not trusted with {theirs.file}"),
    ):
        wrong = found_wrong(secured.operator(**{**sidecar, **change}))
        assert set(wrong) == {name for name, said in (("policy server", policy), ("sidecar", agents)) if said}
        assert policy in wrong.get("policy server", "")
        assert agents in wrong.get("sidecar", "")


def test_doctor_says_that_a_server_has_no_tls(stack: Stack, ours: Authority, tmp_path: Path) -> None:
    """Though this side is set up for it."""
    operator = Operator(
        tmp_path,
        {
            "SPENDGATE_POLICY_ADDRESS": policy_server_address(stack.policy_servers[0]),
            "SPENDGATE_SIDECAR_PORT": stack.origin().removesuffix("/stripe").rpartition(":")[2],
            "SPENDGATE_POLICY_CA": str(ours.file),
            "SPENDGATE_SIDECAR_CA": str(ours.file),
        },
    )
    wrong = found_wrong(operator)
    assert "answers without TLS, and SPENDGATE_POLICY_CA asks for it here" in wrong["policy server"]
    assert "or unset SPENDGATE_SIDECAR_CA here" in wrong["sidecar"]


# --- nothing in the clear ------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"SPENDGATE_POLICY_HOST": "0.0.0.0"}, "SPENDGATE_POLICY_CERT"),
        ({"SPENDGATE_POLICY_HOST": ""}, "SPENDGATE_POLICY_CERT"),
        ({"SPENDGATE_REDIS_URL": "redis://:hunter2@192.0.2.1:6379"}, "rediss://"),
        (
            {"SPENDGATE_REDIS_URL": "rediss://:hunter2@192.0.2.1?ssl_cert_reqs=none"},
            "without ssl_ parameters",
        ),
        ({"SPENDGATE_POLICY_CERT": "/nowhere.pem"}, "SPENDGATE_POLICY_KEY"),
        ({"SPENDGATE_POLICY_CLIENT_CA": "/nowhere.pem"}, "only works with"),
        ({"SPENDGATE_POLICY_CERT": "/nowhere.pem", "SPENDGATE_POLICY_KEY": "/nowhere.key"}, "/nowhere.pem"),
    ],
)
def test_a_policy_server_that_would_speak_in_the_clear_does_not_start(
    secured: Secured, tmp_path: Path, env: dict[str, str], names: str
) -> None:
    """Neither to callers nor to Redis on other machines; it names the setting that helps, and no secret."""
    process = policy_server_process(tmp_path, redis_url_of(secured), env=env)
    with pytest.raises(ProcessFailed, match="ended at once"), process:
        pass
    assert names in process.log
    assert "hunter2" not in process.log


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"sidecar_host": "0.0.0.0"}, "SPENDGATE_SIDECAR_CERT"),
        ({"policy_address": "192.0.2.1:50051"}, "SPENDGATE_POLICY_CA"),
        ({"stripe_api_base": "http://192.0.2.1"}, "https://"),
        ({"client_cert": "/nowhere.pem"}, "SPENDGATE_CLIENT_KEY"),
        ({"policy_ca": "/nowhere.pem"}, "/nowhere.pem"),
    ],
)
def test_a_sidecar_that_would_speak_in_the_clear_does_not_start(
    tmp_path: Path, settings: dict[str, str], names: str
) -> None:
    """Neither with agents, nor with the policy server, nor with the vendor."""
    settings = {"policy_address": f"{HERE}:1", "stripe_api_base": f"http://{HERE}:1", **settings}
    policy_address, stripe_base = settings.pop("policy_address"), settings.pop("stripe_api_base")
    process = sidecar_process(tmp_path, policy_address, stripe_base, sidecar_token="sgt_secret", **settings)
    with pytest.raises(ProcessFailed, match="ended at once"), process:
        pass
    assert names in process.log
    assert "sgt_secret" not in process.log


def test_the_loud_override_is_loud(secured: Secured, tmp_path: Path) -> None:
    """SPENDGATE_ALLOW_PLAINTEXT lets a server listen without TLS, and a warning says what that means."""
    env = {"SPENDGATE_POLICY_HOST": "0.0.0.0", "SPENDGATE_ALLOW_PLAINTEXT": "true"}
    with policy_server_process(tmp_path, redis_url_of(secured), env=env) as process:
        assert f"WARNING policy_server.app: {transport.PLAINTEXT_ALLOWED}" in process.log


def test_the_command_sends_no_token_in_the_clear_to_another_machine(secured: Secured) -> None:
    """It does not even try; with a CA it would."""
    refused = secured.operator(SPENDGATE_POLICY_ADDRESS="192.0.2.1:50051", SPENDGATE_POLICY_CA=None)(
        "keys", "list"
    )
    assert refused.code == 2
    assert "SPENDGATE_POLICY_CA" in refused.error


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("unix:/run/policy.sock", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("dns:///localhost:50051", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("dns:///policy.internal:50051", False),
        ("dns://127.0.0.1/policy.internal:50051", False),
        ("dns://192.0.2.1/localhost:50051", False),
        ("policy.internal:50051", False),
        ("localhost.evil.example:50051", False),
        ("127.0.0.1.evil.example:50051", False),
        ("xds:///127.0.0.1:1", False),
        ("0.0.0.0:50051", False),
        ("", False),
    ],
)
def test_what_stays_on_this_machine_is_told_from_what_does_not(target: str, local: bool) -> None:
    """What is not certain to stay counts as leaving."""
    assert transport.target_is_local(target) is local


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("redis_url", "redis:///0?host=192.0.2.1"),
        ("redis_url", "redis://localhost/0?host=192.0.2.1"),
        ("archive_url", "postgresql:///db?service=remote"),
        ("archive_url", "postgresql:///db?host=192.0.2.1"),
        ("archive_url", "postgresql://127.0.0.1/db?hostaddr=192.0.2.1"),
    ],
)
def test_a_url_that_says_where_it_leads_in_its_query_leaves_this_machine(setting: str, url: str) -> None:
    """So it needs TLS, as any other."""
    given = {"redis_url": SecretStr("redis://localhost")} | {setting: SecretStr(url)}
    with pytest.raises(ValueError, match=f"{setting.upper()} leads to another machine"):
        PolicyServerSettings.model_validate(given)


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGSERVICE"])
def test_the_environment_of_libpq_leads_the_archive_nowhere_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An address without a host would go where these say."""
    url = "postgresql:///db"
    PolicyServerSettings(redis_url=SecretStr("redis://localhost"), archive_url=SecretStr(url))
    monkeypatch.setenv(name, "192.0.2.1")
    with pytest.raises(ValueError, match="ARCHIVE_URL leads to another machine"):
        PolicyServerSettings(redis_url=SecretStr("redis://localhost"), archive_url=SecretStr(url))
