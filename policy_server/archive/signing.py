"""Checkpoints: what the chain had come to, signed with the key of this installation."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from policy_server.core.errors import SpendgateError
from policy_server.core.ports import Checkpoint

KEY_FILE = "audit.key"


class SigningKeyUnsafe(SpendgateError):
    """The key that signs checkpoints can't be used, or others can read it."""


class PublicKey:
    """Checks checkpoints."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def from_bytes(cls, raw: bytes) -> PublicKey:
        """Return the key of these 32 bytes; raises ValueError."""
        return cls(Ed25519PublicKey.from_public_bytes(raw))

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """Return the key in a PEM file; raises ValueError."""
        key = load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("it is not an Ed25519 key")
        return cls(key)

    @property
    def raw(self) -> bytes:
        """Its 32 bytes."""
        return self._key.public_bytes_raw()

    @property
    def pem(self) -> str:
        """It as a PEM file, which other programs read too."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of its bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def signed(self, checkpoint: Checkpoint) -> bool:
        """Tell whether this key signed a checkpoint."""
        try:
            self._key.verify(checkpoint.signature, checkpoint.signed_text)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """Signs checkpoints."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def read_or_make(cls, data_dir: Path) -> SigningKey:
        """Return the key in ``audit.key``, made there when the file does not exist.

        Raises `SigningKeyUnsafe` when others can read the file or it is no key.
        """
        path = data_dir / KEY_FILE
        try:
            if not path.exists():
                _make(path)
            if path.stat().st_mode & 0o077:
                raise SigningKeyUnsafe(
                    f"{path} can be read by others; run 'chmod 600 {path}', and if somebody may have read "
                    "it, remove it: a new key is made on the next start"
                )
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise SigningKeyUnsafe(f"{path} can't be read or made: {error.strerror}") from None
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyUnsafe(f"{path} is not an Ed25519 key in PEM; put the right one there")
        return cls(key)

    def sign(self, account: str, sequence: int, head_hash: bytes, now_ms: int) -> Checkpoint:
        """Return a checkpoint of an account's chain."""
        said = (account, sequence, head_hash, now_ms, self.public.id)
        return Checkpoint(*said, signature=self._key.sign(Checkpoint(*said).signed_text))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Written aside and linked, so that no reader ever sees half of it.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
