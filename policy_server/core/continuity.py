"""Whether the ledger in the store is the one that was counted in, with all that was counted.

Each account's ledger has an epoch, a name that is made with it: a number, then
random letters. A rebuilt ledger has a new one with a higher number. Each event has
a number and a tip, random letters too. The server sends the epoch, and the newest
event that it knows of, with everything it wants done; a store that has another
ledger, or one without that event, refuses. What the server knows comes from the
archive and from answers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy_server.core.errors import ArchiveUnavailable, LedgerLost, StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead

OTHERS_LOOK_S = 2.5
"""How long decisions wait when another store answers, so that every server has looked what it lacks."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """A ledger, and how far it has come."""

    epoch: str
    """Empty when there is none."""
    sequence: int
    """Number of the newest audit event."""
    tip: str = ""
    """Which of all possible events of that number it is; empty when that is not known."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the store has in the place of a ledger that is known."""

    present: Mark
    goes_on: bool | None
    """Whether it goes on from what is known; None when that is so long ago that the store can't tell."""


def new_epoch(generation: int = 1) -> str:
    """Return a name for a new ledger; one that takes the place of another has a higher number."""
    return f"{generation}-{secrets.token_hex(5)}"


def is_other_ledger(epoch: str, than: str) -> bool:
    """Tell whether a ledger neither is ``than`` nor comes before or after it."""
    return epoch != than and generation_of(epoch) == generation_of(than)


def is_rebuilt(known: Mark, present: Mark) -> bool:
    """Tell whether what is present has taken the place of what is known: somebody else has rebuilt it."""
    return generation_of(present.epoch) > generation_of(known.epoch)


def generation_of(epoch: str) -> int:
    """Return the number in the name of a ledger; 0 for none."""
    return int(epoch.partition("-")[0] or 0)


def _is_later(told: Mark, known: Mark) -> bool:
    """Tell whether a ledger has taken the place of the known one, or has come further."""
    return is_rebuilt(known, told) or (told.epoch == known.epoch and told.sequence > known.sequence)


class Trails(Protocol):
    """The part of the archive that tells how far it has come; raises `ArchiveUnavailable`."""

    async def heads(self) -> Mapping[str, ArchiveHead]:
        """Return the newest archived event of each account."""

    async def read(self, account: str, after: int, limit: int) -> list[ArchivedEvent]:
        """Return events above sequence ``after``, oldest first."""


class Marks(Protocol):
    """The part of the store that tells which ledgers it has; raises `StoreUnavailable`."""

    async def begin(self, account: str, epoch: str) -> str:
        """Give an account without a ledger one of this name; return the name of the one it has.

        That is empty where the account had one before, and it is lost, or is rebuilt.
        """

    async def look(self, known: Sequence[tuple[str, Mark]]) -> list[Found]:
        """Return what there is in the place of each ledger; one that lacks something is closed to all."""


