"""The account's balance: what was captured less what was given back. The simulator takes no fees."""

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject


def retrieve(call: Call) -> JsonObject:
    available = {
        currency: total["captured"] - total["refunded"] for currency, total in call.ledger.money().items()
    }
    if not available:
        available = {"usd": 0}
    return {
        "object": "balance",
        "available": [_entry(amount, currency) for currency, amount in available.items()],
        "livemode": False,
        "pending": [_entry(0, currency) for currency in available],
    }


def _entry(amount: int, currency: str) -> JsonObject:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
