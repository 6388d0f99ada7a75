"""Vault keys and accounts in Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from policy_server.core.continuity import Continuity
from policy_server.core.errors import NameTaken, VersionConflict
from policy_server.core.policy import Policy, cap_from_dict
from policy_server.core.ports import AccountRecord, KeyRecord
from policy_server.store.accounts import RedisAccounts
from policy_server.store.exchange import ask, time_ms
from policy_server.store.keys import AccountKeys, account_of_key
from policy_server.store.scripts import Run, Scripts


class RedisRegistry:
    """Keeps vault keys and accounts in Redis."""

    def __init__(
        self,
        scripts: Scripts,
        continuity: Continuity,
        accounts: RedisAccounts,
        *,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """``clock`` replaces the store's own clock, for tests."""
        self._scripts = scripts
        self._client = scripts.client
        self._continuity = continuity
        self._accounts = accounts
        self._clock = clock

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return a vault key."""
        (account,) = await ask(self._client, [("GET", account_of_key(key_id))])
        if account is not None:
            epoch, (fields,) = await self._scripts.read(account, [AccountKeys(account).key(key_id)])
            if fields:
                return _key_record(key_id, account, fields, epoch)
        return await self._search(key_id)

    async def _search(self, key_id: str) -> KeyRecord | None:
        """Return a vault key of which nothing tells the account any more."""
        accounts = await self._accounts.names()
        found = await ask(self._client, [("EXISTS", AccountKeys(one).key(key_id)) for one in accounts])
        for account, is_there in zip(accounts, found, strict=True):
            if is_there:
                await ask(self._client, [("SET", account_of_key(key_id), account)])
                epoch, (fields,) = await self._scripts.read(account, [AccountKeys(account).key(key_id)])
                if fields:
                    return _key_record(key_id, account, fields, epoch)
        # It may be unknown because it was lost, or because its account is.
        await self._continuity.check_all()
        await self._accounts.check_whole()
        return None

    async def account(self, account: str) -> AccountRecord:
        """Return an account, also one that nothing was ever set for."""
        epoch, (fields,) = await self._scripts.read(account, [AccountKeys(account).record])
        budgets = json.loads(fields.get("budgets", "{}"))
        return AccountRecord(
            account=account,
            version=int(fields.get("version", 0)),
            budgets={name: tuple(cap_from_dict(cap) for cap in caps) for name, caps in budgets.items()},
            freeze_reason=fields.get("freeze_reason"),
            epoch=epoch,
        )

    async def keys(self, account: str, offset: int, limit: int) -> list[KeyRecord]:
        """Return vault keys of the account, oldest first."""
        names = AccountKeys(account)
        (key_ids,) = await ask(self._client, [("ZRANGE", names.key_ids, offset, offset + limit - 1)])
        epoch, found = await self._scripts.read(account, [names.key(key_id) for key_id in key_ids])
        return [
            _key_record(key_id, account, fields, epoch) for key_id, fields in zip(key_ids, found, strict=True)
        ]

    async def accounts(self) -> list[str]:
        """Return the accounts that have a ledger, in order."""
        return await self._accounts.names()

    async def create_key(self, record: KeyRecord) -> KeyRecord:
        """Keep a new key; `NameTaken` when a working key has its name."""
        # First: left behind by a crash, it points nowhere.
        await ask(self._client, [("SET", account_of_key(record.key_id), record.account)])
        changed = {
            "name": record.name,
            "secret_hash": record.secret_hash,
            "policy": record.policy.to_json(),
            "created_at": str(record.created_at_ms),
            "root_public_key": record.root_public_key,
        }
        detail = f"created the vault key {record.name} with {_summary(record.policy)}"
        version = await self._change_key(record, 0, changed, detail, working=True)
        return replace(record, version=version)

    async def update_policy(self, record: KeyRecord, policy: Policy) -> KeyRecord:
        """Replace the policy of ``record``; `VersionConflict` when it has moved on."""
        detail = f"changed the policy of {record.name} to {_summary(policy)}"
        version = await self._change_key(
            record, record.version, {"policy": policy.to_json()}, detail, working=True
        )
        return replace(record, version=version, policy=policy)

    async def revoke_key(self, record: KeyRecord) -> KeyRecord:
        """End a key; `VersionConflict` when it has moved on."""
        revoked_at_ms = await self._now(AccountKeys(record.account).record)
        version = await self._change_key(
            record,
            record.version,
            {"revoked_at": str(revoked_at_ms)},
            f"revoked the vault key {record.name}",
            working=False,
        )
        return replace(record, version=version, revoked_at_ms=revoked_at_ms)

    async def revoke_derived_key(self, record: KeyRecord, derived_key_id: str) -> KeyRecord:
        """End one derived key of ``record``; `VersionConflict` when it has moved on."""
        revoked = (*record.revoked_derived, derived_key_id)
        version = await self._change_key(
            record,
            record.version,
            {"revoked_derived": json.dumps(revoked)},
            f"revoked the key {derived_key_id} that was derived from {record.name}",
            working=True,
        )
        return replace(record, version=version, revoked_derived=revoked)

    async def update_account(self, old: AccountRecord, new: AccountRecord, detail: str) -> AccountRecord:
        """Replace ``old`` by ``new``; `VersionConflict` when it has moved on."""
        changed = {
            "budgets": json.dumps({name: [asdict(cap) for cap in caps] for name, caps in new.budgets.items()})
        }
        unset = []
        if new.freeze_reason is None:
            unset.append("freeze_reason")
        else:
            changed["freeze_reason"] = new.freeze_reason
        version = await self._administer(
            old.account,
            AccountKeys(old.account).record,
            {
                "expected": old.version,
                **_read_in(old.epoch),
                "set": _flat(changed),
                "unset": unset,
            },
            {"detail": detail},
        )
        return replace(new, version=version)

    async def _change_key(
        self, record: KeyRecord, expected: int, changed: Mapping[str, str], detail: str, *, working: bool
    ) -> int:
        change = {
            "expected": expected,
            **_read_in(record.epoch),
            "set": _flat(changed),
            "unset": [],
            "key_id": record.key_id,
            "name": record.name,
            "working": working,
        }
        facts = {"vault_key_id": record.key_id, "detail": detail}
        target = AccountKeys(record.account).key(record.key_id)
        return await self._administer(record.account, target, change, facts)

    async def _administer(
        self, account: str, target: str, change: dict[str, Any], facts: dict[str, str]
    ) -> int:
        names = AccountKeys(account)
        run = Run(account, [target, names.key_ids, names.key_names], [json.dumps(change), json.dumps(facts)])
        status, _, version = await self._scripts.run_one("administer", run)
        if status == "conflict":
            raise VersionConflict(int(version))
        if status == "name_taken":
            raise NameTaken(change["name"])
        return int(version)

    async def _now(self, key: str) -> int:
        if self._clock:
            return self._clock()
        return await time_ms(self._client, key)


def _key_record(key_id: str, account: str, fields: Mapping[str, str], epoch: str) -> KeyRecord:
    revoked_at = fields.get("revoked_at")
    return KeyRecord(
        key_id=key_id,
        account=account,
        name=fields["name"],
        secret_hash=fields["secret_hash"],
        version=int(fields["version"]),
        policy=Policy.from_json(fields["policy"]),
        created_at_ms=int(fields["created_at"]),
        revoked_at_ms=int(revoked_at) if revoked_at else None,
        root_public_key=fields.get("root_public_key", ""),
        revoked_derived=tuple(json.loads(fields.get("revoked_derived", "[]"))),
        epoch=epoch,
    )


def _read_in(epoch: str) -> dict[str, str]:
    return {"epoch": epoch} if epoch else {}


def _flat(fields: Mapping[str, str]) -> Sequence[str]:
    return [part for pair in fields.items() for part in pair]


def _summary(policy: Policy) -> str:
    caps = ", ".join(f"{cap.id} {cap.limit}" for cap in policy.caps) or "no caps"
    return f"{', '.join(policy.allow)}; {caps}"
