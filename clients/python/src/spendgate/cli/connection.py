"""How the command reaches the policy server, and what it says when that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import grpc
import typer
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spendgate import rpc, setting_errors, transport
from spendgate.cli.failure import CommandFailed, UsageWrong
from spendgate.transport import PolicyServerTrust, TransportUnsafe
from spendgate.v1 import (
    account_service_pb2_grpc,
    audit_service_pb2_grpc,
    ledger_service_pb2_grpc,
    vault_key_service_pb2_grpc,
)

DEADLINE_S = 5.0
"""How long one call may take."""

Port = Annotated[int, Field(ge=1, le=65535)]

Request = TypeVar("Request")
Response = TypeVar("Response")
Settings = TypeVar("Settings", bound=BaseSettings)

PolicyAddress = Annotated[
    str | None,
    typer.Option(
        "--policy-address",
        metavar="HOST:PORT",
        help="Where the policy server is; else SPENDGATE_POLICY_ADDRESS, else 127.0.0.1:50051.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Directory with admin.token; else SPENDGATE_DATA_DIR, else .spendgate. "
        "The token in SPENDGATE_ADMIN_TOKEN goes before the file.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        metavar="NAME",
        help="The account; else SPENDGATE_ACCOUNT, else default.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]


class OperatorSettings(BaseSettings):
    """Settings of the command, as SPENDGATE_<NAME> in the environment."""

    model_config = SettingsConfigDict(env_prefix="SPENDGATE_", frozen=True, extra="forbid")

    _paths_are_given = field_validator("policy_ca", "client_cert", "client_key", "data_dir", mode="before")(
        transport.refuse_empty_path
    )

    policy_address: str = "127.0.0.1:50051"
    """gRPC target of the policy server."""

    data_dir: Path = Path(".spendgate")
    """Where the policy server keeps admin.token."""

    admin_token: SecretStr | None = None
    """Token for administration and audit, instead of the one in admin.token."""

    account: str = "default"
    """The account that commands are about."""

    policy_ca: Path | None = None
    """Whose certificates the policy server may show; turns TLS to it on."""

    policy_name: str | None = None
    """The name in the policy server's certificate, where it is not the one in policy_address."""

    client_cert: Path | None = None
    """Certificate that is shown to the servers; only together with its key."""

    client_key: Path | None = None
    """Private key of client_cert."""

    allow_plaintext: bool = False
    """Do without TLS to and from other machines."""

    @field_validator("policy_address")
    @classmethod
    def _is_target(cls, value: str) -> str:
        if ":" not in value or " " in value:
            raise ValueError("must be a host and a port such as 127.0.0.1:50051")
        return value

    @model_validator(mode="after")
    def _have_whole_certificates(self) -> Self:
        transport.check_certificate_settings(self.client_cert, self.client_key, name="CLIENT")
        return self

    @property
    def policy_trust(self) -> PolicyServerTrust:
        """How the command knows the policy server."""
        return PolicyServerTrust(self.policy_ca, self.client_cert, self.client_key, self.policy_name)

    @property
    def admin_token_file(self) -> Path:
        """The file that the policy server makes on its first start."""
        return self.data_dir / "admin.token"


class SidecarAddress(OperatorSettings):
    """Where the sidecar is, as it reads it itself."""

    _sidecar_ca_is_given = field_validator("sidecar_ca", mode="before")(transport.refuse_empty_path)

    sidecar_host: str = "127.0.0.1"
    sidecar_port: Port = 8787
    sidecar_ca: Path | None = None
    """Whose certificate the sidecar has; without one it is asked by plain HTTP."""

    @property
    def sidecar_url(self) -> str:
        """Where agents on this machine reach the sidecar."""
        return self.sidecar_origin(self.sidecar_port)

    def sidecar_origin(self, port: int) -> str:
        """Return the address of one of the sidecar's ports."""
        return f"{'https' if self.sidecar_ca else 'http'}://{reachable(self.sidecar_host)}:{port}"


