"""The Python client: decisions and outcomes over gRPC, with a real policy server."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spendgate
from spendgate import (
    AsyncSpendGate,
    DuplicateEffect,
    EffectInFlight,
    HoldState,
    Money,
    Outcome,
    Refused,
    Replay,
    SpendGate,
    VaultKey,
    answers,
    currencies,
    errors,
    rpc,
)
from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1.error_reason_pb2 import ErrorReason
from spendgate.verdict import reason_name
from tests.processes import policy_server_address, policy_server_process, temporary_folder, token
from tests.rpc import calling, day_cap, make_key
from tests.stack import STRIPE_KEY, Stack, cap
from tests.stack import VaultKey as StackKey

CHARGE = "POST /v1/charges"


@pytest.fixture
def gate(stack: Stack) -> Iterator[SpendGate]:
    """The client without an event loop."""
    server = stack.policy_servers[0]
    with SpendGate(policy_server_address(server), token=token(server, "sidecar"), timeout_s=20) as gate:
        yield gate


@pytest.fixture
async def async_gate(stack: Stack) -> AsyncIterator[AsyncSpendGate]:
    """The client with one."""
    server = stack.policy_servers[0]
    address = policy_server_address(server)
    async with AsyncSpendGate(address, token=token(server, "sidecar"), timeout_s=20) as gate:
        yield gate


def usd(cents: int) -> Money:
    """So many US cents."""
    return Money(cents, "usd")


def marked_unknown(stack: Stack, key: StackKey) -> list[str]:
    """The runs whose holds were told to be unknown, in order."""
    return [event.run_id for event in stack.events(key) if event.state == "unknown"]


# --- decisions and outcomes -----------------------------------------------------


def test_four_arguments_hold_and_a_settlement_counts_what_moved(stack: Stack, gate: SpendGate) -> None:
    """Authorize, settle for less, and the rest is given back."""
    key = stack.key()
    held = gate.authorize(key.text, CHARGE, usd(1900), "run-1")
    assert (held.duplicate, held.replay, held.attempt) == (False, Replay.NONE, 1)
    assert held.caps[0].name == "usd/day"
    assert (stack.usage(key).held, stack.usage(key).settled) == (1900, 0)
    done = gate.settle(held, Outcome.SUCCEEDED, usd(1500), object_id="ch_1")
    assert (done.state, done.overrun) == (HoldState.SETTLED, False)
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 1500)


async def test_both_clients_name_the_same_effect(
    stack: Stack, gate: SpendGate, async_gate: AsyncSpendGate
) -> None:
    """What one holds is a duplicate for the other."""
    key = stack.key()
    first = await async_gate.authorize(key.text, CHARGE, usd(1900), "run-1", step="deposit")
    again = await asyncio.to_thread(gate.authorize, key.text, CHARGE, usd(1900), "run-1", step="deposit")
    assert (again.id, again.duplicate, again.replay) == (first.id, True, Replay.JOIN)
    assert stack.usage(key).held == 1900


def test_an_attempt_settles_with_what_its_block_says(stack: Stack, gate: SpendGate) -> None:
    """Succeeded counts what moved, failed gives back."""
    key = stack.key()
    with gate.attempt(key.text, CHARGE, usd(1900), "run-1") as attempt:
        assert attempt.upstream_idempotency_key
        attempt.succeeded(usd(1000), object_id="ch_1")
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 1000)
    with gate.attempt(key.text, CHARGE, usd(500), "run-2") as attempt:
        attempt.failed(http_status=402)
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 1000)


def test_an_attempt_left_without_an_outcome_is_unknown_and_keeps_counting(
    stack: Stack, gate: SpendGate
) -> None:
    """Also when an exception ends the block, which goes on."""
    key = stack.key()
    with gate.attempt(key.text, CHARGE, usd(1000), "run-1"):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        gate.attempt(key.text, CHARGE, usd(900), "run-2"),
    ):
        raise ZeroDivisionError
    assert (stack.usage(key).held, stack.usage(key).settled) == (1900, 0)
    assert marked_unknown(stack, key) == ["run-1", "run-2"]


async def test_an_attempt_that_is_cancelled_is_unknown(stack: Stack, async_gate: AsyncSpendGate) -> None:
    """A task that is cancelled while the vendor works is reported, and the money stays held."""
    key, inside = stack.key(), asyncio.Event()

    async def pay() -> None:
        async with async_gate.attempt(key.text, CHARGE, usd(1900), "run-1"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(pay())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stack.usage(key).held == 1900
    assert marked_unknown(stack, key) == ["run-1"]


async def test_what_the_vendor_did_is_reported_though_the_task_is_cancelled_again(
    stack: Stack, async_gate: AsyncSpendGate
) -> None:
    """A cancellation while the outcome is on its way does not lose it."""
    key = stack.key()

    async def pay() -> None:
        async with async_gate.attempt(key.text, CHARGE, usd(1900), "run-1") as attempt:
            attempt.succeeded(object_id="ch_1")
            me = asyncio.current_task()
            assert me is not None
            # Strikes at the first wait, which is the report's.
            me.cancel()

    with pytest.raises(asyncio.CancelledError):
        await pay_in_task(pay())
    await async_gate.close()
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 1900)


async def pay_in_task(work: Any) -> None:
    """Run it as a task of its own."""
    await asyncio.create_task(work)


def test_a_duplicate_never_enters_the_block(stack: Stack, gate: SpendGate) -> None:
    """In flight, and done; a vendor that replays may be asked again once it is done."""
    key = stack.key()
    with gate.attempt(key.text, CHARGE, usd(1900), "run-1") as first:
        with (
            pytest.raises(EffectInFlight) as under_way,
            gate.attempt(key.text, CHARGE, usd(1900), "run-1", vendor_replays=True),
        ):
            pytest.fail("paid twice")
        assert under_way.value.retryable
        first.succeeded(object_id="ch_1")
    with (
        pytest.raises(DuplicateEffect, match="ch_1") as done,
        gate.attempt(key.text, CHARGE, usd(1900), "run-1"),
    ):
        pytest.fail("paid twice")
    assert not done.value.retryable
    assert done.value.authorization_id == first.authorization.id
    with gate.attempt(key.text, CHARGE, usd(1900), "run-1", vendor_replays=True) as again:
        assert again.authorization.replay is Replay.FORWARD
        assert again.upstream_idempotency_key == first.upstream_idempotency_key
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 1900)


def test_a_duplicate_that_is_turned_away_gives_nothing_back(stack: Stack, gate: SpendGate) -> None:
    """The first try may have paid: only its own answer, given again, says that it did not."""
    key = stack.key()
    with gate.attempt(key.text, CHARGE, usd(1900), "run-1") as first:
        pass
    for replayed, held in ((False, 1900), (True, 0)):
        with gate.attempt(key.text, CHARGE, usd(1900), "run-1", vendor_replays=True) as again:
            assert again.upstream_idempotency_key == first.upstream_idempotency_key
            again.failed(replayed=replayed, http_status=429)
        assert (stack.usage(key).held, stack.usage(key).settled) == (held, 0)
        after = gate.authorize(key.text, CHARGE, usd(1900), "run-1", validate_only=True)
        assert after.duplicate == (not replayed)


def test_validation_holds_nothing(stack: Stack, gate: SpendGate) -> None:
    """A question is no spend."""
    key = stack.key()
    gate.authorize(key.text, CHARGE, usd(1900), "run-1", validate_only=True)
    assert stack.usage(key).held == 0


def test_a_read_is_allowed_and_holds_nothing(stack: Stack, gate: SpendGate) -> None:
    """So there is nothing to settle."""
    key = stack.key()
    with gate.attempt(key.text, "GET /v1/charges", run_id="run-1") as attempt:
        attempt.succeeded()
    assert attempt.authorization.id == ""
    assert stack.usage(key).held == 0


# --- refusals and failures --------------------------------------------------------


def test_a_reached_cap_tells_what_is_left_and_until_when(stack: Stack, gate: SpendGate) -> None:
    """As the type says it, without a look at messages of the contract."""
    key = stack.key()
    gate.authorize(key.text, CHARGE, usd(1), "run-1")
    with pytest.raises(errors.CapExceeded, match="9999 of 10000 left") as refused:
        gate.authorize(key.text, CHARGE, usd(10_000), "run-2")
    error = refused.value
    assert (error.cap, error.remaining_money, error.retryable) == ("usd/day", usd(9_999), True)
    assert error.resets_at is not None and error.resets_at > datetime.now(UTC)
    assert (error.reason, error.said) == ("cap_exceeded", "cap_exceeded")
    with pytest.raises(errors.CapExceeded) as never:
        gate.authorize(key.text, CHARGE, usd(10_001), "run-3")
    assert not never.value.retryable


def test_a_refused_endpoint_tells_what_is_allowed(stack: Stack, gate: SpendGate) -> None:
    """And that trying again can't help."""
    key = stack.key("POST /v1/charges", "GET /v1/*")
    with pytest.raises(errors.EndpointNotAllowed) as refused:
        gate.authorize(key.text, "POST /v1/refunds", usd(1), "run-1")
    assert refused.value.allowed_endpoints == ("POST /v1/charges", "GET /v1/*")
    assert not refused.value.retryable


