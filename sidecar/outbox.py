"""Tells the policy server what became of calls, and keeps telling until it has heard.

What is lost here when the process dies is not lost for the count: the hold
passes its deadline, becomes unknown and keeps counting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

import grpc

from sidecar.policy_link import PolicyLink
from spendgate.v1 import policy_service_pb2 as pb

log = logging.getLogger(__name__)

_BATCH_MAX = 128
_LINGER_S = 0.025
"""How long the first of a batch waits for others; nobody waits for a settlement."""

_TIMEOUT_S = 2.0
_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 2.0
_REFUSALS_MAX = 10_000
"""How many local refusals wait at most; an agent could make any number of them while nobody listens."""

_OBSERVATIONS_MAX = 1_000

Delivered = Callable[[], None]


class Outbox:
    """Delivers settlements and local refusals in batches, in order, again and again until they arrive."""

    def __init__(self, policy: PolicyLink) -> None:
        self._policy = policy
        self._settlements: deque[tuple[pb.SettleRequest, Delivered]] = deque()
        self._refusals: deque[pb.Refusal] = deque()
        self._refusals_lost = 0
        self._observations: deque[pb.Observation] = deque(maxlen=_OBSERVATIONS_MAX)
        self._filled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._flushing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many settlements are not delivered yet."""
        return len(self._settlements)

    def settle(self, settlement: pb.SettleRequest, delivered: Delivered, *, at_once: bool = False) -> None:
        """Hand over an outcome; ``delivered`` is called once the policy server has it."""
        self._settlements.append((settlement, delivered))
        self._wake()
        if at_once:
            self._hurry.set()

    def observe(self, observation: pb.Observation) -> None:
        """Hand over what an object commits for good. It may be lost: the next look at it says the same."""
        self._observations.append(observation)
        self._wake()

    def record(self, refusal: pb.Refusal) -> None:
        """Hand over a refusal for the record."""
        if len(self._refusals) >= _REFUSALS_MAX:
            self._refusals_lost += 1
            if self._refusals_lost == 1:
                log.error(
                    "more than %s refusals wait for the policy server; more are only logged", _REFUSALS_MAX
                )
            log.warning("refused, not recorded: %s %s", refusal.code, refusal.endpoint)
            return
        self._refusals.append(refusal)
        self._wake()

    async def run(self) -> None:
        """Deliver until cancelled."""
        pause_s = _PAUSE_FIRST_S
        while True:
            await self._filled.wait()
            if not self._flushing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), _LINGER_S)
            self._hurry.clear()
            try:
                await self._deliver_settlements()
                await self._deliver_observations()
                await self._deliver_refusals()
            except grpc.aio.AioRpcError as error:
                log.warning(
                    "%s settlements and %s refusals wait: the policy server answers %s: %s",
                    *(len(self._settlements), len(self._refusals), error.code().name, error.details()),
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
                continue
            pause_s = _PAUSE_FIRST_S
            if not self._settlements and not self._refusals and not self._observations:
                self._filled.clear()
                self._idle.set()

    async def catch_up(self, timeout_s: float) -> None:
        """Deliver at once what waits, for a call that counts on it; at most so long."""
        if self._settlements:
            await self.flush(timeout_s)

    async def flush(self, timeout_s: float) -> bool:
        """Deliver at once until nothing waits, at most so long; tell whether nothing does."""
        self._flushing += 1
        self._hurry.set()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._flushing -= 1
        return True

    def _wake(self) -> None:
        self._idle.clear()
        self._filled.set()

    async def _deliver_settlements(self) -> None:
        """Deliver what waits now; what comes meanwhile waits for others again."""
        left = len(self._settlements)
        while left:
            batch = [self._settlements[i] for i in range(min(left, _BATCH_MAX))]
            left -= len(batch)
            reply = await self._policy.batch_settle(
                pb.BatchSettleRequest(requests=[settlement for settlement, _ in batch]), timeout_s=_TIMEOUT_S
            )
            again = []
            for (settlement, delivered), result in zip(batch, reply.results, strict=True):
                self._settlements.popleft()
                if result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]:
                    again.append((settlement, delivered))
                    continue
                if result.WhichOneof("result") == "error":
                    log.error("%s can't be settled: %s", settlement.authorization_id, result.error.message)
                delivered()
            self._settlements.extend(again)
            if again:
                await asyncio.sleep(_PAUSE_FIRST_S)

    async def _deliver_observations(self) -> None:
        batch: list[pb.Observation] = []
        while self._observations and len(batch) < _BATCH_MAX:
            batch.append(self._observations.popleft())
        if batch:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._policy.batch_record_observations(
                    pb.BatchRecordObservationsRequest(observations=batch), timeout_s=_TIMEOUT_S
                )

    async def _deliver_refusals(self) -> None:
        while self._refusals:
            batch = [self._refusals[i] for i in range(min(len(self._refusals), _BATCH_MAX))]
            await self._policy.batch_record_refusals(
                pb.BatchRecordRefusalsRequest(refusals=batch), timeout_s=_TIMEOUT_S
            )
            for _ in batch:
                self._refusals.popleft()
