"""Tells whether a trail is complete and unchanged, and where it is not.

What stands in an archive or an export is not believed for standing there: who can
write to it can write that too. It is computed anew, follows from the chain, or is
said by whoever verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_server.archive import columns
from policy_server.archive.chain import BodyInvalid, fields_of, genesis, link
from policy_server.archive.losses import WORDS, Loss
from policy_server.archive.signing import PublicKey
from policy_server.core.ports import Checkpoint

_ACCEPTING = WORDS.encode()
_EXPORTED = 3
"""How much of an event an export has."""

StoredEvent = Sequence[Any]
"""Sequence, hash and body of an event; in an archive also the latest time until then, and `columns`.

There are millions, so it is no class.
"""


@dataclass(frozen=True, slots=True)
class Head:
    """What an archive says of a whole trail, to go on from and to search by."""

    previous_hash: bytes
    reached_ms: int
    set_back_ms: int
    epoch: str


@dataclass(slots=True)
class StoredTrail:
    """One account's trail, as an archive or an export has it.

    An export tells losses and checkpoints before its first event, and its end after the last.
    """

    account: str
    after: int
    """The event before the first; 0 when there is none."""
    previous_hash: bytes
    """The hash of that one, or what stands before the first event."""
    events: Iterator[StoredEvent]
    end: tuple[int, bytes] | None = None
    """Sequence and hash that the trail says it ends with."""
    head: Head | None = None
    """None in an export."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    """What was wrong with how it is written down."""


@dataclass(frozen=True, slots=True)
class Known:
    """What whoever verifies knows of the trail from elsewhere."""

    after: int = 0
    """The event that it was to begin after."""
    after_hash: bytes | None = None
    """The hash of that one; None when it is not known."""
    expected: tuple[int, bytes] | None = None
    """Sequence and hash of an event that must be part of it."""


NOTHING = Known()


@dataclass(slots=True)
class Report:
    """What was found."""

    account: str
    after: int = 0
    """The event that the trail begins after."""
    begins_with_known_hash: bool = True
    """Whether anything but the trail itself vouches for the hash of that one."""
    events: int = 0
    last: int = 0
    last_hash: bytes = b""
    checkpoints: int = 0
    """How many have a good signature and fit."""
    lost: int = 0
    """How many events are missing because an operator accepted it, which is on record."""
    unlike: str = ""
    """Why the expected event is not part of it; empty when it is, or none is expected."""
    findings: list[str] = field(default_factory=list)
    """What is wrong; empty when nothing is."""


class Verification:
    """Goes through one trail."""

    def __init__(self, trail: StoredTrail) -> None:
        self._trail = trail
        self._report = Report(
            trail.account, after=trail.after, last=trail.after, last_hash=trail.previous_hash
        )
        self._hashes = {trail.after: trail.previous_hash}
        self._gaps: list[int] = []
        """The first missing event of each gap. What is signed after one says nothing of what is before it."""
        self._claimed: dict[Loss, list[int]] = {}
        """Losses that gaps were passed by, with the events that accept them."""
        self._newest: StoredEvent | None = None
        self._before_newest = b""
        self._set_back_ms = 0
        self._whole = True
        """Whether nothing is missing but what is noted as lost."""

    def run(self, keys: Mapping[str, PublicKey], known: Known = NOTHING) -> Report:
        """Check beginning, chain, columns, end, losses and checkpoints by ``keys``, and what is ``known``."""
        report, trail = self._report, self._trail
        self._check_beginning(known)
        self._check_events(known)
        self._check_end()
        report.findings += trail.findings
        vouched = [one.sequence for one in trail.checkpoints if self._is_good(one, keys)]
        report.checkpoints = len(vouched)
        if known.expected is not None:
            report.unlike = self._unlike(*known.expected)
            vouched += [] if report.unlike else [known.expected[0]]
        self._check_losses(vouched, signed=bool(trail.checkpoints or known.expected))
        first_gap = min(self._gaps, default=report.last + 1)
        report.begins_with_known_hash = (
            trail.after == 0 or known.after_hash is not None or any(one < first_gap for one in vouched)
        )
        return report

    def _check_beginning(self, known: Known) -> None:
        findings, trail = self._report.findings, self._trail
        if trail.after == 0 and trail.previous_hash != genesis(trail.account):
            findings.append("the beginning was changed: it is not that of a trail of this account")
        if trail.after != known.after and known.after:
            findings.append(f"the trail begins after event {trail.after}, and not after event {known.after}")
        elif trail.after != known.after:
            findings.append(
                f"the trail says that it begins after event {trail.after}, so {_events(1, trail.after)} not "
                f"in it: if it was exported so, say it with --after {trail.after}; else they are cut off"
            )
        elif known.after_hash not in {None, trail.previous_hash}:
            findings.append(
                f"the trail does not go on from the known event {trail.after}: it says another hash of it"
            )

    def _check_events(self, known: Known) -> None:
        # All that is done for each of millions of events is in here and in what it calls.
        report, hashes = self._report, self._hashes
        watched: set[int] | None = None
        last, here, before, reached_ms = report.last, report.last_hash, b"", 0
        event: StoredEvent | None = None
        for event in self._trail.events:
            sequence, hash_, body = event[:3]
            if watched is None:  # an export has told its checkpoints before its first event
                watched = {one.sequence for one in self._trail.checkpoints}
                watched |= {known.expected[0]} if known.expected else set()
            follows = True
            if sequence != last + 1:
                if sequence <= last:
                    report.findings.append(f"event {sequence} stands after event {last}: one was inserted")
                    continue
                passed = self._pass_gap(last + 1, sequence - 1)
                follows, here = passed is not None, passed or here
            if follows and link(here, sequence, body) != hash_:
                or_before = f", or event {sequence - 1} with its hash" if last else ""
                report.findings.append(
                    f"event {sequence} was changed{or_before}: it does not follow from the one before it"
                )
            if len(event) > _EXPORTED:
                self._check_found_by(event, reached_ms if follows else event[3])
                reached_ms = event[3]
            if self._claimed and _ACCEPTING in body:
                self._note_acceptance(sequence, body)
            if sequence in watched:
                hashes[sequence] = hash_
            report.events += 1
            before, last, here = here, sequence, hash_
        report.last, report.last_hash = last, here
        self._newest, self._before_newest = event, before

    def _pass_gap(self, first: int, end: int) -> bytes | None:
        """Go over missing events; return the hash that the chain goes on with, None when it is not told."""
        self._gaps.append(first)
        by_first = {loss.first: loss for loss in self._trail.losses}
        passed, at = [], first
        while (loss := by_first.get(at)) is not None and at <= loss.last <= end:
            passed.append(loss)
            at = loss.last + 1
        if at <= end:
            self._whole = False
            self._report.findings.append(f"{_events(first, end)} missing")
            return None
        self._claimed |= {loss: [] for loss in passed}
        self._hashes |= {loss.last: loss.last_hash for loss in passed}
        return passed[-1].last_hash

    def _check_found_by(self, event: StoredEvent, reached_before_ms: int) -> None:
        """Compare what an archive finds an event by with what it says, and with the latest time before it."""
        sequence, _, body, reached_ms = event[:4]
        try:
            says = columns.of_body(body)
            reached = reached_ms == (says[0] if says[0] > reached_before_ms else reached_before_ms)
            self._set_back_ms = max(self._set_back_ms, reached_ms - says[0])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self._report.findings.append(f"event {sequence} can't be read: {error!r}")
            return
        said = event[4:]
        if reached and says == said:
            return
        wrong = [name for name, one, other in zip(columns.NAMES, says, said, strict=True) if one != other]
        wrong += [] if reached else ["reached_ms"]
        self._report.findings.append(
            f"event {sequence} is found by what it does not say: {', '.join(wrong)} changed"
        )

    def _note_acceptance(self, sequence: int, body: bytes) -> None:
        try:
            fields = fields_of(body)
            for loss, events in self._claimed.items():
                if loss.is_accepted_by(fields, self._trail.account):
                    events.append(sequence)
        except (ValueError, KeyError, AttributeError):
            return  # it says nothing that can be read

    def _check_end(self) -> None:
        report, end = self._report, self._trail.end
        if end is None:
            report.findings.append(f"the end is missing: there may be events after {report.last}")
            return
        sequence, end_hash = end
        ends_with_loss = report.last < sequence
        if ends_with_loss:
            passed = self._pass_gap(report.last + 1, sequence)
            if passed is None:
                return
            report.last, report.last_hash = sequence, passed
        if report.last > sequence:
            added = _events(sequence + 1, report.last)
            report.findings.append(f"{added} added after the end, or the end was set back")
        elif report.last_hash != end_hash:
            report.findings.append(f"event {sequence} does not have the hash that the trail ends with")
        elif sequence == 0:
            report.findings.append("there is no event in it: nothing was archived, or all were removed")
        elif self._trail.head is not None and self._whole:
            self._check_head(self._trail.head, b"" if ends_with_loss else self._before_newest)

    def _check_head(self, head: Head, previous_hash: bytes) -> None:
        """Compare what the archive keeps of the whole trail with what its events say."""
        reached_ms, epoch = 0, ""
        if self._newest is not None:
            reached_ms = self._newest[3]
            try:
                epoch = fields_of(self._newest[2]).get("epoch", "")
            except BodyInvalid:
                return  # which was found already
        says = Head(previous_hash, reached_ms, self._set_back_ms, epoch)
        wrong = [name for name in Head.__slots__ if getattr(head, name) != getattr(says, name)]
        if wrong:
            self._report.findings.append(
                f"what the archive keeps of the whole trail is not what its events say: "
                f"{', '.join(wrong)} changed"
            )

    def _check_losses(self, vouched: list[int], *, signed: bool) -> None:
        """Honour losses that an event accepts; where anything is ``signed``, one that is ``vouched`` for."""
        report = self._report
        for loss, accepted_at in self._claimed.items():
            missing = (
                f"{_events(loss.first, loss.last)} missing, and claimed to be lost, which is not confirmed:"
            )
            if not accepted_at:
                report.findings.append(
                    f"{missing} no later event says that an operator accepted it. If one did so just now, "
                    "verify again in a minute; if one did so before and it ended with an error, run "
                    "'spendgate audit accept-loss' again; else they were removed"
                )
            elif signed and not any(self._covered(at, vouched) for at in accepted_at):
                report.findings.append(
                    f"{missing} event {accepted_at[0]} says that an operator accepted it, but no checkpoint "
                    "vouches for that event. Run 'spendgate audit checkpoint', or wait for a minute, and "
                    "verify again"
                )
            else:
                report.lost += loss.last - loss.first + 1
        for loss in self._trail.losses:
            if loss not in self._claimed:
                report.findings.append(
                    f"{_events(loss.first, loss.last)} claimed to be lost, but they are not what is missing"
                )

    def _covered(self, sequence: int, vouched: list[int]) -> bool:
        """Tell whether anything vouches for an event by a chain without a gap."""
        end = min((gap for gap in self._gaps if gap > sequence), default=self._report.last + 1)
        return any(sequence <= one < end for one in vouched)

    def _is_good(self, checkpoint: Checkpoint, keys: Mapping[str, PublicKey]) -> bool:
        """Tell whether a checkpoint is signed and the trail fits it; what is wrong is a finding."""
        report, sequence = self._report, checkpoint.sequence
        key = keys.get(checkpoint.key_id)
        if key is None:
            report.findings.append(
                f"the checkpoint at event {sequence} is signed by the unknown key {checkpoint.key_id}"
            )
        elif not key.signed(checkpoint):
            report.findings.append(f"the checkpoint at event {sequence} has a bad signature")
        elif sequence < self._trail.after:
            return False
        elif sequence > report.last:
            report.findings.append(
                f"the trail ends at event {report.last}, but event {sequence} was signed: "
                f"{_events(report.last + 1, sequence)} cut off"
            )
        elif sequence not in self._hashes:
            report.findings.append(f"event {sequence} was signed, and is missing or was moved")
        elif self._hashes[sequence] != checkpoint.hash:
            report.findings.append(
                f"events up to {sequence} were rewritten: the hash of event {sequence} is not the one "
                "that was signed"
            )
        else:
            return True
        return False

    def _unlike(self, sequence: int, expected_hash: bytes) -> str:
        report = self._report
        if sequence > report.last:
            return (
                f"the trail ends at event {report.last}, but event {sequence} is expected: "
                f"{_events(report.last + 1, sequence)} cut off"
            )
        if self._hashes.get(sequence) != expected_hash:
            return f"events up to {sequence} were rewritten: event {sequence} does not have the expected hash"
        return ""


def verify_trails(
    trails: Iterable[StoredTrail], keys: Mapping[str, PublicKey], known: Known = NOTHING
) -> list[Report]:
    """Verify trails. What is expected must be part of one of them: only one account has it."""
    reports = [Verification(trail).run(keys, known) for trail in trails]
    if all(report.unlike for report in reports):
        for report in reports:
            report.findings.append(report.unlike)
    return reports


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"