def test_a_revoked_key_is_refused(stack: Stack, gate: SpendGate) -> None:
    """As a kind of refused key."""
    key = stack.key()
    stack.revoke(key)
    with pytest.raises(errors.VaultKeyRefused) as refused:
        gate.authorize(key.text, CHARGE, usd(1), "run-1")
    assert type(refused.value) is errors.VaultKeyRevoked


def test_another_request_under_the_name_is_refused(stack: Stack, gate: SpendGate) -> None:
    """One money effect for an endpoint and run, unless steps are given."""
    key = stack.key()
    gate.authorize(key.text, CHARGE, usd(100), "run-1")
    with pytest.raises(errors.IdempotencyMismatch) as refused:
        gate.authorize(key.text, CHARGE, usd(200), "run-1")
    assert refused.value.authorization_id
    gate.authorize(key.text, CHARGE, usd(200), "run-1", step="second")


def test_every_reason_has_an_exception_of_its_own() -> None:
    """Of refusals and of errors; a new one in the contract needs a class in spendgate.errors."""
    reasons = {reason_name(value) for value in pb.DenyReason.values() if value}
    assert reasons <= errors.REFUSALS.keys()
    names = {name.removeprefix("ERROR_REASON_").lower() for name in ErrorReason.DESCRIPTOR.values_by_name} - {
        "unspecified"
    }
    assert names <= errors.FAILURES.keys()


