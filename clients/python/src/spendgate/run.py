"""Which run a call to the sidecar belongs to, and with which key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from spendgate import transport
from spendgate.vault_key import SecretText, VaultKey, vault_key

DEFAULT_SIDECAR = "http://127.0.0.1:8787"
"""Where ``spendgate up`` lets the sidecar listen."""

RUN_HEADER = "Spendgate-Run-Id"
STEP_HEADER = "Spendgate-Step"
_NAME_LENGTH_MAX = 128


@dataclass(frozen=True, slots=True)
class Run:
    """One agent run and its vault key. Make one for each run; nothing of it is module state."""

    key: VaultKey = field(repr=False)
    run_id: str
    step: str = ""

    @classmethod
    def of(cls, key: str | SecretText, run_id: str = "", step: str = "") -> Run:
        """Return a run; without an id a new one is made up, which nobody can resume.

        Raises `ValueError` for a raw Stripe key, and for names that are not 1 to
        128 printable ASCII characters.
        """
        return cls(
            vault_key(key), name(run_id or str(uuid.uuid4()), RUN_HEADER), step and name(step, STEP_HEADER)
        )

    def headers(self) -> dict[str, str]:
        """Return the headers of a call, with the vault key in them."""
        named = {"Authorization": f"Bearer {self.key.get_secret_value()}", RUN_HEADER: self.run_id}
        return {**named, STEP_HEADER: self.step} if self.step else named


def safe_sidecar(url: str) -> str:
    """Return the address of a sidecar without a slash at its end.

    Raises `ValueError` when it is none, or when the vault key would go to another
    machine in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a sidecar; write one such as {DEFAULT_SIDECAR}")
    if parts.scheme == "http" and not transport.url_is_local(url) and not transport.plaintext_is_allowed():
        raise ValueError(
            f"the sidecar at {url} is on another machine, and the vault key would cross the network "
            "unencrypted: write https://; SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
        )
    return url.rstrip("/")


def name(value: str, what: str) -> str:
    """Return a name of a run or a step; raises `ValueError` when the sidecar would not take it."""
    if not value or len(value) > _NAME_LENGTH_MAX or not value.isascii() or not value.isprintable():
        raise ValueError(f"{what} must be 1 to {_NAME_LENGTH_MAX} printable ASCII characters, not {value!r}")
    if value != value.strip():
        raise ValueError(f"{what} must not begin or end with a space: {value!r}")
    return value
