"""What was never sent is believed only when it can't be sent any more, in any way and by any clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from policy_server.core.errors import HoldClosed, SpendgateError
from policy_server.core.types import Outcome, Verdict
from policy_server.rpc import convert
from sidecar import gate
from sidecar.paced import PacedReads
from sidecar.reconciler import Reconciler
from sidecar.vendor import Failed, Finding, Found, Look, NotFound, OpenCall, Vendor
from spendgate.v1 import policy_service_pb2 as pb
from tests.world import HOLD_TTL_MS, SECOND, World, usd

QUIET_S = 100
SENDER = "stripe:abc"


class Link:
    """The policy server's service over a world, without a network."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list_unresolved_holds(
        self, request: pb.ListUnresolvedHoldsRequest, *, timeout_s: float
    ) -> pb.ListUnresolvedHoldsResponse:
        """List them."""
        await self._world.server.settler.expire_holds()
        cursor = convert.unresolved_cursor(request.page_token)
        return convert.unresolved_page(await self._world.server.settler.unresolved("", cursor, 100))

    async def batch_settle(
        self, request: pb.BatchSettleRequest, *, timeout_s: float
    ) -> pb.BatchSettleResponse:
        """Settle."""
        settlements = [convert.settlement(one) for one in request.requests]
        response = pb.BatchSettleResponse()
        for answer in await self._world.server.settler.settle(settlements):
            result = response.results.add()
            if isinstance(answer, SpendgateError):
                result.error.message = answer.message
            else:
                result.response.CopyFrom(convert.settle_response(answer))
        return response


class NothingThere:
    """A vendor that shows nothing of any call, and says so as soon as that counts."""

    def __init__(self) -> None:
        self.asked: list[OpenCall] = []

    def made(self, endpoint: str) -> bool:
        """Every endpoint is its own."""
        return True

    async def investigate(
        self, calls: Sequence[OpenCall], look: Look, *, now_ms: int
    ) -> Mapping[str, Finding]:
        """Take absence for proof where that is allowed."""
        self.asked += calls
        return {
            call.reference: Found(Failed(), "nothing there") if call.absence_counts else NotFound("early")
            for call in calls
        }


@dataclass
class Looking:
    """A reconciler, and the clock by which it waits."""

    world: World
    here_s: float = 5000.0

    def __post_init__(self) -> None:
        self.vendor = NothingThere()
        self._reconciler = Reconciler(
            cast(Any, Link(self.world)),
            [(cast(Vendor, self.vendor), cast(PacedReads, _NoReads()), SENDER)],
            quiet_s=QUIET_S,
            clock_s=lambda: self.here_s,
        )

    def passes(self, seconds: float) -> None:
        """Let time pass by every clock."""
        self.here_s += seconds
        self.world.now_ms += round(seconds * SECOND)

    async def states(self) -> list[str]:
        """Look once; return what became of each hold that was unknown."""
        return [one.state for one in await self._reconciler.look()]


class _NoReads:
    async def look(self, forward: Any) -> Any:
        raise AssertionError("nobody reads here")


async def ask(world: World, key: str, **more: Any) -> Verdict:
    """Ask about one charge, as a sidecar does."""
    verdict = await world.ask(key, 700, **{"sender": SENDER, **more})
    assert verdict.allowed
    return verdict


async def test_a_hold_that_is_taken_over_at_its_deadline_is_not_released_while_it_may_be_sent(
    world: World,
) -> None:
    """The reply of the decision was lost; the repeat takes over, and has a minute to send its call."""
    key = await world.key(usd(10_000))
    looking = Looking(world)
    first = await ask(world, key, request_id="one")
    looking.passes((HOLD_TTL_MS - 1) / SECOND)
    taken_over = await ask(world, key, request_id="one")
    assert (taken_over.duplicate, taken_over.attempt) == (False, first.attempt)
    looking.passes(0.001)
    assert await looking.states() == ["unknown"]
    looking.passes(gate.SEND_WITHIN_S + QUIET_S - 1)
    assert await looking.states() == ["unknown"]
    assert looking.vendor.asked[-1].sent_until_ms >= world.now_ms - QUIET_S * SECOND
    looking.passes(1)
    assert await looking.states() == ["released"]
    assert await world.count(key) == (0, 0)


async def test_a_clock_that_is_set_forward_leaves_the_minute_in_which_a_call_may_be_sent(
    world: World,
) -> None:
    """By the store's clock all is long over; by the clock that nobody sets the call was just decided on."""
    key = await world.key(usd(10_000))
    looking = Looking(world)
    await ask(world, key)
    world.now_ms += 1200 * SECOND
    assert await looking.states() == ["unknown"]
    looking.passes(gate.SEND_WITHIN_S + QUIET_S - 1)
    assert await looking.states() == ["unknown"]
    looking.passes(1)
    assert await looking.states() == ["released"]


@pytest.mark.parametrize("passes_s", [0.001, gate.SEND_WITHIN_S - 1, gate.SEND_WITHIN_S + QUIET_S - 1])
async def test_a_repeat_is_a_sending_of_its_own(world: World, passes_s: float) -> None:
    """However soon before the release it is allowed, the waiting begins anew."""
    key = await world.key(usd(10_000))
    looking = Looking(world)
    await ask(world, key)
    looking.passes(HOLD_TTL_MS / SECOND)
    assert await looking.states() == ["unknown"]
    looking.passes(passes_s)
    assert (await ask(world, key)).duplicate
    looking.passes(gate.SEND_WITHIN_S + QUIET_S - passes_s)
    assert await looking.states() == ["unknown"]
    looking.passes(gate.SEND_WITHIN_S + QUIET_S - 1)
    assert await looking.states() == ["unknown"]
    looking.passes(1)
    assert await looking.states() == ["released"]


async def test_a_repeat_that_another_account_may_have_done_is_never_released(world: World) -> None:
    """It went through a sidecar with other credentials: this one's silence proves nothing of that one."""
    key = await world.key(usd(10_000))
    looking = Looking(world)
    await ask(world, key)
    looking.passes(HOLD_TTL_MS / SECOND)
    assert await looking.states() == ["unknown"]
    assert (await ask(world, key, sender="stripe:other")).duplicate
    assert (await ask(world, key)).duplicate
    for _ in range(3):
        looking.passes(gate.SEND_WITHIN_S + QUIET_S)
        assert await looking.states() == ["unknown"]
    assert await world.count(key) == (0, 700)


async def test_that_the_first_try_failed_says_nothing_of_a_repeat_that_was_allowed_since(
    world: World,
) -> None:
    """It was turned away, or never sent, after its deadline; the repeat may be what the vendor does."""
    key = await world.key(usd(10_000))
    first = await ask(world, key)
    world.now_ms += HOLD_TTL_MS
    assert (await ask(world, key)).duplicate
    with pytest.raises(HoldClosed, match="allowed again since"):
        await world.settle(first, outcome=Outcome.FAILED, unless_sent_after_ms=first.expires_at_ms)
    assert await world.count(key) == (0, 700)
    await world.settle(first, 700, object_id="ch_1")
    assert await world.count(key) == (700, 0)
