"""Every Redis key: its name, its hash tag and what it holds.

All keys of one account share the hash tag ``{account}``, so that they live in
one Redis Cluster slot and one script may touch them together.
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "spendgate:"

UNKNOWN_FROM = 2**52
"""Above every time in ms: where the unknown holds begin among the deadlines."""

ACCOUNTS = f"{PREFIX}accounts"
"""Set: the accounts that have a ledger. Written before it; `RedisAccounts` makes a lost one anew."""

ARCHIVE_LEASE = f"{PREFIX}archive-lease"
"""String: the drainer whose turn it is. It saves work; nothing else rests on it."""

ARCHIVE_PROBLEM = f"{PREFIX}archive-problem"
"""String: why events do not reach the archive."""


def account_of_key(key_id: str) -> str:
    """String: the account of a vault key. It saves a search through all accounts, and nothing else."""
    return f"{PREFIX}key-account:{key_id}"


RECORD_PATTERN = f"{PREFIX}{{*}}:account"
"""What the record of every account looks like, for SCAN. Other keys may look so too."""


def account_of_record(name: str) -> str:
    """Return the account whose record has this name; empty when it is another key."""
    match = re.fullmatch(rf"{PREFIX}{{([^{{}}]+)}}:account", name)
    return match[1] if match else ""


class AccountKeys:
    """The keys of one account."""

    __slots__ = ("_root", "account")

    def __init__(self, account: str) -> None:
        self.account = account
        self._root = f"{PREFIX}{{{account}}}:"

    @property
    def record(self) -> str:
        """Hash: epoch, version, freeze_reason, budgets."""
        return f"{self._root}account"

    @property
    def sequence(self) -> str:
        """String: number and tip of the newest audit event, as ``<number> <tip>``."""
        return f"{self._root}sequence"

    @property
    def audit(self) -> str:
        """Stream: the audit events, entry ``<sequence>-0``."""
        return f"{self._root}audit"

    @property
    def archived(self) -> str:
        """Hash: sequence and hash of the newest audit event that is in the archive for good."""
        return f"{self._root}archived"

    @property
    def rebuild(self) -> str:
        """String: the rebuild that is under way, or was when it broke off."""
        return f"{self._root}rebuild"

    @property
    def absent(self) -> str:
        """Never there. A slot that moves refuses a script that names it, before anything is changed."""
        return f"{self._root}absent"

    def audit_aside(self, rebuild: str) -> str:
        """Stream: audit events of another ledger that a rebuild found in the place of the lost one."""
        return f"{self._root}audit-aside:{rebuild}"

    def named(self, name: str) -> str:
        """Return the key that `policy_server.store.images` calls so."""
        return f"{self._root}{name}"

    @property
    def pattern(self) -> str:
        """What every key of the account looks like, for SCAN."""
        return f"{self._root}*"

    @property
    def deadlines(self) -> str:
        """Sorted set: authorization ids of holds without an outcome.

        Those in time by their deadline in ms; behind them the unknown ones by
        `UNKNOWN_FROM` and when they were taken, in ms.
        """
        return f"{self._root}deadlines"

    @property
    def frozen_runs(self) -> str:
        """Sorted set: ``<key id>:<run>`` by the time in ms at which the run was frozen for the key."""
        return f"{self._root}frozen-runs"

    def refusals(self, key_id: str, run_id: str) -> str:
        """Hash: how often each call was refused in a run; with a frozen run, why it is."""
        return f"{self._root}refusals:{key_id}:{run_id}"

    @property
    def key_ids(self) -> str:
        """Sorted set: key ids by creation time in ms."""
        return f"{self._root}keys"

    @property
    def key_names(self) -> str:
        """Hash: name of each working key to its id."""
        return f"{self._root}key-names"

    def key(self, key_id: str) -> str:
        """Hash: the record of a vault key."""
        return f"{self._root}key:{key_id}"

    def hold(self, authorization_id: str) -> str:
        """Hash: a hold, which is also the memory of its effect."""
        return f"{self.hold_prefix}{authorization_id}"

    @property
    def hold_prefix(self) -> str:
        """What the names of holds begin with."""
        return f"{self._root}hold:"

    def exposure(self, key_id: str, object_id: str) -> str:
        """Hash: what a vault key has counted for one vendor object."""
        return f"{self._root}exposure:{key_id}:{object_id}"

    def counter(self, owner: str, cap_id: str, span: str) -> str:
        """Hash: settled and held of one cap in one span.

        ``owner`` is a key id, or ``budget:<name>``. ``span`` is the start in ms,
        or the run.
        """
        short = cap_id if len(cap_id) <= 64 else hashlib.sha256(cap_id.encode()).hexdigest()[:32]
        return f"{self._root}count:{owner}:{short}:{span}"
