"""The Python client's HTTP side: httpx and Stripe's SDK through a real sidecar, as one run each."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import stripe

import spendgate.http
import spendgate.stripe
from spendgate import SpendGate, errors
from tests.stack import CHARGE, STRIPE_KEY, Stack, VaultKey, cap


@pytest.fixture
def sidecar(stack: Stack) -> str:
    """Where the sidecar is, as users write it."""
    return stack.origin().removesuffix("/stripe")


@pytest.fixture
def module_style(sidecar: str) -> Iterator[None]:
    """The SDK's module settings, put back afterwards."""
    names = ("api_key", "api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")
    before = {name: getattr(stripe, name) for name in names}
    spendgate.stripe.set_module_addresses(sidecar)
    yield
    for name, value in before.items():
        setattr(stripe, name, value)


pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw:DeprecationWarning")


class LosesTheFirstAnswer(stripe.UrllibClient):
    """A connection that breaks after the request was read."""

    lost = 0

    def request(self, *arguments: Any, **more: Any) -> Any:
        """Ask, and lose the answer once."""
        answer = super().request(*arguments, **more)
        if not self.lost:
            self.lost += 1
            raise stripe.APIConnectionError("the connection broke", should_retry=True)
        return answer


def charge_by_httpx(key: VaultKey, run: str, sidecar: str) -> str:
    """One charge."""
    with spendgate.http.client(key.text, run, sidecar=sidecar) as http:
        answer = spendgate.http.raise_for_refusal(http.post("/stripe/v1/charges", data=dict(CHARGE)))
        return str(answer.raise_for_status().json()["id"])


def charge_by_httpx_async(key: VaultKey, run: str, sidecar: str) -> str:
    """One charge."""

    async def charge() -> str:
        async with spendgate.http.async_client(key.text, run, sidecar=sidecar) as http:
            answer = spendgate.http.raise_for_refusal(
                await http.post("/stripe/v1/charges", data=dict(CHARGE))
            )
            return str(answer.raise_for_status().json()["id"])

    return asyncio.run(charge())


def charge_by_sdk(key: VaultKey, run: str, sidecar: str) -> str:
    """One charge."""
    client = spendgate.stripe.client(key.text, run, sidecar=sidecar)
    try:
        return client.v1.charges.create({"amount": 1900, "currency": "usd", "source": "tok_visa"}).id
    except stripe.StripeError as error:
        raise spendgate.stripe.refusal(error) or error from None


def charge_by_sdk_async(key: VaultKey, run: str, sidecar: str) -> str:
    """One charge."""

    async def charge() -> str:
        connections = stripe.HTTPXClient()
        client = spendgate.stripe.client(key.text, run, sidecar=sidecar, http_client=connections)
        try:
            made = await client.v1.charges.create_async(
                {"amount": 1900, "currency": "usd", "source": "tok_visa"}
            )
            return made.id
        finally:
            await connections.close_async()

    try:
        return asyncio.run(charge())
    except stripe.StripeError as error:
        raise spendgate.stripe.refusal(error) or error from None


def charge_by_module(key: VaultKey, run: str, sidecar: str) -> str:
    """One charge."""
    try:
        made = stripe.Charge.create(
            amount=1900, currency="usd", source="tok_visa", **spendgate.stripe.call_options(key.text, run)
        )
        return made.id
    except stripe.StripeError as error:
        raise spendgate.stripe.refusal(error) or error from None


Charge = Callable[[VaultKey, str, str], str]
WAYS = [charge_by_httpx, charge_by_httpx_async, charge_by_sdk, charge_by_sdk_async, charge_by_module]
each_way = pytest.mark.parametrize("charge", WAYS)


@each_way
@pytest.mark.usefixtures("module_style")
def test_a_run_pays_once_and_another_run_again(stack: Stack, sidecar: str, charge: Charge) -> None:
    """The run's name is in every call, so a repeat is the same charge."""
    key = stack.key()
    first = charge(key, "run-1", sidecar)
    assert charge(key, "run-1", sidecar) == first
    assert charge(key, "run-2", sidecar) != first
    assert stack.simulator.money["charged"] == 3800
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"run-1", "run-2"}


@each_way
@pytest.mark.usefixtures("module_style")
def test_a_refusal_is_a_typed_exception(stack: Stack, sidecar: str, charge: Charge) -> None:
    """The same one as over gRPC, with what is left and when it resets."""
    key = stack.key(caps=[cap(2000)])
    charge(key, "run-1", sidecar)
    with pytest.raises(errors.CapExceeded) as refused:
        charge(key, "run-2", sidecar)
    error = refused.value
    assert (error.remaining, error.currency, error.cap) == (100, "USD", "usd/day")
    assert error.resets_at is not None and error.resets_at > datetime.now(UTC)
    secret = key.text.rpartition("_")[2]
    assert secret not in "".join(traceback.format_exception(refused.value)) + repr(vars(error))


