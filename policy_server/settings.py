"""Settings of the policy server: the environment, overridden by options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class PolicyServerSettings(BaseSettings):
    """Every setting of the policy server, as SPENDGATE_<NAME> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SPENDGATE_", frozen=True, extra="forbid", cli_hide_none_type=True
    )

    redis_url: SecretStr
    """Redis that counts, as redis://, rediss://, unix:// or redis+cluster://. Required."""

    redis_wait_replicas: Annotated[int, Field(ge=0, le=5)] = 0
    """How many replicas must have a change before it counts as done; else there is no decision."""

    data_dir: Path = Path(".spendgate")
    """Where admin.token and sidecar.token are kept."""

    policy_host: str = "127.0.0.1"
    """Address to listen on."""

    policy_port: Port = 50051
    """Port to listen on; 0 takes a free one."""

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
