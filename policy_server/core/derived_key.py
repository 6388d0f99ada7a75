"""Keys that a holder of a vault key derived from it: read, and verified by what is stored of the vault key.

docs/keys.md specifies them. Each link of the chain is signed by the one before,
the first by a key pair made of the vault key's secret, of which only the public
half is stored: whoever reads the store can verify, and can't derive.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policy_server.core.errors import FieldInvalid
from policy_server.core.policy import Cap, EndpointPattern, OwnedCap
from policy_server.core.window import Window

_DOMAIN = b"spendgate derived key 1"
_LENGTH_MAX = 2048
_CAPS_MAX = 10
_ENDPOINTS_MAX = 20
_REMEMBERED = 4096
_TIME_MAX_S = 253_402_300_799

_SHAPE = re.compile(r"vk_([a-z2-7]{12})_d1((?:\.[A-Za-z0-9_-]+){1,4})\.([A-Za-z0-9_-]{43})")
_TEXT = re.compile(r"[ -~]{1,128}")
_CHAIN = re.compile(r"[a-z2-7]{16}(?:/[a-z2-7]{16}){0,3}")
_PUBLIC_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Caveats:
    """What one link takes away; what it does not name stays as it was."""

    allow: tuple[EndpointPattern, ...]
    """The only endpoints; empty leaves all that the parent has."""
    caps: tuple[OwnedCap, ...]
    expires_at_ms: int | None
    run_id: str
    """The only run; empty leaves every run."""


@dataclass(frozen=True, slots=True)
class Link:
    """One derivation."""

    derived_key_id: str
    caveats: Caveats
    signed: bytes
    public_key: bytes
    signature: bytes


@dataclass(eq=False, slots=True)
class DerivedKey:
    """A derived key as it is presented; nothing of it is verified before `opens` says so."""

    key_id: str
    """Public id of the vault key that it comes from."""
    links: tuple[Link, ...]
    _holder: bytes = field(repr=False)
    """Public half of what the holder can sign with; the last link must name it."""
    _opened_by: dict[str, bool] = field(default_factory=dict, repr=False)

    @property
    def derived_key_id(self) -> str:
        """The public id."""
        return self.links[-1].derived_key_id

    @property
    def derived_key_ids(self) -> tuple[str, ...]:
        """The public ids of it and of the derived keys that it comes from."""
        return tuple(link.derived_key_id for link in self.links)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs that its links name; a call must be in each."""
        return tuple(link.caveats.run_id for link in self.links if link.caveats.run_id)

    @property
    def expires_at_ms(self) -> int | None:
        """When the first link expires; None for never."""
        moments = [at for link in self.links if (at := link.caveats.expires_at_ms) is not None]
        return min(moments, default=None)

    @property
    def caps(self) -> tuple[OwnedCap, ...]:
        """The caps of all links."""
        return tuple(cap for link in self.links for cap in link.caveats.caps)

    def allows(self, endpoint: str) -> bool:
        """Tell whether every link allows ``endpoint``."""
        return all(
            not link.caveats.allow or any(pattern.matches(endpoint) for pattern in link.caveats.allow)
            for link in self.links
        )

    @property
    def allow(self) -> tuple[str, ...]:
        """The endpoints of the narrowest link that names some; empty when none does."""
        named = [link.caveats.allow for link in self.links if link.caveats.allow]
        return tuple(pattern.text for pattern in named[-1]) if named else ()

    def opens(self, root_public_key: str) -> bool:
        """Tell whether it was derived from the vault key of which this is stored."""
        known = self._opened_by.get(root_public_key)
        if known is None:
            known = self._opened_by[root_public_key] = self._verified(root_public_key)
        return known

    def _verified(self, root_public_key: str) -> bool:
        signer = bytes.fromhex(root_public_key)
        for link in self.links:
            try:
                Ed25519PublicKey.from_public_bytes(signer).verify(link.signature, link.signed)
            except (InvalidSignature, ValueError):
                return False
            signer = link.public_key
        return hmac.compare_digest(signer, self._holder)


def root_public_key(secret: str) -> str:
    """Return what is stored of a vault key's secret to verify derived keys by."""
    seed = hmac.digest(secret.encode(), _DOMAIN + b" root", "sha256")
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def last_of_chain(text: str) -> str:
    """Return the public id of a derived key; of a chain as in ``a/b/c``, that is the last.

    Empty when ``text`` is neither.
    """
    return text.rpartition("/")[2] if _CHAIN.fullmatch(text) else ""


