"""Setup intents: saving a method to charge later. They move no money."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from stripe_simulator.call import Call
from stripe_simulator.customers import existing_customer
from stripe_simulator.errors import JsonObject, StripeError
from stripe_simulator.events import record_event
from stripe_simulator.intent_confirmation import named_method, read_method_name
from stripe_simulator.lists import page
from stripe_simulator.objects import (
    CANCELED,
    REQUIRES_ACTION,
    REQUIRES_CONFIRMATION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
    PaymentMethod,
)

CANCELLATION_REASONS = ("abandoned", "duplicate", "requested_by_customer")
_UNCONFIRMED = (REQUIRES_PAYMENT_METHOD, REQUIRES_CONFIRMATION, REQUIRES_ACTION)


@dataclass(slots=True)
class SetupIntent:
    id: str
    created: int
    client_secret: str
    customer: str | None
    method: PaymentMethod | None
    usage: str
    status: str
    description: str | None = None
    cancellation_reason: str | None = None
    last_setup_error: JsonObject | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self) -> JsonObject:
        waits = self.status == REQUIRES_ACTION
        return {
            "id": self.id,
            "object": "setup_intent",
            "cancellation_reason": self.cancellation_reason,
            "client_secret": self.client_secret,
            "created": self.created,
            "customer": self.customer,
            "description": self.description,
            "last_setup_error": self.last_setup_error,
            "latest_attempt": None,
            "livemode": False,
            "mandate": None,
            "metadata": self.metadata,
            "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}} if waits else None,
            "on_behalf_of": None,
            "payment_method": self.method.id if self.method else None,
            "payment_method_types": ["card"],
            "status": self.status,
            "usage": self.usage,
        }


def saved_setup(call: Call, method: PaymentMethod, customer: str | None) -> SetupIntent:
    """A setup that a checkout page made and finished."""
    setup = _keep(call, SetupIntent("", call.now, "", customer, method, "off_session", REQUIRES_CONFIRMATION))
    _succeed(call, setup)
    return setup


def _keep(call: Call, setup: SetupIntent) -> SetupIntent:
    setup.id = call.new_id("seti")
    setup.client_secret = f"{setup.id}_secret_{secrets.token_hex(12)}"
    call.ledger.setup_intents.add(setup)
    record_event(call, "setup_intent.created", setup.json())
    return setup


def _succeed(call: Call, setup: SetupIntent) -> None:
    setup.status, setup.last_setup_error = SUCCEEDED, None
    if setup.method is not None and setup.customer is not None:
        setup.method.customer = setup.customer
    record_event(call, "setup_intent.succeeded", setup.json())


def resolve_setup(call: Call, setup: SetupIntent, *, succeeded: bool) -> None:
    """The customer authenticated, or failed to."""
    if succeeded:
        _succeed(call, setup)
        return
    setup.status, setup.method = REQUIRES_PAYMENT_METHOD, None
    setup.last_setup_error = {
        "code": "setup_intent_authentication_failure",
        "message": "The provided PaymentMethod has failed authentication.",
        "type": "invalid_request_error",
    }
    record_event(call, "setup_intent.setup_failed", setup.json())


def _confirm(call: Call, setup: SetupIntent) -> None:
    method = setup.method
    if method is None:
        raise StripeError(
            400,
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
        )
    if method.card.decline is not None and not method.card.attaches:
        decline = method.card.decline
        setup.status, setup.method = REQUIRES_PAYMENT_METHOD, None
        record_event(call, "setup_intent.setup_failed", setup.json())
        raise StripeError(
            402,
            decline.message,
            type="card_error",
            code=decline.code,
            details={"decline_code": decline.decline_code, "setup_intent": setup.json()},
        )
    if method.card.needs_authentication:
        setup.status = REQUIRES_ACTION
        record_event(call, "setup_intent.requires_action", setup.json())
    else:
        _succeed(call, setup)


def create(call: Call) -> JsonObject:
    parameters = call.parameters
    customer, method_name = parameters.text("customer"), read_method_name(parameters)
    confirm_now = parameters.boolean("confirm", default=False)
    setup = SetupIntent(
        "",
        call.now,
        "",
        customer,
        None,
        parameters.choice("usage", ("off_session", "on_session")) or "off_session",
        REQUIRES_PAYMENT_METHOD,
        description=parameters.text("description"),
        metadata=parameters.metadata({}),
    )
    call.begin()
    if customer is not None:
        existing_customer(call, customer)
    if method_name is not None:
        setup.method, setup.status = named_method(call, method_name), REQUIRES_CONFIRMATION
    _keep(call, setup)
    if confirm_now:
        _confirm(call, setup)
    return setup.json()


def _at_path(call: Call) -> SetupIntent:
    return call.ledger.setup_intents.require(call.path_ids[0], param="intent")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def _require_unconfirmed(setup: SetupIntent, verb: str) -> None:
    if setup.status not in _UNCONFIRMED:
        raise StripeError(
            400,
            f"You cannot {verb} this SetupIntent because it has a status of {setup.status}.",
            code="setup_intent_unexpected_state",
            details={"setup_intent": setup.json()},
        )


def update(call: Call) -> JsonObject:
    parameters = call.parameters
    customer, method_name = parameters.text("customer"), read_method_name(parameters)
    parameters.metadata({})
    call.begin()
    setup = _at_path(call)
    if customer is not None or method_name is not None:
        _require_unconfirmed(setup, "update")
    if customer is not None:
        setup.customer = existing_customer(call, customer).id
    if method_name is not None:
        setup.method, setup.status = named_method(call, method_name), REQUIRES_CONFIRMATION
    if "description" in parameters:
        setup.description = parameters.text("description")
    setup.metadata = parameters.metadata(setup.metadata)
    return setup.json()


def confirm(call: Call) -> JsonObject:
    method_name = read_method_name(call.parameters)
    call.begin()
    setup = _at_path(call)
    _require_unconfirmed(setup, "confirm")
    if method_name is not None:
        setup.method = named_method(call, method_name)
    _confirm(call, setup)
    return setup.json()


def cancel(call: Call) -> JsonObject:
    reason = call.parameters.choice("cancellation_reason", CANCELLATION_REASONS)
    call.begin()
    setup = _at_path(call)
    _require_unconfirmed(setup, "cancel")
    setup.status, setup.cancellation_reason = CANCELED, reason
    record_event(call, "setup_intent.canceled", setup.json())
    return setup.json()


def list_setups(call: Call) -> JsonObject:
    customer, method = call.parameters.text("customer"), call.parameters.text("payment_method")

    def keep(setup: SetupIntent) -> bool:
        return customer in (None, setup.customer) and method in (None, setup.method and setup.method.id)

    return page(call, call.ledger.setup_intents, keep)
