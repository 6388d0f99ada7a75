"""What moved an account's balance at Stripe, and which requests were behind it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sidecar.stripe.asking import currency_of
from sidecar.stripe.listing import Span, get, listed
from sidecar.vendor import CannotLook, Look, Money, Movement, Statement

_EARLIER_S = 86_400
"""How long before its money moves an object may have been made, for its request to be known."""

_TELLING = (
    "charge.succeeded",
    "charge.pending",
    "charge.captured",
    "charge.refunded",
    "charge.dispute.closed",
    "checkout.session.completed",
    "credit_note.created",
    "customer.subscription.created",
    "invoice.created",
    "invoice.finalized",
    "invoice.paid",
    "invoiceitem.created",
    "payment_intent.created",
    "payment_intent.succeeded",
    "payment_intent.canceled",
    "payout.created",
    "refund.created",
    "topup.created",
    "transfer.created",
    "transfer.reversed",
)
"""Types of events that tell of money, as many as one list may be asked for."""

_MOVES = frozenset(
    {
        *("charge", "payment", "refund", "payment_refund", "payment_failure_refund", "refund_failure"),
        *("payout", "payout_cancel", "payout_failure", "transfer", "transfer_refund", "transfer_cancel"),
        *("topup", "topup_reversal", "adjustment", "application_fee_refund"),
        *("stripe_balance_payment_debit", "contribution", "anticipation_repayment"),
    }
)
"""Types of balance transactions with somebody's act behind them; the others are Stripe's own fees."""

_BEGINS = frozenset(
    {
        *("charge.succeeded", "charge.pending", "charge.captured", "refund.created", "payout.created"),
        *("topup.created", "transfer.created"),
    }
)
"""Types of events whose request made their object move money; a later one may be anybody's."""

_RELATIONS = ("payment_intent", "invoice")
"""What a charge is a payment for. A refund is none for its charge: it moves other money."""


async def statement(look: Look, account: str, span: Span) -> Statement:
    """Return the movements of a span, with what events tell of the requests behind them."""
    keys: defaultdict[str, set[str]] = defaultdict(set)
    related: defaultdict[str, set[str]] = defaultdict(set)
    automatic: set[str] = set()
    objects: set[str] = set()
    asked = [(f"types[{index}]", kind) for index, kind in enumerate(_TELLING)]
    async for event in listed(
        look, "/v1/events", account, Span(span.start_s - _EARLIER_S, span.end_s), *asked
    ):
        subject = (event.get("data") or {}).get("object") or {}
        object_id, key = str(subject.get("id")), (event.get("request") or {}).get("idempotency_key")
        objects.add(object_id)
        if isinstance(key, str) and event.get("type") in _BEGINS:
            keys[object_id].add(key)
        if subject.get("object") == "charge":
            related[object_id].update(_related(subject))
        if subject.get("object") == "payout" and subject.get("automatic") is True:
            automatic.add(object_id)
    movements = []
    async for one in listed(look, "/v1/balance_transactions", account, span):
        source = one.get("source")
        object_id = source if isinstance(source, str) else ""
        if object_id:
            objects.add(object_id)
        if one.get("type") in _MOVES and one.get("amount"):
            movements.append(
                _movement(one, object_id, keys[object_id], related[object_id], object_id in automatic)
            )
    return Statement(tuple(movements), frozenset(objects))


def _movement(
    booking: Mapping[str, Any], object_id: str, keys: set[str], related: set[str], by_vendor: bool
) -> Movement:
    try:
        amount, currency = int(booking["amount"]), currency_of(booking)
        return Movement(
            id=str(booking["id"]),
            kind=str(booking["type"]),
            object_id=object_id,
            money=Money(abs(amount), currency),
            leaves=amount < 0,
            moved_at_s=int(booking["created"]),
            upstream_keys=tuple(sorted(keys)),
            related=tuple(sorted(related)),
            by_vendor=by_vendor,
        )
    except (KeyError, TypeError, ValueError):
        raise CannotLook("a balance transaction of Stripe's can't be read") from None


def _related(subject: Mapping[str, Any]) -> set[str]:
    found = set()
    for name in _RELATIONS:
        value = subject.get(name)
        value = value.get("id") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            found.add(value)
    return found


async def related(look: Look, account: str, movement: Movement) -> list[str]:
    """Return what a charge is a payment for, and the invoice or session that its intent pays."""
    if not movement.object_id.startswith(("ch_", "py_")):
        return []
    found = set(movement.related) or await _of_object(look, account, f"/v1/charges/{movement.object_id}")
    for intent in [one for one in found if one.startswith("pi_")]:
        payments = urlencode({"payment[type]": "payment_intent", "payment[payment_intent]": intent})
        found |= await _named_in(look, account, f"/v1/invoice_payments?{payments}", "invoice")
        found |= await _named_in(
            look, account, f"/v1/checkout/sessions?{urlencode({'payment_intent': intent})}", "id"
        )
    return sorted(found)


async def _of_object(look: Look, account: str, path: str) -> set[str]:
    answer = await look(get(path, account))
    return _related(_json(answer.body)) if answer.status == 200 else set()


async def _named_in(look: Look, account: str, target: str, name: str) -> set[str]:
    """Return a field of everything in a short list; a list that can't be had explains nothing."""
    answer = await look(get(target, account))
    entries = _json(answer.body).get("data") if answer.status == 200 else None
    return {str(one[name]) for one in entries or () if isinstance(one, Mapping) and one.get(name)}


def _json(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
