"""The vault key for trying Spendgate out, kept in the data directory."""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from spendgate import cap_text
from spendgate.cli.connection import PolicyServer, RequestFailed
from spendgate.cli.failure import CommandFailed
from spendgate.v1 import policy_pb2
from spendgate.v1 import vault_key_service_pb2 as pb

NAME = "demo"

_ALLOW = (
    "POST /v1/charges",
    "POST /v1/payment_intents",
    "POST /v1/payment_intents/*/confirm",
    "POST /v1/payment_intents/*/capture",
    "POST /v1/payment_intents/*/cancel",
    "POST /v1/refunds",
    "POST /v1/customers",
    "GET /v1/*",
)
_CAPS = ("usd 1000.00/day", "usd 50.00/call")


def demo_key(server: PolicyServer, path: Path) -> str:
    """Return the demo key: the one in `path`, else a new one that is written there.

    Raises `CommandFailed` when there is one whose secret is lost, or that was revoked.
    """
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    if kept and _works(server, kept, path):
        return kept
    try:
        made = server.call(
            server.vault_keys.CreateVaultKey,
            pb.CreateVaultKeyRequest(
                name=NAME,
                account=server.account,
                policy=policy_pb2.Policy(allow=_ALLOW, caps=[cap_text.parse(cap) for cap in _CAPS]),
            ),
        )
    except RequestFailed as error:
        if error.code is grpc.StatusCode.ALREADY_EXISTS:
            raise CommandFailed(
                f"there is a vault key named {NAME}, but {path} with its secret is gone; "
                f"'spendgate keys revoke {NAME}' makes room for a new one on the next start"
            ) from None
        raise
    _write_private(path, made.secret_vault_key)
    return made.secret_vault_key


def _works(server: PolicyServer, key: str, path: Path) -> bool:
    """Tell whether `key` is known; raises `CommandFailed` when it was revoked or has expired."""
    parts = key.split("_")
    if len(parts) != 3:
        raise CommandFailed(
            f"{path} does not hold a vault key; remove it, and the next start makes a new one"
        )
    try:
        found = server.call(server.vault_keys.GetVaultKey, pb.GetVaultKeyRequest(vault_key_id=parts[1]))
    except RequestFailed as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    if found.vault_key.state != pb.VAULT_KEY_STATE_ACTIVE:
        raise CommandFailed(
            f"the demo key was revoked or has expired; remove {path}, and the next start makes a new one"
        )
    return True


def _write_private(path: Path, text: str) -> None:
    # A new file, because one that is there may be open to others.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")
