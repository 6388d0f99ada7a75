"""What one agent run is given, so that it can pay."""

from __future__ import annotations

import ssl
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from spendgate import derived_keys
from spendgate.run import DEFAULT_SIDECAR, RUN_HEADER, STEP_HEADER, Run, name, safe_sidecar
from spendgate.vault_key import SecretText, VaultKey, vault_key

_PURPOSE_LENGTH_MAX = 120
"""A step is the kind of the effect and the purpose, and has at most 128 characters."""


class SharedDepsWarning(UserWarning):
    """Two runs use one `VaultDeps` at once: with its run id they are one run, and pay once between them."""


@dataclass(eq=False)
class VaultDeps:
    """The vault key and the name of one agent run. Make one for each run.

    Within a run there is one payment and one refund, however often and in
    whatever words a model asks. Where a run is to make several, name them in
    ``purposes``: there is one of each for every purpose, and the model picks the
    purpose but can't invent one.

    Raises `ValueError` for a raw Stripe key, and for names that can't be used.
    """

    vault_key: str | SecretText = field(repr=False)

    run_id: str = ""
    """Name of the run, 1 to 128 printable ASCII characters. Keep it with the state of a run that can be
    resumed. Left out, it is the one that a derived key is for, or else the framework's own, where that has
    one."""

    purposes: Sequence[str] = ()
    """What the run may pay for, or refund, such as ``("deposit", "balance")``; 1 to 120 characters each."""

    fixed: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters that you set and the model neither sees nor changes, such as ``{"customer": "cus_1"}``."""

    sidecar: str = DEFAULT_SIDECAR
    """Where the sidecar is, without ``/stripe``."""

    verify: ssl.SSLContext | None = field(default=None, repr=False)
    """Whom to trust when the sidecar has TLS and a certificate of your own."""

    _users: dict[object, int] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.vault_key: VaultKey = vault_key(self.vault_key)
        self.sidecar = safe_sidecar(self.sidecar)
        if isinstance(self.purposes, str):
            raise ValueError(f"purposes is a list of names, not {self.purposes!r}")
        self.purposes = tuple(self.purposes)
        for purpose in self.purposes:
            if len(name(purpose, "a purpose")) > _PURPOSE_LENGTH_MAX:
                raise ValueError(f"a purpose must have at most {_PURPOSE_LENGTH_MAX} characters: {purpose!r}")
        self.run_id = self.run_id or derived_keys.run_of(self.vault_key.get_secret_value())
        if self.run_id:
            name(self.run_id, RUN_HEADER)

    def run(self, own_id: str = "", step: str = "") -> Run:
        """Return the run, named by `run_id` or else by ``own_id``; raises `ValueError` without either."""
        run_id = self.run_id or own_id
        if not run_id:
            raise ValueError("name the run: VaultDeps(vault_key, run_id), with another run id for each run")
        return Run(vault_key(self.vault_key), name(run_id, RUN_HEADER), step and name(step, STEP_HEADER))

    @contextmanager
    def used_by(self, user: object) -> Iterator[None]:
        """Take note that a run uses this; warn when another one does so at the same time."""
        with self._lock:
            shared = any(other != user for other in self._users)
            self._users[user] = self._users.get(user, 0) + 1
        if shared:
            warnings.warn(
                f"{self!r} is used by two runs at once: they share one vault key, and "
                + (
                    f"the run id {self.run_id!r}, so that they pay once between them. "
                    if self.run_id
                    else "one can't be told from the other by it. "
                )
                + "Make one VaultDeps for each run.",
                SharedDepsWarning,
                stacklevel=2,
            )
        try:
            yield
        finally:
            with self._lock:
                self._users[user] -= 1
                if not self._users[user]:
                    del self._users[user]
