"""The customer at a checkout page: chooses, pays, and what comes of it. All of this is outside the API."""

from __future__ import annotations

from dataclasses import dataclass, field

from stripe_simulator.billing.subscription_billing import ERROR_IF_INCOMPLETE
from stripe_simulator.billing.subscription_creation import Plan, start
from stripe_simulator.billing.subscription_objects import Subscription
from stripe_simulator.billing.subscription_reading import ItemRequest
from stripe_simulator.call import Call
from stripe_simulator.checkout.payment_links import PaymentLink, commit_link
from stripe_simulator.checkout.session_objects import (
    COMPLETE,
    DAY_SECONDS,
    EXPIRED,
    OPEN,
    PAYMENT,
    SETUP,
    Session,
)
from stripe_simulator.checkout.sessions import expire_if_due, keep_session
from stripe_simulator.customer_objects import Customer
from stripe_simulator.errors import StripeError
from stripe_simulator.events import record_event
from stripe_simulator.intent_confirmation import Confirmation, confirm_intent
from stripe_simulator.intents import open_intent, when_intent_changes
from stripe_simulator.money import commit
from stripe_simulator.objects import CANCELED, SUCCEEDED, PaymentIntent, PaymentMethod
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import PriceRequest
from stripe_simulator.setup_intents import saved_setup


@dataclass(slots=True)
class Choices:
    """What the customer enters: quantities by line, an amount of their own, and how it is sent."""

    method: PaymentMethod
    quantities: dict[int, int] = field(default_factory=dict)
    amount: int | None = None
    shipping: int | None = None


def pay_session(call: Call, session: Session, choices: Choices) -> None:
    """Pay an open session; raises what the customer would be told instead."""
    expire_if_due(call, session)
    if session.status != OPEN:
        raise StripeError(400, f"This session is {session.status}.")
    _choose(session, choices)
    customer = _customer(call, session)
    if session.mode == SETUP:
        session.setup_intent = saved_setup(call, choices.method, customer).id
        session.payment_status = "no_payment_required"
    elif session.mode == PAYMENT:
        _pay(call, session, choices.method, customer)
    else:
        _subscribe(call, session, choices.method, customer)
    session.status = COMPLETE
    record_event(call, "checkout.session.completed", session.json())


def pay_link(call: Call, link: PaymentLink, choices: Choices) -> Session:
    """Open a payment link and pay the session it makes."""
    if not link.active:
        raise StripeError(400, f"The payment link {link.id} is not active.")
    if link.limit is not None and link.completed >= link.limit:
        raise StripeError(400, f"The payment link {link.id} has been completed as often as it may be.")
    session = keep_session(call, link.open_session(call.now))
    try:
        pay_session(call, session, choices)
    except StripeError:
        # The page closes, and the link may be tried again.
        session.status = EXPIRED
        call.ledger.commitments.hand_over(session.id, link.id)
        commit_link(call, link, was_open=True)
        raise
    link.completed += 1
    if link.limit is not None and link.completed >= link.limit:
        link.active = False
    commit_link(call, link, was_open=True)
    return session


def _choose(session: Session, choices: Choices) -> None:
    for index, quantity in choices.quantities.items():
        line = session.lines[index]
        if line.most is None or not (line.least or 0) <= quantity <= line.most:
            raise StripeError(400, f"The quantity of line {index} cannot be {quantity}.")
        line.quantity = quantity
    custom = next((line for line in session.lines if line.price.custom is not None), None)
    if choices.amount is not None:
        bounds = custom.price.custom if custom is not None else None
        if custom is None or bounds is None:
            raise StripeError(400, "No line of this session has an amount to choose.")
        if choices.amount < (bounds.minimum or 1) or choices.amount > (bounds.maximum or choices.amount):
            raise StripeError(400, f"The amount cannot be {choices.amount}.")
        custom.chosen = choices.amount
    if choices.shipping is not None:
        if not 0 <= choices.shipping < len(session.shipping_options):
            raise StripeError(400, f"There is no shipping option {choices.shipping}.")
        session.shipping = choices.shipping


def _customer(call: Call, session: Session) -> str | None:
    """The session's customer; a subscription and a saved card need one, which is then made."""
    if session.customer is None and session.mode != PAYMENT:
        made = Customer(call.new_id("cus"), call.now, {}, email=session.customer_email)
        session.customer = call.ledger.customers.add(made).id
        record_event(call, "customer.created", made.json())
    return session.customer


def _pay(call: Call, session: Session, method: PaymentMethod, customer: str | None) -> None:
    if session.total == 0:
        session.payment_status = "no_payment_required"
        return
    intent = open_intent(
        call,
        owner=session.id,
        amount=session.total,
        currency=session.currency,
        customer=customer,
        method=method,
        capture_method=session.terms.capture_method,
        metadata=dict(session.terms.metadata),
    )
    intent.setup_future_usage = session.terms.setup_future_usage
    session.payment_intent = intent.id
    confirm_intent(call, intent, Confirmation(off_session=False, error_on_requires_action=True))
    # Held, or on its way: what the customer did not choose is free again.
    commit(call, session.id, 0 if intent.status == SUCCEEDED else session.total, session.currency)


def _subscribe(call: Call, session: Session, method: PaymentMethod, customer: str | None) -> None:
    if method.customer is None:
        method.customer = customer
    subscription = Subscription(
        "", call.now, customer or "", session.currency, "charge_automatically", dict(session.terms.metadata)
    )
    subscription.default_payment_method = method.id
    trial_end = session.terms.trial_end
    if session.terms.trial_days is not None:
        trial_end = call.now + session.terms.trial_days * DAY_SECONDS
    items = [_item(call, session, index) for index, line in enumerate(session.lines) if line.price.recurring]
    once = [line for line in session.lines if not line.price.recurring]
    plan = Plan(
        subscription, items, [], ERROR_IF_INCOMPLETE, session.currency, trial_end, takes_over=session.id
    )
    plan.once = [(line.price, line.quantity) for line in once]
    try:
        start(call, plan)
    except StripeError:
        commit(call, session.id, session.most, session.currency)
        raise
    session.subscription, session.invoice = subscription.id, subscription.latest_invoice
    session.payment_status = "paid" if session.total else "no_payment_required"


def _item(call: Call, session: Session, index: int) -> ItemRequest:
    line = session.lines[index]
    request = PriceRequest(Parameters({}), line.price.id, lambda _: line.price, "price")
    quantity = None if line.price.is_metered else line.quantity
    return ItemRequest(Parameters({}), None, request, quantity)


def _intent_changed(call: Call, intent: PaymentIntent) -> None:
    """A session's intent may be decided long after the customer left."""
    session = call.ledger.sessions.get(intent.owner)
    if session is None:
        return
    late = session.status == COMPLETE
    if intent.status == SUCCEEDED:
        session.payment_status = "paid"
        if late:
            record_event(call, "checkout.session.async_payment_succeeded", session.json())
    elif late:
        commit(call, session.id, 0, session.currency)
        if intent.status != CANCELED:
            record_event(call, "checkout.session.async_payment_failed", session.json())


when_intent_changes("cs", _intent_changed)
