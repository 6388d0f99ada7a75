"""A request as it came off the wire, and the authentic parameters in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stripe_simulator.authentication import account_of, check_key, read_credentials
from stripe_simulator.errors import StripeError
from stripe_simulator.forms import Form, Upload, parse_body, parse_form
from stripe_simulator.json_bodies import parse_json
from stripe_simulator.request_log import LoggedRequest


@dataclass(slots=True)
class Incoming:
    """Header names are looked up without regard to case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    entry: LoggedRequest
    body: bytes = b""
    uploads: dict[str, Upload] = field(default_factory=dict)

    def take_body(self, body: bytes) -> None:
        self.body = self.entry.body = body

    @property
    def is_v2(self) -> bool:
        return self.path.startswith("/v2/")

    @property
    def idempotency_key(self) -> str | None:
        """Only a POST has one, and in v2 a DELETE; an empty header is none."""
        if self.method == "POST" or (self.is_v2 and self.method == "DELETE"):
            return self.headers.get("Idempotency-Key") or None
        return None


def note_key(incoming: Incoming) -> None:
    """Log whose request it is, of one that a fault strikes before it is authenticated."""
    credentials = read_credentials(incoming.headers, {})
    incoming.entry.authorization, incoming.entry.key_last4 = credentials.kind, credentials.last4


def authenticated_form(incoming: Incoming, secret_keys: frozenset[str]) -> Form:
    """The parameters of an authentic request, without the API key and the account."""
    refusal: StripeError | None = None
    form: Form = {}
    try:
        form = _read_form(incoming)
    except StripeError as error:
        # Stripe wants a key before it talks about anything else.
        refusal = error
    credentials = read_credentials(incoming.headers, form)
    incoming.entry.authorization, incoming.entry.key_last4 = credentials.kind, credentials.last4
    form.pop("key", None)
    incoming.entry.parameters = form
    check_key(credentials, secret_keys)
    if refusal is not None:
        raise refusal
    incoming.entry.stripe_account = account_of(incoming.headers, form)
    form.pop("_stripe_account", None)
    return form


def _read_form(incoming: Incoming) -> Form:
    """Query and body merged as Rack does: a name in the body replaces the same name in the query."""
    form = parse_form(incoming.query) if incoming.query else {}
    content_type = incoming.headers.get("Content-Type", "")
    if incoming.is_v2:
        if incoming.body:
            form.update(parse_json(content_type, incoming.body))
    elif incoming.body or (incoming.method == "POST" and content_type):
        form.update(parse_body(content_type, incoming.body, incoming.uploads))
    return form