def parse(text: str) -> DerivedKey | None:
    """Read a derived key; None when it is not exactly what a derivation writes."""
    return _read(text) if "_d1." in text[:20] else None


@lru_cache(maxsize=_REMEMBERED)
def _read(text: str) -> DerivedKey | None:
    match = _SHAPE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    seed = _decoded(match[3]) if match else None
    if match is None or seed is None:
        return None
    links = []
    for part in match[2][1:].split("."):
        link = _link(match[1], _decoded(part))
        if link is None:
            return None
        links.append(link)
    holder = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return DerivedKey(match[1], tuple(links), holder)


def _decoded(text: str) -> bytes | None:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    # One key is written in one way: the bits that are left over are zero.
    return data if urlsafe_b64encode(data).decode().rstrip("=") == text else None


def _link(key_id: str, data: bytes | None) -> Link | None:
    if data is None or len(data) <= _PUBLIC_KEY_BYTES + _SIGNATURE_BYTES:
        return None
    signature = data[-_SIGNATURE_BYTES:]
    public_key = data[-_SIGNATURE_BYTES - _PUBLIC_KEY_BYTES : -_SIGNATURE_BYTES]
    written = data[: -_SIGNATURE_BYTES - _PUBLIC_KEY_BYTES]
    identity = b32encode(hashlib.sha256(_DOMAIN + b" id" + public_key).digest()[:10]).decode().lower()
    caveats = _caveats(written, identity)
    if caveats is None:
        return None
    signed = _DOMAIN + b" link" + key_id.encode() + public_key + written
    return Link(identity, caveats, signed, public_key, signature)


def _caveats(written: bytes, identity: str) -> Caveats | None:
    try:
        stated = json.loads(written)
        if not isinstance(stated, dict) or not stated or _canonical(stated) != written:
            return None
        return _understood(stated, identity)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FieldInvalid):
        return None


def _canonical(stated: Mapping[str, Any]) -> bytes:
    return json.dumps(stated, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _understood(stated: dict[str, Any], identity: str) -> Caveats:
    """Return what is stated; raises when any of it is not understood, so that no caveat is ignored."""
    if not stated.keys() <= {"allow", "caps", "expires", "label", "run"}:
        raise ValueError("there is a caveat that is not known")
    for name in ("label", "run"):
        if name in stated and not _TEXT.fullmatch(stated[name]):
            raise ValueError(f"{name} is malformed")
    return Caveats(
        allow=_patterns(stated["allow"]) if "allow" in stated else (),
        caps=_caps(stated["caps"], identity) if "caps" in stated else (),
        expires_at_ms=_seconds(stated["expires"]) * 1000 if "expires" in stated else None,
        run_id=stated.get("run", ""),
    )


def _patterns(stated: Any) -> tuple[EndpointPattern, ...]:
    if not isinstance(stated, list) or not 1 <= len(stated) <= _ENDPOINTS_MAX:
        raise ValueError("allow is malformed")
    if stated != sorted(set(stated)):
        raise ValueError("allow is not sorted")
    return tuple(EndpointPattern(one) for one in stated)


def _seconds(stated: Any) -> int:
    if type(stated) is not int or not 0 < stated <= _TIME_MAX_S:
        raise ValueError("expires is malformed")
    return stated


def _caps(stated: Any, identity: str) -> tuple[OwnedCap, ...]:
    if not isinstance(stated, list) or not 1 <= len(stated) <= _CAPS_MAX:
        raise ValueError("caps is malformed")
    order = [(one.get("currency", ""), one["window"]) for one in stated]
    if order != sorted(set(order)):
        raise ValueError("caps are not sorted")
    return tuple(_cap(one, identity) for one in stated)


def _cap(stated: dict[str, Any], identity: str) -> OwnedCap:
    limit, window = stated["limit"], Window(stated["window"])
    if type(limit) is not int or not stated.keys() <= {"currency", "limit", "window"}:
        raise ValueError("a cap is malformed")
    if window not in {Window.CALL, Window.RUN, Window.TOTAL} or stated.get("currency") == "":
        raise ValueError("a cap is malformed")
    cap = Cap(limit, window, stated.get("currency", ""))
    return OwnedCap(cap, cap.id, derived_key_id=identity)
