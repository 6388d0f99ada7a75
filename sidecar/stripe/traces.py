"""What a call leaves behind at Stripe once it was carried out, and what shows that it was not.

Stripe tells with an event which request caused it, by the request's
Idempotency-Key. So a call that left an event was carried out. That there is no
event proves nothing by itself: not every endpoint leaves one, and nobody
promises when it is listed. What does prove it stands here, for each endpoint by
itself; where nothing does, an unknown outcome stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.stripe.asking import Object


@dataclass(frozen=True, slots=True)
class Makes:
    """The endpoint makes an object: its list, and the event that each object in it begins with."""

    kind: str
    """The object's name for itself."""
    listed: str
    """Where all that were made in a time are listed."""
    begins: tuple[str, ...]
    """Types of the event with which such an object begins, of which it has one."""
    fails: tuple[str, ...] = ()
    """Types of the event that it leaves besides, when the vendor says no all the same."""
    query: tuple[tuple[str, str], ...] = ()
    """What the list must be asked with to be complete."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The endpoint changes an object: the object shows for ever whether somebody did so."""

    kind: str
    events: tuple[str, ...]
    """Types of the events that it leaves."""
    undone: Callable[[Object], bool]
    """Whether an object was certainly never changed so; what can be undone again is no proof."""


@dataclass(frozen=True, slots=True)
class Deletes:
    """The endpoint deletes an object, which nobody can take back: what is still there never was deleted."""

    kind: str
    event: str
    """Type of the event that it leaves."""


Trace = Makes | Changes | Deletes


def _never_tried(intent: Object) -> bool:
    waits = intent.get("status") in {"requires_confirmation", "requires_payment_method"}
    return waits and not intent.get("latest_charge") and not intent.get("last_payment_error")


def _never_captured(intent: Object) -> bool:
    return intent.get("status") == "requires_capture" and intent.get("amount_received") == 0


def _charge_never_captured(charge: Object) -> bool:
    return (
        charge.get("captured") is False and charge.get("amount_captured") == 0 and not charge.get("refunded")
    )


def _is_draft(invoice: Object) -> bool:
    return invoice.get("status") == "draft"


def _payment_never_tried(invoice: Object) -> bool:
    waits = invoice.get("status") in {"draft", "open"}
    return waits and invoice.get("attempt_count") == 0 and not invoice.get("attempted")


def _not(*statuses: str) -> Callable[[Object], bool]:
    def undone(answer: Object) -> bool:
        status = answer.get("status")
        return isinstance(status, str) and status not in statuses

    return undone


_DECLINED = "payment_intent.payment_failed"
_PAID = ("payment_intent.succeeded", _DECLINED, "payment_intent.processing")

TRACES: dict[str, Trace] = {
    "POST /v1/charges": Makes(
        "charge", "/v1/charges", ("charge.succeeded", "charge.failed", "charge.pending")
    ),
    "POST /v1/payment_intents": Makes(
        "payment_intent", "/v1/payment_intents", ("payment_intent.created",), (_DECLINED,)
    ),
    "POST /v1/refunds": Makes("refund", "/v1/refunds", ("refund.created",)),
    "POST /v1/transfers": Makes("transfer", "/v1/transfers", ("transfer.created",)),
    "POST /v1/payouts": Makes("payout", "/v1/payouts", ("payout.created",)),
    "POST /v1/topups": Makes("topup", "/v1/topups", ("topup.created",)),
    "POST /v1/invoiceitems": Makes("invoiceitem", "/v1/invoiceitems", ("invoiceitem.created",)),
    "DELETE /v1/invoiceitems/{invoiceitem}": Deletes("invoiceitem", "invoiceitem.deleted"),
    "POST /v1/invoices": Makes("invoice", "/v1/invoices", ("invoice.created",)),
    "POST /v1/credit_notes": Makes("credit_note", "/v1/credit_notes", ("credit_note.created",)),
    "POST /v1/subscriptions": Makes(
        "subscription",
        "/v1/subscriptions",
        ("customer.subscription.created",),
        query=(("status", "all"),),
    ),
    "POST /v1/customers": Makes("customer", "/v1/customers", ("customer.created",)),
    "POST /v1/charges/{charge}/capture": Changes("charge", ("charge.captured",), _charge_never_captured),
    "POST /v1/payment_intents/{intent}/confirm": Changes(
        "payment_intent",
        (*_PAID, "payment_intent.requires_action", "payment_intent.amount_capturable_updated"),
        _never_tried,
    ),
    "POST /v1/payment_intents/{intent}/capture": Changes("payment_intent", _PAID, _never_captured),
    "POST /v1/payment_intents/{intent}/cancel": Changes(
        "payment_intent", ("payment_intent.canceled",), _not("canceled")
    ),
    "POST /v1/invoices/{invoice}/finalize": Changes("invoice", ("invoice.finalized",), _is_draft),
    "POST /v1/invoices/{invoice}/pay": Changes(
        "invoice", ("invoice.paid", "invoice.payment_failed"), _payment_never_tried
    ),
    "POST /v1/invoices/{invoice}/void": Changes("invoice", ("invoice.voided",), _not("void")),
    "POST /v1/payouts/{payout}/cancel": Changes("payout", ("payout.canceled",), _not("canceled")),
}
"""By the name of the endpoint."""


def event_types(trace: Trace) -> tuple[str, ...]:
    """Return the types of the events that a call may have left."""
    match trace:
        case Makes(begins=begins, fails=fails):
            return (*begins, *fails)
        case Changes(events=events):
            return events
        case Deletes(event=event):
            return (event,)
