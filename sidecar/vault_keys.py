"""Where the vault key stands in a request, and how it stays out of logs and records."""

from __future__ import annotations

import base64
import binascii
import re

from sidecar.exchange import Request
from sidecar.refusals import Refused, malformed

_KEY = re.compile(r"vk_([a-z2-7]{12})_")
_ANYWHERE = re.compile(r"vk_([a-z2-7]{12})_[^/?&\s]*")


def key_text(request: Request) -> str:
    """Return what a request gives as its key: a Bearer token or a Basic user name; empty when neither."""
    scheme, _, value = request.header(b"authorization").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def presented_key(request: Request) -> str:
    """Return what stands as the key of a request; raise `Refused` when nothing does, or more than one."""
    if len(request.headers.get(b"authorization", ())) > 1:
        raise malformed("", "Send one Authorization header, not several.")
    key = key_text(request)
    if not key:
        raise Refused(
            401,
            "vault_key_invalid",
            "Send a vault key as 'Authorization: Bearer vk_…', or as the user name of Basic authentication.",
            reason="vault_key_missing",
        )
    return key


def key_id(request: Request) -> str:
    """Return the public id of the vault key in a request; empty when there is none."""
    match = _KEY.match(key_text(request))
    return match[1] if match else ""


def masked(text: str) -> str:
    """Return ``text`` without the secrets of vault keys, which some SDKs write into paths."""
    return _ANYWHERE.sub(r"vk_\1_***", text)
