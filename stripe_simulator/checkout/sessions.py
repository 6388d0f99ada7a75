"""The checkout session endpoints: create, change, expire, list."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator import currencies
from stripe_simulator.call import Call
from stripe_simulator.checkout.lines import CheckoutLine, change_lines, make_lines, read_lines
from stripe_simulator.checkout.session_objects import (
    DAY_SECONDS,
    EXPIRED,
    MODES,
    OPEN,
    PAYMENT,
    SETUP,
    SUBSCRIPTION,
    Session,
    Terms,
)
from stripe_simulator.checkout.shipping_options import read_shipping_options
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.lists import page, page_of
from stripe_simulator.money import commit
from stripe_simulator.parameters import Parameters

_TEXTS = (
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_email",
    "return_url",
    "success_url",
)
PAYMENT_INTENT_DATA = (
    "application_fee_amount capture_method description metadata on_behalf_of receipt_email "
    "setup_future_usage shipping statement_descriptor statement_descriptor_suffix transfer_data "
    "transfer_group"
)
SUBSCRIPTION_DATA = (
    "application_fee_percent billing_cycle_anchor billing_cycle_anchor_config billing_mode default_tax_rates "
    "description invoice_settings metadata on_behalf_of pending_invoice_item_interval proration_behavior "
    "transfer_data trial_end trial_period_days trial_settings"
)


def read_terms(parameters: Parameters) -> Terms:
    """What is said about the intent or the subscription to come."""
    terms = Terms()
    if (intent := parameters.hash("payment_intent_data", PAYMENT_INTENT_DATA)) is not None:
        methods = ("automatic", "automatic_async", "manual")
        terms.capture_method = intent.choice("capture_method", methods) or "automatic"
        terms.setup_future_usage = intent.choice("setup_future_usage", ("off_session", "on_session"))
        terms.metadata = intent.metadata({})
    if (subscription := parameters.hash("subscription_data", SUBSCRIPTION_DATA)) is not None:
        terms.trial_days = subscription.positive_integer("trial_period_days")
        terms.trial_end = subscription.positive_integer("trial_end")
        terms.metadata = subscription.metadata({})
    return terms


def check_mode(mode: str, lines: list[CheckoutLine]) -> None:
    """Refuse prices that the mode cannot sell."""
    recurring = [line.price.id for line in lines if line.price.recurring]
    if mode == PAYMENT and recurring:
        raise StripeError(
            400,
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode "
            "or use only one-time prices.",
            param="line_items",
        )
    if mode == SUBSCRIPTION and not recurring:
        message = "You must provide at least one recurring price in `subscription` mode."
        raise StripeError(400, message, param="line_items")
    if sum(1 for line in lines if line.price.custom) and len(lines) > 1:
        raise StripeError(400, "A price with a custom amount must be the only line item.", param="line_items")


def _check_total(session: Session) -> None:
    custom = any(line.price.custom for line in session.lines)
    least = currencies.smallest_charge(session.currency)
    if session.mode == PAYMENT and not custom and 0 < session.total < least:
        raise StripeError(
            400,
            "The Checkout Session's total amount due must add up to at least "
            f"{currencies.written(least, session.currency)} {session.currency}",
            code="amount_too_small",
        )
    if session.total > currencies.LARGEST_CHARGE:
        raise StripeError(400, "The Checkout Session's total is too large.", code="amount_too_large")


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    mode = parameters.choice("mode", MODES) or PAYMENT
    requests = read_lines(parameters)
    if bool(requests) == (mode == SETUP):
        raise (
            missing_parameter("line_items")
            if mode != SETUP
            else StripeError(400, "You can not pass `line_items` in `setup` mode.", param="line_items")
        )
    currency = parameters.currency() if "currency" in parameters else None
    options = read_shipping_options(parameters)
    session = Session(
        id="",
        created=call.now,
        mode=mode,
        currency=currency or "usd",
        expires_at=_expiry(parameters, call.now),
        metadata=parameters.metadata({}),
        terms=read_terms(parameters),
        setup_currency=currency,
        ui_mode=parameters.text("ui_mode") or "hosted",
    )
    for name in _TEXTS:
        setattr(session, name, parameters.text(name))
    call.begin()
    if session.customer is not None:
        existing_customer(call, session.customer)
    session.lines, session.currency = make_lines(call, requests, currency)
    session.shipping_options = [find(call) for find in options]
    session.shipping = 0 if options else None
    check_mode(mode, session.lines)
    _check_total(session)
    return keep_session(call, session).json()


def keep_session(call: Call, session: Session) -> Session:
    """Keep a new session and commit the most that a customer can make of it."""
    session.id = call.new_id("cs_test")
    session.payment_status = "unpaid" if session.most > 0 else "no_payment_required"
    call.ledger.sessions.add(session)
    if session.payment_link is not None:
        call.ledger.commitments.hand_over(session.payment_link, session.id, session.most)
    commit(call, session.id, session.most, session.currency)
    return session


def _expiry(parameters: Parameters, now: int) -> int:
    expires = parameters.integer("expires_at")
    if expires is None:
        return now + DAY_SECONDS
    if not now + 30 * 60 <= expires <= now + DAY_SECONDS:
        raise StripeError(
            400,
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout "
            "Session creation.",
            param="expires_at",
        )
    return expires


def _at_path(call: Call) -> Session:
    session = call.ledger.sessions.require(call.path_ids[0], param="session")
    expire_if_due(call, session)
    return session


def expire_if_due(call: Call, session: Session) -> None:
    """Time alone ends an open session."""
    if session.status == OPEN and call.now >= session.expires_at:
        _expire(call, session)


def _expire(call: Call, session: Session) -> None:
    session.status = EXPIRED
    commit(call, session.id, 0, session.currency)
    record_event(call, "checkout.session.expired", session.json())


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def update(call: Call) -> JsonObject:
    """Metadata, and of an open session what it sells and how it is sent."""
    parameters = call.parameters
    requests, options = read_lines(parameters), read_shipping_options(parameters)
    parameters.metadata({})
    call.begin()
    session = _at_path(call)
    if (requests or options) and session.status != OPEN:
        raise StripeError(400, f"Only an open session can be updated; this one is {session.status}.")
    if requests:
        change_lines(call, session.lines, requests, session.currency)
        check_mode(session.mode, session.lines)
    if options:
        session.shipping_options = [find(call) for find in options]
        session.shipping = 0
    session.metadata = parameters.metadata(session.metadata)
    if session.status == OPEN:
        commit(call, session.id, session.most, session.currency)
    return session.json()


def expire(call: Call) -> JsonObject:
    call.begin()
    session = _at_path(call)
    if session.status != OPEN:
        raise StripeError(
            400,
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a '
            f"status of `{session.status}`.",
        )
    _expire(call, session)
    return session.json()


@dataclass(slots=True)
class _Shown:
    """A line with the currency it is shown in."""

    line: CheckoutLine
    currency: str

    @property
    def id(self) -> str:
        return self.line.id

    @property
    def created(self) -> int:
        return self.line.created

    def json(self) -> JsonObject:
        return self.line.json_in(self.currency)


def page_of_lines(call: Call, lines: list[CheckoutLine], currency: str) -> JsonObject:
    return page_of(call, [_Shown(line, currency) for line in lines], "line_item")


def list_line_items(call: Call) -> JsonObject:
    session = _at_path(call)
    return page_of_lines(call, session.lines, session.currency)


def list_sessions(call: Call) -> JsonObject:
    parameters = call.parameters
    names = ("customer", "payment_intent", "payment_link", "status", "subscription")
    wanted = {name: value for name in names if (value := parameters.text(name)) is not None}

    def keep(session: Session) -> bool:
        expire_if_due(call, session)
        return all(getattr(session, name) == value for name, value in wanted.items())

    return page(call, call.ledger.sessions, keep)
