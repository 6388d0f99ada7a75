"""What is known here of vault keys and accounts, between two looks at the store.

Nothing in it is trusted by itself: the script that decides compares the
versions and the ledger, and a call judged by an old record is judged again.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_server.core.policy import PolicyView
from policy_server.core.ports import AccountRecord, KeyRecord, Registry


@dataclass(frozen=True, slots=True)
class Standing:
    """A vault key with the account it belongs to."""

    key: KeyRecord
    account: AccountRecord
    view: PolicyView

    @property
    def epoch(self) -> str:
        """The ledger in which both were read; empty when they were read in two."""
        return self.key.epoch if self.key.epoch == self.account.epoch else ""


class Directory:
    """Remembers the standing of vault keys."""

    _REMEMBERED = 100_000

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._standings: dict[str, Standing] = {}

    async def standing(self, key_id: str) -> Standing | None:
        """Return what is known of a vault key; None when there is no such key."""
        known = self._standings.get(key_id)
        if known is None:
            known = await self._read(key_id)
            if known is not None:
                if len(self._standings) >= self._REMEMBERED:
                    self._standings.pop(next(iter(self._standings)))
                self._standings[key_id] = known
        return known

    def forget(self, key_id: str) -> None:
        """Read the vault key anew at its next call."""
        self._standings.pop(key_id, None)

    async def account_of(self, key_id: str) -> str | None:
        """Return the account of a vault key, which never changes."""
        standing = await self.standing(key_id)
        return standing.account.account if standing else None

    async def _read(self, key_id: str) -> Standing | None:
        key = await self._registry.key(key_id)
        if key is None:
            return None
        account = await self._registry.account(key.account)
        return Standing(key, account, PolicyView(key.policy, account.budgets))
