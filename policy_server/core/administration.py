"""What operators do: make, change and end vault keys; freeze accounts; set budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from policy_server.core import derived_key, vault_key
from policy_server.core.authorizer import DEFAULT_ACCOUNT, Now
from policy_server.core.derived_key import DerivedKey
from policy_server.core.errors import (
    BudgetNotFound,
    FieldInvalid,
    RunNotFrozen,
    VaultKeyIsRevoked,
    VaultKeyNotFound,
    VersionConflict,
)
from policy_server.core.judging import cap_status
from policy_server.core.policy import Cap, Policy, PolicyView, check_caps, check_name
from policy_server.core.ports import AccountRecord, CountedCap, KeyRecord, Ledger, Registry
from policy_server.core.types import CapStatus, FrozenRun, VaultKeyState
from policy_server.core.window import Calendar, Window

_TRIES = 5
"""How often a change is tried when another one came between reading and writing."""


_REVOKED_DERIVED_MAX = 1000
"""How many derived keys of one vault key can be revoked alone."""


@dataclass(frozen=True, slots=True)
class NewVaultKey:
    """A vault key just made, with the secret that is never shown again."""

    key: vault_key.VaultKey
    record: KeyRecord


class Administration:
    """Changes keys, policies, accounts and budgets; each change is recorded with it."""

    def __init__(self, registry: Registry, ledger: Ledger, now: Now) -> None:
        self._registry = registry
        self._ledger = ledger
        self._now = now
        self._calendar = Calendar()

    def state(self, record: KeyRecord) -> VaultKeyState:
        """Tell whether a vault key works now."""
        if record.revoked_at_ms is not None:
            return VaultKeyState.REVOKED
        expires_at_ms = record.policy.expires_at_ms
        if expires_at_ms is not None and self._now() >= expires_at_ms:
            return VaultKeyState.EXPIRED
        return VaultKeyState.ACTIVE

    async def create_key(self, name: str, account: str, policy: Policy) -> NewVaultKey:
        """Make a vault key; raises `NameTaken` when a working key has its name."""
        check_name("name", name)
        account = account or DEFAULT_ACCOUNT
        check_name("account", account)
        await self._check_budgets(account, policy)
        key = vault_key.mint()
        record = KeyRecord(
            key_id=key.key_id,
            account=account,
            name=name,
            secret_hash=key.secret_hash,
            version=1,
            policy=policy,
            created_at_ms=self._now(),
            root_public_key=derived_key.root_public_key(key.secret),
        )
        return NewVaultKey(key, await self._registry.create_key(record))

    async def get_key(self, key_id: str) -> KeyRecord:
        """Return a vault key, or raise `VaultKeyNotFound`."""
        record = await self._registry.key(key_id) if vault_key.is_key_id(key_id) else None
        if record is None:
            raise VaultKeyNotFound(key_id)
        return record

    async def list_keys(self, account: str, offset: int, limit: int) -> list[KeyRecord]:
        """Return vault keys of the account, oldest first."""
        return await self._registry.keys(_account_name(account), offset, limit)

    async def update_policy(self, key_id: str, policy: Policy, expected_version: int) -> KeyRecord:
        """Replace a policy; with an expected version, only that one."""
        for _ in range(_TRIES):
            record = await self.get_key(key_id)
            if record.revoked_at_ms is not None:
                raise VaultKeyIsRevoked(key_id)
            if expected_version and record.version != expected_version:
                raise VersionConflict(record.version)
            await self._check_budgets(record.account, policy)
            try:
                return await self._registry.update_policy(record, policy)
            except VersionConflict:
                continue
        raise VersionConflict(record.version)

    async def revoke_key(self, key_id: str) -> KeyRecord:
        """End a vault key; ending it again changes nothing."""
        for _ in range(_TRIES):
            record = await self.get_key(key_id)
            if record.revoked_at_ms is not None:
                return record
            try:
                return await self._registry.revoke_key(record)
            except VersionConflict:
                continue
        raise VersionConflict(record.version)

    async def revoke_derived_key(self, key_id: str, chain: str) -> KeyRecord:
        """End one derived key and those derived from it; ending it again changes nothing.

        ``chain`` is its public id, also behind those of the keys it was derived from, as in ``a/b/c``.
        """
        derived_key_id = derived_key.last_of_chain(chain)
        if not derived_key_id:
            raise FieldInvalid(
                "derived_key_id",
                "must be the 16 characters of a derived key's public id, or a chain of up to 4 of them "
                "as the audit trail has it, such as a/b/c, whose last is meant",
            )
        for _ in range(_TRIES):
            record = await self.get_key(key_id)
            if record.revoked_at_ms is not None:
                raise VaultKeyIsRevoked(key_id)
            if derived_key_id in record.revoked_derived:
                return record
            if len(record.revoked_derived) >= _REVOKED_DERIVED_MAX:
                raise FieldInvalid(
                    "derived_key_id",
                    f"can't be revoked, as {_REVOKED_DERIVED_MAX} are already; revoke the vault key itself",
                )
            try:
                return await self._registry.revoke_derived_key(record, derived_key_id)
            except VersionConflict:
                continue
        raise VersionConflict(record.version)

    async def usage(
        self, key_id: str, run_id: str, derived_text: str = ""
    ) -> tuple[KeyRecord, list[CapStatus]]:
        """Return a vault key and how full its caps are; those per run only for ``run_id``.

        The caps of a key that was derived from it come first. Where that is for one
        run, it is that one unless ``run_id`` is given.
        """
        record = await self.get_key(key_id)
        derived = _derived_of(record, derived_text) if derived_text else None
        if derived and derived.run_ids:
            run_id = run_id or derived.run_ids[0]
        account = await self._registry.account(record.account)
        now_ms = self._now()
        counted = [
            CountedCap(one, self._calendar.span(one.cap.window, one.cap.time_zone, now_ms))
            for one in (
                *(derived.caps if derived else ()),
                *PolicyView(record.policy, account.budgets).all_caps,
            )
            if one.cap.window is not Window.CALL and (run_id or one.cap.window is not Window.RUN)
        ]
        counts = await self._ledger.counts(record.account, key_id, run_id, counted)
        return record, [cap_status(one, *pair) for one, pair in zip(counted, counts, strict=True)]

    async def get_account(self, account: str) -> AccountRecord:
        """Return an account."""
        return await self._registry.account(_account_name(account))

    async def freeze(self, account: str, reason: str) -> AccountRecord:
        """Refuse every call of the account from the next one on."""
        if not reason or len(reason.encode()) > 256:
            raise FieldInvalid("reason", "must say in 1 to 256 bytes why the account is frozen")
        return await self._change_account(
            account, lambda old: replace(old, freeze_reason=reason), f"froze the account: {reason}"
        )

    async def unfreeze(self, account: str) -> AccountRecord:
        """End a freeze."""
        return await self._change_account(
            account, lambda old: replace(old, freeze_reason=None), "ended the freeze"
        )

    async def frozen_runs(self, account: str, offset: int, limit: int) -> list[FrozenRun]:
        """Return runs of the account that are frozen, the latest first."""
        return await self._ledger.frozen_runs(_account_name(account), offset, limit)

    async def unfreeze_run(self, key_id: str, run_id: str) -> None:
        """Let a frozen run go on; raises `RunNotFrozen` when it is not."""
        record = await self.get_key(key_id)
        if not await self._ledger.unfreeze_run(record.account, key_id, run_id):
            raise RunNotFrozen(key_id, run_id)

    async def set_budget(self, account: str, name: str, caps: Sequence[Cap]) -> AccountRecord:
        """Make or replace a budget."""
        check_name("budget.name", name)
        check_caps(caps)
        if not caps or len(caps) > 50:
            raise FieldInvalid("budget.caps", "must have 1 to 50 caps")
        if any(cap.window is Window.CALL for cap in caps):
            raise FieldInvalid("budget.caps", "can't limit one call; put that cap on the vault key")
        return await self._change_account(
            account,
            lambda old: replace(old, budgets={**old.budgets, name: tuple(caps)}),
            f"set the budget {name}: {', '.join(f'{cap.id} {cap.limit}' for cap in caps)}",
        )

    async def delete_budget(self, account: str, name: str) -> AccountRecord:
        """Remove a budget; keys that name it are refused until it is there again."""

        def without(old: AccountRecord) -> AccountRecord:
            if name not in old.budgets:
                raise BudgetNotFound(name)
            return replace(old, budgets={key: caps for key, caps in old.budgets.items() if key != name})

        return await self._change_account(account, without, f"deleted the budget {name}")

    async def _change_account(
        self, account: str, change: Callable[[AccountRecord], AccountRecord], detail: str
    ) -> AccountRecord:
        for _ in range(_TRIES):
            old = await self._registry.account(_account_name(account))
            try:
                return await self._registry.update_account(old, change(old), detail)
            except VersionConflict:
                continue
        raise VersionConflict(old.version)

    async def _check_budgets(self, account: str, policy: Policy) -> None:
        budgets = (await self._registry.account(account)).budgets
        for name in policy.budgets:
            if name not in budgets:
                raise BudgetNotFound(name)


def _derived_of(record: KeyRecord, text: str) -> DerivedKey:
    derived = derived_key.parse(text)
    if derived is None or derived.key_id != record.key_id or not derived.opens(record.root_public_key):
        raise FieldInvalid("derived_key", "must be a whole key that was derived from this vault key")
    return derived


def _account_name(account: str) -> str:
    name = account or DEFAULT_ACCOUNT
    check_name("account", name)
    return name