def test_a_reason_of_a_newer_server_is_still_a_refusal() -> None:
    """Whatever is not a yes is a no."""
    verdict = pb.AuthorizeResponse(decision=pb.DECISION_DENY, message="No.")
    verdict.deny_reason = 999  # type: ignore[assignment]
    refused = rpc.refusal(verdict)
    assert (type(refused), refused.said, refused.retryable) == (Refused, "deny_reason_999", False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": "vault_key_invalid", "spendgate": {"reason": "x"}}}, errors.VaultKeyRefused),
        ({"error": {"code": "parameter_invalid", "spendgate": {"reason": "x"}}}, errors.RequestInvalid),
        ({"error": {"code": "outcome_unknown", "spendgate": {"reason": "x"}}}, errors.OutcomeUnknown),
        (
            {"details": {"spendgate": {"code": "spend_cap_exceeded", "reason": "cap_exceeded"}}},
            errors.CapExceeded,
        ),
        ({"error": {"code": "card_declined"}}, None),
        (["nothing"], None),
    ],
)
def test_refusals_over_http_are_the_same_exceptions(body: object, kind: type[Exception] | None) -> None:
    """In Stripe's shape and in Twilio's; what is the vendor's own is no refusal."""
    refused = answers.refusal(400, body)
    assert (type(refused) if refused else None) == kind


