"""What `spendgate up` is told, and what follows from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator

from spendgate import transport
from spendgate.cli.connection import SidecarAddress, reachable
from spendgate.cli.failure import UsageWrong

SIMULATOR_KEY = "rk_test_simulator"
"""Opens the Stripe simulator, which takes any test key."""


VENDOR_SECRETS = ("STRIPE_SECRET_KEY", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
"""What only the sidecar gets to see."""


ListenPort = Annotated[int, Field(ge=0, le=65535)]
"""0 lets the system choose a free one."""


class UpSettings(SidecarAddress):
    """Settings of the servers that `spendgate up` starts, as the servers themselves read them."""

    _certificates_are_given = field_validator("policy_cert", "sidecar_cert", mode="before")(
        transport.refuse_empty_path
    )

    redis_url: SecretStr | None = None
    """Redis that counts; without one a private Redis is started in the data directory."""

    policy_host: str = "127.0.0.1"
    policy_port: ListenPort = 50051
    policy_cert: Path | None = None
    sidecar_cert: Path | None = None
    """Where the servers use TLS, `up` needs to know whose certificates to expect."""

    sidecar_port: ListenPort = 8787
    sidecar_root_port: ListenPort = 8788
    sidecar_token: SecretStr | None = None
    stripe_api_base: str | None = None
    stripe_secret_key: Annotated[
        SecretStr | None,
        Field(validation_alias=AliasChoices("STRIPE_SECRET_KEY", "stripe_secret_key")),
    ] = None
    """The key that goes to Stripe; without one the Stripe simulator is started."""

    twilio_account_sid: Annotated[
        str | None, Field(validation_alias=AliasChoices("TWILIO_ACCOUNT_SID", "twilio_account_sid"))
    ] = None
    twilio_auth_token: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("TWILIO_AUTH_TOKEN", "twilio_auth_token"))
    ] = None
    """What sends messages; without them Twilio is off."""

    twilio_api_base: str | None = None

    drain_s: Annotated[float, Field(ge=0, le=600)] = 20
    """How long calls under way may take when the servers are told to stop."""

    @property
    def stop_limit_s(self) -> float:
        """How long a server may take to stop: first for its calls, then for what it has to tell others."""
        return 2 * self.drain_s + 10

    @property
    def simulates_stripe(self) -> bool:
        """Whether the simulator stands in for Stripe."""
        return self.stripe_secret_key is None

    @property
    def moves_no_money(self) -> bool:
        """Whether it is certain that payments are not real."""
        key = self.stripe_secret_key.get_secret_value() if self.stripe_secret_key else SIMULATOR_KEY
        return key.startswith(("sk_test_", "rk_test_"))

    @property
    def local_policy_address(self) -> str:
        """Where the policy server is reached from this machine."""
        return f"{reachable(self.policy_host)}:{self.policy_port}"

    @property
    def policy_socket(self) -> Path:
        """Where the sidecar beside it reaches the policy server, unless they use TLS."""
        return self.data_dir / "policy.sock"

    @property
    def sidecar_root_url(self) -> str:
        """Where clients that can't take a path prefix reach the sidecar."""
        return self.sidecar_origin(self.sidecar_root_port)

    @property
    def redis_text(self) -> str:
        """The Redis for people, without its password."""
        if self.redis_url is None:
            return f"private, in {self.data_dir}"
        parts = urlsplit(self.redis_url.get_secret_value())
        return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path

    def check(self) -> None:
        """Raise `UsageWrong` when settings contradict each other."""
        ports = [port for port in (self.policy_port, self.sidecar_port, self.sidecar_root_port) if port]
        if len(set(ports)) < len(ports):
            raise UsageWrong(
                "--policy-port, --sidecar-port and --sidecar-root-port must be three different ports"
            )
        for server in ("policy", "sidecar"):
            if (getattr(self, f"{server}_cert") is None) != (getattr(self, f"{server}_ca") is None):
                name = f"SPENDGATE_{server.upper()}"
                raise UsageWrong(
                    f"set {name}_CERT, {name}_KEY and {name}_CA, or none of them: 'spendgate up' starts that "
                    "server, and asks it whether it works"
                )
        if self.simulates_stripe and self.stripe_api_base is not None:
            raise UsageWrong(
                "SPENDGATE_STRIPE_API_BASE is set, but STRIPE_SECRET_KEY is not: set the key for that "
                "address, or unset both to try Spendgate with the Stripe simulator"
            )

        if (self.twilio_account_sid is None) != (self.twilio_auth_token is None):
            raise UsageWrong("set both TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or neither")

    def upstream_text(self) -> str:
        """Return what stands at the other end, for people; never a key."""
        twilio = ""
        if self.twilio_account_sid is not None:
            where = f", at {self.twilio_api_base}" if self.twilio_api_base else ""
            twilio = f"; Twilio, account {self.twilio_account_sid}{where}"
        if self.stripe_secret_key is None:
            return f"Stripe simulator: no money moves, and it forgets when it stops{twilio}"
        mode = "test mode" if self.moves_no_money else "real money"
        return f"Stripe, {mode}{f', at {self.stripe_api_base}' if self.stripe_api_base else ''}{twilio}"

    def warning(self) -> str:
        """Return what the operator should know about the key, "" when nothing."""
        key = self.stripe_secret_key.get_secret_value() if self.stripe_secret_key else ""
        if not key.startswith("sk_live_"):
            return ""
        return (
            "STRIPE_SECRET_KEY is a full live key, which may do everything in the Stripe account; "
            "make a restricted key (rk_live_) with only the permissions that agents need"
        )

    def policy_environment(self) -> dict[str, str]:
        """Return the environment of the policy server, which never sees a vendor's key."""
        redis_url = (
            self.redis_url.get_secret_value()
            if self.redis_url
            else f"unix://{quote(str(self.data_dir / 'redis.sock'))}"
        )
        environment = {
            **_inherited(*VENDOR_SECRETS),
            "SPENDGATE_DATA_DIR": str(self.data_dir),
            "SPENDGATE_POLICY_HOST": self.policy_host,
            "SPENDGATE_POLICY_PORT": str(self.policy_port),
            "SPENDGATE_REDIS_URL": redis_url,
        }
        if self.policy_cert is None:
            environment["SPENDGATE_POLICY_SOCKET"] = str(self.policy_socket)
        return environment

    def sidecar_environment(self, simulator_url: str | None) -> dict[str, str]:
        """Return the environment of the sidecar, which has no business with administration or Redis."""
        environment = {
            **_inherited("SPENDGATE_ADMIN_TOKEN", "SPENDGATE_REDIS_URL"),
            "SPENDGATE_DATA_DIR": str(self.data_dir),
            "SPENDGATE_POLICY_ADDRESS": (
                f"unix:{quote(str(self.policy_socket))}"
                if self.policy_cert is None
                else self.local_policy_address
            ),
            "SPENDGATE_SIDECAR_HOST": self.sidecar_host,
            "SPENDGATE_SIDECAR_PORT": str(self.sidecar_port),
            "SPENDGATE_SIDECAR_ROOT_PORT": str(self.sidecar_root_port),
        }
        if simulator_url is not None:
            environment |= {"STRIPE_SECRET_KEY": SIMULATOR_KEY, "SPENDGATE_STRIPE_API_BASE": simulator_url}
        return environment


def bare_environment() -> dict[str, str]:
    """Return the environment without any of Spendgate's settings and secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SPENDGATE_") and name not in VENDOR_SECRETS
    }


def _inherited(*without: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in without}
