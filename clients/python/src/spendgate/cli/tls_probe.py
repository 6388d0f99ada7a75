"""Finds out why two ends do not understand each other's TLS, by shaking hands as often as it takes."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from spendgate.cli.connection import SidecarAddress, reachable

_TIMEOUT_S = 2.0
_AFTER_S = 0.5
"""How long a server is given to turn a client away after the handshake, as TLS 1.3 does."""

_TARGET = re.compile(r"(?:dns:(?:///)?)?(\[[^\]]+\]|[^:/\[\]]+):(\d+)")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do."""

    detail: str
    remedy: str


@dataclass(frozen=True)
class _End:
    """A server, and how this side is set up to reach it."""

    what: str
    variables: str
    """What the names of its settings begin with."""
    host: str
    port: int
    ca: Path | None
    name: str
    """The name that its certificate must have; empty when any will do."""
    client_cert: Path | None
    client_key: Path | None
    protocol: str = "http/1.1"


def policy_server_problem(settings: SidecarAddress) -> Problem | None:
    """Tell what is wrong with TLS to the policy server, if anything is."""
    target = _TARGET.fullmatch(settings.policy_address)
    if target is None:
        return None
    host = target[1].strip("[]")
    return _problem(
        _End(
            *("the policy server", "SPENDGATE_POLICY_", host, int(target[2]), settings.policy_ca),
            *(settings.policy_name or host, settings.client_cert, settings.client_key, "h2"),
        )
    )


def sidecar_problem(settings: SidecarAddress) -> Problem | None:
    """Tell what is wrong with TLS to the sidecar, if anything is."""
    host = reachable(settings.sidecar_host).strip("[]")
    return _problem(
        _End(
            *("the sidecar", "SPENDGATE_SIDECAR_", host, settings.sidecar_port, settings.sidecar_ca),
            *("", settings.client_cert, settings.client_key),
        )
    )


def _problem(end: _End) -> Problem | None:
    try:
        speaks_tls = _speaks_tls(end)
        if end.ca is None:
            return _only_there(end) if speaks_tls else None
        return _between(end) if speaks_tls else _only_here(end)
    except OSError:  # nothing listens there
        return None


def _speaks_tls(end: _End) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # asked what it is, and told nothing
    with socket.create_connection((end.host, end.port), _TIMEOUT_S) as plain:
        try:
            context.wrap_socket(plain).close()
        except ssl.SSLError as error:
            # An alert is TLS too; anything else is not.
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
    return True


def _between(end: _End) -> Problem | None:
    try:
        context = ssl.create_default_context(cafile=end.ca)
        context.set_alpn_protocols([end.protocol])
        if end.client_cert is not None and end.client_key is not None:
            context.load_cert_chain(end.client_cert, end.client_key)
    except OSError as error:
        detail = f"a certificate file that is set here can't be used: {error.strerror or error}"
        return Problem(detail, f"look at {end.variables}CA, SPENDGATE_CLIENT_CERT and SPENDGATE_CLIENT_KEY")
    context.check_hostname = bool(end.name)
    with socket.create_connection((end.host, end.port), _TIMEOUT_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=end.name or end.host) as secure:
                secure.settimeout(_AFTER_S)
                if secure.recv(1):
                    return None
        except TimeoutError:
            return None  # it waits for what is asked
        except ssl.SSLCertVerificationError as error:
            return _not_trusted(end, error)
        except OSError:
            pass
    return _turned_away(end)


def _only_there(end: _End) -> Problem:
    return Problem(
        f"{end.what} at {end.host}:{end.port} uses TLS, and this side does not",
        f"set {end.variables}CA to the file with the CA that its certificate is from",
    )


def _only_here(end: _End) -> Problem:
    return Problem(
        f"{end.what} at {end.host}:{end.port} answers without TLS, and {end.variables}CA asks for it here",
        f"start it with {end.variables}CERT and {end.variables}KEY, or unset {end.variables}CA here",
    )


def _not_trusted(end: _End, error: ssl.SSLCertVerificationError) -> Problem:
    if error.verify_code in _OTHER_NAME:
        return Problem(
            f"the certificate of {end.what} is not for {end.name}",
            f"set {end.variables}NAME to the name in it, or give it a certificate for {end.name}",
        )
    return Problem(
        f"the certificate of {end.what} is not trusted with {end.ca}: {error.verify_message}",
        f"set {end.variables}CA to the CA that it is from, or give it a certificate that is valid",
    )


_OTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def _turned_away(end: _End) -> Problem:
    shown = "the certificate in SPENDGATE_CLIENT_CERT" if end.client_cert else "a client without certificate"
    return Problem(
        f"{end.what} at {end.host}:{end.port} turns {shown} away",
        "set SPENDGATE_CLIENT_CERT and SPENDGATE_CLIENT_KEY to a certificate from its "
        f"{end.variables}CLIENT_CA",
    )
