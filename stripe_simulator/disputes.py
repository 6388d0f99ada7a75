"""Disputes: a cardholder who wants money back through the bank. Only a test or a test card opens one."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import OUT, commit, move
from stripe_simulator.objects import Charge

NEEDS_RESPONSE = "needs_response"
UNDER_REVIEW = "under_review"
OPEN = (NEEDS_RESPONSE, UNDER_REVIEW)


@dataclass(slots=True)
class Dispute:
    """Until it is decided the amount is withheld; here that is a commitment to pay it back."""

    id: str
    created: int
    amount: int
    currency: str
    charge: str
    payment_intent: str | None
    reason: str
    status: str = NEEDS_RESPONSE
    evidence: JsonObject = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": [],
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "enhanced_eligibility_types": [],
            "evidence": self.evidence,
            "evidence_details": {
                "due_by": self.created + 7 * 24 * 60 * 60,
                "has_evidence": bool(self.evidence),
                "past_due": False,
                "submission_count": 1 if self.status == UNDER_REVIEW else 0,
            },
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "status": self.status,
        }


def dispute_if_the_card_says_so(call: Call, charge: Charge) -> None:
    reason = charge.method.card.dispute
    if reason is not None and charge.amount_captured > 0 and not charge.pending:
        open_dispute(call, charge, charge.amount_captured, reason)


def open_dispute(call: Call, charge: Charge, amount: int, reason: str) -> Dispute:
    dispute = Dispute(
        call.new_id("du"), call.now, amount, charge.currency, charge.id, charge.payment_intent, reason
    )
    call.ledger.disputes.add(dispute)
    charge.dispute = dispute.id
    commit(call, dispute.id, amount, charge.currency, OUT)
    record_event(call, "charge.dispute.created", dispute.json())
    record_event(call, "charge.dispute.funds_withdrawn", dispute.json())
    return dispute


def decide(call: Call, dispute: Dispute, *, won: bool) -> None:
    """The bank's word, or the merchant giving up."""
    before = dispute.json()
    if won:
        dispute.status = "won"
        commit(call, dispute.id, 0, dispute.currency, OUT)
        record_event(call, "charge.dispute.funds_reinstated", dispute.json(), before)
    else:
        dispute.status = "lost"
        move(call, dispute.id, dispute.amount, dispute.currency, OUT)
    record_event(call, "charge.dispute.closed", dispute.json(), before)


def _at_path(call: Call) -> Dispute:
    """By its own id, or the dispute of the charge in the path."""
    found = call.path_ids[0]
    if call.path.startswith("/v1/charges/"):
        charge = call.ledger.charges.require(found, param="id")
        if charge.dispute is None:
            raise StripeError(404, f"No dispute for charge: {charge.id}", code="resource_missing", param="id")
        found = charge.dispute
    return call.ledger.disputes.require(found, param="dispute")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Evidence; unless `submit=false`, it goes to the bank, which then reviews it."""
    parameters = call.parameters
    evidence = parameters.mapping("evidence")
    submit = parameters.boolean("submit", default=True)
    parameters.metadata({})
    call.begin()
    dispute = _at_path(call)
    before = dispute.json()
    if evidence is not None:
        if dispute.status not in OPEN:
            raise StripeError(400, "This dispute is already closed.")
        dispute.evidence = {**dispute.evidence, **evidence}
        dispute.status = UNDER_REVIEW if submit else dispute.status
    dispute.metadata = parameters.metadata(dispute.metadata)
    record_event(call, "charge.dispute.updated", dispute.json(), before)
    return dispute.json()


def close(call: Call) -> JsonObject:
    """Concede: the whole disputed amount is given up for good."""
    call.begin()
    dispute = _at_path(call)
    if dispute.status not in OPEN:
        raise StripeError(400, "This dispute is already closed.")
    decide(call, dispute, won=False)
    return dispute.json()


def list_disputes(call: Call) -> JsonObject:
    charge, intent = call.parameters.text("charge"), call.parameters.text("payment_intent")

    def keep(dispute: Dispute) -> bool:
        return charge in (None, dispute.charge) and intent in (None, dispute.payment_intent)

    return page(call, call.ledger.disputes, keep)
