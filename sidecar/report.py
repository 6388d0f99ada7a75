"""Compares what was counted with what the vendor says has moved, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.paced import PacedReads
from sidecar.reconciler import Looked
from sidecar.settlements import amount_of
from sidecar.trail import Trail, authorization_in, counts
from sidecar.vendor import Found, Movement, Vendor
from spendgate.v1 import amount_pb2, audit_service_pb2
from spendgate.v1 import policy_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Money that moved at the vendor and that no authorization explains."""

    vendor: str
    account: str
    movement: Movement
    why: str


@dataclass(frozen=True, slots=True)
class Missing:
    """An authorization that was settled with an object that the vendor does not have."""

    vendor: str
    event: audit_service_pb2.AuditEvent


@dataclass(slots=True)
class Report:
    """What was found out, and what was compared."""

    since_ms: int
    until_ms: int
    dry_run: bool
    looked: list[Looked] = field(default_factory=list)
    movements: int = 0
    by_vendor: int = 0
    """Movements that the vendor made by itself, such as payouts on schedule."""
    unexplained: list[Unexplained] = field(default_factory=list)
    prices: list[pb.Observation] = field(default_factory=list)
    """What calls without a price have come to, where nobody had looked yet."""
    settled: int = 0
    unchecked: int = 0
    """Settlements whose object the vendor can't be asked for."""
    missing: list[Missing] = field(default_factory=list)

    @property
    def unknown(self) -> list[Looked]:
        """Holds of which nobody knows still."""
        return [one for one in self.looked if one.state == "unknown"]

    @property
    def all_explained(self) -> bool:
        """Whether nothing is left to look at."""
        return not (self.unknown or self.unexplained or self.missing)


