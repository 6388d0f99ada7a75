"""Whether the ledger in the store is the one that was counted in, and no older state of it.

Each account's ledger has an epoch, a name that is made with it: a number, then
random letters. A rebuilt ledger has a new one with the next number. The server
sends the epoch, and the highest number of an audit event that it knows of, with
everything it wants done; a store that has another ledger, or an older state,
refuses. What the server knows comes from the archive and from answers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy_server.core.errors import ArchiveUnavailable, LedgerLost
from policy_server.core.ports import ArchiveHead

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """A ledger, and how far it has come."""

    epoch: str
    """Empty when there is none."""
    sequence: int
    """Number of the newest audit event."""


def new_epoch(after: str = "") -> str:
    """Return the name of a new ledger, or of the one that takes the place of ``after``."""
    return f"{_generation(after) + 1}-{secrets.token_hex(5)}"


def is_other_ledger(epoch: str, than: str) -> bool:
    """Tell whether a ledger neither is ``than`` nor comes before or after it."""
    return epoch != than and _generation(epoch) == _generation(than)


def continues(known: Mark, present: Mark) -> bool:
    """Tell whether what is present goes on from what is known."""
    return known.epoch in {"", present.epoch} and known.sequence <= present.sequence


def _is_later(told: Mark, known: Mark) -> bool:
    """Tell whether a ledger has taken the place of the known one, or has come further."""
    later = _generation(told.epoch) > _generation(known.epoch)
    return later or (told.epoch == known.epoch and told.sequence > known.sequence)


def _generation(epoch: str) -> int:
    return int(epoch.partition("-")[0] or 0)


class Heads(Protocol):
    """The part of the archive that tells how far it has come."""

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest archived event of each account; raises `ArchiveUnavailable`."""


class Marks(Protocol):
    """The part of the store that tells which ledgers it has; raises `StoreUnavailable`."""

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has."""

    async def marks(self, accounts: Sequence[str]) -> list[Mark]:
        """Return how far the ledger of each account has come."""


class Continuity:
    """What is known of each account's ledger, and whether the store still has it."""

    def __init__(self, heads: Heads, marks: Marks) -> None:
        self._heads = heads
        self._marks = marks
        self._known: dict[str, Mark] = {}
        self._lost: dict[str, Mark] = {}
        self._consulted = False
        self._consulting = asyncio.Lock()

    async def known(self, account: str) -> Mark:
        """Return what is known of the ledger of an account; one that was never heard of gets one.

        Raises `ArchiveUnavailable` while the archive could not be asked about it.
        """
        known = await self.expected(account)
        if known is None or not known.epoch:
            epoch = await self._marks.begin(account, new_epoch())
            begun = Mark(epoch, known.sequence if known else 0)
            if self._known.get(account) == known:  # or another call was quicker
                self._known[account] = begun
            known = self._known[account]
        return known

    async def _heard_of(self, account: str) -> Mark | None:
        await self._consult()
        return self._known.get(account)

    def saw(self, account: str, epoch: str, sequence: int) -> None:
        """Remember how far the ledger had come when the store answered."""
        known = self._known[account]
        if sequence > known.sequence and epoch == known.epoch:
            self._known[account] = Mark(epoch, sequence)

    def adopt(self, account: str, mark: Mark) -> None:
        """Know of a ledger that has taken the place of another."""
        self._known[account] = mark

    async def expected(self, account: str) -> Mark | None:
        """Return what must at least be there of an account's ledger; None when nobody has heard of it.

        Ask for it before the store is read: what is known may grow meanwhile.
        """
        return self._known.get(account) or await self._heard_of(account)

    async def check_all(self) -> None:
        """Raise `LedgerLost` when the store lacks any ledger that is known."""
        if not self._consulted:
            await self._consult()
        await self._look()
        for account in self._lost:
            raise LedgerLost(account)

    async def watch(self) -> None:
        """Look whether the store has every known ledger, and say what changed.

        Of lost ones, and while the archive has never answered, the archive is
        asked again: another server may have rebuilt them.
        """
        if not self._consulted:
            await self._consult()
        await self._look()
        if self._lost:
            await self._consult()
            await self._look()

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts whose ledgers are known."""
        return frozenset(self._known)

    @property
    def is_usable(self) -> bool:
        """Whether any call can be decided, as far as the last look told."""
        return self._consulted and (not self._known or len(self._lost) < len(self._known))

    async def overview(self) -> Mapping[str, tuple[Mark, Mark, int]]:
        """Return of each account what is known, what the store has, and how far the archive has come."""
        heads = await self._consult()
        known = dict(sorted(self._known.items()))
        present = await self._marks.marks(list(known))
        return {
            account: (known[account], mark, heads[account].sequence if account in heads else 0)
            for account, mark in zip(known, present, strict=True)
        }

    async def _consult(self) -> Mapping[str, ArchiveHead]:
        async with self._consulting:
            try:
                heads = await self._heads.heads()
            except ArchiveUnavailable as error:
                raise ArchiveUnavailable(
                    "nothing is decided before the audit archive has told which ledgers there were: "
                    f"{error.message}"
                ) from None
            for account, head in heads.items():
                known, told = self._known.get(account), Mark(head.epoch, head.sequence)
                if known is None or _is_later(told, known):
                    self._known[account] = told
            self._consulted = True
            return heads

    async def _look(self) -> None:
        expected = dict(self._known)  # before the store is read: what is known may grow meanwhile
        for account, present in zip(expected, await self._marks.marks(list(expected)), strict=True):
            known = expected[account]
            if continues(known, present):
                if self._lost.pop(account, None):
                    log.warning("the ledger of account %s is there again", account)
            elif account not in self._lost:
                self._lost[account] = present
                log.error("%s", _what_is_wrong(account, known, present))


def _what_is_wrong(account: str, known: Mark, present: Mark) -> str:
    found = (
        "it is gone"
        if not present.epoch
        else f"there is another one, {present.epoch} instead of {known.epoch}"
        if present.epoch != known.epoch
        else "there is an older state of it"
    )
    return (
        f"the ledger of account {account} is lost: {found}, at event {present.sequence} "
        f"where {known.sequence} is known. Its calls are refused until 'spendgate ledger rebuild'"
    )
