"""Settings of the sidecar: the environment, overridden by options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spendgate import transport
from spendgate.transport import PolicyServerTrust

Port = Annotated[int, Field(ge=0, le=65535)]

_STRIPE = "https://api.stripe.com"


class SidecarSettings(BaseSettings):
    """Every setting of the sidecar, as SPENDGATE_<NAME> in the environment unless said otherwise."""

    model_config = SettingsConfigDict(env_prefix="SPENDGATE_", frozen=True, extra="forbid")

    _paths_are_given = field_validator(
        *("policy_ca", "client_cert", "client_key", "data_dir"),
        *("sidecar_cert", "sidecar_key", "sidecar_client_ca"),
        mode="before",
    )(transport.refuse_empty_path)

    stripe_secret_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("STRIPE_SECRET_KEY", "stripe_secret_key"))
    ] = None
    """The key that goes to Stripe, STRIPE_SECRET_KEY in the environment; best a restricted one.

    Required, unless Twilio is set up: without one Stripe is off.
    """

    stripe_api_base: str = _STRIPE
    """Where Stripe is, without a path."""

    stripe_files_base: str | None = None
    """Where Stripe takes and gives files; files.stripe.com, or stripe_api_base when that is another."""

    twilio_account_sid: Annotated[
        str | None,
        Field(
            validation_alias=AliasChoices("TWILIO_ACCOUNT_SID", "twilio_account_sid"),
            pattern="^AC[0-9a-fA-F]{32}$",
        ),
    ] = None
    """The account that sends messages, TWILIO_ACCOUNT_SID in the environment. Without one Twilio is off."""

    twilio_auth_token: Annotated[
        SecretStr | None,
        Field(validation_alias=AliasChoices("TWILIO_AUTH_TOKEN", "twilio_auth_token"), min_length=1),
    ] = None
    """The token that goes to Twilio, TWILIO_AUTH_TOKEN in the environment; only together with the account."""

    twilio_api_base: str = "https://api.twilio.com"
    """Where Twilio is, without a path."""

    policy_address: str = "127.0.0.1:50051"
    """gRPC target of the policy server; a name that resolves to several servers uses them in turn.

    unix:PATH for one on this machine that has a policy_socket.
    """

    policy_ca: Path | None = None
    """Whose certificates the policy server may show; turns TLS to it on."""

    policy_name: str | None = None
    """The name in the policy server's certificate, where it is not the one in policy_address."""

    client_cert: Path | None = None
    """Certificate that is shown to the policy server; only together with its key."""

    client_key: Path | None = None
    """Private key of client_cert."""

    allow_plaintext: bool = False
    """Do without TLS to and from other machines."""

    data_dir: Path = Path(".spendgate")
    """Where the policy server keeps sidecar.token."""

    sidecar_token: SecretStr | None = None
    """Token for decisions, instead of the one in sidecar.token."""

    sidecar_host: str = "127.0.0.1"
    """Address to listen on."""

    sidecar_port: Port = 8787
    """Port of /stripe/v1/… and /twilio/2010-04-01/…; 0 takes a free one."""

    sidecar_root_port: Port = 8788
    """Port of the same without /stripe and /twilio, for clients that can't take a prefix; 0: a free one."""

    sidecar_cert: Path | None = None
    """Certificate that agents are shown, with its chain; with sidecar_key it turns TLS on."""

    sidecar_key: Path | None = None
    """Private key of sidecar_cert."""

    sidecar_client_ca: Path | None = None
    """Whose certificates agents must show; when unset, they need none."""

    decision_timeout_ms: Annotated[int, Field(ge=10, le=10_000)] = 450
    """How long a decision may take before the call is refused with 503."""

    stripe_timeout_s: Annotated[float, Field(ge=1, le=170)] = 80
    """How long Stripe may take before the outcome is unknown; less than the policy server's hold_ttl_s."""

    twilio_timeout_s: Annotated[float, Field(ge=1, le=170)] = 30
    """How long Twilio may take before the outcome is unknown; less than the policy server's hold_ttl_s."""

    body_bytes_max: Annotated[int, Field(ge=1_024, le=16_777_216)] = 1_048_576
    """Largest request body that is taken."""

    head_bytes_max: Annotated[int, Field(ge=1_024, le=1_048_576)] = 32_768
    """Largest request line with headers that is taken."""

    read_timeout_s: Annotated[float, Field(ge=0.1, le=600)] = 20
    """How long a client may take to send a whole request."""

    connections_max: Annotated[int, Field(ge=1, le=100_000)] = 1_024
    """How many connections clients may have open; whoever waits longest makes room."""

    drain_s: Annotated[float, Field(ge=0, le=600)] = 20
    """How long calls and settlements under way may take when the sidecar is told to stop."""

    reconcile_every_s: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How often holds of unknown outcome are looked for at the vendor; 0 leaves it to spendgate reconcile."""

    reconcile_quiet_s: Annotated[float, Field(ge=1, le=86_400)] = 600
    """How long after its last sending a call has surely been done, or never will be."""

    reconcile_reads_per_s: Annotated[float, Field(ge=0.1, le=20)] = 5
    """How many reads a second may look for unknown outcomes; agents need the rest of the vendor's limit."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @model_validator(mode="after")
    def _have_a_vendor(self) -> Self:
        if (self.twilio_account_sid is None) != (self.twilio_auth_token is None):
            raise ValueError("set both TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or neither")
        if self.stripe_secret_key is None and self.twilio_account_sid is None:
            raise ValueError("set STRIPE_SECRET_KEY, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN")
        return self

    @model_validator(mode="after")
    def _are_safe(self) -> Self:
        transport.check_certificate_settings(
            self.sidecar_cert, self.sidecar_key, self.sidecar_client_ca, name="SIDECAR"
        )
        transport.check_certificate_settings(self.client_cert, self.client_key, name="CLIENT")
        if self.allow_plaintext:
            return self
        if self.sidecar_cert is None and not transport.is_loopback(self.sidecar_host):
            raise ValueError(
                f"SPENDGATE_SIDECAR_HOST {self.sidecar_host!r} can be reached from other machines, and "
                "vault keys would cross the network unencrypted: set SPENDGATE_SIDECAR_CERT and "
                "SPENDGATE_SIDECAR_KEY, or listen on 127.0.0.1; SPENDGATE_ALLOW_PLAINTEXT=true is for "
                "tunnels that encrypt"
            )
        if self.policy_ca is None and not transport.target_is_local(self.policy_address):
            raise ValueError(transport.token_in_the_clear(self.policy_address, "sidecar"))
        for name in ("stripe_api_base", "stripe_files_base", "twilio_api_base"):
            base = getattr(self, name)
            if base is not None and base.startswith("http://") and not transport.url_is_local(base):
                raise ValueError(
                    f"SPENDGATE_{name.upper()} is {base}: the vendor's key would cross the network "
                    "unencrypted; use https://. SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
                )
        return self

    @property
    def policy_trust(self) -> PolicyServerTrust:
        """How the sidecar knows the policy server."""
        return PolicyServerTrust(self.policy_ca, self.client_cert, self.client_key, self.policy_name)

    @property
    def files_base(self) -> str:
        """Where Stripe's files are."""
        default = "https://files.stripe.com"
        return self.stripe_files_base or (
            default if self.stripe_api_base == _STRIPE else self.stripe_api_base
        )

    @field_validator("stripe_api_base", "stripe_files_base", "twilio_api_base")
    @classmethod
    def _is_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        origin = value.rstrip("/")
        if not origin.startswith(("https://", "http://")) or origin.count("/") != 2 or "@" in origin:
            raise ValueError("must be an origin such as https://api.stripe.com, without a path")
        return origin
