"""Keeps tokens and keys from travelling in the clear: TLS, and which addresses need it."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc

log = logging.getLogger(__name__)

PLAINTEXT_ALLOWED = (
    "SPENDGATE_ALLOW_PLAINTEXT is set: tokens, vault keys and what is spent may cross the network "
    "unencrypted, and whoever reads them there can spend. Use it only inside a tunnel or a service mesh "
    "that encrypts."
)
"""What every program says at its start that was told to do without TLS."""


class TransportUnsafe(Exception):
    """A connection can't be made safe; the message says what to do."""


def is_loopback(host: str) -> bool:
    """Tell whether what is sent to ``host``, or listened for there, stays on this machine."""
    bare = host.removeprefix("[").removesuffix("]")
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def target_is_local(target: str) -> bool:
    """Tell whether a gRPC target, such as ``ipv4:10.0.0.1:50051,10.0.0.2:50051``, stays on this machine."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in {"unix", "unix-abstract"}:
        return True
    # dns://server/name asks that server, which may be anywhere and say anything.
    if scheme == "dns" and rest.startswith("//") and not rest.startswith("///"):
        return False
    addresses = rest.rpartition("/")[2] if scheme in {"ipv4", "ipv6", "dns"} else target
    return all(is_loopback(address.rpartition(":")[0]) for address in addresses.split(","))


def url_is_local(url: str) -> bool:
    """Tell whether a URL leads to this machine, or to a socket file on it."""
    parts = urlsplit(url)
    # redis-py lets a host in the query replace the one before it.
    hosts = [parts.hostname or "localhost", *parse_qs(parts.query, keep_blank_values=True).get("host", [])]
    return parts.scheme == "unix" or all(is_loopback(host) for host in hosts)


def check_certificate_settings(
    certificate: Path | None, key: Path | None, client_ca: Path | None = None, *, name: str
) -> None:
    """Raise `ValueError` unless certificate and key are set together; a client CA needs them."""
    if (certificate is None) != (key is None):
        raise ValueError(f"set both SPENDGATE_{name}_CERT and SPENDGATE_{name}_KEY, or neither")
    if client_ca is not None and certificate is None:
        raise ValueError(
            f"SPENDGATE_{name}_CLIENT_CA asks clients for certificates, which only works with "
            f"SPENDGATE_{name}_CERT and SPENDGATE_{name}_KEY"
        )


def refuse_empty_path(value: object) -> object:
    """Raise `ValueError` for "", which is no file, but which a path would read as the working directory."""
    if value == "":
        raise ValueError("is empty; leave it unset, or name a file")
    return value


def plaintext_is_allowed() -> bool:
    """Tell whether SPENDGATE_ALLOW_PLAINTEXT is set, for what has no settings of its own."""
    return os.environ.get("SPENDGATE_ALLOW_PLAINTEXT", "").strip().lower() in {"1", "true", "yes", "on"}


def token_in_the_clear(address: str, whose: str) -> str:
    """Return why a token is not sent to a policy server without TLS, and what to do."""
    return (
        f"the policy server at {address} is on another machine, and the {whose} token would cross the "
        "network unencrypted: set SPENDGATE_POLICY_CA to the CA of its certificate; "
        "SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
    )


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate chain with its private key, and who is trusted, all as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    trusted: bytes | None = None


class PemFiles:
    """A certificate, its key and a CA in files, which may be replaced while they are in use."""

    def __init__(self, certificate: Path, key: Path, trusted: Path | None = None) -> None:
        """``trusted`` holds the CAs that peers' certificates must come from; None asks for none."""
        self.certificate = certificate
        self.key = key
        self.trusted = trusted
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] = ()

    def read(self) -> Pem:
        """Return what is in the files; raises `TransportUnsafe` when that is of no use."""
        with self._lock:
            self._seen = self._stamp()
            return self._read()

    def read_if_changed(self) -> Pem | None:
        """Return what is in the files when it is new and of use.

        A pair of which one half is replaced waits for the other.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return None
            self._seen = stamp
            try:
                pem = self._read()
            except TransportUnsafe as error:
                log.error("the certificate in use stays: %s", error)
                return None
            log.info("%s was replaced, and is used for new connections", self.certificate)
            return pem

    def _read(self) -> Pem:
        try:
            check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            check.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise TransportUnsafe(
                f"the certificate {self.certificate} with the key {self.key} can't be used "
                f"({_reason(error)}): both must be PEM files that belong together, the key without a password"
            ) from None
        trusted = None if self.trusted is None else read_authorities(self.trusted)
        return Pem(self.certificate.read_bytes(), self.key.read_bytes(), trusted)

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.trusted) if path is not None)


def read_authorities(path: Path) -> bytes:
    """Return the CA certificates in ``path`` as PEM; raises `TransportUnsafe` when there are none."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise TransportUnsafe(
            f"the CA in {path} can't be used ({_reason(error)}): it must be a PEM file with certificates"
        ) from None


@dataclass(frozen=True, slots=True)
class PolicyServerTrust:
    """How a caller makes sure that it talks to the policy server, and shows who it is itself."""

    ca: Path | None = None
    """Whose certificates are trusted; without it nothing is encrypted."""
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    """The name in the policy server's certificate, where that is not the one in its address."""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the credentials of a channel, None for one without TLS; raises `TransportUnsafe`."""
        if self.ca is None:
            return None
        own = None
        if self.certificate is not None and self.key is not None:
            own = PemFiles(self.certificate, self.key).read()
        return grpc.ssl_channel_credentials(
            read_authorities(self.ca), own.key if own else None, own.certificate if own else None
        )

    def options(self) -> list[tuple[str, str | int]]:
        """Return the channel options that belong to the credentials."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _no_password() -> str:
    raise ValueError("it has a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is not PEM"
    return (isinstance(error, OSError) and error.strerror) or str(error)
