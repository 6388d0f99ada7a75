"""Stripe's own mock says whether our requests have the shape of Stripe's public specification.

It knows every endpoint and parameter that is public, and answers with Stripe's
own examples; it remembers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sidecar.stripe.commitments import committed
from sidecar.stripe.endpoints import ENDPOINTS, MONEY, Endpoint
from sidecar.stripe.rules import Asked, Computed, Named, NotPriced
from tests.processes import temporary_folder
from tests.second_opinions.emulators import HOW, STRIPE_MOCK, origin_of, stripe_mock
from tests.second_opinions.forms import FORMS
from tests.stack import STRIPE_KEY, Stack, VaultKey, cap, running_stack

pytestmark = pytest.mark.skipif(STRIPE_MOCK is None, reason=f"stripe-mock is not there; {HOW}")

NOT_PUBLIC = {
    # Legacy: in no specification any more.
    "POST /v1/subscriptions/{subscription}/cancel",
    "POST /v1/subscription_items/{item}/usage_records",
    "POST /v1/orders",
    "POST /v1/orders/{order}/submit",
    "POST /v1/orders/{order}/pay",
    "POST /v1/three_d_secure/authentications",
    "POST /v1/three_d_secure/authentications/{authentication}/cancel",
    "POST /v1/three_d_secure/authentications/{authentication}/submit",
    # In the SDK's newest version, and not yet in this specification.
    "POST /v1/apps/installs",
    "POST /v1/apps/installs/{install}",
    "POST /v1/apps/installs/{install}/uninstall",
    "POST /v1/invoices/{invoice}/detach_payment",
    "POST /v1/product_catalog/trial_offers",
    "POST /v1/product_catalog/trial_offers/{trial_offer}",
    "POST /v1/subscriptions/{subscription}/pause",
    "POST /v1/tax/locations",
    "POST /v1/test/payment_intents/{intent}/trigger_action",
}
"""Endpoints of v1 that the specification has not, beside those that are noted as previews."""

MENDED: dict[str, dict[str, Any]] = {
    # Now and then an invoice has its id where its type should stand.
    "invoice": {"object": "invoice"},
    # These examples have no currency, or the word "currency" for one.
    "checkout.session": {"currency": "usd"},
    "credit_grant": {"amount": {"monetary": {"currency": "usd", "value": 80}}},
}
"""What is odd in the mock's examples, and not at Stripe."""

CHANGING = [row for row in ENDPOINTS if row.method != "GET" and row.template.startswith("/v1/")]
PUBLIC = [row for row in MONEY if row in CHANGING and row.name not in NOT_PUBLIC and row.note != "preview"]


def path_of(endpoint: Endpoint) -> str:
    """A path with some id in it."""
    return re.sub(r"\{[^}]*\}", "id_1", endpoint.template)


@pytest.fixture(scope="module")
def mock() -> Iterator[httpx.Client]:
    """Stripe's mock, asked directly."""
    headers = {"Authorization": f"Bearer {STRIPE_KEY}", "Content-Type": "application/x-www-form-urlencoded"}
    with temporary_folder() as folder, stripe_mock(folder) as process:  # noqa: SIM117
        with httpx.Client(base_url=origin_of(process), headers=headers, timeout=30) as client:
            yield client


@pytest.fixture(scope="module")
def mocked(mock: httpx.Client) -> Iterator[tuple[Stack, VaultKey]]:
    """A Spendgate in front of the mock, and a key that may do everything."""
    origin = str(mock.base_url).rstrip("/")
    with temporary_folder() as folder, running_stack(folder, stripe_api_base=origin) as stack:
        unpriced = ["POST /v1/*", "DELETE /v1/*"]
        yield stack, stack.key("* /v1/*", caps=[cap(10**12)], unpriced=unpriced)


def said(answer: httpx.Response) -> str:
    """What an error says; empty for a success."""
    return "" if answer.status_code == 200 else str(answer.json()["error"]["message"])


def test_the_specification_has_every_endpoint_of_v1(mock: httpx.Client) -> None:
    """Each row that changes something is an endpoint of Stripe, except those known to be elsewhere."""
    unknown = {row.name for row in CHANGING if "Unrecognized" in said(mock.request(row.method, path_of(row)))}
    previews = {row.name for row in CHANGING if row.note == "preview"}
    assert unknown == NOT_PUBLIC | previews