def test_a_wrong_token_and_a_wrong_field_are_no_decision(stack: Stack, gate: SpendGate) -> None:
    """Each with its own type."""
    key, server = stack.key(), stack.policy_servers[0]
    with (
        SpendGate(policy_server_address(server), token="no") as stranger,
        pytest.raises(errors.TokenInvalid),
    ):
        stranger.authorize(key.text, CHARGE, usd(1), "run-1")
    with pytest.raises(errors.FieldInvalid) as refused:
        gate.authorize(key.text, "charges", usd(1), "run-1")
    assert refused.value.parameter == "endpoint"


def test_settling_twice_in_two_ways_is_refused(stack: Stack, gate: SpendGate) -> None:
    """What is settled stays settled; saying it again is harmless."""
    held = gate.authorize(stack.key().text, CHARGE, usd(1), "run-1")
    gate.settle(held, Outcome.SUCCEEDED)
    assert gate.settle(held, Outcome.SUCCEEDED).state is HoldState.SETTLED
    with pytest.raises(errors.HoldClosed):
        gate.settle(held, Outcome.FAILED)


# --- time and loss -------------------------------------------------------------------


def test_a_server_that_does_not_answer_ends_at_the_deadline(stack: Stack) -> None:
    """Each call has one, also with a server that hangs."""
    key, server = stack.key(), stack.policy_servers[0]
    with SpendGate(policy_server_address(server), token=token(server, "sidecar"), timeout_s=20) as gate:
        gate.authorize(key.text, CHARGE, usd(1), "before")
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(errors.DeadlineExceeded) as late:
                gate.authorize(key.text, CHARGE, usd(1), "run-1", timeout_s=0.2)
        finally:
            server.signal(signal.SIGCONT)
        assert late.value.retryable


def test_nobody_at_the_address_is_no_decision() -> None:
    """After the whole deadline, in which it tries again."""
    with (
        SpendGate("127.0.0.1:1", token="t", timeout_s=0.3) as gate,
        pytest.raises(errors.PolicyUnavailable),
    ):
        gate.authorize("vk_aaaaaaaaaaaa_" + "a" * 32, CHARGE, usd(1), "run-1")


def test_a_call_survives_a_restart_of_the_policy_server(redis: str) -> None:
    """It waits for the server to come back and holds once, under one name."""
    with temporary_folder() as folder:
        settings = {"SPENDGATE_POLICY_PORT": "0"}
        with policy_server_process(folder, redis, env=settings) as first:
            address = policy_server_address(first)
            with calling(first, "admin") as admin:
                key, _ = make_key(admin, day_cap(10_000))
        answers_: list[Any] = []
        with SpendGate(address, token=(folder / "sidecar.token").read_text(), timeout_s=30) as gate:
            call = threading.Thread(
                target=lambda: answers_.append(gate.authorize(key, CHARGE, usd(1900), "run-1"))
            )
            call.start()
            port = address.rpartition(":")[2]
            with policy_server_process(folder, redis, name="again", env={"SPENDGATE_POLICY_PORT": port}):
                call.join()
                (held,) = answers_
                assert not held.duplicate
                assert gate.authorize(key, CHARGE, usd(1900), "run-1").id == held.id


