"""Which run and step a request is for, by its headers, its idempotency key or its vault key."""

from __future__ import annotations

import re
from typing import NamedTuple

from sidecar import refusals
from sidecar.exchange import Request
from sidecar.vault_keys import holds_secret
from spendgate import derived_keys

NAME_BYTES_MAX = 128
_RUN_HEADERS = (b"spendgate-run-id", b"x-run-id")
_STEP_HEADER = b"spendgate-step"
_LEADING_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class RunName(NamedTuple):
    """Where a call belongs; each is empty when nothing says it."""

    run_id: str
    step: str


def said(request: Request) -> str:
    """Return what a header says of the run, unchecked."""
    return next(filter(None, map(request.header, _RUN_HEADERS)), "")


def read(request: Request, vault_key: str, given_key: str = "", header_key: str = "") -> RunName:
    """Return run and step of a request; what names no run is of the one that its key was derived for.

    Raises `Refused` for names that can't be used, of which the idempotency keys
    are two: the one among the parameters, and the one in the header.
    """
    for name in (*_RUN_HEADERS, _STEP_HEADER):
        if len(request.headers.get(name, ())) > 1:
            raise refusals.malformed("", f"Send one {name.decode()} header, not several.")
    run_id = said(request)
    step = request.header(_STEP_HEADER)
    if not run_id:
        leading = _LEADING_UUID.match(given_key)
        run_id = leading[0] if leading else derived_keys.run_of(vault_key)
    for header, value in (("Spendgate-Run-Id", run_id), ("Spendgate-Step", step)):
        if len(value) > NAME_BYTES_MAX or not value.isascii() or not (value.isprintable()):
            raise refusals.malformed(
                "", f"{header} must have at most {NAME_BYTES_MAX} printable ASCII characters."
            )
    if holds_secret("\n".join((run_id, step, given_key, header_key)), vault_key):
        raise refusals.malformed(
            "", "A run, a step or an idempotency key has a secret key in it, and names go on record."
        )
    if step and not run_id:
        raise refusals.malformed("", "Spendgate-Step names a step of a run; send Spendgate-Run-Id too.")
    return RunName(run_id, step)
