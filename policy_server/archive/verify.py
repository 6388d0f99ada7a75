"""Tells whether a trail is complete and unchanged, and where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from policy_server.archive import columns
from policy_server.archive.chain import BodyInvalid, fields_of, link
from policy_server.archive.signing import PublicKey
from policy_server.core.ports import Checkpoint


@dataclass(slots=True)
class StoredEvent:
    """One event, as an archive or an export has it."""

    sequence: int
    hash: bytes
    body: bytes
    created_at_ms: int | None = None
    """None in an export."""
    columns: columns.Columns = ()
    """What an archive finds it by; nothing in an export."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Events that an operator has accepted as lost, up to the one with this hash."""

    first: int
    last: int
    last_hash: bytes


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
    checkpoints: list[Checkpoint] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    """What was wrong with how it is written down."""


@dataclass(slots=True)
class Report:
    """What was found."""

    account: str
    events: int = 0
    last: int = 0
    last_hash: bytes = b""
    checkpoints: int = 0
    """How many have a good signature and fit."""
    lost: int = 0
    """How many events are missing because an operator accepted it."""
    findings: list[str] = field(default_factory=list)
    """What is wrong; empty when nothing is."""


class Verification:
    """Goes through one trail."""

    def __init__(self, trail: StoredTrail) -> None:
        self._trail = trail
        self._report = Report(trail.account, last=trail.after, last_hash=trail.previous_hash)
        self._hashes = {trail.after: trail.previous_hash}
        self._watched: set[int] | None = None

    def run(self, keys: Mapping[str, PublicKey], expected: tuple[int, bytes] | None = None) -> Report:
        """Check chain, columns, end, and checkpoints by ``keys``; and that ``expected`` is part of it."""
        report, trail = self._report, self._trail
        for event in trail.events:
            if self._watched is None:  # an export has told its checkpoints before its first event
                self._watched = {one.sequence for one in trail.checkpoints}
                self._watched |= {expected[0]} if expected else set()
            self._check_event(event)
        self._check_end()
        report.findings += trail.findings
        for checkpoint in trail.checkpoints:
            self._check_checkpoint(checkpoint, keys)
        if expected is not None:
            self._check_expected(*expected)
        return report

    def _check_event(self, event: StoredEvent) -> None:
        report, sequence = self._report, event.sequence
        if sequence <= report.last:
            report.findings.append(f"event {sequence} stands after event {report.last}: one was inserted")
            return
        follows = sequence == report.last + 1 or self._pass_gap(sequence - 1)
        if follows and link(report.last_hash, sequence, event.body) != event.hash:
            before = f", or event {report.last} with its hash" if report.last else ""
            report.findings.append(
                f"event {sequence} was changed{before}: it does not follow from the one before it"
            )
        if event.columns:
            self._check_columns(event)
        report.events += 1
        report.last, report.last_hash = sequence, event.hash
        if self._watched and sequence in self._watched:
            self._hashes[sequence] = event.hash

    def _pass_gap(self, end: int) -> bool:
        """Go over missing events up to ``end``; tell whether the chain can be followed over them."""
        report = self._report
        first = report.last + 1
        for loss in self._trail.losses:
            if (loss.first, loss.last) == (first, end):
                report.lost += loss.last - loss.first + 1
                report.last, report.last_hash = loss.last, loss.last_hash
                self._hashes[loss.last] = loss.last_hash
                return True
        report.findings.append(f"{_events(first, end)} missing")
        return False

    def _check_columns(self, event: StoredEvent) -> None:
        try:
            fields = fields_of(event.body)
            said: columns.Columns = columns.of_fields(fields)
            time_ms = int(fields["time"])
        except (BodyInvalid, ValueError, KeyError, AttributeError, TypeError) as error:
            self._report.findings.append(f"event {event.sequence} can't be read: {error!r}")
            return
        if said == event.columns and time_ms == event.created_at_ms:
            return
        wrong = [
            name for name, was, now in zip(columns.NAMES, said, event.columns, strict=True) if was != now
        ]
        if time_ms != event.created_at_ms:
            wrong.append("created_at_ms")
        self._report.findings.append(
            f"event {event.sequence} is found by what it does not say: {', '.join(wrong)} changed"
        )

    def _check_end(self) -> None:
        report, end = self._report, self._trail.end
        if end is None:
            report.findings.append(f"the end is missing: there may be events after {report.last}")
            return
        sequence, end_hash = end
        if report.last < sequence and not self._pass_gap(sequence):
            return
        if report.last > sequence:
            added = _events(sequence + 1, report.last)
            report.findings.append(f"{added} added after the end, or the end was set back")
        elif report.last_hash != end_hash:
            report.findings.append(f"event {sequence} does not have the hash that the trail ends with")

    def _check_checkpoint(self, checkpoint: Checkpoint, keys: Mapping[str, PublicKey]) -> None:
        report, sequence = self._report, checkpoint.sequence
        key = keys.get(checkpoint.key_id)
        if key is None:
            report.findings.append(
                f"the checkpoint at event {sequence} is signed by the unknown key {checkpoint.key_id}"
            )
        elif not key.signed(checkpoint):
            report.findings.append(f"the checkpoint at event {sequence} has a bad signature")
        elif sequence < self._trail.after:
            return
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
            report.checkpoints += 1

    def _check_expected(self, sequence: int, expected_hash: bytes) -> None:
        report = self._report
        if sequence > report.last:
            report.findings.append(
                f"the trail ends at event {report.last}, but event {sequence} is expected: "
                f"{_events(report.last + 1, sequence)} cut off"
            )
        elif self._hashes.get(sequence) != expected_hash:
            report.findings.append(
                f"events up to {sequence} were rewritten: event {sequence} does not have the expected hash"
            )


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"
