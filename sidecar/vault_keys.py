"""Where the vault key stands in a request, and how it stays out of logs and records."""

from __future__ import annotations

import base64
import binascii
import re

from sidecar.exchange import Request
from sidecar.refusals import Refused, malformed
from sidecar.vendor import Vendor

_SHAPE = re.compile(r"vk_([a-z2-7]{12})_(?:[a-z2-7]{32}|d1\.[A-Za-z0-9_.-]{1,2029})")
_BEGINS = r"(vk_[a-z2-7]{12}_(?=[a-z0-9])|(?<![a-z0-9])[sr]k_(?:live|test|org)_(?=[a-z0-9]{8}))"
"""How every secret key begins that can be told by its looks, in lower case."""
_SECRET = re.compile(_BEGINS)
_WHOLE_SECRET = re.compile(_BEGINS + r"[^/?&:\s]*", re.IGNORECASE)
_ESCAPES = re.compile(r"%(?:25)*([2-7][0-9a-f])", re.IGNORECASE)
"""Printable ASCII that is percent-encoded, however often."""


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


def holds_secret(text: str, own_key: str = "") -> bool:
    """Tell whether ``text`` has a secret key in it, in any case and however often percent-encoded.

    ``own_key`` is the caller's; its secret is found without the rest of it too.
    """
    plain = _unescaped(text).lower()
    return _SECRET.search(plain) is not None or (bool(own_key) and _secret_of(own_key).lower() in plain)


def masked(text: str, own_key: str = "") -> str:
    """Return ``text`` without the secrets of keys, which some SDKs write into paths."""
    shown = _WHOLE_SECRET.sub(r"\1***", text)
    if not holds_secret(shown, own_key):
        return shown
    shown = _WHOLE_SECRET.sub(r"\1***", _unescaped(text))
    return re.sub(re.escape(_secret_of(own_key)), "***", shown, flags=re.IGNORECASE) if own_key else shown


def _secret_of(key: str) -> str:
    """Return the part of a key that must not be shown: a derived key's is after its links, which may."""
    return key.rpartition("." if "." in key else "_")[2] if is_vault_key(key) else key


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda escape: chr(int(escape[1], 16)), text) if "%" in text else text
