"""A sidecar that stood still between a decision and its call does not act on that decision any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr

from sidecar import gate, upstream
from sidecar.exchange import Answer, Forward, Request
from sidecar.outbox import Outbox
from sidecar.stripe.vendor import Stripe
from spendgate.v1 import policy_service_pb2 as pb

KEY = f"Bearer vk_{'a' * 12}_{'b' * 32}".encode()
DEADLINE = Timestamp(seconds=1_700_000_000)
FORM = b"amount=1900&currency=usd&source=tok_visa"


class Decided:
    """Allows every call, and lets time pass before it says so."""

    def __init__(self, clock: list[float], passes_s: float) -> None:
        self._clock = clock
        self._passes_s = passes_s

    async def ask(self, question: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Allow a call."""
        self._clock[0] += self._passes_s
        return pb.AuthorizeResponse(
            decision=pb.DECISION_ALLOW,
            authorization_id="az_key_effect",
            attempt=1,
            expire_time=DEADLINE,
            upstream_idempotency_key="run~az_key_effect~1",
        )


class Upstream:
    """Notes what is sent."""

    sender = "nobody"

    def __init__(self) -> None:
        self.sent: list[Forward] = []
        self.begins_within_s: float | None = None

    async def send(self, forward: Forward, *, begin_within_s: float | None = None) -> Answer:
        """Do a charge."""
        self.begins_within_s = begin_within_s
        self.sent.append(forward)
        return Answer(200, [], b'{"id": "ch_1", "object": "charge", "status": "succeeded"}')


@pytest.mark.parametrize(("passes_s", "sends"), [(1, True), (59, True), (61, False), (3600, False)])
async def test_a_decision_from_before_a_long_standstill_is_not_acted_on(
    monkeypatch: pytest.MonkeyPatch, passes_s: float, sends: bool
) -> None:
    """It is refused as not sent, and the hold is given back: by then others may count on its absence."""
    clock = [1000.0]
    monkeypatch.setattr(gate, "_clock_s", lambda: clock[0])
    outbox, vendor = Outbox(cast(Any, None)), Upstream()
    one = gate.Gate(Stripe(), cast(Any, Decided(clock, passes_s)), outbox, cast(Any, vendor))
    headers = {
        b"authorization": [KEY],
        b"spendgate-run-id": [b"run"],
        b"content-type": [b"application/x-www-form-urlencoded"],
    }
    monkeypatch.setattr(gate, "_SETTLE_S", 0.01)
    async with asyncio.timeout(10):
        answer = await one.handle(Request("POST", "/v1/charges", "", headers, FORM))
    assert (answer.status == 200) is sends
    assert bool(vendor.sent) is sends
    ((settlement, _),) = outbox._settlements
    assert settlement.outcome == (pb.OUTCOME_SUCCEEDED if sends else pb.OUTCOME_FAILED)
    if sends:
        # What it waits for a connection counts too.
        assert vendor.begins_within_s == gate.SEND_WITHIN_S - passes_s
    else:
        # A repeat that was allowed after its deadline may be what is done.
        assert settlement.unless_sent_after == DEADLINE


async def test_a_call_that_waited_too_long_for_a_connection_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every connection is taken by slow calls, and by the time that one is free the decision is old."""
    monkeypatch.setattr(upstream, "_CONNECTIONS_MAX", 1)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    over = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        await over.wait()
        writer.close()

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as server, asyncio.timeout(30):
        port = server.sockets[0].getsockname()[1]
        one = upstream.Upstream(f"http://127.0.0.1:{port}", SecretStr("Bearer key"), timeout_s=30)
        await one.open()
        first = asyncio.create_task(one.send(Forward("POST", "/v1/charges")))
        await received.get()
        with pytest.raises(upstream.NotSent):
            await one.send(Forward("POST", "/v1/charges"), begin_within_s=0.01)
        over.set()
        with pytest.raises(upstream.NoAnswer):
            await first
        assert received.empty()
        await one.close()