@pytest.mark.usefixtures("module_style")
def test_threads_never_mix_keys(stack: Stack, sidecar: str) -> None:
    """Runs at once, each with its own key, in one process with the module style."""
    keys = [stack.key() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            list(pool.map(lambda key: charge_by_module(key, f"run-{key.id}", sidecar), keys))
    assert stack.simulator.money["charged"] == 8 * 1900
    for key in keys:
        assert {event.run_id for event in stack.events(key) if event.run_id} == {f"run-{key.id}"}


def test_a_call_may_have_its_own_step_and_no_other_run(stack: Stack, sidecar: str) -> None:
    """Two wanted charges in one run; whatever a call says of the run is not believed."""
    key = stack.key()
    client = spendgate.stripe.client(key.text, "run-1", sidecar=sidecar)
    params: Any = {"amount": 1900, "currency": "usd", "source": "tok_visa"}
    for _ in range(2):
        for step in ("deposit", "balance"):
            headers = {"spendgate-step": step, "Spendgate-Run-Id": "another"}
            client.v1.charges.create(params, {"headers": headers})
    assert stack.simulator.money["charged"] == 3800
    charged = [event for event in stack.events(key) if event.authorization_id]
    assert {event.run_id for event in charged} == {"run-1"}
    assert {event.step for event in charged} == {"deposit", "balance"}


def test_many_runs_may_share_one_connection_pool(stack: Stack, sidecar: str) -> None:
    """The key goes with the call, not with the client."""
    keys = [stack.key(), stack.key()]
    with httpx.Client(base_url=sidecar, trust_env=False) as http:
        for key in keys:
            auth = spendgate.http.RunAuth(key.text, "run-1", sidecar=sidecar)
            assert key.text not in repr(auth)
            http.post("/stripe/v1/charges", data=dict(CHARGE), auth=auth).raise_for_status()
    assert [stack.usage(key).settled + stack.usage(key).held for key in keys] == [1900, 1900]


def test_a_vault_key_is_shown_to_the_sidecar_only(stack: Stack, sidecar: str) -> None:
    """A full address at another host is refused before anything is sent."""
    key = stack.key().text
    with (
        spendgate.http.client(key, "run-1", sidecar=sidecar) as http,
        pytest.raises(ValueError, match="for the sidecar"),
    ):
        http.get(f"{stack.simulator.origin}/v1/charges")


@pytest.mark.parametrize("raw", [STRIPE_KEY, "sk_test_1"])
@pytest.mark.parametrize(
    "make",
    [
        spendgate.http.client,
        spendgate.http.async_client,
        spendgate.http.RunAuth,
        spendgate.stripe.client,
        spendgate.stripe.call_options,
    ],
)
def test_a_raw_stripe_key_is_refused_where_it_is_given(make: Callable[..., Any], raw: str) -> None:
    """At construction, before anything is sent, and without repeating it."""
    with pytest.raises(ValueError, match="raw Stripe key") as refused:
        make(raw, "run-1")
    assert raw not in str(refused.value)


@pytest.mark.parametrize("run_id", ["a" * 129, "ü", "a\nb", " a"])
def test_a_run_that_the_sidecar_would_not_take_is_refused(run_id: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match="Spendgate-Run-Id"):
        spendgate.http.RunAuth("vk_aaaaaaaaaaaa_" + "a" * 32, run_id)


def test_a_key_in_the_module_is_refused(sidecar: str) -> None:
    """It would be shared by all runs of the process."""
    before, stripe.api_key = stripe.api_key, "vk_1"
    try:
        with pytest.raises(RuntimeError, match="share one key"):
            spendgate.stripe.set_module_addresses(sidecar)
    finally:
        stripe.api_key = before


def test_the_sdks_own_retries_pay_once(stack: Stack, sidecar: str) -> None:
    """The sidecar's answer is lost, and the SDK asks again by itself."""
    key = stack.key()
    losing = LosesTheFirstAnswer()
    client = spendgate.stripe.client(
        key.text, "run-1", sidecar=sidecar, max_network_retries=2, http_client=losing
    )
    client.v1.charges.create({"amount": 1900, "currency": "usd", "source": "tok_visa"})
    assert losing.lost == 1
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.parametrize("address", ["http://sidecar.internal:8787", "sidecar:8787", "ftp://127.0.0.1", ""])
def test_a_vault_key_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """To another machine only with TLS, or where somebody says that a tunnel encrypts."""
    key = "vk_aaaaaaaaaaaa_" + "a" * 32
    for make in (spendgate.http.client, spendgate.stripe.client):
        with pytest.raises(ValueError, match="sidecar"):
            make(key, "run-1", sidecar=address)
    with pytest.raises(ValueError, match="on another machine"):
        SpendGate("policy.internal:50051", token="t")
    monkeypatch.setenv("SPENDGATE_ALLOW_PLAINTEXT", "true")
    SpendGate("policy.internal:50051", token="t").close()
    spendgate.http.RunAuth(key, "run-1", sidecar="http://sidecar.internal:8787")
