"""Stripe's test cards: which token or PaymentMethod stands for which card, and how that card behaves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a card was refused: the error's `code`, the issuer's `decline_code` and the sentence shown."""

    code: str
    decline_code: str
    message: str


@dataclass(frozen=True, slots=True)
class Card:
    """One test card. `attaches` is False for a card that is already refused when a customer is given it."""

    brand: str
    last4: str
    decline: Decline | None = None
    needs_authentication: bool = False
    attaches: bool = True


AUTHENTICATION_DECLINE = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)

_BRANDS = {
    "visa": ("visa", "4242"),
    "visa_debit": ("visa", "5556"),
    "mastercard": ("mastercard", "4444"),
    "mastercard_debit": ("mastercard", "8210"),
    "mastercard_prepaid": ("mastercard", "5100"),
    "amex": ("amex", "8431"),
    "discover": ("discover", "9424"),
    "diners": ("diners", "0004"),
    "jcb": ("jcb", "0505"),
    "unionpay": ("unionpay", "0005"),
    "us": ("visa", "4242"),
}

_DECLINED = "Your card was declined."
_DECLINES = {
    "chargeDeclined": ("0002", Decline("card_declined", "generic_decline", _DECLINED)),
    "chargeDeclinedInsufficientFunds": (
        "9995",
        Decline("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    ),
    "chargeDeclinedLostCard": ("9987", Decline("card_declined", "lost_card", _DECLINED)),
    "chargeDeclinedStolenCard": ("9979", Decline("card_declined", "stolen_card", _DECLINED)),
    "chargeDeclinedFraudulent": ("0019", Decline("card_declined", "fraudulent", _DECLINED)),
    "chargeDeclinedExpiredCard": (
        "0069",
        Decline("expired_card", "expired_card", "Your card has expired."),
    ),
    "chargeDeclinedIncorrectCvc": (
        "0127",
        Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    ),
    "chargeDeclinedProcessingError": (
        "0119",
        Decline(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
}


def _test_cards() -> dict[str, Card]:
    cards = {name: Card(brand, last4) for name, (brand, last4) in _BRANDS.items()}
    for name, (last4, decline) in _DECLINES.items():
        card = Card("visa", last4, decline=decline, attaches=False)
        cards[name] = cards[f"visa_{name}"] = card
    # Accepted when it is given to a customer, refused when it is charged.
    cards["chargeCustomerFail"] = Card("visa", "0341", decline=_DECLINES["chargeDeclined"][1])
    for name in ("authenticationRequired", "threeDSecureRequired"):
        cards[name] = Card("visa", "3184", needs_authentication=True)
    return cards


_CARDS = _test_cards()


def card_of_token(token: str) -> Card | None:
    """The card behind a token such as `tok_visa`."""
    return _CARDS.get(token[4:]) if token.startswith("tok_") else None


def card_of_test_payment_method(name: str) -> Card | None:
    """The card behind a ready-made PaymentMethod such as `pm_card_visa`."""
    return _CARDS.get(name[8:]) if name.startswith("pm_card_") else None
