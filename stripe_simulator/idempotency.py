"""The answers kept under idempotency keys.

A key belongs to one account, one endpoint and one set of parameters. In v1 the answer is kept once the
endpoint began to execute, whatever it was, and forgotten 24 hours after the first request; in v2 only a
success is kept, for thirty days.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import takewhile

from stripe_simulator.downloads import Download
from stripe_simulator.errors import StripeError
from stripe_simulator.forms import Form

KEPT_SECONDS = 24 * 60 * 60
KEPT_SECONDS_V2 = 30 * 24 * 60 * 60
LONGEST_KEY = 255

_canonical = json.JSONEncoder(sort_keys=True).encode


@dataclass(slots=True)
class Outcome:
    """What a request came to: the status, the body, and the headers that tell about this outcome."""

    status: int
    body: bytes
    headers: dict[str, str]
    object_id: str | None = None
    download: Download | None = None


@dataclass(slots=True)
class KeptAnswer:
    """The first request under a key. Until it has an outcome, that request is still being executed.

    Nearly only POSTs carry keys, so `path` begins with the method when it is another one.
    """

    path: str
    fingerprint: bytes
    created: int
    outcome: Outcome | None = None


def fingerprint(form: Form) -> bytes:
    """Equal for equal parameters, in whatever order they were sent."""
    return hashlib.blake2b(_canonical(form).encode(), digest_size=16).digest()


def check_key(key: str) -> None:
    if len(key) > LONGEST_KEY:
        raise StripeError(
            400, f"Idempotency keys can be at most {LONGEST_KEY} characters long; this one has {len(key)}."
        )


class IdempotencyStore:
    """Kept answers by (account, key)."""

    def __init__(self, kept_seconds: int = KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        # Dictionaries keep insertion order, so the oldest answers are found first.
        self._kept: dict[tuple[str, str], KeptAnswer] = {}

    def claim(self, account: str, key: str, first: KeptAnswer) -> Outcome | None:
        """The outcome to repeat, or None: then the key belongs to `first` until it has one or is released.

        Raises the refusals of a key that is used for something else, or that is being executed.
        """
        self._forget_old(first.created)
        kept = self._kept.get((account, key))
        if kept is None or self._is_old(kept, first.created):
            self._kept[account, key] = first
            return None
        if kept.path != first.path:
            paths = f"'{first.path}' vs '{kept.path}'"
            raise _misused(f"for the same endpoint they were first used for ({paths})", key)
        if kept.fingerprint != first.fingerprint:
            raise _misused("with the same parameters they were first used with", key)
        if kept.outcome is None:
            raise StripeError(
                409,
                "There is currently another in-progress request using this Idempotent Key (that probably "
                f"means you submitted twice, and the other request is still going through): {key}. Please "
                "try again later.",
                type="idempotency_error",
                code="idempotency_key_in_use",
            )
        return kept.outcome

    def release(self, account: str, key: str, first: KeptAnswer) -> None:
        """The request was refused before it executed: its key is free again."""
        if self._kept.get((account, key)) is first:
            del self._kept[account, key]

    def _forget_old(self, now: int) -> None:
        for name in list(takewhile(lambda name: self._is_old(self._kept[name], now), self._kept)):
            del self._kept[name]

    def _is_old(self, kept: KeptAnswer, now: int) -> bool:
        """A key whose request is still being executed stays taken, however long that lasts."""
        return kept.outcome is not None and now - kept.created >= self._kept_seconds


def _misused(rule: str, key: str) -> StripeError:
    return StripeError(
        400,
        f"Keys for idempotent requests can only be used {rule}. Try using a key other than '{key}' if you "
        "meant to execute a different request.",
        type="idempotency_error",
    )
