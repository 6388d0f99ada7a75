"""How an intended change at the vendor gets its name.

One name serves retry, hold, audit and the vendor's idempotency key. It is made
here and nowhere else, from what the caller gives and never from what a model
invents on each try.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from policy_server.core.errors import FieldInvalid
from policy_server.core.types import SpendCall

_NOT_IN_HEADERS = re.compile(r"[^!-~]")

_READABLE_MAX = 160
"""Leaves room for authorization id and attempt in the 255 characters that Stripe accepts."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The name of one intended change within a vault key."""

    name: str
    """Readable, as people search for it in the audit trail."""

    authorization_id: str
    """``az_<key id>_<digest>``: the same for every repeat, so it needs no index."""


def is_read(endpoint: str) -> bool:
    """Tell whether the endpoint changes nothing, so that it has no effect to name."""
    return endpoint.startswith(("GET ", "HEAD "))


def fingerprint_of(call: SpendCall) -> str:
    """Return the given fingerprint, or one over what the call does say."""
    if call.fingerprint:
        return call.fingerprint
    amount = f"{call.amount.minor_units} {call.amount.currency}" if call.amount else ""
    parts = [call.endpoint, amount, call.object_id]
    if call.vendor_account or call.refunded_object_id:
        parts += [call.vendor_account, call.refunded_object_id]
    return _digest(*parts)


def name_effect(call: SpendCall, vault_key_id: str, *, by_parameters: bool) -> Effect:
    """Name the effect of ``call``, which changes something.

    In this order: the idempotency key; run and step; run and endpoint for calls
    that move money, unless ``by_parameters``; run, endpoint and fingerprint.
    It names itself so, or by its run.
    """
    if call.idempotency_key:
        kind, name = "key", call.idempotency_key
    elif call.step:
        kind, name = "step", f"{call.run_id}:{call.step}"
    elif call.spends and not by_parameters:
        kind, name = "endpoint", f"{call.run_id}:{call.endpoint}"
    else:
        kind, name = "parameters", f"{call.run_id}:{call.endpoint}:{fingerprint_of(call)[:16]}"
    # A run and a step are hashed apart, so that no choice of names collides.
    parts = (call.run_id, call.step) if kind == "step" else (name,)
    return Effect(name, f"az_{vault_key_id}_{_digest(vault_key_id, kind, *parts)}")


def same_call(call: SpendCall, *, by_parameters: bool) -> str:
    """Return what makes two refused calls of one run the same.

    Endpoint and parameters; for calls that move money and name no effect of
    their own the endpoint alone, because within the run they are one effect.
    """
    one_effect = call.spends and not (call.idempotency_key or call.step or by_parameters)
    return call.endpoint if one_effect else f"{call.endpoint} {fingerprint_of(call)}"


def upstream_key(effect: Effect, attempt: int) -> str:
    """Return the vendor's Idempotency-Key: readable, unique for key, effect and attempt."""
    readable = _NOT_IN_HEADERS.sub("-", effect.name[:_READABLE_MAX])
    return f"{readable}~{effect.authorization_id}~{attempt}"


def vault_key_id_of(authorization_id: str) -> str:
    """Return the vault key id inside an authorization id, or raise `FieldInvalid`."""
    parts = authorization_id.split("_")
    if len(parts) != 3 or parts[0] != "az" or not parts[1] or not parts[2]:
        raise FieldInvalid("authorization_id", "must be one that Authorize returned")
    return parts[1]


def _digest(*parts: str) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        hashed.update(b"%d:" % len(encoded))
        hashed.update(encoded)
    return hashed.hexdigest()[:32]
