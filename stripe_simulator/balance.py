"""The account's balance: what moved in less what moved out. The simulator takes no fees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.lists import page
from stripe_simulator.money import Booking

if TYPE_CHECKING:
    from stripe_simulator.funds.payouts import Payout
    from stripe_simulator.v2.outbound import Outbound


def retrieve(call: Call) -> JsonObject:
    currencies = list(call.ledger.funds) or ["usd"]
    return {
        "object": "balance",
        "available": [_entry(available(call, currency), currency) for currency in currencies],
        "livemode": False,
        "pending": [_entry(0, currency) for currency in currencies],
    }


def retrieve_transaction(call: Call) -> JsonObject:
    return call.ledger.bookings.require(call.path_ids[0], param="id").json()


def list_transactions(call: Call) -> JsonObject:
    """Everything that moved the balance."""
    parameters = call.parameters
    source, currency = parameters.text("source"), parameters.text("currency")
    payout, kind = parameters.text("payout"), parameters.text("type")
    if payout is not None:
        raise StripeError(400, "The simulator does not say which payout paid what out.", param="payout")

    def keep(booking: Booking) -> bool:
        return (
            source in (None, booking.source)
            and currency in (None, booking.currency)
            and kind in (None, booking.json()["type"])
        )

    return page(call, call.ledger.bookings, keep)


def available(call: Call, currency: str) -> int:
    """Minor units; a payout or an outbound payment under way is no longer available."""
    ledger = call.ledger
    under_way: list[Payout | Outbound] = [
        *ledger.payouts,
        *ledger.outbound_payments,
        *ledger.outbound_transfers,
    ]
    leaving = sum(one.amount for one in under_way if one.currency == currency and one.is_under_way)
    return ledger.funds.get(currency, 0) - leaving


def require_funds(call: Call, amount: int, currency: str) -> None:
    """Refuse what the balance does not have, once a test has said how much there is."""
    if call.settings.limited_funds and amount > available(call, currency):
        raise StripeError(
            400,
            "You have insufficient available funds in your Stripe account.",
            code="balance_insufficient",
        )


def _entry(amount: int, currency: str) -> JsonObject:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
