"""Tells call by call what an agent did: what it asked, what was decided, what Stripe did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spendgate import currencies
from spendgate.testing.simulated_stripe import StripeCall
from spendgate.v1 import audit_service_pb2 as pb

NOT_ASKED = "not asked"
_HEAD = ("time", "run", "step", "call", "amount", "Spendgate", "Stripe")


@dataclass(frozen=True, slots=True)
class Row:
    """One call."""

    seconds: float
    run: str
    step: str
    call: str
    amount: str
    decision: str
    answer: str


def rows(events: Sequence[pb.AuditEvent], straight: Sequence[StripeCall]) -> list[Row]:
    """Return what is on record, and the calls that went ``straight`` to Stripe, in order."""
    outcomes = {
        (event.authorization_id, event.attempt): event
        for event in events
        if event.kind == pb.AUDIT_EVENT_KIND_SETTLEMENT
    }
    told = [
        _decided(event, outcomes.get((event.authorization_id, event.attempt)))
        for event in events
        if event.kind == pb.AUDIT_EVENT_KIND_DECISION
    ]
    told += [_refused(event) for event in events if event.kind == pb.AUDIT_EVENT_KIND_REFUSAL]
    told += [_straight(call) for call in straight]
    return sorted(told, key=lambda row: row.seconds)


def text(told: Sequence[Row]) -> str:
    """Return the calls as a table."""
    if not told:
        return "  the agent made no call"
    start = told[0].seconds
    lines = [_HEAD] + [
        (
            f"{max(0.0, row.seconds - start):.2f} s",
            *(row.run or "-", row.step, row.call, row.amount, row.decision, row.answer),
        )
        for row in told
    ]
    used = [column for column in range(len(_HEAD)) if any(line[column] for line in lines[1:])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  " + "  ".join(line[column].ljust(widths[column]) for column in used).rstrip() for line in lines
    )


def amount_text(minor_units: int | None, currency: str) -> str:
    """Return an amount for people; "" when there is none."""
    if minor_units is None or not currency:
        return ""
    try:
        return currencies.text(minor_units, currency)
    except ValueError:
        return f"{minor_units} {currency}"


def _decided(event: pb.AuditEvent, outcome: pb.AuditEvent | None) -> Row:
    why = f"{event.reason} ({event.rule})" if event.rule and event.reason else event.reason
    if event.decision == "deny":
        decision, answer = f"refused: {why}", "not sent"
    elif event.duplicate:
        decision, answer = "the same again", "nothing new"
    else:
        decision = f"allowed, though {why}" if why else "allowed"
        answer = _outcome(outcome)
    return Row(
        event.create_time.ToNanoseconds() / 1e9,
        event.run_id,
        event.step,
        event.endpoint,
        amount_text(event.amount.minor_units, event.amount.currency_code) if event.amount.minor_units else "",
        decision,
        answer,
    )


def _outcome(event: pb.AuditEvent | None) -> str:
    if event is None:
        return "no outcome yet"
    answer = f"{event.http_status or 'no answer'} {event.object_id}".strip()
    return f"{answer}, {event.state}" if event.state else answer


def _refused(event: pb.AuditEvent) -> Row:
    return Row(
        event.create_time.ToNanoseconds() / 1e9,
        event.run_id,
        "",
        event.endpoint,
        "",
        f"refused: {event.reason}",
        "not sent",
    )


def _straight(call: StripeCall) -> Row:
    done = (
        f"paid {amount_text(call.paid, call.currency)}"
        if call.paid
        else f"refunded {amount_text(call.refunded, call.currency)}"
        if call.refunded
        else ""
    )
    answer = "reply lost" if call.fault == "drop_reply" else str(call.status or "no answer")
    said = ", ".join(part for part in (f"{answer} {call.object_id}".strip(), done) if part)
    return Row(
        float(call.seconds),
        "",
        "",
        call.endpoint,
        amount_text(call.amount, call.currency),
        NOT_ASKED,
        f"{said} (key …{call.key_end})",
    )