class Comparison:
    """Fills a report for one vendor."""

    def __init__(self, vendor: Vendor, reads: PacedReads, trail: Trail, report: Report) -> None:
        self._vendor = vendor
        self._reads = reads
        self._trail = trail
        self._report = report

    async def run(self, settlements: Sequence[audit_service_pb2.AuditEvent]) -> None:
        """Compare; ``settlements`` are all of the report's time, the newest first."""
        own = [one for one in settlements if not one.endpoint or self._vendor.made(one.endpoint)]
        counted = {one.object_id for one in own if one.object_id and counts(one)}
        observed = {(one.vault_key_id, one.object_id) for one in own if one.reason == "observed"}
        for account in ["", *sorted({one.vendor_account for one in own if one.vendor_account})]:
            statement = await self._vendor.statement(
                self._reads.look, account, since_ms=self._report.since_ms, until_ms=self._report.until_ms
            )
            seen = statement.objects if statement else frozenset()
            for movement in statement.movements if statement else ():
                await self._explain(movement, account, counted)
            of_account = [one for one in own if one.endpoint and one.vendor_account == account]
            await self._find(of_account, account, seen)
            await self._price(of_account, observed, account)

    async def _explain(self, movement: Movement, account: str, counted: set[str]) -> None:
        report = self._report
        report.movements += 1
        if movement.by_vendor:
            report.by_vendor += 1
            return
        if counted & {movement.object_id, *movement.related}:
            return
        why = "no authorization"
        for key in movement.upstream_keys:
            named = authorization_in(key)
            state = await self._trail.state(*named[:2], movement.moved_at_s * 1000) if named else ""
            if state in {"settled", "held", "unknown"}:
                return
            if named and state:
                why = f"authorization {named[0]} is {state}"
        related = await self._vendor.related(movement, self._reads.look, account)
        for object_id in (movement.object_id, *movement.related, *related):
            if object_id in counted or await self._trail.counts(object_id):
                return
        report.unexplained.append(Unexplained(self._vendor.name, account, movement, why))

    async def _find(
        self, settlements: Sequence[audit_service_pb2.AuditEvent], account: str, seen: frozenset[str]
    ) -> None:
        """Look for the objects of settled authorizations, each by its last settlement."""
        report = self._report
        last: dict[str, audit_service_pb2.AuditEvent] = {}
        for event in settlements:
            last.setdefault(event.authorization_id, event)
        for event in last.values():
            if event.state != "settled":
                continue
            report.settled += 1
            if event.object_id in seen:
                continue
            there = None
            if event.object_id:
                there = await self._vendor.exists(event.object_id, self._reads.look, account)
            if there is None:
                report.unchecked += 1
            elif not there and event.settled_amount.minor_units > 0:
                report.missing.append(Missing(self._vendor.name, event))

    async def _price(
        self,
        settlements: Sequence[audit_service_pb2.AuditEvent],
        observed: set[tuple[str, str]],
        account: str,
    ) -> None:
        """Look what calls that nobody could price have come to."""
        unpriced = {
            (one.vault_key_id, one.object_id)
            for one in settlements
            if one.unpriced and one.state == "settled" and one.object_id
        }
        for vault_key_id, object_id in sorted(unpriced - observed):
            seen = await self._vendor.final(object_id, self._reads.look, account)
            if seen is not None and seen.money.minor_units > 0:
                observation = pb.Observation(vault_key_id=vault_key_id, object_id=seen.object_id)
                observation.amount.CopyFrom(amount_of(seen.money))
                self._report.prices.append(observation)


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as one document; amounts are strings of minor units."""
    return {
        "since_ms": report.since_ms,
        "until_ms": report.until_ms,
        "dry_run": report.dry_run,
        "all_explained": report.all_explained,
        "unknown_outcomes": [_looked(one) for one in report.looked],
        "movements": report.movements,
        "movements_by_vendor": report.by_vendor,
        "unexplained_movements": [_unexplained(one) for one in report.unexplained],
        "prices_counted": [
            {"vault_key_id": one.vault_key_id, "object_id": one.object_id, "amount": _amount(one.amount)}
            for one in report.prices
        ],
        "settled_authorizations": report.settled,
        "settled_unchecked": report.unchecked,
        "settled_missing": [_missing(one) for one in report.missing],
    }


def as_text(report: Report) -> str:
    """Return a report for people."""
    closed = [one for one in report.looked if one.state != "unknown"]
    done = "would be closed" if report.dry_run else "closed"
    lines = [
        f"Unknown outcomes: {len(report.looked)}, of which {len(closed)} {done} and "
        f"{len(report.unknown)} stay unknown."
    ]
    for one in report.looked:
        hold = one.hold
        lines.append(
            f"  {one.state:<8} {hold.authorization_id} {hold.endpoint} {_money(hold.amount)}: {_said(one)}"
        )
    lines.append(
        f"Movements at the vendor: {report.movements}, of which {report.by_vendor} are its own and "
        f"{len(report.unexplained)} are not explained by an authorization."
    )
    for odd in report.unexplained:
        movement = odd.movement
        way = "out" if movement.leaves else "in"
        amount = f"{movement.money.minor_units} {movement.money.currency}"
        lines.append(f"  {odd.vendor} {movement.kind} {movement.object_id} {way} {amount}: {odd.why}")
    lines.append(
        f"Settled authorizations: {report.settled}, of which the vendor does not know "
        f"{len(report.missing)}; it can't be asked about {report.unchecked}."
    )
    if report.prices:
        lines.append(f"Prices of calls that nobody had looked at: {len(report.prices)}.")
    for lost in report.missing:
        event = lost.event
        lines.append(
            f"  {lost.vendor} {event.object_id} {_money(event.settled_amount)}, settled by "
            f"{event.authorization_id} {event.endpoint}"
        )
    lines.append("All is explained." if report.all_explained else "Not all is explained.")
    return "\n".join(lines)


def _said(one: Looked) -> str:
    return one.finding.evidence if isinstance(one.finding, Found) else one.finding.why


def _looked(one: Looked) -> dict[str, Any]:
    hold = one.hold
    return {
        "state": one.state,
        "authorization_id": hold.authorization_id,
        "attempt": hold.attempt,
        "account": hold.account,
        "vault_key_id": hold.vault_key_id,
        "run_id": hold.run_id,
        "step": hold.step,
        "endpoint": hold.endpoint,
        "amount": _amount(hold.amount),
        "object_id": _object_of(one),
        "overrun": one.overrun,
        "evidence" if isinstance(one.finding, Found) else "why": _said(one),
    }


def _object_of(one: Looked) -> str:
    found = one.finding.reading.object_id if isinstance(one.finding, Found) else ""
    return found or one.hold.object_id


def _unexplained(odd: Unexplained) -> dict[str, Any]:
    movement = odd.movement
    return {
        "vendor": odd.vendor,
        "vendor_account": odd.account,
        "id": movement.id,
        "kind": movement.kind,
        "object_id": movement.object_id,
        "direction": "out" if movement.leaves else "in",
        "amount": {
            "minor_units": str(movement.money.minor_units),
            "currency_code": movement.money.currency,
        },
        "moved_at_s": movement.moved_at_s,
        "why": odd.why,
    }


def _missing(lost: Missing) -> dict[str, Any]:
    event = lost.event
    return {
        "vendor": lost.vendor,
        "authorization_id": event.authorization_id,
        "vault_key_id": event.vault_key_id,
        "run_id": event.run_id,
        "endpoint": event.endpoint,
        "object_id": event.object_id,
        "amount": _amount(event.settled_amount),
    }


def _amount(amount: amount_pb2.Amount) -> dict[str, str] | None:
    if not amount.currency_code:
        return None
    return {"minor_units": str(amount.minor_units), "currency_code": amount.currency_code}


def _money(amount: amount_pb2.Amount) -> str:
    return f"{amount.minor_units} {amount.currency_code}" if amount.currency_code else "no amount"
