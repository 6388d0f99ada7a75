"""What keeps the policy server from deciding or changing anything.

    SpendgateError
    ├── FieldInvalid          a field is missing or malformed
    ├── StoreUnavailable      the counter store did not answer in time or not well
    ├── ArchiveUnavailable    the audit archive did not answer in time or not well
    ├── LedgerLost            the store has not the ledger that was counted in, or an older state
    ├── LedgerPresent         the ledger of the account is not lost
    │   └── LedgerRebuilt     another server has rebuilt it
    ├── ArchiveBroken         the archive lacks or has changed what a rebuild needs
    ├── AuditBacklogFull      too many audit events wait for the archive
    ├── NothingLost           the archive has all that was ever archived
    │   └── StillInStore      it lacks some, and the store has them
    ├── VaultKeyNotFound      no vault key has this id
    ├── VaultKeyIsRevoked     a revoked vault key can't be changed
    ├── NameTaken             a working vault key has this name
    ├── VersionConflict       the policy is not the version the caller expected
    ├── BudgetNotFound        the account has no such budget
    ├── RunNotFrozen          the run is not frozen for this vault key
    ├── HoldNotFound          no hold has this authorization id
    └── HoldClosed            the hold was closed with another outcome

A refusal is none of these: it is an answer.
"""

from policy_server.core.vault_key import KEY_ID_LENGTH


class SpendgateError(Exception):
    """Nothing was decided or changed."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class FieldInvalid(SpendgateError):
    """A field is missing or malformed."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}", field=field)


class StoreUnavailable(SpendgateError):
    """The counter store did not answer in time or not well."""


class ArchiveUnavailable(SpendgateError):
    """The audit archive did not answer in time or not well."""


class LedgerLost(SpendgateError):
    """The store has not the ledger that was counted in, or an older state of it."""

    def __init__(self, account: str) -> None:
        super().__init__(
            f"the counters of account {account} were lost or set back; "
            "an operator must restore them with 'spendgate ledger rebuild'",
            account=account,
        )


class LedgerPresent(SpendgateError):
    """The ledger of the account is not lost, so there is nothing to rebuild."""

    def __init__(self, account: str) -> None:
        super().__init__(f"the ledger of account {account} is not lost; it is not rebuilt", account=account)


class LedgerRebuilt(LedgerPresent):
    """Another policy server has rebuilt the ledger; this one has not heard of it from the archive yet."""

    def __init__(self, account: str, epoch: str) -> None:
        SpendgateError.__init__(
            self,
            f"the ledger of account {account} was rebuilt by another policy server, as {epoch}; it is not "
            "rebuilt again. This server goes on with it as soon as the audit archive has the event that says "
            "so: wait a few seconds, and see 'spendgate audit archive' when it takes longer",
            account=account,
        )


class ArchiveBroken(SpendgateError):
    """The archive lacks or has changed what a rebuild needs."""

    def __init__(self, account: str, sequence: int, what: str) -> None:
        super().__init__(
            f"event {sequence} of account {account} in the archive {what}; no ledger can be rebuilt from it. "
            "Restore a backup of the archive",
            account=account,
            sequence=str(sequence),
        )


class AuditBacklogFull(SpendgateError):
    """So many audit events wait for the archive that no more calls are let through."""

    def __init__(self, account: str) -> None:
        super().__init__(
            f"too many audit events of account {account} wait for the archive "
            "(SPENDGATE_AUDIT_BACKLOG_MAX); see why it does not take them",
            account=account,
        )


class NothingLost(SpendgateError):
    """The archive has all that was ever archived."""

    def __init__(self, account: str) -> None:
        super().__init__(f"the archive has all that was ever archived of account {account}", account=account)


class StillInStore(NothingLost):
    """The archive lacks events that had been archived, and the store still has every one of them."""

    def __init__(self, account: str, first: int, last: int) -> None:
        SpendgateError.__init__(
            self,
            f"events {first} to {last} of account {account} are not lost: Redis still has them, and the "
            "drainer archives them again by itself within a minute; see 'spendgate audit archive'",
            account=account,
        )


class VaultKeyNotFound(SpendgateError):
    """No vault key has this id."""

    def __init__(self, vault_key_id: str) -> None:
        # What is longer than an id may be the whole key, with its secret.
        shown = vault_key_id if len(vault_key_id) <= KEY_ID_LENGTH else "…"
        super().__init__(
            f"no vault key has the id {shown!r}; it is the {KEY_ID_LENGTH} characters after vk_ in the key",
            vaultKeyId=shown,
        )


class VaultKeyIsRevoked(SpendgateError):
    """A revoked vault key can't be changed."""

    def __init__(self, vault_key_id: str) -> None:
        super().__init__(f"vault key {vault_key_id} is revoked; create a new one", vaultKeyId=vault_key_id)


class NameTaken(SpendgateError):
    """A working vault key has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a working vault key is already named {name!r}; revoke it or choose another", name=name
        )


class VersionConflict(SpendgateError):
    """The policy is not the version the caller expected."""

    def __init__(self, present: int) -> None:
        super().__init__(
            f"the record is at version {present} now; read it again and decide anew", present=str(present)
        )


class BudgetNotFound(SpendgateError):
    """The account has no such budget."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the account has no budget named {name!r}", name=name)


class RunNotFrozen(SpendgateError):
    """The run is not frozen for this vault key."""

    def __init__(self, vault_key_id: str, run_id: str) -> None:
        super().__init__(
            f"the run {run_id!r} is not frozen for the vault key {vault_key_id}",
            vaultKeyId=vault_key_id,
            runId=run_id,
        )


class HoldNotFound(SpendgateError):
    """No hold has this authorization id."""

    def __init__(self, authorization_id: str) -> None:
        super().__init__(
            f"no hold has the authorization id {authorization_id!r}", authorizationId=authorization_id
        )


class HoldClosed(SpendgateError):
    """The hold was closed with another outcome, or a later attempt or repeat took its place."""

    def __init__(self, authorization_id: str, state: str) -> None:
        super().__init__(
            f"the hold of {authorization_id} can't be settled so: it is {state}",
            authorizationId=authorization_id,
            state=state,
        )
