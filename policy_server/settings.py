"""Settings of the policy server: the environment, overridden by options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spendgate import transport

Port = Annotated[int, Field(ge=0, le=65535)]


class PolicyServerSettings(BaseSettings):
    """Every setting of the policy server, as SPENDGATE_<NAME> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SPENDGATE_", frozen=True, extra="forbid", cli_hide_none_type=True
    )

    _paths_are_given = field_validator(
        *("redis_ca", "redis_cert", "redis_key", "data_dir"),
        *("policy_socket", "policy_cert", "policy_key", "policy_client_ca"),
        mode="before",
    )(transport.refuse_empty_path)

    redis_url: SecretStr
    """Redis that counts, as redis://, rediss://, unix:// or redis+cluster://. Required."""

    redis_timeout_ms: Annotated[int, Field(ge=50, le=5_000)] = 250
    """How long Redis may take to answer before nothing is decided; sidecars wait by a limit of their own."""

    redis_wait_replicas: Annotated[int, Field(ge=0, le=5)] = 0
    """How many replicas must have a change before it counts as done; else there is no decision."""

    redis_ca: Path | None = None
    """Whose certificates are trusted of a rediss:// server; the system's CAs when unset."""

    redis_cert: Path | None = None
    """Certificate that is shown to a rediss:// server; only together with its key."""

    redis_key: Path | None = None
    """Private key of redis_cert."""

    data_dir: Path = Path(".spendgate")
    """Where admin.token and sidecar.token are kept."""

    policy_host: str = "127.0.0.1"
    """Address to listen on."""

    policy_port: Port = 50051
    """Port to listen on; 0 takes a free one."""

    policy_socket: Path | None = None
    """Unix socket to listen on beside the port, of this server alone: a nearer way for a local sidecar."""

    policy_cert: Path | None = None
    """Certificate that callers are shown, with its chain; with policy_key it turns TLS on."""

    policy_key: Path | None = None
    """Private key of policy_cert."""

    policy_client_ca: Path | None = None
    """Whose certificates callers must show; when unset, they need none."""

    allow_plaintext: bool = False
    """Do without TLS to and from other machines."""

    policy_connections_max: Annotated[int, Field(ge=1, le=100_000)] = 1_024
    """How many connections callers may have open; more are closed at once."""

    admin_token: SecretStr | None = None
    """Token for administration and audit, instead of the one in admin.token."""

    sidecar_token: SecretStr | None = None
    """Token for decisions, instead of the one in sidecar.token."""

    allow_volatile: bool = False
    """Start although Redis would lose or evict counters."""

    hold_ttl_s: Annotated[int, Field(ge=1, le=86_400)] = 180
    """How long a hold may stay without an outcome, unless the caller says."""

    retention_days: Annotated[int, Field(ge=2, le=3650)] = 400
    """How long effects, exposures and past windows are remembered. A repeat of an older effect is new."""

    archive_url: SecretStr | None = None
    """Database of the audit archive, as sqlite:/// or postgresql://; audit.sqlite in data_dir unless said."""

    audit_backlog_max: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """How many audit events of an account may wait for the archive before its calls are refused."""

    drain_s: Annotated[float, Field(ge=0, le=600)] = 10
    """How long calls under way may take when the server is told to stop."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """How much is logged."""

    @model_validator(mode="after")
    def _are_safe(self) -> Self:
        transport.check_certificate_settings(
            self.policy_cert, self.policy_key, self.policy_client_ca, name="POLICY"
        )
        transport.check_certificate_settings(self.redis_cert, self.redis_key, name="REDIS")
        if self.allow_plaintext:
            return self
        if self.policy_cert is None and not transport.is_loopback(self.policy_host):
            raise ValueError(
                f"SPENDGATE_POLICY_HOST {self.policy_host!r} can be reached from other machines, and tokens "
                "would cross the network unencrypted: set SPENDGATE_POLICY_CERT and SPENDGATE_POLICY_KEY, or "
                "listen on 127.0.0.1; SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
            )
        url = self.redis_url.get_secret_value()
        if not transport.url_is_local(url) and not _is_verified(url):
            raise ValueError(
                "SPENDGATE_REDIS_URL leads to another machine, and what is counted there could be read and "
                "changed on the way: use rediss://, with SPENDGATE_REDIS_CA and without ssl_ parameters; "
                "SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
            )
        if self.archive_url is not None and not _archive_is_safe(self.archive_url.get_secret_value()):
            raise ValueError(
                "SPENDGATE_ARCHIVE_URL leads to another machine, and the audit trail could be read and "
                "changed on the way: add ?sslmode=verify-full, and &sslrootcert=/path/to/ca.pem for a CA of "
                "your own; SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
            )
        return self


def _archive_is_safe(url: str) -> bool:
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    # Without a host it is a file, or a socket of this machine.
    hosts = [
        *([parts.hostname] if parts.hostname else []),
        *asked.get("host", []),
        *asked.get("hostaddr", []),
    ]
    # libpq takes from a service, or from its environment, where to connect to.
    elsewhere = parts.scheme.startswith("postgres") and (
        "service" in asked
        or "PGSERVICE" in os.environ
        or "PGHOSTADDR" in os.environ
        or (not hosts and "PGHOST" in os.environ)
    )
    local = not elsewhere and all(host.startswith("/") or transport.is_loopback(host) for host in hosts)
    return local or asked.get("sslmode") == ["verify-full"]


def _is_verified(redis_url: str) -> bool:
    parts = urlsplit(redis_url)
    return parts.scheme == "rediss" and not any(name.startswith("ssl_") for name in parse_qs(parts.query))
