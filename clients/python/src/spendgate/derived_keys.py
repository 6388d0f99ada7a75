"""Derives a key for one run from a vault key, without asking anybody.

A derived key can do what its parent can, and of that only what its caveats
leave. docs/keys.md specifies it; tests/vectors/derived_keys.json has examples.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spendgate.vault_key import SecretText, secret_text

DOMAIN = b"spendgate derived key 1"
"""What is hashed or signed for derived keys begins with this, and nothing else does."""

DEPTH_MAX = 4
"""How often a key may be derived from a derived one, the first included."""

LENGTH_MAX = 2048
"""How many characters a derived key has at most."""

AMOUNT_MAX = 2**53 - 1
TIME_MAX = 253_402_300_799

CAP_WINDOWS = ("call", "run", "total")
"""Windows that caps of derived keys may have; a total is the derived key's whole life."""

_VAULT_KEY = re.compile(r"vk_([a-z2-7]{12})_([a-z2-7]{32})")
_DERIVED_KEY = re.compile(r"vk_([a-z2-7]{12})_d1((?:\.[A-Za-z0-9_-]+)+)\.([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[ -~]{1,128}")
_ENDPOINT = re.compile(
    r"(?:GET|HEAD|POST|PUT|PATCH|DELETE|\*) /(?:(?:[A-Za-z0-9_.~-]+|\{[a-z_]+\}|\*)(?:/(?!$)|$))+"
)
_CURRENCY = re.compile(r"[A-Z]{3}")


class DerivationFailed(ValueError):
    """No key can be derived so; the message says what to do, and never has the key in it."""


@dataclass(frozen=True, slots=True)
class DerivedCap:
    """A limit that a derived key brings with it."""

    window: str
    """``call``, ``run`` or ``total``, which is the derived key's whole life."""
    limit: int
    """Minor units of the currency, or calls."""
    currency: str = ""
    """ISO 4217 code in upper case; empty limits the number of calls."""


def derive_key(
    parent: str | SecretText,
    *,
    run_id: str = "",
    expires_at: int | None = None,
    allow: Iterable[str] = (),
    caps: Iterable[DerivedCap] = (),
    label: str = "",
) -> str:
    """Return a key that may do what ``parent`` may, and of that only what is said here.

    ``run_id`` names the only run it works in. From ``expires_at``, in seconds
    since 1970 UTC, it works no more. ``allow`` are the only endpoints, as a
    policy writes them; ``caps`` limit it beside its parent's. ``label``
    restricts nothing and makes two else equal keys different. What is left out
    stays as with the parent; one thing must be said. The same arguments give
    the same key, so it need not be kept. Raises `DerivationFailed`.
    """
    caveats: dict[str, Any] = {}
    if allow := tuple(allow):
        caveats["allow"] = sorted(set(allow))
    if caps := tuple(caps):
        caveats["caps"] = [_cap(cap) for cap in sorted(caps, key=lambda one: (one.currency, one.window))]
    if expires_at is not None:
        caveats["expires"] = expires_at
    if label:
        caveats["label"] = label
    if run_id:
        caveats["run"] = run_id
    _check(caveats)
    key_id, links, seed = _taken_apart(secret_text(parent))
    if len(links) == DEPTH_MAX:
        raise DerivationFailed(f"this key is derived {DEPTH_MAX} times already; derive from its parent")
    link, seed = _link(key_id, seed, canonical(caveats))
    text = f"vk_{key_id}_d1.{'.'.join([*links, _base64(link)])}.{_base64(seed)}"
    if len(text) > LENGTH_MAX:
        raise DerivationFailed(
            f"the derived key would have more than {LENGTH_MAX} characters; say less in it"
        )
    return text


def derived_key_id(key: str) -> str:
    """Return the public id of a derived key; empty when ``key`` is a vault key or none at all."""
    links = _links_of(key)
    return public_id(links[-1][-96:-64]) if links else ""


def run_of(key: str) -> str:
    """Return the run that a derived key names; empty when it names none. Nothing of it is verified here."""
    for link in _links_of(key):
        try:
            run = json.loads(link[:-96]).get("run")
        except (ValueError, AttributeError, RecursionError):  # nested too deep, by a stranger
            return ""
        if isinstance(run, str) and _NAME.fullmatch(run):
            return run
    return ""


