"""A sidecar that stood still between a decision and its call does not act on that decision any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sidecar import gate
from sidecar.exchange import Answer, Forward, Request
from sidecar.outbox import Outbox
from sidecar.stripe.vendor import Stripe
from spendgate.v1 import policy_service_pb2 as pb

KEY = f"Bearer vk_{'a' * 12}_{'b' * 32}".encode()
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
            upstream_idempotency_key="run~az_key_effect~1",
        )


class Upstream:
    """Notes what is sent."""

    sender = "nobody"

    def __init__(self) -> None:
        self.sent: list[Forward] = []

    async def send(self, forward: Forward) -> Answer:
        """Do a charge."""
        self.sent.append(forward)
        return Answer(200, [], b'{"id": "ch_1", "object": "charge", "status": "succeeded"}')


@pytest.mark.parametrize(("passes_s", "sends"), [(1, True), (59, True), (61, False), (3600, False)])
async def test_a_decision_from_before_a_long_standstill_is_not_acted_on(
    monkeypatch: pytest.MonkeyPatch, passes_s: float, sends: bool
) -> None:
    """It is refused as not sent, and the hold is given back: by then others may count on its absence."""
    clock = [1000.0]
    monkeypatch.setattr(gate, "_clock_s", lambda: clock[0])
    outbox, upstream = Outbox(cast(Any, None)), Upstream()
    one = gate.Gate(Stripe(), cast(Any, Decided(clock, passes_s)), outbox, cast(Any, upstream))
    headers = {
        b"authorization": [KEY],
        b"spendgate-run-id": [b"run"],
        b"content-type": [b"application/x-www-form-urlencoded"],
    }
    monkeypatch.setattr(gate, "_SETTLE_S", 0.01)
    async with asyncio.timeout(10):
        answer = await one.handle(Request("POST", "/v1/charges", "", headers, FORM))
    assert (answer.status == 200) is sends
    assert bool(upstream.sent) is sends
    ((settlement, _),) = outbox._settlements
    assert settlement.outcome == (pb.OUTCOME_SUCCEEDED if sends else pb.OUTCOME_FAILED)
