"""The objects the simulator keeps, and how each is written as JSON.

They are small records, not JSON trees, because a load test makes hundreds of thousands of them. All amounts
are integer minor units of the object's currency; all times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.cards import Card, Decline
from stripe_simulator.errors import JsonObject
from stripe_simulator.forms import Form

SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELED = "canceled"
REQUIRES_PAYMENT_METHOD = "requires_payment_method"
REQUIRES_CONFIRMATION = "requires_confirmation"
REQUIRES_ACTION = "requires_action"
REQUIRES_CAPTURE = "requires_capture"
PROCESSING = "processing"
PENDING = "pending"


_NO_BILLING_DETAILS = {"address": None, "email": None, "name": None, "phone": None}


@dataclass(slots=True)
class PaymentMethod:
    """A card somebody may pay with: `pm_…`, or `card_…` when it came from a token."""

    id: str
    created: int
    card: Card
    customer: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    billing_details: Form | None = None
    detached: bool = False

    @property
    def is_bank_account(self) -> bool:
        return self.card.kind == "us_bank_account"

    def details_json(self) -> JsonObject:
        """What a charge shows of the method that paid it."""
        if self.is_bank_account:
            return {"type": self.card.kind, self.card.kind: self._bank_json()}
        return {"card": self.card_json(), "type": "card"}

    def _bank_json(self) -> JsonObject:
        return {
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": "STRIPE TEST BANK",
            "last4": self.card.last4,
            "routing_number": "110000000",
        }

    def card_json(self) -> JsonObject:
        return {
            "brand": self.card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "exp_month": 12,
            "exp_year": 2034,
            "funding": "credit",
            "last4": self.card.last4,
            "network": self.card.brand,
        }

    def json(self) -> JsonObject:
        if self.id.startswith("card_"):
            return self.source_json()
        return {
            "id": self.id,
            "object": "payment_method",
            "billing_details": self.billing_details or _NO_BILLING_DETAILS,
            "created": self.created,
            "customer": self.customer,
            "livemode": False,
            "metadata": self.metadata,
            **self.details_json(),
        }

    def source_json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "card",
            "brand": self.card.brand.capitalize(),
            "country": "US",
            "customer": self.customer,
            "exp_month": 12,
            "exp_year": 2034,
            "funding": "credit",
            "last4": self.card.last4,
            "metadata": {},
        }


@dataclass(slots=True)
class Details:
    """What the caller wrote on a payment and Stripe only keeps: none of it changes what money moves."""

    description: str | None = None
    receipt_email: str | None = None
    shipping: Form | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    transfer_group: str | None = None
    transfer_data: Form | None = None
    on_behalf_of: str | None = None
    application_fee_amount: int | None = None


@dataclass(slots=True)
class Charge:
    """One attempt to take money. `amount_refunded` includes `released`: authorised money never captured."""

    id: str
    created: int
    amount: int
    currency: str
    customer: str | None
    method: PaymentMethod
    details: Details
    metadata: dict[str, str]
    payment_intent: str | None = None
    # The object whose commitment this charge fulfils: itself, an intent, or what made the intent.
    owner: str = ""
    captured: bool = True
    amount_captured: int = 0
    amount_refunded: int = 0
    released: int = 0
    decline: Decline | None = None
    pending: bool = False
    dispute: str | None = None
    refunds: list[Refund] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.decline is not None:
            return FAILED
        return PENDING if self.pending else SUCCEEDED

    @property
    def refundable(self) -> int:
        return self.amount - self.amount_refunded

    @property
    def refunded(self) -> bool:
        """True once nothing of a successful charge is left with the merchant."""
        return self.decline is None and self.refundable == 0

    def _outcome(self) -> JsonObject:
        if self.decline is None:
            return {
                "network_status": "approved_by_network",
                "reason": None,
                "risk_level": "normal",
                "seller_message": "Payment complete.",
                "type": "authorized",
            }
        return {
            "network_status": "declined_by_network",
            "reason": self.decline.decline_code,
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }

    def json(self) -> JsonObject:
        decline = self.decline
        details = self.details
        return {
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount_captured,
            "amount_refunded": self.amount_refunded,
            "application_fee": None,
            "application_fee_amount": details.application_fee_amount,
            # Null as for an intent captured asynchronously: this account settles after the answer.
            "balance_transaction": None,
            "billing_details": self.method.billing_details or _NO_BILLING_DETAILS,
            "calculated_statement_descriptor": details.statement_descriptor or "SIMULATOR",
            "captured": self.captured,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": details.description,
            "disputed": self.dispute is not None,
            "failure_balance_transaction": None,
            "failure_code": decline.code if decline else None,
            "failure_message": decline.message if decline else None,
            "fraud_details": {},
            "livemode": False,
            "metadata": self.metadata,
            "on_behalf_of": details.on_behalf_of,
            "outcome": self._outcome(),
            "paid": decline is None and not self.pending,
            "payment_intent": self.payment_intent,
            "payment_method": self.method.id,
            "payment_method_details": self.method.details_json(),
            "receipt_email": details.receipt_email,
            "receipt_number": None,
            "receipt_url": None,
            "refunded": self.refunded,
            "review": None,
            "shipping": details.shipping,
            "source": self.method.source_json() if self.payment_intent is None else None,
            "source_transfer": None,
            "statement_descriptor": details.statement_descriptor,
            "statement_descriptor_suffix": details.statement_descriptor_suffix,
            "status": self.status,
            "transfer_data": details.transfer_data,
            "transfer_group": details.transfer_group,
        }


@dataclass(slots=True)
class Refund:
    """Money given back from a charge; a refund to an ordinary card succeeds at once here."""

    id: str
    created: int
    amount: int
    currency: str
    charge: str
    payment_intent: str | None
    reason: str | None
    metadata: dict[str, str]
    status: str = SUCCEEDED

    def take_back(self, charge: Charge | None, status: str) -> None:
        """The refund did not reach the customer: what it gave back is refundable again."""
        self.status = status
        if charge is not None:
            charge.amount_refunded -= self.amount

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": None,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "destination_details": {
                "card": {
                    "reference_status": "pending",
                    "reference_type": "acquirer_reference_number",
                    "type": "refund",
                },
                "type": "card",
            },
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": self.status,
            "transfer_reversal": None,
        }


@dataclass(slots=True)
class PaymentIntent:
    """A payment and the steps it goes through. `decline` is the last refusal of a card, if any."""

    id: str
    created: int
    amount: int
    currency: str
    client_secret: str
    capture_method: str
    confirmation_method: str
    customer: str | None
    method: PaymentMethod | None
    details: Details
    metadata: dict[str, str]
    automatic_payment_methods: JsonObject | None
    payment_method_options: Form
    setup_future_usage: str | None
    status: str
    amount_capturable: int = 0
    amount_received: int = 0
    latest_charge: str | None = None
    return_url: str | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    last_payment_error: JsonObject | None = None
    # What the intent pays for: itself, unless an invoice or a checkout session made it.
    owner: str = ""

    @property
    def allows_multicapture(self) -> bool:
        card = self.payment_method_options.get("card")
        return isinstance(card, dict) and card.get("request_multicapture") == "if_available"

    def _next_action(self) -> JsonObject | None:
        if self.status != REQUIRES_ACTION:
            return None
        if self.return_url is None:
            return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
        url = f"https://hooks.stripe.com/redirect/authenticate/{self.id}"
        return {"type": "redirect_to_url", "redirect_to_url": {"return_url": self.return_url, "url": url}}

    def json(self) -> JsonObject:
        details = self.details
        return {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount_capturable,
            "amount_details": {"tip": {}},
            "amount_received": self.amount_received,
            "application": None,
            "application_fee_amount": details.application_fee_amount,
            "automatic_payment_methods": self.automatic_payment_methods,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": self.client_secret,
            "confirmation_method": self.confirmation_method,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": details.description,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.latest_charge,
            "livemode": False,
            "metadata": self.metadata,
            "next_action": self._next_action(),
            "on_behalf_of": details.on_behalf_of,
            "payment_method": self.method.id if self.method else None,
            "payment_method_configuration_details": None,
            "payment_method_options": self.payment_method_options,
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": details.receipt_email,
            "review": None,
            "setup_future_usage": self.setup_future_usage,
            "shipping": details.shipping,
            "source": None,
            "statement_descriptor": details.statement_descriptor,
            "statement_descriptor_suffix": details.statement_descriptor_suffix,
            "status": self.status,
            "transfer_data": details.transfer_data,
            "transfer_group": details.transfer_group,
        }
