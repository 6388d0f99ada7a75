"""What an object of Stripe commits, as an answer shows it, and whether that can still change.

An object commits what has moved and what may still move without another call
that is asked about: an intent that nobody confirmed counts in full, because its
client secret lets a customer pay it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sidecar.stripe.asking import Object, currency_of
from sidecar.vendor import Money

_GONE = frozenset({"failed", "canceled", "cancelled", "expired", "void", "reversed", "returned"})
"""States of an object that moves nothing any more."""


def committed(answer: Object, kind: str) -> Money | None:
    """Return what ``answer`` commits, read as a ``kind`` of `READERS`; None when it does not say."""
    if kind in NAMED and answer.get("object") != kind:
        return None
    try:
        return READERS[kind](answer)
    except (KeyError, TypeError, ValueError):
        return None


def is_final(answer: Object) -> bool:
    """Tell whether no later call or event can change what the object commits."""
    status = answer.get("status")
    if status in _GONE:
        return True
    match answer.get("object"):
        case "payment_intent":
            return status == "succeeded"
        case "charge":
            return status == "succeeded" and bool(answer.get("captured") or answer.get("refunded"))
        case "invoice":
            return status == "paid"
        case "checkout.session":
            return status == "complete"
        case _:
            return False


def _charge(charge: Object) -> Money:
    if charge.get("status") == "failed":
        return _money(charge, 0)
    if charge.get("captured"):
        # A bank debit that is on its way says captured before it succeeds.
        pending = charge.get("status") == "pending"
        return _money(charge, charge["amount"] if pending else charge["amount_captured"])
    # A hold that expired or was given back shows as refunded.
    return _money(charge, 0 if charge.get("refunded") else charge["amount"])


def _intent(intent: Object) -> Money:
    status = intent.get("status")
    if status in {"succeeded", "canceled"}:
        return _money(intent, intent["amount_received"])
    if status == "requires_capture":
        return _money(intent, int(intent["amount_received"]) + int(intent["amount_capturable"]))
    # Not confirmed yet, or on its way: its client secret can still move all of it.
    return _money(intent, intent["amount"])


def _invoice(invoice: Object) -> Money:
    match invoice.get("status"):
        case "void":
            return _money(invoice, 0)
        case "paid":
            return _money(invoice, invoice["amount_paid"])
        case _:
            # What is written off as uncollectible can still be paid.
            return _money(invoice, max(0, int(invoice["amount_due"])))


def _session(session: Object) -> Money:
    return _money(session, 0 if session.get("status") == "expired" else session.get("amount_total") or 0)


def _subscription(subscription: Object) -> Money:
    invoice = subscription["latest_invoice"]
    if not isinstance(invoice, Mapping) or subscription.get("status") == "trialing":
        # The invoice of a trial is of nothing; the first period is billed without another call.
        raise TypeError
    return _invoice(invoice)


def _amount(answer: Object) -> Money:
    return _money(answer, 0 if answer.get("status") in _GONE else abs(int(answer["amount"])))


def _amount_total(answer: Object) -> Money:
    return _money(answer, 0 if answer.get("status") in _GONE else answer["amount_total"])


def _item(item: Object) -> Money:
    # A negative item is a credit to the customer.
    return _money(item, max(0, int(item["amount"])))


def _grant(grant: Object) -> Money:
    monetary = grant["amount"]["monetary"]
    return _money(monetary, monetary["value"])


def _debited(payment: Object) -> Money:
    """Read a v2 payment: with an exchange of currencies, what is debited is what leaves."""
    money = (payment.get("from") or {}).get("debited") or payment["amount"]
    gone = payment.get("status") in _GONE
    return _money(money, 0 if gone else money["value"])


def _money(answer: Object, amount: int | str) -> Money:
    return Money(int(amount), currency_of(answer))


READERS: dict[str, Callable[[Object], Money]] = {
    "charge": _charge,
    "payment_intent": _intent,
    "refund": _amount,
    "invoice": _invoice,
    "invoiceitem": _item,
    "checkout.session": _session,
    "subscription": _subscription,
    "amount": _amount,
    "amount_total": _amount_total,
    "credit_grant": _grant,
    "from.debited": _debited,
}
"""How each kind of answer says what is committed."""

NAMED = frozenset(
    {"charge", "payment_intent", "refund", "invoice", "invoiceitem", "checkout.session", "subscription"}
)
"""Kinds that are read only from an answer whose ``object`` says so."""

SEEN = frozenset({"charge", "payment_intent", "refund", "invoice", "checkout.session"})
"""Objects whose end is noticed when an agent reads them."""
