"""The key that an agent holds, which shows itself to nobody by accident."""

from __future__ import annotations

import re
from typing import Protocol, runtime_checkable

_SHAPE = re.compile(r"vk_([a-z2-7]{12})[_.~-][\x21-\x7e]+")
_RAW = re.compile(r"(sk|rk|pk|ek|whsec)_", re.IGNORECASE)


@runtime_checkable
class SecretText(Protocol):
    """A secret that must be asked for its text, such as pydantic's ``SecretStr``."""

    def get_secret_value(self) -> str:
        """Return the secret."""
        ...


class VaultKey:
    """A vault key. Its secret is in no repr, log or traceback unless it is asked for.

    Raises `ValueError`, which does not repeat the key, when it is a raw Stripe
    key or nothing that Spendgate makes.
    """

    __slots__ = ("_text", "key_id")

    def __init__(self, text: str | SecretText) -> None:
        """``text`` is ``vk_<key id>_<secret>``, as it was printed once."""
        secret = secret_text(text).strip()
        if _RAW.match(secret):
            raise ValueError(
                "this is a raw Stripe key; an agent gets a vault key (vk_…) only, so that it holds nothing "
                "that moves money without a cap. Ask the operator for one, and roll this Stripe key"
            )
        match = _SHAPE.fullmatch(secret)
        if match is None:
            raise ValueError(
                "this is not a vault key: it must begin with vk_ and be whole, as it was printed once"
            )
        self._text = secret
        self.key_id: str = match[1]
        """Public id of the key, as logs and the audit trail have it."""

    def get_secret_value(self) -> str:
        """Return the key itself."""
        return self._text

    def __repr__(self) -> str:
        return f"VaultKey('vk_{self.key_id}_***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VaultKey) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        """Refuse to be pickled: a key does not travel by accident."""
        raise TypeError("a vault key is not pickled; hand it to the other process yourself")


def secret_text(value: str | SecretText) -> str:
    """Return a secret that is given as text or as a secret type."""
    return value if isinstance(value, str) else value.get_secret_value()


def vault_key(value: str | SecretText) -> VaultKey:
    """Return ``value`` as a vault key; raises `ValueError`."""
    return value if isinstance(value, VaultKey) else VaultKey(value)
