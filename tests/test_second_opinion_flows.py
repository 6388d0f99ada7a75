"""Flows of Stripe's SDK at emulators that others wrote: what they move is what Spendgate counts.

They were written without knowing our simulator, so they can't share its errors.
Each serves a part of Stripe only, and differs from it in ways of its own: see
docs/emulators.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import temporary_folder
from tests.sdks import ClientSdk, SdkError
from tests.second_opinions.emulators import (
    HAS_LOCALSTRIPE,
    HAS_STATEFUL_MOCK,
    HOW,
    localstripe,
    origin_of,
    stateful_mock,
)
from tests.stack import Stack, VaultKey, cap, running_stack

KEY = "sk_test_51StackSecretKeyOfTheTests"
"""Neither knows restricted keys."""

CARD = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2050, "cvc": "123"}
MONEY = {"amount": 2000, "currency": "usd"}
ROOM = 100_000


class Shop:
    """A program with the SDK and a vault key, and what was counted for it."""

    def __init__(self, stack: Stack, key: VaultKey) -> None:
        self.stack, self.key = stack, key
        self._sdk = ClientSdk(key.text, stack.origin())
        self.ids = self._sdk.ids

    def call(self, method: str, *arguments: Any, **options: str) -> Any:
        """Call a method of the SDK."""
        return self._sdk.call(method, *arguments, **options)

    def counts(self, amount: int) -> None:
        """Wait until so much is settled and nothing held."""
        self.stack.settled(self.key, amount)

    def is_refused(self, method: str, *arguments: Any) -> SdkError:
        """Call a method that must raise, and return what it raises."""
        with pytest.raises(SdkError) as raised:
            self.call(method, *arguments)
        return raised.value


def shop(stack: Stack, room: int = ROOM) -> Shop:
    """A program with a key of its own."""
    return Shop(stack, stack.key(caps=[cap(room)]))


# localstripe


@pytest.fixture(scope="module")
def local() -> Iterator[Stack]:
    """A Spendgate in front of localstripe."""
    if not HAS_LOCALSTRIPE:
        pytest.skip(f"localstripe is not there; {HOW}")
    with (
        temporary_folder() as folder,
        localstripe(folder) as emulator,
        running_stack(folder, stripe_api_base=origin_of(emulator), stripe_secret_key=KEY) as stack,
    ):
        yield stack


def buyer(shop: Shop, number: str = CARD["number"]) -> str:
    """A customer with a card, in the way that localstripe knows."""
    token = shop.call("tokens.create", {"card": {**CARD, "number": number}})["id"]
    return str(shop.call("customers.create", {"source": token})["id"])


def test_localstripe_charges_and_refunds(local: Stack) -> None:
    """What is charged and given back adds up in its own books and in ours."""
    program = shop(local)
    customer = buyer(program)
    paid = program.call("charges.create", {**MONEY, "customer": customer})
    assert program.call("refunds.create", {"charge": paid["id"], "amount": 500})["amount"] == 500
    held = program.call("charges.create", {**MONEY, "customer": customer, "capture": False})
    program.counts(2000 + 500 + 2000)
    assert set(program.ids("charges", {"customer": customer, "limit": 1})) == {held["id"], paid["id"]}
    assert program.call("charges.retrieve", paid["id"])["amount_refunded"] == 500


def test_localstripe_pays_intents(local: Stack) -> None:
    """Confirmed at once, and authorized for later."""
    program = shop(local)
    intent = {**MONEY, "customer": buyer(program), "payment_method": "pm_card_visa", "confirm": True}
    assert program.call("payment_intents.create", intent)["status"] == "succeeded"
    held = program.call("payment_intents.create", {**intent, "capture_method": "manual"})
    assert held["status"] == "requires_capture"
    program.counts(4000)


def test_what_localstripe_does_not_say_is_held_on(local: Stack) -> None:
    """Its objects lack what was captured: a part that is captured, or a cancel, gives nothing back."""
    program = shop(local)
    customer = buyer(program)
    charge = program.call("charges.create", {**MONEY, "customer": customer, "capture": False})
    captured = program.call("charges.capture", charge["id"], {"amount": 1200})
    assert (captured["amount_refunded"], "amount_captured" in captured) == (800, False)
    intent = {**MONEY, "customer": customer, "payment_method": "pm_card_visa", "confirm": True}
    held = program.call("payment_intents.create", {**intent, "capture_method": "manual"})["id"]
    unknown = program.is_refused("payment_intents.capture", held, {"amount_to_capture": 600})
    assert unknown.code == "amount_unknown"
    assert program.call("payment_intents.cancel", held)["status"] == "canceled"
    program.counts(4000)


def test_localstripe_bills_and_pays_out(local: Stack) -> None:
    """An item for an invoice, and a payout; it pays out euros only."""
    program = Shop(local, local.key(caps=[cap(ROOM, currency="EUR")]))
    item = {"amount": 700, "currency": "eur", "customer": buyer(program)}
    assert program.call("invoice_items.create", item)["amount"] == 700
    assert program.call("payouts.create", {"amount": 300, "currency": "eur"})["amount"] == 300
    program.counts(1000)


def test_localstripe_declines_a_card(local: Stack) -> None:
    """A decline raises and gives back what was held."""
    program = shop(local)
    declined = program.is_refused(
        "customers.create",
        {"source": program.call("tokens.create", {"card": {**CARD, "number": "4000000000000002"}})["id"]},
    )
    assert (declined.kind, declined.code) == ("CardError", "card_declined")
    program.counts(0)


def test_localstripe_is_asked_for_nothing_over_the_cap(local: Stack) -> None:
    """The cap stands before whoever is behind it."""
    program = shop(local, room=2500)
    customer = buyer(program)
    program.call("charges.create", {**MONEY, "customer": customer})
    over = program.is_refused("charges.create", {**MONEY, "customer": customer})
    assert (over.kind, over.code) == ("RateLimitError", "spend_cap_exceeded")
    assert len(program.ids("charges", {"customer": customer})) == 1


# stripe-stateful-mock


@pytest.fixture(scope="module")
def stateful() -> Iterator[Stack]:
    """A Spendgate in front of stripe-stateful-mock."""
    if not HAS_STATEFUL_MOCK:
        pytest.skip(f"stripe-stateful-mock is not there; {HOW}")
    with (
        temporary_folder() as folder,
        stateful_mock(folder) as emulator,
        running_stack(folder, stripe_api_base=origin_of(emulator), stripe_secret_key=KEY) as stack,
    ):
        yield stack


def test_the_stateful_mock_charges_captures_and_refunds(stateful: Stack) -> None:
    """It refuses to give back more than there is, and so the rest is what we ask it for."""
    program = shop(stateful)
    paid = program.call("charges.create", {**MONEY, "source": "tok_visa"})
    held = program.call("charges.create", {**MONEY, "source": "tok_visa", "capture": False})
    captured = program.call("charges.capture", held["id"], {"amount": 1200})
    assert (captured["amount_captured"], captured["amount_refunded"]) == (1200, 800)
    program.call("refunds.create", {"charge": paid["id"], "amount": 500})
    too_much = program.is_refused("refunds.create", {"charge": paid["id"], "amount": 1501})
    assert too_much.kind == "InvalidRequestError"
    rest = program.call("refunds.create", {"charge": paid["id"]})
    assert rest["amount"] == 1500
    done = program.is_refused("refunds.create", {"charge": paid["id"]})
    assert done.code == "charge_already_refunded"
    program.counts(2000 + 1200 + 500 + 1500)


def test_the_stateful_mock_sees_one_charge_of_a_repeat(stateful: Stack) -> None:
    """It remembers idempotency keys: our repeat carries the first one's, and it replays."""
    program = shop(stateful)
    before = set(program.ids("charges", {}))
    customer = program.call("customers.create", {"source": "tok_visa"}, run="run-1")["id"]
    order = {**MONEY, "customer": customer}
    first = {program.call("charges.create", order, run="run-1")["id"] for _ in range(3)}
    second = program.call("charges.create", order, run="run-2")["id"]
    assert len(first) == 1
    assert set(program.ids("charges", {})) - before == first | {second}
    program.counts(4000)


def test_the_stateful_mock_declines_and_a_fresh_try_is_fresh(stateful: Stack) -> None:
    """It replays a decline under its key, as Stripe does; our next try has another key."""
    program = shop(stateful)
    with pytest.raises(SdkError) as declined:
        program.call("charges.create", {**MONEY, "source": "tok_chargeDeclined"}, run="run-1")
    assert (declined.value.kind, declined.value.code) == ("CardError", "card_declined")
    program.counts(0)
    assert program.call("charges.create", {**MONEY, "source": "tok_visa"}, run="run-1")["paid"] is True
    program.counts(2000)


@pytest.mark.parametrize(("token", "kind"), [("tok_500", "APIError"), ("tok_429", "RateLimitError")])
def test_the_stateful_mock_fails_once(stateful: Stack, token: str, kind: str) -> None:
    """An error of the vendor's own reaches the program, and no money is given away or lost."""
    program = shop(stateful)
    failed = program.is_refused("charges.create", {**MONEY, "source": token})
    assert failed.kind == kind
    # Whether a 500 has charged, nobody knows; a 429 has not.
    held = 2000 if kind == "APIError" else 0
    usage = program.stack.usage(program.key)
    assert (usage.held, usage.settled) == (held, 0)
