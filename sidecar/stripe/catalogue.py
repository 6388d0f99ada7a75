"""Writes the page on what Spendgate knows about Stripe from the table: ``python -m sidecar.stripe.catalogue``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sidecar.stripe.endpoints import ENDPOINTS, MONEY, Direction, Endpoint

_INTRODUCTION = """\
# What Spendgate knows about Stripe

This page is written from the table in `sidecar/stripe/endpoints.py` by `make generate`.

Every endpoint of Stripe's API is in one of two lists: {money} that move money or bind it, and {plain} that do not. A
change that is in neither is refused, whatever the policy says. The table is checked against every method of Stripe's
Python SDK ({version}).

**Direction** is seen from the owner of the Stripe account: `in` is charged from others, `out` leaves, `hold` is set
aside, `none` gives back or moves nothing. Every direction counts against the caps that apply.

**Counts at most** is what is held before the call is sent. Where it is not in the request, Stripe is asked first, and the
highest possible amount counts: the largest quantity that somebody may choose, the dearest shipping, a whole period. What
can't be told before is *not priced*: it is refused, unless the policy names the endpoint in
[`unpriced`](policy.md#calls-without-a-price). So is everything to which Stripe adds taxes.

**The answer says** how the amount that really counts is read from Stripe's answer; where nothing stands, what was held
counts. Amounts are integers of the currency's smallest unit as Stripe counts it, whether that is 0, 2 or 3 decimals.

## Endpoints that move money

| endpoint | direction | counts at most | the answer says | notes |
|---|---|---|---|---|
"""

_ANSWERS = """
| the answer says | what is committed |
|---|---|
| `charge` | what was captured; the amount while it is pending or not captured; nothing when it failed or was given back |
| `payment_intent` | what was received, and what can still be captured; all of it before it is confirmed or while it is under way |
| `refund`, `amount` | the amount (a refund that waits gives nothing back yet); nothing once it failed, was cancelled, reversed or returned |
| `invoice` | what was paid; what is due before; nothing once it is void |
| `invoiceitem` | its amount, until it is part of an invoice, which then counts it |
| `checkout.session` | what was held while it is open, because its customer may choose more, and always for a subscription; then `amount_total`; nothing once it expired |
| `subscription` | its latest invoice, when the answer has it expanded and it bills all that was held; else what was held, which a trial or a part of a period bills later |
| `from.debited` | what is debited, in its currency, which an exchange makes another than the amount's |
| `credit_grant`, `amount_total` | the amount of that name |
| `deleted` | nothing any more |

An answer with status 402 releases what was held. A payment intent that it leaves behind can still be paid with its client
secret, so it counts like any intent until it is cancelled. A read that shows a charge, intent, refund, invoice or
session at its end brings the count to what is then true.

## Endpoints that move no money

Amounts in their parameters are limits, catalog entries, or records of what happened elsewhere. What is charged by them
is priced where it is charged.

"""

_DIFFERENCES = """
## Where sources differ

- Legacy paths such as `POST /v1/charges/{charge}/refund` are in Stripe's public specification and in no SDK. It answers
  with the charge, whose `amount` is not what was refunded, so what was held counts.
- Orders are in older specifications and a preview SDK only. They are not priced.
- A subscription counts for one period. Stripe bills the later ones without another call, so no cap can stop them;
  cancel the subscription for that.
- `Stripe-Version` is passed on when it is 2022-11-15 or later; before, parameters had other meanings. A call without it is
  sent as 2026-10-28.endive, by which pricing also reads objects. A policy can fix it like a parameter:
  `--parameter 'Stripe-Version=2026-10-28.endive'`.
- Where amounts are added up (carts, links, invoices, subscriptions), every parameter must be one that pricing understands;
  with any other the call is not priced, and the refusal names it. The lists are in `sidecar/stripe/understood.py`.
- Some calls that move no money hand out a secret by which somebody acts at Stripe without Spendgate: ephemeral keys, account
  links and sessions, customer sessions, portal sessions, connection tokens. Allow them only where that is meant.
- When an invoice is finalized or paid, Stripe has no parameter for the amount: what somebody else adds to it between the
  question and the call is counted, and marked as an overrun.
"""


def page(version: str) -> str:
    """Return the page; ``version`` is the SDK that the table was checked against."""
    plain = [endpoint for endpoint in ENDPOINTS if endpoint not in MONEY]
    counts = {"money": len(MONEY), "plain": len(plain), "version": version}
    rows = "\n".join(map(_row, MONEY))
    return f"{_INTRODUCTION.format(**counts)}{rows}\n{_ANSWERS}{_list(plain)}{_DIFFERENCES}"


def _row(endpoint: Endpoint) -> str:
    counts = (
        endpoint.rule.says if endpoint.rule and endpoint.direction is not Direction.NONE else "gives back"
    )
    notes = [endpoint.note] if endpoint.note else []
    if endpoint.refused:
        notes.append("refused: " + ", ".join(f"`{name}`" for name in sorted(endpoint.refused)))
    says = f"`{endpoint.answers}`" if endpoint.answers else ""
    return f"| `{endpoint.name}` | {endpoint.direction} | {counts} | {says} | {'; '.join(notes)} |"


def _list(plain: list[Endpoint]) -> str:
    return "\n".join(_lines(plain)) + "\n"


def _lines(plain: list[Endpoint]) -> Iterator[str]:
    methods: dict[str, list[str]] = {}
    for endpoint in plain:
        methods.setdefault(endpoint.template, []).append(endpoint.method)
    for template, which in methods.items():
        yield f"- `{template}`: {', '.join(which)}"


if __name__ == "__main__":
    import stripe

    sys.stdout.write(page(f"stripe {stripe.VERSION}"))
