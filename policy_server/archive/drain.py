"""Moves audit events from the store into the archive, exactly once each.

One step for one account: look at the end of the archive's chain; read the events
after it; append them in one transaction that fails if the end has moved; note in
the store how far the archive is; let the store go of what is older. Whatever is
cut off between two of these, the next look finds where to go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from policy_server.archive.chain import body_of, genesis, link
from policy_server.archive.writer import ArchiveWriter, Entry, HeadMoved, Tip
from policy_server.core.errors import SpendgateError
from policy_server.core.ports import ArchiveHead, Backlog, Waiting

log = logging.getLogger(__name__)

BATCH = 4_000
"""About how many events one transaction takes at most. Each writes many pages of the indexes anew."""

READ = 1_000
"""How many events are read from the store at once: meanwhile it does nothing else."""

KEPT = 10_000
"""How many archived events the store keeps, for those who watch and for archives restored from a backup."""

CHECKPOINT_EVENTS = 10_000
CHECKPOINT_MS = 60_000


class TrailBroken(SpendgateError):
    """Archive and store do not fit together; an operator must look."""


class Drainer:
    """Drains accounts, one after the other."""

    def __init__(
        self, backlog: Backlog, writer: ArchiveWriter, now_ms: Callable[[], int], *, kept: int = KEPT
    ) -> None:
        self._backlog = backlog
        self._writer = writer
        self._now_ms = now_ms
        self._kept = kept
        self._tips: dict[str, Tip] = {}
        self._signed_at_ms: dict[str, int] = {}
        self._trimmed: dict[str, int] = {}

    def drain(self) -> int:
        """Take one step for every account; return how many events were archived.

        Accounts with trouble do not hold up the others: their errors are raised
        at the end, as one `TrailBroken`. Raises `SpendgateError` at once when
        store or archive fail.
        """
        if not self._tips:
            self._tips = {name: self._writer.tip(name) for name in self._writer.accounts()}
        moved, broken = 0, []
        try:
            for account in sorted({*self._backlog.accounts(), *self._tips}):
                try:
                    moved += self._step(account)
                except TrailBroken as error:
                    broken.append(f"account {account}: {error.message}")
        except BaseException:
            # What was known of the archive may not be so any more.
            self._tips = {}
            raise
        if broken:
            raise TrailBroken("; ".join(broken))
        return moved

    def _step(self, account: str) -> int:
        tip = self._tips.get(account) or self._writer.tip(account)
        waiting = self._backlog.look(account, max(1, tip.sequence), READ + 1)
        try:
            entries = self._read_on(account, following(tip, waiting))
            _check_mark(tip, entries, waiting)
            if waiting.marked < tip.sequence:
                self._check_unmarked(tip, waiting)
            end = self._append(tip, entries, waiting.marked)
        except (HeadMoved, TrailBroken):
            self._tips.pop(account, None)
            fresh = self._writer.tip(account)
            if fresh == tip:
                raise
            return 0
        self._tips[account] = end
        if waiting.marked < end.sequence:
            self._backlog.mark(account, ArchiveHead(end.sequence, end.hash, end.epoch))
        self._trim(account, end.sequence)
        return len(entries)

    def _read_on(self, account: str, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return these entries with those after them, when as many were read as are at once."""
        read, entries = len(entries), list(entries)
        while read >= READ and len(entries) < BATCH:
            last = entries[-1]
            more = self._backlog.look(account, last[0], READ + 1).entries
            read = len(more) - 1
            goes_on = read >= 0 and more[0] == last and more[-1][0] == last[0] + read
            if not goes_on:
                break  # it is another store by now, or has a gap: which the next step finds
            entries += more[1:]
        return entries

    def _check_unmarked(self, tip: Tip, waiting: Waiting) -> None:
        """Raise `TrailBroken` unless the events after the mark, as Redis has them, lead to ``tip``.

        A drainer that dies before it marks leaves an end that nobody vouches for yet.
        """
        first, count = waiting.marked + 1, tip.sequence - waiting.marked
        here = waiting.marked_hash if waiting.marked else genesis(tip.account)
        for entry in self._backlog.look(tip.account, first, count).entries:
            here = link(here, *_body(entry))
        if here != tip.hash:
            raise TrailBroken(
                f"events {first} to {tip.sequence} in Redis do not lead to what the archive ends with: one "
                "of the two was changed"
            )

    def _append(self, tip: Tip, entries: Sequence[Entry], marked: int) -> Tip:
        account, now_ms = tip.account, self._now_ms()
        last = entries[-1][0] if entries else tip.sequence
        signed_at_ms = self._signed_at_ms.setdefault(account, now_ms)
        # Before the chain is at the mark again, nothing says that it is the one that was archived.
        due = (
            last >= marked
            and last > tip.checkpoint
            and (last - tip.checkpoint >= CHECKPOINT_EVENTS or now_ms - signed_at_ms >= CHECKPOINT_MS)
        )
        if due:
            self._signed_at_ms[account] = now_ms
        if entries:
            return self._writer.append(tip, entries, checkpoint_at_ms=now_ms if due else 0)
        return self._writer.add_checkpoint(tip, now_ms) if due else tip

    def _trim(self, account: str, archived: int) -> None:
        first = archived - self._kept + 1
        if first > self._trimmed.get(account, 0) + self._kept // 10:
            self._backlog.trim(account, first)
            self._trimmed[account] = first


