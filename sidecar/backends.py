"""Makes the vendors that the settings set up, each with the way to it, and what else needs a secret."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from pydantic import SecretStr

from sidecar.paced import PacedReads
from sidecar.policy_link import PolicyLink
from sidecar.reconciler import Reconciler
from sidecar.settings import SidecarSettings
from sidecar.stripe.endpoints import ENDPOINTS as STRIPE_ENDPOINTS
from sidecar.stripe.vendor import Stripe
from sidecar.twilio.endpoints import ENDPOINTS as TWILIO_ENDPOINTS
from sidecar.twilio.vendor import Twilio
from sidecar.upstream import Upstream
from sidecar.vendor import Vendor
from spendgate.transport import TransportUnsafe

ENDPOINT_NAMES = (*(one.name for one in STRIPE_ENDPOINTS), *(one.name for one in TWILIO_ENDPOINTS))
"""Every endpoint that some vendor has in its table, as policies name it."""

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The sidecar can't start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A vendor that is set up, and the way to it."""

    vendor: Vendor
    upstream: Upstream
    reads: PacedReads
    """Reads that no agent waits for."""


def policy_channel(settings: SidecarSettings) -> grpc.aio.Channel:
    """Return the way to the policy server; raise `CannotStart` when it would not be safe."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.enable_retries", 0),
        ("grpc.http2.bdp_probe", 0),
        *settings.policy_trust.options(),
    ]
    try:
        credentials = settings.policy_trust.credentials()
    except TransportUnsafe as error:
        raise CannotStart(str(error)) from None
    if credentials is None:
        return grpc.aio.insecure_channel(settings.policy_address, options=options)
    return grpc.aio.secure_channel(settings.policy_address, credentials, options=options)


def sidecar_token(settings: SidecarSettings) -> SecretStr:
    """Return the token for decisions; raise `CannotStart` when there is none."""
    return settings.sidecar_token or _read_token(settings.data_dir / "sidecar.token", "sidecar")


def admin_token(given: SecretStr | None, data_dir: Path) -> SecretStr:
    """Return the token that reads the audit trail; raise `CannotStart` when there is none."""
    return given or _read_token(data_dir / "admin.token", "admin")


def backends(settings: SidecarSettings) -> list[Backend]:
    """Return the vendors that the settings set up."""
    found = []
    if settings.stripe_secret_key is not None:
        found.append(_stripe(settings, settings.stripe_secret_key.get_secret_value()))
    if settings.twilio_account_sid is not None and settings.twilio_auth_token is not None:
        found.append(
            _twilio(settings, settings.twilio_account_sid, settings.twilio_auth_token.get_secret_value())
        )
    return found


def _stripe(settings: SidecarSettings, key: str) -> Backend:
    if not key.startswith(("sk_", "rk_")):
        raise CannotStart(
            "STRIPE_SECRET_KEY is not a Stripe key: it must begin with rk_ (restricted, best) or sk_."
        )
    if key.startswith("sk_live_"):
        log.warning(
            "STRIPE_SECRET_KEY is a full live key. Use a restricted key (rk_live_…) with only the "
            "permissions that agents need: it is the second wall behind Spendgate."
        )
    upstream = Upstream(
        settings.stripe_api_base,
        SecretStr(f"Bearer {key}"),
        timeout_s=settings.stripe_timeout_s,
        files_origin=settings.files_base,
    )
    return _backend(settings, Stripe(), upstream)


def _twilio(settings: SidecarSettings, account_sid: str, auth_token: str) -> Backend:
    credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
    upstream = Upstream(
        settings.twilio_api_base, SecretStr(f"Basic {credentials}"), timeout_s=settings.twilio_timeout_s
    )
    return _backend(settings, Twilio(account_sid), upstream)


def _backend(settings: SidecarSettings, vendor: Vendor, upstream: Upstream) -> Backend:
    return Backend(vendor, upstream, PacedReads(upstream, per_second=settings.reconcile_reads_per_s))


def reconciler(
    settings: SidecarSettings, policy: PolicyLink, backends: Sequence[Backend], *, dry_run: bool = False
) -> Reconciler:
    """Return what finds out unknown outcomes at the vendors."""
    return Reconciler(
        policy,
        [(backend.vendor, backend.reads, backend.upstream.sender) for backend in backends],
        quiet_s=settings.reconcile_quiet_s,
        dry_run=dry_run,
    )


def _read_token(path: Path, which: str) -> SecretStr:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise CannotStart(
            f"the {which} token can't be read from {path} ({error.strerror}): start the policy server with "
            f"the same --data-dir first, or set SPENDGATE_{which.upper()}_TOKEN"
        ) from None
    if not token:
        raise CannotStart(f"{path} is empty; remove it and start the policy server again")
    return SecretStr(token)
