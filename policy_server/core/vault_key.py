"""The vault key: ``vk_<key id>_<secret>``.

The key id is public. The secret has 160 random bits, so a plain SHA-256 of it
can be stored: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass, field

KEY_ID_LENGTH = 12

_SHAPE = re.compile(r"vk_([a-z2-7]{12})_([a-z2-7]{32})")
_KEY_ID = re.compile(r"[a-z2-7]{12}")


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A vault key as an agent presents it."""

    key_id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The key as the agent holds it. Show it once, store it never."""
        return f"vk_{self.key_id}_{self.secret}"

    @property
    def secret_hash(self) -> str:
        """What is stored."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def opens(self, stored_hash: str) -> bool:
        """Tell, in constant time, whether this is the key of the stored hash."""
        return hmac.compare_digest(self.secret_hash, stored_hash)


def mint() -> VaultKey:
    """Make a new vault key."""
    return VaultKey(_random_text(8)[:12], _random_text(20))


def parse(text: str) -> VaultKey | None:
    """Read a vault key; None when it has not the shape of one."""
    match = _SHAPE.fullmatch(text)
    return VaultKey(match[1], match[2]) if match else None


def is_key_id(text: str) -> bool:
    """Tell whether ``text`` could be a key id."""
    return _KEY_ID.fullmatch(text) is not None


def _random_text(size: int) -> str:
    return b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()
