"""Asks the parts of Spendgate whether they work; each answer is "" or what is wrong."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from spendgate.cli.connection import OperatorSettings, SidecarAddress, connect, open_channel
from spendgate.cli.failure import CommandFailed
from spendgate.v1 import audit_service_pb2, vault_key_service_pb2

_TIMEOUT_S = 2.0
_SERVING = b"\x08\x01"
"""A grpc.health.v1.HealthCheckResponse with status SERVING."""


def redis_problem(socket_path: Path) -> str:
    """Tell why the Redis on a unix socket does not answer PING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_TIMEOUT_S)
        try:
            client.connect(str(socket_path))
            client.sendall(b"PING\r\n")
            reply = client.recv(64)
        except OSError as error:
            return f"{socket_path}: {error.strerror or error}"
    return "" if reply.startswith(b"+PONG") else f"{socket_path}: {reply.decode(errors='replace').strip()}"


@dataclass(frozen=True)
class Health:
    """What a policy server says of itself."""

    problem: str
    """Why it does not say that it is serving."""
    answers: bool
    """Whether it can be asked what else is wrong."""


def health(settings: OperatorSettings) -> Health:
    """Ask the policy server whether it is serving."""
    address = settings.policy_address
    try:
        opened = open_channel(settings)
    except CommandFailed as error:
        return Health(str(error), answers=False)
    with opened as channel:
        # Two bytes of protobuf, not worth the health-checking distribution.
        check = channel.unary_unary("/grpc.health.v1.Health/Check", _unchanged, _unchanged)
        try:
            answer = check(b"", timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return Health(f"nothing that serves answers at {address} ({code.name})", answers=False)
    if answer != _SERVING:
        return Health(f"the server at {address} is there, but not serving", answers=True)
    return Health("", answers=True)


def administration_problem(settings: OperatorSettings) -> str:
    """Tell why the policy server does not do what an operator asks."""
    try:
        with connect(settings) as server:
            server.call(
                server.vault_keys.ListVaultKeys, vault_key_service_pb2.ListVaultKeysRequest(page_size=1)
            )
    except CommandFailed as error:
        return str(error)
    return ""


def archive_problem(settings: OperatorSettings) -> str:
    """Tell why audit events do not reach the archive."""
    try:
        with connect(settings) as server:
            reply = server.call(server.audit.GetAuditArchive, audit_service_pb2.GetAuditArchiveRequest())
    except CommandFailed as error:
        return str(error)
    return reply.problem


def sidecar_problem(settings: SidecarAddress, path: str) -> str:
    """Tell why a GET at the sidecar does not answer 200, with the reasons that the answer gives."""
    url = f"{settings.sidecar_url}{path}"
    try:
        with _opener(settings).open(url, timeout=_TIMEOUT_S) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            return f"{url} answers {error.code}{_reasons(error.read(4096))}"
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"{url} does not answer: {reason}"
    return "" if status == 200 else f"{url} answers {status}"


def _opener(settings: SidecarAddress) -> urllib.request.OpenerDirector:
    # The environment's proxies are not for servers on this machine.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if settings.sidecar_ca is not None:
        context = ssl.create_default_context(cafile=settings.sidecar_ca)
        context.check_hostname = False  # it is asked by its address here, and told no secret
        if settings.client_cert is not None and settings.client_key is not None:
            context.load_cert_chain(settings.client_cert, settings.client_key)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def port_problem(host: str, port: int) -> str:
    """Tell why no server could listen on a port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: what is left of closed connections is no obstacle.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return f"{host}:{port} can't be listened on: {error.strerror}"
    return ""


def _unchanged(message: bytes) -> bytes:
    return message


def _reasons(body: bytes) -> str:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return ""
    return f": {json.dumps(document, ensure_ascii=False)}"