def reachable(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - replaced here


def read_settings(kind: type[Settings], **options: Any) -> Settings:
    """Return settings of the environment, overridden by the options that are not None.

    Raises `UsageWrong` when one of them can't be used.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as error:
        said = "; ".join(setting_errors.problems(kind, error, given_as_option=given))
        raise UsageWrong(f"the settings can't be used: {said}") from None


def admin_token(settings: OperatorSettings) -> str:
    """Return the admin token, or raise `CommandFailed` saying where it should be."""
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    path = settings.admin_token_file
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        raise CommandFailed(
            f"there is no admin token: {path} does not exist. The policy server makes it on its first start; "
            "run this where it runs, give its --data-dir, or set SPENDGATE_ADMIN_TOKEN"
        ) from None
    except OSError as error:
        raise CommandFailed(f"the admin token in {path} can't be read: {error.strerror}") from None
    if not token:
        raise CommandFailed(
            f"{path} is empty; remove it and restart the policy server, which makes a new one"
        )
    return token


def open_channel(settings: OperatorSettings) -> grpc.Channel:
    """Return a channel that goes straight to the policy server, without any proxy of the environment.

    Raises `UsageWrong` when the token would go to another machine in the clear,
    or a certificate can't be used.
    """
    address = settings.policy_address
    options = [*rpc.CHANNEL_OPTIONS, *settings.policy_trust.options()]
    try:
        credentials = settings.policy_trust.credentials()
    except TransportUnsafe as error:
        raise UsageWrong(str(error)) from None
    if credentials is not None:
        return grpc.secure_channel(address, credentials, options=options)
    if not settings.allow_plaintext and not transport.target_is_local(address):
        raise UsageWrong(transport.token_in_the_clear(address, "admin"))
    return grpc.insecure_channel(address, options=options)


class PolicyServer:
    """The services for operators, with the admin token and a deadline on every call."""

    def __init__(self, channel: grpc.Channel, settings: OperatorSettings) -> None:
        self._settings = settings
        self._metadata = (("authorization", f"Bearer {admin_token(settings)}"),)
        self.account = settings.account
        self.vault_keys = vault_key_service_pb2_grpc.VaultKeyServiceStub(channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.ledgers = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        deadline_s: float | None = DEADLINE_S,
    ) -> Response:
        """Return the answer to `request`; raises `RequestFailed` when there is none."""
        try:
            return method(request, timeout=deadline_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RequestFailed(error, self._settings) from None

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request
    ) -> Iterator[Response]:
        """Yield answers as they come, without a deadline; raises `RequestFailed` when they end badly."""
        try:
            yield from method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RequestFailed(error, self._settings) from None


@contextmanager
def connect(settings: OperatorSettings) -> Iterator[PolicyServer]:
    """Connect to the policy server of `settings` for one command."""
    with open_channel(settings) as channel:
        yield PolicyServer(channel, settings)


@contextmanager
def connect_with(
    policy_address: str | None, data_dir: Path | None, account: str | None
) -> Iterator[PolicyServer]:
    """Connect as the options and the environment say."""
    settings = read_settings(
        OperatorSettings, policy_address=policy_address, data_dir=data_dir, account=account
    )
    with connect(settings) as server:
        yield server


class RequestFailed(CommandFailed):
    """The policy server refused a request, or could not be asked."""

    def __init__(self, error: grpc.RpcError, settings: OperatorSettings) -> None:
        self.code: grpc.StatusCode = error.code()
        self.reason = rpc.error_info(error).reason
        super().__init__(_sentence(self.code, self.reason, error.details() or "", settings))


def _sentence(code: grpc.StatusCode, reason: str, details: str, settings: OperatorSettings) -> str:
    address = settings.policy_address
    if code is grpc.StatusCode.UNAVAILABLE and reason:
        return f"the policy server at {address} changed nothing: {details}"
    if code is grpc.StatusCode.UNAVAILABLE:
        return (
            f"no policy server answers at {address}{_tls_hint(details)}; is it running there? Start it with "
            "'spendgate up' or 'spendgate policy-server', or give its address with --policy-address"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the policy server at {address} did not answer within {DEADLINE_S:g} s; its log may say why"
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        source = "SPENDGATE_ADMIN_TOKEN" if settings.admin_token else str(settings.admin_token_file)
        return (
            f"the policy server at {address} does not accept the admin token of {source}; "
            "use the admin.token in the data directory of that server"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {address} does not know this request; is it a policy server of this version?"
    if reason:
        return details
    return f"the policy server at {address} failed with {code.name}: {details}"


def _tls_hint(details: str) -> str:
    """Say what went wrong with TLS, as far as this side can see it."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return " with a certificate of the CA in SPENDGATE_POLICY_CA"
    if "WRONG_VERSION_NUMBER" in details:
        return " with TLS"
    if "Hostname Verification" in details or "Peer name" in details:
        return " with a certificate for that name"
    return ""
