"""What can be reached at all, and what one caller can use up: nothing that is not documented."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from policy_server import listener
from policy_server.settings import PolicyServerSettings
from sidecar.app import Sidecar
from sidecar.settings import SidecarSettings
from tests import rpc
from tests.processes import Process, policy_server_address, policy_server_process, token, wait_for
from tests.stack import Stack
from tests.test_docs import rows

USUAL_DOORS = (
    *("/", "/metrics", "/debug", "/debug/pprof", "/docs", "/redoc", "/openapi.json", "/admin", "/status"),
    *("/config", "/env", "/health", "/console", "/_simulator/requests", "/stripe", "/stripe/", "/v1/charges"),
    *("/favicon.ico", "/robots.txt", "/.env", "/healthz/", "/readyz/", "/healthz/x", "/HEALTHZ", "//healthz"),
)
"""Where other servers keep what nobody should reach; and near misses of what there is."""


def documented(where: str) -> set[str]:
    """The addresses of one listener in docs/threat-model.md."""
    return {row[0] for row in rows("docs/threat-model.md", "What can be reached") if row[1] == where}


async def test_the_sidecar_answers_at_the_documented_paths_alone() -> None:
    """Of each vendor's versions, the two for its health, and the one for what a key may call."""
    settings = SidecarSettings(
        stripe_secret_key="rk_test_1",
        twilio_account_sid=f"AC{1:032x}",
        twilio_auth_token="token",
        sidecar_token="token",
    )
    shared, root = Sidecar(settings)._routes()
    own = {"/healthz", "/readyz", "/spendgate/allowed"}
    assert documented("sidecar") == own | {f"{route.path}…" for route in shared}
    assert documented("sidecar's root port") == own | {f"{route.path}…" for route in root}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE", "PROPFIND"])
def test_there_is_no_other_door_at_the_sidecar(stack: Stack, method: str) -> None:
    """No page for debugging, no metrics, no documentation; and nothing of the process in the answer."""
    with httpx.Client(base_url=stack.origin().removesuffix("/stripe"), timeout=30) as client:
        for path in USUAL_DOORS:
            answer = client.request(method, path)
            assert answer.status_code == 404, (method, path, answer.text)
            assert answer.json()["error"]["code"] == "path_unknown"
            assert not {"server", "x-powered-by"} & set(answer.headers)


def services(address: str) -> set[str]:
    """What reflection lists."""
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=10)
    return {service.name for service in reply.list_services_response.service}


def test_the_policy_server_has_the_documented_services_alone(policy_server: Process) -> None:
    """By reflection, and by asking for what other servers have."""
    address = policy_server_address(policy_server)
    assert services(address) == documented("policy server")
    with grpc.insecure_channel(address) as channel:
        for method in (
            "/grpc.channelz.v1.Channelz/GetTopChannels",
            "/grpc.admin.v1.Admin/Get",
            "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
            "/spendgate.v1.PolicyService/Debug",
            "/",
        ):
            call = channel.unary_unary(method, lambda body: body, lambda body: body)
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", timeout=10)
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED, method


def test_without_a_token_only_health_and_reflection_answer(policy_server: Process) -> None:
    """Every method of every service of ours asks for one, and tells nothing without it."""
    address = policy_server_address(policy_server)
    with rpc.Caller(address, None).channel as channel:
        for service in services(address) - {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }:
            methods = {row[0]: row[1] for row in rows("docs/architecture.md", "The contract")}
            for method in methods[service.rpartition(".")[2]].split(", "):
                call = channel.stream_stream(f"/{service}/{method}", lambda body: body, lambda body: body)
                with pytest.raises(grpc.RpcError) as raised:
                    next(call(iter([b""]), timeout=10))
                assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, method


# --- limits of the policy server ------------------------------------------------------


@pytest.fixture
def small(redis: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A policy server that lets five connections in."""
    folder = tmp_path_factory.mktemp("small")
    with policy_server_process(folder, redis, env={"SPENDGATE_POLICY_CONNECTIONS_MAX": "5"}) as process:
        yield process


def ask_health(channel: grpc.Channel) -> bool:
    """Tell whether health answers on a channel."""
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_connections_above_the_limit_are_closed_and_those_within_go_on(small: Process) -> None:
    """Those that never say anything are closed in time, and others may come."""
    host, port = policy_server_address(small).rsplit(":", 1)
    with ExitStack() as opened:
        first = opened.enter_context(grpc.insecure_channel(f"{host}:{port}"))
        assert ask_health(first)
        idle = [opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(20)]

        def closed() -> int:
            return sum(_is_closed(one) for one in idle)

        wait_for(lambda: closed() >= 16, "those above the limit are closed", small)
        assert ask_health(first)
        again = opened.enter_context(
            grpc.insecure_channel(f"{host}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        )
        wait_for(lambda: ask_health(again), "there is room again", small)


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while data := connection.recv(4096):
            assert data  # the server's settings of HTTP/2
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        with contextlib.suppress(OSError):
            connection.setblocking(True)


def test_too_large_a_message_is_refused_and_the_connection_goes_on(small: Process) -> None:
    """4 MB is the limit, 16 KB that of metadata; neither costs the caller more than the call."""
    caller = rpc.Caller(policy_server_address(small), token(small, "sidecar"))
    with caller.channel:
        for request, metadata in (
            (rpc.charge("vk_", 1, "r" * 5_000_000), ()),
            (rpc.charge("vk_", 1, "run"), (("x-large", "x" * 60_000),)),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                caller.policy.Authorize(
                    request,
                    metadata=[*metadata, ("authorization", f"Bearer {token(small, 'sidecar')}")],
                    timeout=10,
                )
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ask_health(caller.channel)


def test_the_limits_are_the_documented_ones() -> None:
    """docs/operating.md names each."""
    settings = PolicyServerSettings(redis_url="redis://127.0.0.1:6379")
    options = dict(listener.limits(settings))
    limits = {row[0]: row[1] for row in rows("docs/operating.md", "Limits on callers")}
    assert limits["calls under way"] == f"{listener.CALLS_MAX:,}"
    for what, option, divisor, unit in (
        ("a message", "grpc.max_receive_message_length", 1024 * 1024, " MB"),
        ("metadata of a call", "grpc.absolute_max_metadata_size", 1024, " KB"),
        ("calls under way on one connection", "grpc.max_concurrent_streams", 1, ""),
        (
            "silence of a connection before it is asked for a sign of life",
            "grpc.keepalive_time_ms",
            1000,
            " s",
        ),
        ("time of a new connection to say what it is", "grpc.server_handshake_timeout_ms", 1000, " s"),
        ("time for that sign", "grpc.keepalive_timeout_ms", 1000, " s"),
    ):
        assert limits[what] == f"{options[option] // divisor}{unit}", what
    assert str(options["grpc.max_allowed_incoming_connections"]) in limits["connections"].replace(",", "")
