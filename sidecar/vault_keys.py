"""Where the vault key stands in a request, and how it stays out of logs and records."""

from __future__ import annotations

import base64
import binascii
import re

from sidecar.exchange import Request
from sidecar.refusals import Refused, malformed
from sidecar.vendor import Vendor

_SHAPE = re.compile(r"vk_([a-z2-7]{12})_(?:[a-z2-7]{32}|d1\.[A-Za-z0-9_.-]{1,2029})")
_ANYWHERE = re.compile(r"(vk_[a-z2-7]{12}_|[sr]k_(?:live|test)_)[^/?&:\s]*")


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


def is_vault_key(key: str) -> bool:
    """Tell whether ``key`` has the shape of a vault key."""
    return _SHAPE.fullmatch(key) is not None


def presented_key(request: Request, vendor: Vendor) -> str:
    """Return the vault key of a request, or raise `Refused`."""
    if len(request.headers.get(b"authorization", ())) > 1:
        raise malformed("", "Send one Authorization header, not several.")
    key = key_text(request)
    if vendor.owns_key(key):
        raise Refused(
            401,
            "vault_key_invalid",
            f"This is a raw {vendor.name} key. Spendgate takes vault keys (vk_…) only, so that no agent "
            "holds a key that moves money without a cap. Ask the operator for a vault key, and roll this "
            f"{vendor.name} key.",
            reason="raw_vendor_key",
        )
    if key and not is_vault_key(key):
        raise Refused(
            401,
            "vault_key_invalid",
            "This is not a vault key: it must be vk_, the key's id and its secret, as it was printed once.",
            reason="vault_key_malformed",
        )
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
    match = _SHAPE.fullmatch(key_text(request))
    return match[1] if match else ""


def masked(text: str) -> str:
    """Return ``text`` without the secrets of keys, which some SDKs write into paths."""
    return _ANYWHERE.sub(r"\1***", text)