class LosesReplies(grpc.GenericRpcHandler):
    """Stands before a policy server, passes every call on, and loses the first reply."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.passed: list[bytes] = []

    def service(self, details: Any) -> Any:
        """Handle one call, whatever its method."""
        onward = self.channel.unary_unary(details.method)

        def handle(request: bytes, context: grpc.ServicerContext) -> Any:
            self.passed.append(request)
            metadata = [pair for pair in context.invocation_metadata() if pair.key == "authorization"]
            reply = onward(request, metadata=metadata, timeout=20)
            if len(self.passed) == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the reply is lost")
            return reply

        return grpc.unary_unary_rpc_method_handler(handle)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_lost_reply_is_asked_for_again_and_is_no_duplicate(stack: Stack, asynchronous: bool) -> None:
    """The same request with the same name of its own: the first answer, held once."""
    key, server = stack.key(), stack.policy_servers[0]
    losing = LosesReplies(policy_server_address(server))
    between = grpc.server(ThreadPoolExecutor(2), handlers=[losing])
    address = f"127.0.0.1:{between.add_insecure_port('127.0.0.1:0')}"
    between.start()
    try:
        if asynchronous:
            async with AsyncSpendGate(address, token=token(server, "sidecar"), timeout_s=20) as waiting:
                held = await waiting.authorize(key.text, CHARGE, usd(1900), "run-1")
        else:
            with SpendGate(address, token=token(server, "sidecar"), timeout_s=20) as gate:
                held = await asyncio.to_thread(gate.authorize, key.text, CHARGE, usd(1900), "run-1")
    finally:
        between.stop(None).wait()
        losing.channel.close()
    assert not held.duplicate
    first, again = losing.passed
    assert first == again
    assert stack.usage(key).held == 1900


# --- money and keys ---------------------------------------------------------------------


@given(st.sampled_from(sorted(currencies.DECIMALS)), st.integers(0, currencies.MAX_MINOR_UNITS))
def test_money_is_read_as_it_is_written(currency: str, minor: int) -> None:
    """In every currency, exactly."""
    money = Money(minor, currency.lower())
    assert Money.of(str(money).partition(" ")[0], currency) == money
    assert Decimal(str(money).split()[0]).scaleb(currencies.decimals(currency)) == minor
    assert Money.from_proto(money.to_proto()) == money


@pytest.mark.parametrize(
    ("minor", "currency", "kind"),
    [
        (19.99, "usd", TypeError),
        (True, "usd", TypeError),
        ("1900", "usd", TypeError),
        (-1, "usd", ValueError),
        (2**53, "usd", ValueError),
        (1, "dollars", ValueError),
        (1, "", ValueError),
    ],
)
def test_what_is_no_money_is_refused(minor: Any, currency: str, kind: type[Exception]) -> None:
    """Nothing is rounded or guessed."""
    with pytest.raises(kind):
        Money(minor, currency)


@pytest.mark.parametrize("raw", [STRIPE_KEY, "sk_live_1", "RK_test_1", " sk_test_1 ", "", "vk_", "vk_a b"])
def test_only_vault_keys_are_taken(gate: SpendGate, raw: str) -> None:
    """A raw Stripe key is refused before it goes anywhere, and the refusal does not repeat it."""
    with pytest.raises(ValueError) as refused:
        gate.authorize(raw, CHARGE, usd(1), "run-1")
    assert "vault key" in str(refused.value)
    assert raw.strip() not in str(refused.value) or not raw.strip() or raw == "vk_"


def test_a_vault_key_shows_itself_to_nobody(stack: Stack) -> None:
    """Not in text, not in a pickle, not by comparison."""
    text = stack.key().text
    key = VaultKey(text)
    secret = text.rpartition("_")[2]
    assert secret not in f"{key} {key!r} {[key]}"
    assert key.key_id in repr(key)
    assert key == VaultKey(text)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_caps_on_calls_are_counted_in_calls(stack: Stack, gate: SpendGate) -> None:
    """What is left of them is no money."""
    calls = policy_pb2.Cap(calls=1, window=policy_pb2.WINDOW_RUN)
    key = stack.key(caps=[cap(10_000), calls])
    gate.authorize(key.text, CHARGE, usd(1), "run-1", hold_ttl=timedelta(seconds=60))
    with pytest.raises(errors.CapExceeded) as refused:
        gate.authorize(key.text, CHARGE, usd(1), "run-1", step="two")
    assert (refused.value.remaining, refused.value.remaining_money) == (0, None)
    assert not refused.value.retryable


def test_every_name_of_the_package_is_there() -> None:
    """Names are loaded when they are first used, so that pytest, which loads the package, need not wait."""
    assert set(spendgate._MODULES) == set(spendgate.__all__) <= set(dir(spendgate))
    for name, module in spendgate._MODULES.items():
        assert getattr(spendgate, name).__module__ == module
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = spendgate.Nothing
