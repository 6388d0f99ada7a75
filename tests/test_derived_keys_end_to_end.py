"""Derived keys where agents use them: Stripe's SDK and grpcurl, unchanged, and what a run leaves behind."""

from __future__ import annotations

import base64
import dataclasses

import httpx
import pytest
import stripe

from spendgate import DerivedCap, derive_key
from spendgate.derived_keys import derived_key_id
from tests.stack import CHARGE, Stack, VaultKey

SDK_CHARGE: stripe.params.ChargeCreateParams = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


def derived(key: VaultKey, run_id: str, total: int) -> VaultKey:
    """A key for one run with a total of its own."""
    text = derive_key(
        key.text,
        run_id=run_id,
        allow=["POST /v1/charges", "GET /v1/*"],
        caps=[DerivedCap("total", total, "USD")],
    )
    return dataclasses.replace(key, text=text)


def test_stripe_s_sdk_works_with_a_derived_key_alone(stack: Stack) -> None:
    """It names no run: the key does. A repeat pays once, and what the key may not do raises."""
    parent = stack.key()
    client = stack.sdk(derived(parent, "run-7", 3000))
    first = client.v1.charges.create(SDK_CHARGE)
    again = client.v1.charges.create(SDK_CHARGE)
    assert first.id == again.id
    assert len(stack.simulator.executed()) == 1
    with pytest.raises(stripe.PermissionError) as refused:
        client.v1.refunds.create({"charge": first.id})
    assert "it may call GET /v1/* and POST /v1/charges" in str(refused.value)
    stack.settled(parent, 1900)


def test_parent_and_derived_key_share_effects_and_money(stack: Stack) -> None:
    """Over the sidecar: the parent's repeat is the same charge; the child's cap refuses with its id in it."""
    parent = stack.key()
    child = derived(parent, "run-7", 2000)
    agent, owner = stack.agent(child), stack.agent(parent, "run-7")
    ids = {who.post("/charges", data=CHARGE).json()["id"] for who in (agent, owner)}
    assert len(ids) == 1
    over = agent.post("/charges", data=CHARGE, headers={"Spendgate-Step": "2"})
    told = over.json()["error"]["spendgate"]
    assert (over.status_code, told["remaining"], told["cap"]) == (
        429,
        100,
        f"{derived_key_id(child.text)}: usd/total",
    )
    elsewhere = stack.agent(child, "run-8").post("/charges", data=CHARGE)
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (403, "run_not_allowed")
    assert owner.post("/charges", data=CHARGE, headers={"Spendgate-Step": "2"}).status_code == 200
    stack.settled(parent, 3800)


def test_basic_authentication_and_a_broken_seal(stack: Stack) -> None:
    """As a user name it works too; with another seal it is no key, and is on record without one."""
    parent = stack.key()
    child = derived(parent, "run-7", 2000)
    user = base64.b64encode(f"{child.text}:".encode()).decode()
    url = f"{stack.origin()}/v1/charges"
    headers = {"Authorization": f"Basic {user}"}
    assert httpx.post(url, data=CHARGE, headers=headers).status_code == 200
    broken = child.text[:-3] + ("A" if child.text[-3] != "A" else "B") + child.text[-2:]
    refused = httpx.post(url, data=CHARGE, headers={"Authorization": f"Bearer {broken}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "vault_key_invalid")
    stack.settled(parent, 1900)
    seals = {text.split(".")[-1] for text in (child.text, broken)}
    events = str(stack.events(parent))
    logs = "".join(process.log for process in (*stack.policy_servers, *stack.sidecars))
    assert derived_key_id(child.text) in events
    assert not any(seal in text for seal in seals for text in (events, logs))