@pytest.mark.parametrize("endpoint", PUBLIC, ids=lambda row: row.name)
def test_a_request_for_money_has_the_shape_that_stripe_wants(
    mocked: tuple[Stack, VaultKey], endpoint: Endpoint
) -> None:
    """Through the sidecar: priced by the objects of the mock, accepted by it, and its answer can be read."""
    stack, key = mocked
    agent = stack.agent(key, endpoint.name.replace(" ", "_"))
    path = path_of(endpoint).removeprefix("/v1")
    form = FORMS.get(endpoint.name, {})
    answer = agent.post(path, data=form) if endpoint.method == "POST" else agent.delete(path)
    assert said(answer) == ""
    if endpoint.answers and endpoint.answers not in {"deleted", "subscription"}:
        example = answer.json() | MENDED.get(endpoint.answers, {})
        assert committed(example, endpoint.answers) is not None
    assert "ERROR" not in stack.sidecars[0].log


def names_read(endpoint: Endpoint) -> set[str]:
    """The parameters by which a row decides whether and how much money moves."""
    match endpoint.rule:
        case Named(amount=amount, currency=currency):
            names = {amount, currency}
        case Asked(amount=amount, by=by, when=when, unless=(name, _)):
            names = {amount, by, when, name}
        case Computed(unless=(name, _)):
            names = {name}
        case NotPriced(when=when):
            names = set(when)
        case _:
            names = set()
    return {name.partition("[")[0] for name in names} - {""}


OLD_NAMES = {"POST /v1/accounts/{account}": {"bank_account"}, "POST /v1/invoices/{invoice}": {"tax_percent"}}
"""Parameters of old versions of the API, which are looked for all the same."""


@pytest.mark.parametrize("endpoint", PUBLIC, ids=lambda row: row.name)
def test_stripe_knows_the_parameters_that_are_looked_for(mock: httpx.Client, endpoint: Endpoint) -> None:
    """A name that Stripe does not have would be looked for in vain."""
    form: dict[str, Any] = FORMS.get(endpoint.name, {})
    unknown = set()
    for name in names_read(endpoint) - {key.partition("[")[0] for key in form}:
        tried = {**form, name: "1"}
        if endpoint.method == "POST":
            answer = mock.post(path_of(endpoint), data=tried)
        else:
            answer = mock.delete(path_of(endpoint), params=tried)
        if "additional properties" in said(answer):
            unknown.add(name)
    assert unknown == OLD_NAMES.get(endpoint.name, set())


OBJECTS: dict[str, dict[str, Any]] = {
    "charges": {"amount": 100, "currency": "usd", "source": "tok_visa"},
    "payment_intents": {"amount": 100, "currency": "usd"},
    "setup_intents": {},
    "customers": {},
    "products": {"name": "Mug"},
    "payouts": {"amount": 100, "currency": "usd"},
    "transfers": {"amount": 100, "currency": "usd", "destination": "acct_1"},
    "topups": {"amount": 100, "currency": "usd"},
    "invoiceitems": {"customer": "{customer}", "amount": 100, "currency": "usd"},
    "invoices": {"customer": "{customer}"},
    "checkout/sessions": {
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][product_data][name]": "Mug",
        "line_items[0][price_data][unit_amount]": "100",
        "line_items[0][quantity]": "1",
        "mode": "payment",
        "success_url": "https://example.com",
    },
}
NOT_IN_EXAMPLES = {"source", "return_url", "type"}
"""Fields of our simulator's answers that Stripe has and its examples leave out."""


@pytest.mark.parametrize("kind", OBJECTS)
def test_our_simulator_answers_in_the_shape_of_stripes_examples(
    mock: httpx.Client, mocked: tuple[Stack, VaultKey], kind: str
) -> None:
    """No field that Stripe has not, and no field of another type; ours may have fewer."""
    simulator = httpx.Client(base_url=mocked[0].simulator.origin, auth=(STRIPE_KEY, ""))
    with simulator:
        customer = simulator.post("/v1/customers").json()["id"]
        form = {name: customer if value == "{customer}" else value for name, value in OBJECTS[kind].items()}
        ours = simulator.post(f"/v1/{kind}", data=form).json()
    example = mock.post(f"/v1/{kind}", data=form).json()
    assert "error" not in {*ours, *example}, (ours, example)
    assert ours.keys() - example.keys() <= NOT_IN_EXAMPLES
    both = [name for name in ours.keys() & example.keys() if None not in (ours[name], example[name])]
    assert [name for name in both if type(ours[name]) is not type(example[name])] == []
