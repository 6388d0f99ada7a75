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
    """One test card, or one bank account. `attaches` is False for what a customer cannot even be given.

    `settles_later`: whether it pays is only known when a test says so. `dispute`: the reason for which its
    owner disputes every charge. `refunds`: the status a refund to it begins with.
    """

    brand: str
    last4: str
    decline: Decline | None = None
    needs_authentication: bool = False
    attaches: bool = True
    kind: str = "card"
    settles_later: bool = False
    dispute: str | None = None
    refunds: str = "succeeded"


AUTHENTICATION_DECLINE = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)

AUTHENTICATION_FAILURE = Decline(
    "payment_intent_authentication_failure",
    "authentication_required",
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
    "PaymentMethod to attempt to fulfill this PaymentIntent again.",
)
DEBIT_FAILURE = Decline(
    "payment_method_provider_decline",
    "insufficient_funds",
    "The customer's account has insufficient funds to cover this payment.",
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
    cards["createDispute"] = Card("visa", "0259", dispute="fraudulent")
    cards["createDisputeProductNotReceived"] = Card("visa", "2685", dispute="product_not_received")
    cards["pendingRefund"] = Card("visa", "7726", refunds="pending")
    # Stripe has no card for these two; a refund that waits for the customer and a debit that takes days.
    cards["refundRequiresAction"] = Card("visa", "7734", refunds="requires_action")
    cards["usBankAccount"] = _BANK_ACCOUNT
    return cards


_BANK_ACCOUNT = Card("stripe_test_bank", "6789", kind="us_bank_account", settles_later=True)
_BANK_NAMES = ("pm_usBankAccount", "pm_usBankAccount_processing", "pm_usBankAccount_success")
_CARDS = _test_cards()


def card_of_token(token: str) -> Card | None:
    """The card behind a token such as `tok_visa`."""
    return _CARDS.get(token[4:]) if token.startswith("tok_") else None


def card_of_test_payment_method(name: str) -> Card | None:
    """The card behind a ready-made PaymentMethod such as `pm_card_visa`."""
    if name in _BANK_NAMES:
        return _BANK_ACCOUNT
    return _CARDS.get(name[8:]) if name.startswith("pm_card_") else None