def public_id(public_key: bytes) -> str:
    """Return the id under which logs and the audit trail know a derived key."""
    return b32encode(hashlib.sha256(DOMAIN + b" id" + public_key).digest()[:10]).decode().lower()


def first_seed(secret: str) -> bytes:
    """Return the seed that the first derivation signs with, made of a vault key's secret."""
    return hmac.digest(secret.encode(), DOMAIN + b" root", "sha256")


def canonical(caveats: Mapping[str, Any]) -> bytes:
    """Write caveats in the only way that is accepted."""
    return json.dumps(caveats, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _link(key_id: str, seed: bytes, caveats: bytes) -> tuple[bytes, bytes]:
    """Return one link, signed with ``seed``, and the seed that signs the next one."""
    try:  # here, because nothing else of this package needs it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    except ImportError:
        raise ImportError("to derive keys, install spendgate[keys], which brings cryptography") from None

    next_seed = hmac.digest(seed, DOMAIN + b" next" + caveats, "sha256")
    public_key = Ed25519PrivateKey.from_private_bytes(next_seed).public_key().public_bytes_raw()
    signed = DOMAIN + b" link" + key_id.encode() + public_key + caveats
    return caveats + public_key + Ed25519PrivateKey.from_private_bytes(seed).sign(signed), next_seed


def _taken_apart(parent: str) -> tuple[str, list[str], bytes]:
    whole = _VAULT_KEY.fullmatch(parent)
    if whole:
        return whole[1], [], first_seed(whole[2])
    derived = _DERIVED_KEY.fullmatch(parent)
    if derived is None:
        raise DerivationFailed("the parent is no vault key and none that was derived from one")
    return derived[1], derived[2][1:].split("."), urlsafe_b64decode(derived[3] + "=")


def _links_of(key: str) -> list[bytes]:
    derived = _DERIVED_KEY.fullmatch(key) if len(key) <= LENGTH_MAX else None
    if derived is None:
        return []
    try:
        links = [urlsafe_b64decode(link + "=" * (-len(link) % 4)) for link in derived[2][1:].split(".")]
    except ValueError:
        return []
    return links if all(len(link) > 96 for link in links) else []


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _cap(cap: DerivedCap) -> dict[str, Any]:
    written: dict[str, Any] = {"limit": cap.limit, "window": cap.window}
    return {**written, "currency": cap.currency} if cap.currency else written


def _check(caveats: Mapping[str, Any]) -> None:
    if not caveats:
        raise DerivationFailed("say what the derived key may do less than its parent, or give it a label")
    for name in ("run", "label"):
        if name in caveats and not _NAME.fullmatch(caveats[name]):
            raise DerivationFailed(f"the {name} must have 1 to 128 printable ASCII characters")
    expires = caveats.get("expires")
    if expires is not None and not (type(expires) is int and 0 < expires <= TIME_MAX):
        raise DerivationFailed("expires_at must be whole seconds since 1970 UTC")
    allow = caveats.get("allow", ())
    if len(allow) > 20 or not all(_ENDPOINT.fullmatch(one) and len(one) <= 256 for one in allow):
        raise DerivationFailed("allow must have at most 20 endpoints such as 'POST /v1/charges'")
    _check_caps(caveats.get("caps", ()))


def _check_caps(caps: Iterable[Mapping[str, Any]]) -> None:
    seen = set()
    for cap in caps:
        limit, window, currency = cap["limit"], cap["window"], cap.get("currency")
        if window not in CAP_WINDOWS or (currency is None and window == "call"):
            raise DerivationFailed("a cap's window must be call, run or total, and on calls run or total")
        if currency is not None and not _CURRENCY.fullmatch(currency):
            raise DerivationFailed("a cap's currency must be three upper-case letters such as USD")
        if type(limit) is not int or not (1 if currency is None else 0) <= limit <= AMOUNT_MAX:
            raise DerivationFailed(f"a cap's limit must be a whole number up to {AMOUNT_MAX}")
        if (currency, window) in seen:
            raise DerivationFailed("there are two caps of one currency and window; keep the one you mean")
        seen.add((currency, window))
    if len(seen) > 10:
        raise DerivationFailed("a derived key may have at most 10 caps")
