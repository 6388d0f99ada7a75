"""How callers may connect: with TLS or without, and within limits."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import grpc

from policy_server.core.errors import SpendgateError
from policy_server.settings import PolicyServerSettings
from spendgate.transport import Pem, PemFiles, TransportUnsafe

_MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_METADATA_BYTES_MAX = 16 * 1024
_STREAMS_PER_CONNECTION = 256
_HANDSHAKE_MS = 10_000
_PING_AFTER_MS = 60_000
_PING_TIMEOUT_MS = 20_000
_PINGS_APART_MS = 10_000
_PING_STRIKES = 2

CALLS_MAX = 4_096
"""How many calls may be under way, watchers and open streams of sidecars among them."""


class PortInUse(SpendgateError):
    """Another process listens on the port."""


class SocketUnusable(SpendgateError):
    """The unix socket can't be made."""


class CertificateUnusable(SpendgateError):
    """A certificate, key or CA is not as it must be."""


def limits(settings: PolicyServerSettings) -> list[tuple[str, int]]:
    """Return the channel options that keep one caller from using up the server."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", settings.policy_connections_max),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        # A caller that is gone without a word makes room.
        ("grpc.keepalive_time_ms", _PING_AFTER_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        # One that pings all the time is sent away.
        ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_APART_MS),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
    ]


def listen(server: grpc.aio.Server, settings: PolicyServerSettings) -> int:
    """Let ``server`` listen as the settings say; return the port.

    Raises `PortInUse`, `SocketUnusable` and `CertificateUnusable`.
    """
    address = f"{settings.policy_host}:{settings.policy_port}"
    credentials = _credentials(settings)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortInUse(
            f"can't listen on {address}: another process does, or the address is not this machine's. "
            "Stop that process, or choose another port with --policy-port (SPENDGATE_POLICY_PORT)."
        )
    if settings.policy_socket is not None:
        _listen_on_socket(server, settings.policy_socket.absolute())
    return port


def _listen_on_socket(server: grpc.aio.Server, path: Path) -> None:
    try:
        server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError:
        raise SocketUnusable(
            f"can't listen on the socket {path}: its folder must exist and be writable, and the path must "
            "have at most 107 bytes. Choose another with --policy-socket (SPENDGATE_POLICY_SOCKET), or leave "
            "it out."
        ) from None


def _credentials(settings: PolicyServerSettings) -> grpc.ServerCredentials | None:
    if settings.policy_cert is None or settings.policy_key is None:
        return None
    files = PemFiles(settings.policy_cert, settings.policy_key, settings.policy_client_ca)
    try:
        first = _configuration(files.read())
    except TransportUnsafe as error:
        raise CertificateUnusable(str(error)) from None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return what to use from this connection on, None when nothing has changed."""
        pem = files.read_if_changed()
        return _configuration(pem) if pem else None

    return grpc.dynamic_ssl_server_credentials(
        first,
        fetch,  # type: ignore[arg-type] # None is how it says that nothing has changed
        require_client_authentication=settings.policy_client_ca is not None,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.trusted)