def following(tip: Tip, waiting: Waiting) -> Sequence[Entry]:
    """Return the events that come after ``tip``; `TrailBroken` unless they surely do.

    That the store goes on where the archive ends, and is not another one, or an
    older state of it, shows in the event that both have, or in the mark. That
    nobody rewrote the archive shows in the hash that the mark has.
    """
    entries = waiting.entries
    if tip.sequence == 0 and waiting.marked:
        raise TrailBroken(
            f"the archive is empty, but event {waiting.marked} had been archived: it was removed or replaced"
        )
    if tip.sequence and waiting.marked == tip.sequence and waiting.marked_hash != tip.hash:
        raise TrailBroken(
            f"event {tip.sequence} in the archive does not have the hash that was noted when it was "
            "archived: the archive was rewritten or replaced"
        )
    if tip.sequence and not tip.previous_hash and not tip.after_loss:
        raise TrailBroken(f"the archive does not say what stands before event {tip.sequence}: it was changed")
    if tip.sequence and entries and entries[0][0] == tip.sequence:
        if tip.previous_hash and link(tip.previous_hash, *_body(entries[0])) != tip.hash:
            raise TrailBroken(
                f"event {tip.sequence} in Redis is not the one in the archive: Redis was restored or "
                "replaced, or one of the two was changed"
            )
        entries = entries[1:]
    elif waiting.marked > tip.sequence:
        raise TrailBroken(
            f"the archive ends at event {tip.sequence}, but event {waiting.marked} had been archived, and "
            "Redis no longer has what lies between: the archive was replaced, or an old backup restored"
        )
    elif tip.sequence and (waiting.marked, waiting.marked_hash) != (tip.sequence, tip.hash):
        raise TrailBroken(
            f"Redis does not know event {tip.sequence}, which the archive has: Redis was emptied or is "
            "older; run 'spendgate ledger rebuild'"
        )
    expected = tip.sequence
    for sequence, _ in entries:
        expected += 1
        if sequence != expected:
            raise TrailBroken(f"event {expected} is missing in Redis; the next one is {sequence}")
    if not entries and waiting.newest > tip.sequence:
        raise TrailBroken(f"events {tip.sequence + 1} to {waiting.newest} are missing in Redis")
    return entries


def _check_mark(tip: Tip, entries: Sequence[Entry], waiting: Waiting) -> None:
    """Raise `TrailBroken` when events that were archived before come again, but other ones."""
    if not tip.sequence < waiting.marked <= tip.sequence + len(entries):
        return
    here = tip.hash
    for entry in entries[: waiting.marked - tip.sequence]:
        here = link(here, *_body(entry))
    if here != waiting.marked_hash:
        raise TrailBroken(f"the events up to {waiting.marked} in Redis are not those that had been archived")


def _body(entry: Entry) -> tuple[int, bytes]:
    sequence, fields = entry
    return sequence, body_of(fields)