class Continuity:
    """What is known of each account's ledger, and whether the store still has it."""

    def __init__(
        self, trails: Trails, marks: Marks, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock_s`` tells seconds, from any moment on."""
        self._trails = trails
        self._marks = marks
        self._clock_s = clock_s
        self._known: dict[str, Mark] = {}
        self._archived: dict[str, Mark] = {}
        self._lost: dict[str, Mark] = {}
        self._consulted = False
        self._consulting = asyncio.Lock()
        self._decides_from_s = clock_s()
        self.stores_seen = 1
        """How many stores have answered, one after the other."""

    async def known(self, account: str) -> Mark:
        """Return what is known of the ledger of an account; one that was never heard of gets one.

        Raises `ArchiveUnavailable` while the archive could not be asked about it,
        `StoreUnavailable` while others may know more of it, and `LedgerLost`.
        """
        if self._clock_s() < self._decides_from_s:
            await self._refuse_while_others_look(account)
        if not self._consulted:
            await self._consult()
        known = self._known.get(account)
        if known is None or not known.epoch:
            epoch = await self._marks.begin(account, new_epoch())
            if not epoch:
                raise LedgerLost(account)
            begun = Mark(epoch, known.sequence if known else 0)
            if self._known.get(account) == known:  # or another call was quicker
                self._known[account] = begun
            known = self._known[account]
        return known

    async def _refuse_while_others_look(self, account: str) -> None:
        if known := self._known.get(account):
            (found,) = await self._marks.look([(account, known)])
            if found.goes_on is False:
                raise LedgerLost(account)
        raise StoreUnavailable(
            "another Redis answers than before; nothing is decided until every policy server has had time "
            "to look whether it lacks anything"
        )

    def store_changed(self) -> None:
        """Trust the store no more than at the start: it may have taken the place of one that had more."""
        log.warning("another Redis answers than before; decisions wait for %s s", OTHERS_LOOK_S)
        self.stores_seen += 1
        self._consulted = False
        self._decides_from_s = self._clock_s() + OTHERS_LOOK_S

    def saw(self, account: str, mark: Mark) -> None:
        """Remember how far the ledger had come when the store answered."""
        known = self._known[account]
        if mark.sequence > known.sequence and mark.epoch == known.epoch:
            self._known[account] = mark

    def adopt(self, account: str, mark: Mark) -> None:
        """Know of a ledger that has taken the place of another, unless a later one is known."""
        known = self._known.get(account)
        if known is None or _is_later(mark, known):
            self._known[account] = mark

    async def expected(self, account: str) -> Mark | None:
        """Return what must at least be there of an account's ledger; None when nobody has heard of it.

        Ask for it before the store is read: what is known may grow meanwhile.
        """
        if account not in self._known:
            await self._consult()
        return self._known.get(account)

    async def check_all(self) -> None:
        """Raise `LedgerLost` when the store lacks any ledger that is known."""
        if not self._consulted:
            await self._consult()
        await self._look()
        for account in self._lost:
            raise LedgerLost(account)

    async def watch(self) -> None:
        """Learn how far store and archive have come, look whether any ledger is lost, and say what changed.

        A server that nobody asks knows of what others count by this alone. Of a lost
        ledger the archive may tell that another server has rebuilt it.
        """
        await self._look()
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

    async def overview(self) -> Mapping[str, tuple[Mark, Found, int]]:
        """Return of each account what is known, what the store has, and how far the archive has come."""
        heads = await self._consult()
        known = sorted(self._known.items())
        return {
            account: (mark, found, heads[account].sequence if account in heads else 0)
            for (account, mark), found in zip(known, await self._marks.look(known), strict=True)
        }

    async def _consult(self) -> Mapping[str, ArchiveHead]:
        async with self._consulting:
            try:
                heads = await self._trails.heads()
            except ArchiveUnavailable as error:
                raise ArchiveUnavailable(
                    "nothing is decided before the audit archive has told which ledgers there were: "
                    f"{error.message}"
                ) from None
            self._archived = {
                account: Mark(head.epoch, head.sequence, head.tip) for account, head in heads.items()
            }
            for account, told in self._archived.items():
                known = self._known.get(account)
                if known is None or (
                    _is_later(told, known) and await self._comes_after(account, known, told)
                ):
                    self.adopt(account, told)
            self._consulted = True
            return heads

    async def _look(self) -> None:
        expected = list(self._known.items())  # before the store is read: what is known may grow meanwhile
        for (account, known), found in zip(expected, await self._marks.look(expected), strict=True):
            if found.goes_on or (found.goes_on is None and await self._is_archived(account, known)):
                self.saw(account, found.present)
                if self._lost.pop(account, None):
                    log.warning("the ledger of account %s is there again", account)
            elif account not in self._lost:
                self._lost[account] = found.present
                log.error("%s", _what_is_wrong(account, known, found.present))
        await self._compare_with_archive()

    async def _comes_after(self, account: str, known: Mark, told: Mark) -> bool:
        """Tell whether what the archive has of a ledger goes on from what is known, and not in its place."""
        if told.epoch != known.epoch or not known.tip:
            return True
        return await self._tip_in_archive(account, known.sequence) in {None, known.tip}

    async def _tip_in_archive(self, account: str, sequence: int) -> str | None:
        """Return the tip of an archived event; None when there is none of that number."""
        events = await self._trails.read(account, sequence - 1, 1)
        there = [event for event in events if event.sequence == sequence]
        return there[0].fields.get("tip", "") if there else None

    async def _is_archived(self, account: str, known: Mark) -> bool:
        """Tell whether the archive has the very event that is known, and the store has the archive's end."""
        if await self._tip_in_archive(account, known.sequence) != known.tip:
            return False
        end = self._archived.get(account)
        return end is not None and (await self._marks.look([(account, end)]))[0].goes_on is True

    async def _compare_with_archive(self) -> None:
        """Know of what the archive has where the store has something else in its place."""
        behind = [
            (account, told)
            for account, told in self._archived.items()
            if account not in self._lost and told.epoch == self._known[account].epoch != ""
        ]
        for (account, told), found in zip(behind, await self._marks.look(behind), strict=True):
            if found.goes_on is False and found.present.epoch == told.epoch:
                self._known[account] = self._lost[account] = told
                log.error("%s", _what_is_wrong(account, told, found.present))


def _what_is_wrong(account: str, known: Mark, present: Mark) -> str:
    if is_rebuilt(known, present):
        return (
            f"the ledger of account {account} was rebuilt elsewhere, as {present.epoch}: its calls are "
            "refused here until the audit archive tells of that"
        )
    found = (
        "it is gone"
        if not present.epoch
        else f"there is another one, {present.epoch} instead of {known.epoch}"
        if present.epoch != known.epoch
        else "there is an older state of it"
        if present.sequence < known.sequence
        else f"event {known.sequence} in it is not the one that was written"
    )
    return (
        f"the ledger of account {account} is lost: {found}, at event {present.sequence} "
        f"where {known.sequence} is known. Its calls are refused until 'spendgate ledger rebuild'"
    )
