"""The admin and the sidecar token: made on first start, in files only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from policy_server.core.errors import SpendgateError


class TokenFileUnsafe(SpendgateError):
    """Others than its owner can read a token file."""


def read_or_make(path: Path) -> SecretStr:
    """Return the token in ``path``, made there when the file does not exist.

    Raises `TokenFileUnsafe` when others can read the file or it is empty.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise TokenFileUnsafe(
            f"tokens can't be kept in {path.parent} ({error.strerror}); choose another --data-dir"
        ) from None
    # Written aside and linked, so that no reader ever sees a file without its token.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"sgt_{secrets.token_urlsafe(32)}\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    if path.stat().st_mode & 0o077:
        raise TokenFileUnsafe(f"{path} can be read by others; run 'chmod 600 {path}' and renew the token")
    token = path.read_text().strip()
    if not token:
        raise TokenFileUnsafe(f"{path} is empty; remove it, and a new token is made on the next start")
    return SecretStr(token)
