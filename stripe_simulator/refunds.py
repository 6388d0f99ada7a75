"""Refunds, by charge or by intent, and the older paths under a charge."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.charges import release_hold
from stripe_simulator.currencies import written
from stripe_simulator.errors import JsonObject, StripeError, no_such_object
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.money import OUT, commit, move
from stripe_simulator.objects import CANCELED, REQUIRES_ACTION, SUCCEEDED, Charge, Refund

REASONS = ("duplicate", "fraudulent", "requested_by_customer")


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    charge_id, intent_id = parameters.text("charge"), parameters.text("payment_intent")
    if charge_id is None and intent_id is None:
        raise StripeError(
            400,
            "One of the following params should be provided for this request: payment_intent or charge.",
        )
    amount, reason, metadata = _read_refund(call)
    call.begin()
    charge = _charge_to_refund(call, charge_id, intent_id)
    return give_back(call, charge, amount, reason, metadata).json()


def create_for_charge(call: Call) -> JsonObject:
    """The older `POST /v1/charges/{id}/refunds`: answers with the refund."""
    return _refund_path_charge(call)[1].json()


def refund_charge(call: Call) -> JsonObject:
    """The older `POST /v1/charges/{id}/refund`: answers with the charge, not with the refund."""
    return _refund_path_charge(call)[0].json()


def _refund_path_charge(call: Call) -> tuple[Charge, Refund]:
    amount, reason, metadata = _read_refund(call)
    call.begin()
    charge = call.ledger.charges.require(call.path_ids[0], param="id")
    return charge, give_back(call, charge, amount, reason, metadata)


def _read_refund(call: Call) -> tuple[int | None, str | None, dict[str, str]]:
    parameters = call.parameters
    parameters.boolean("refund_application_fee", default=False)
    parameters.boolean("reverse_transfer", default=False)
    return (
        parameters.positive_integer("amount"),
        parameters.choice("reason", REASONS),
        parameters.metadata({}),
    )


def _charge_to_refund(call: Call, charge_id: str | None, intent_id: str | None) -> Charge:
    if intent_id is None:
        return call.ledger.charges.require(charge_id or "", param="id")
    intent = call.ledger.payment_intents.require(intent_id, param="payment_intent")
    charge = call.ledger.charges.get(intent.latest_charge) if intent.latest_charge else None
    if charge is None:
        raise _nothing_to_refund(intent.id)
    if charge_id not in (None, charge.id):
        raise StripeError(
            400, f"Charge {charge_id} does not belong to PaymentIntent {intent.id}.", param="charge"
        )
    return charge


def _nothing_to_refund(intent_id: str) -> StripeError:
    return StripeError(400, f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.")


def _refuse_unrefundable(charge: Charge) -> None:
    intent = charge.payment_intent
    took_nothing = charge.decline is not None or (charge.refunded and charge.amount_captured == 0)
    if intent is not None and took_nothing:
        raise _nothing_to_refund(intent)
    if charge.decline is not None:
        raise StripeError(400, f"Charge {charge.id} has failed and cannot be refunded.")
    if charge.pending:
        raise StripeError(400, f"Charge {charge.id} is pending and cannot be refunded yet.")
    if charge.dispute is not None:
        message = f"Charge {charge.id} has been charged back; cannot issue a refund."
        raise StripeError(400, message, code="charge_disputed")
    if charge.refunded:
        message = f"Charge {charge.id} has already been refunded."
        raise StripeError(400, message, code="charge_already_refunded")
    if intent is not None and not charge.captured:
        raise StripeError(
            400,
            f"This uncaptured Charge was created by a PaymentIntent ({intent}). You must cancel the "
            "PaymentIntent to reverse the authorization instead of refunding the Charge directly. For more "
            "information, see https://stripe.com/docs/payments/place-a-hold-on-a-payment-method",
        )


def give_back(
    call: Call, charge: Charge, amount: int | None, reason: str | None, metadata: dict[str, str]
) -> Refund:
    """Give `amount` minor units back, or everything not yet given back."""
    _refuse_unrefundable(charge)
    if amount is None:
        amount = charge.refundable
    if amount > charge.refundable:
        asked, left = written(amount, charge.currency), written(charge.refundable, charge.currency)
        raise StripeError(
            400,
            f"Refund amount ({asked}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    if not charge.captured and amount != charge.amount:
        raise StripeError(
            400,
            "You cannot partially refund an uncaptured charge. Instead, capture the charge for an amount "
            "less than the original amount",
            param="amount",
        )
    refund = Refund(
        id=call.new_id("re"),
        created=call.now,
        amount=amount,
        currency=charge.currency,
        charge=charge.id,
        payment_intent=charge.payment_intent,
        reason=reason,
        metadata=metadata,
        status=charge.method.card.refunds if charge.captured else SUCCEEDED,
    )
    call.ledger.refunds.add(refund)
    charge.refunds.append(refund)
    record_event(call, "refund.created", refund.json())
    if charge.captured:
        before = charge.json()
        charge.amount_refunded += amount
        if refund.status == SUCCEEDED:
            move(call, refund.id, amount, charge.currency, OUT)
        else:
            commit(call, refund.id, amount, charge.currency, OUT)
        record_event(call, "charge.refunded", charge.json(), before)
    else:
        release_hold(call, charge)
    return refund


def _refund_at_path(call: Call) -> Refund:
    """By its own id, or below a charge, where a refund of another charge does not exist."""
    refund = call.ledger.refunds.require(call.path_ids[-1], param="refund")
    if len(call.path_ids) > 1 and refund.charge != call.path_ids[0]:
        raise no_such_object("refund", refund.id, param="refund")
    return refund


def retrieve(call: Call) -> JsonObject:
    return _refund_at_path(call).json()


def update(call: Call) -> JsonObject:
    """Metadata only."""
    call.parameters.metadata({})
    call.begin()
    refund = _refund_at_path(call)
    before = refund.json()
    refund.metadata = call.parameters.metadata(refund.metadata)
    after = refund.json()
    record_event(call, "refund.updated", after, before)
    return after


def cancel(call: Call) -> JsonObject:
    """Only a refund that waits for the customer can be canceled."""
    call.begin()
    refund = _refund_at_path(call)
    if refund.status != REQUIRES_ACTION:
        raise StripeError(400, "Canceling this refund is unsupported.")
    before = refund.json()
    refund.take_back(call.ledger.charges.get(refund.charge), CANCELED)
    commit(call, refund.id, 0, refund.currency, OUT)
    record_event(call, "refund.updated", refund.json(), before)
    return refund.json()


def list_refunds(call: Call) -> JsonObject:
    charge_id = call.path_ids[0] if call.path_ids else call.parameters.text("charge")
    intent_id = call.parameters.text("payment_intent")
    if call.path_ids:
        call.ledger.charges.require(call.path_ids[0], param="id")

    def keep(refund: Refund) -> bool:
        return (charge_id is None or refund.charge == charge_id) and (
            intent_id is None or refund.payment_intent == intent_id
        )

    return page(call, call.ledger.refunds, keep)
