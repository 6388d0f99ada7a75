"""The way from sidecars to Stripe's simulator, which runs in the same process and keeps its own books."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from multidict import CIMultiDict
from pydantic import SecretStr

from sidecar.exchange import Answer, Forward
from sidecar.upstream import NoAnswer, NotSent, Upstream
from stripe_simulator.api import Admitted, StripeApi
from stripe_simulator.errors import server_error
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimulatedLoop, SimulatedProcess

STRIPE_KEY = "sk_test_51KeyOfTheSimulation"
_SECRET = SecretStr(f"Bearer {STRIPE_KEY}")

Sent = asyncio.Future[Answer]


class StripeNetwork:
    """Carries requests to Stripe."""

    def __init__(
        self, api: StripeApi, faults: Faults, loop: SimulatedLoop, seed: int, tell: Callable[[str, str], None]
    ) -> None:
        self.api = api
        self.faults = faults
        self.loop = loop
        self.tell = tell
        self._chance = random.Random(f"{seed} stripe")
        self.when_received: Callable[[int], None] = lambda number: None
        """Called with the number of each POST when it arrives, before Stripe does anything."""
        self.on_their_way = 0
        """How many requests are on the way to Stripe, or with it."""
        self.late = 0
        """How many requests are on the way that take seconds for it."""
        self.told: list[tuple[SimulatedProcess, str]] = []
        """Which sidecar was told of a success, and under which idempotency key."""

    def delay(self) -> float:
        """How long Stripe, or the way there, takes in seconds."""
        return self._chance.random() ** 3 * 0.4

    def upstream(self, sidecar: SimulatedProcess, timeout_s: float) -> Upstream:
        """What a gate sends with."""
        return _UpstreamLink(self, sidecar, timeout_s)

    def carry(self, sidecar: SimulatedProcess, forward: Forward) -> Sent:
        """Begin one exchange."""
        sent: Sent = self.loop.create_future()
        fault = self.faults.draw("stripe", min(0.6, 3 * self.faults.rate))
        kind = fault.kind if fault else ""
        there = self.delay()
        if fault and kind == "send late":
            there += fault.chance.choice([1, 8, 25, 50])
        if kind == "refuse the connection":
            self.loop.later(there, _fail, sent, NotSent("refused"))
        elif kind == "kill the sidecar before":
            self.loop.later(0, sidecar.kill)
        elif kind != "swallow the request":
            self._later(there, self._arrive, sidecar, forward, sent, fault)
            if kind == "send late" and forward.method == "POST":
                self.late += 1
                self.loop.later(there, self._no_more_late)
            if fault and kind == "deliver twice":
                again = there + fault.chance.choice([0.0, 0.2, 5])
                unheard: Sent = self.loop.create_future()
                unheard.cancel()
                self._later(again, self._arrive, sidecar, forward, unheard, None)
        return sent

    def _later(self, delay_s: float, act: Callable[..., None], *arguments: Any) -> None:
        self.on_their_way += 1
        self.loop.later(delay_s, self._act, act, *arguments)

    def _no_more_late(self) -> None:
        self.late -= 1

    def _act(self, act: Callable[..., None], *arguments: Any) -> None:
        self.on_their_way -= 1
        act(*arguments)

    def _arrive(self, sidecar: SimulatedProcess, forward: Forward, sent: Sent, fault: Fault | None) -> None:
        headers = CIMultiDict({**forward.headers, "Authorization": _SECRET.get_secret_value()})
        incoming = self.api.receive(forward.method, forward.target, headers)
        incoming.take_body(forward.body)
        kind = fault.kind if fault else ""
        if forward.method == "POST":
            self.when_received(incoming.entry.n)
        if kind == "fail before":
            self._answer(self.api.refuse(incoming, server_error(500)), sidecar, sent, forward, fault)
            return
        admitted = self.api.admit(incoming)
        if isinstance(admitted, Admitted):
            # While it works, the idempotency key is taken.
            self._later(self.delay(), self._execute, admitted, sidecar, sent, forward, fault)
        else:
            self._answer(admitted, sidecar, sent, forward, fault)

    def _execute(
        self, admitted: Admitted, sidecar: SimulatedProcess, sent: Sent, forward: Forward, fault: Fault | None
    ) -> None:
        fail_with = 500 if fault and fault.kind == "fail after" else None
        self._answer(self.api.execute(admitted, fail_with), sidecar, sent, forward, fault)

    def _answer(
        self, given: Any, sidecar: SimulatedProcess, sent: Sent, forward: Forward, fault: Fault | None
    ) -> None:
        status, headers, body = given.status, given.headers, given.body
        key = forward.headers.get("Idempotency-Key", "")
        replayed = " (again)" if "Idempotent-Replayed" in headers else ""
        self.tell("Stripe", f"{forward.method} {forward.target} {key} -> {status}{replayed}")
        answer = Answer(
            status, [(name.lower().encode(), text.encode()) for name, text in headers.items()], body
        )
        back = self.delay()
        kind = fault.kind if fault else ""
        if fault and kind == "answer late":
            back += fault.chance.choice([1, 8, 25])
        if kind == "lose the reply":
            self.loop.later(back, _fail, sent, NoAnswer("ServerDisconnectedError"))
        elif kind == "kill the sidecar after":
            self.loop.later(0, sidecar.kill)
        else:
            self.loop.later(back, self._resolve, sidecar, key, sent, answer)

    def _resolve(self, sidecar: SimulatedProcess, key: str, sent: Sent, answer: Answer) -> None:
        if not sent.done():
            sent.set_result(answer)
            if answer.status == 200 and key:
                self.told.append((sidecar, key))


class _UpstreamLink(Upstream):
    """`Upstream` without sockets: what it raises means the same."""

    def __init__(self, network: StripeNetwork, sidecar: SimulatedProcess, timeout_s: float) -> None:
        super().__init__("https://stripe.test", _SECRET, timeout_s=timeout_s)
        self._network = network
        self._sidecar = sidecar
        self._timeout_s = timeout_s

    async def send(self, forward: Forward, *, begin_within_s: float | None = None) -> Answer:
        sent = self._network.carry(self._sidecar, forward)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await sent
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout_s:.0f} s") from None


def _fail(sent: Sent, error: Exception) -> None:
    if not sent.done():
        sent.set_exception(error)
        sent.exception()
