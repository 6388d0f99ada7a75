"""Finds out what became of calls whose outcome nobody knows, and closes their holds on evidence only.

It reads at the vendor and never repeats a call (docs/adr/0015-evidence-only.md).
Agents never wait for it. Several sidecars may find out the same: a settlement
says the same each time, and one that was overtaken is refused.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import grpc

from sidecar.gate import SEND_WITHIN_S
from sidecar.paced import PacedReads
from sidecar.policy_link import PolicyLink
from sidecar.settlements import fill
from sidecar.vendor import CannotLook, Finding, Found, Money, NotFound, OpenCall, Vendor
from spendgate.v1 import policy_service_pb2 as pb

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT_S = 5.0
_TRIES = 4
_TRY_AGAIN_S = 0.5
_PAGE = 256
_LOOK_AGAIN_AFTER_SHARE = 0.25
"""Of its age: a hold is looked at less and less often, since what is not there after a day won't come."""

_LOOK_AGAIN_MAX_S = 6 * 3600
_PAUSE_MAX_S = 5.0
"""How long to wait at most for a policy server that is away, unless looking is rarer anyway."""

_VENDOR_PAUSE_MAX_S = 900.0
_EVIDENCE_MAX = 255


_Name = tuple[str, int, int]
"""A hold's authorization, attempt and last sending: a repeat that is allowed makes it another."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """One moment by two clocks."""

    store_ms: int
    """Milliseconds since 1970 by the store's clock, which somebody may set."""
    here_s: float
    """By a clock that nobody sets."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One unresolved hold, and what looking for it has come to."""

    hold: pb.UnresolvedHold
    finding: Finding
    state: str = "unknown"
    """Where it is now: ``settled``, ``released`` or ``unknown``."""
    overrun: bool = False


class Reconciler:
    """Looks for the unresolved holds of some vendors."""

    def __init__(
        self,
        policy: PolicyLink,
        vendors: Sequence[tuple[Vendor, PacedReads, str]],
        *,
        quiet_s: float,
        dry_run: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``vendors`` come with a way to read and the name of the credentials for it.

        ``quiet_s`` is how long after a call's last possible sending the vendor
        has surely done it, or never will: by the store's clock, and also by a
        clock that nobody sets, since the hold was first seen here. A call is
        sent at most `SEND_WITHIN_S` after it was allowed, and while a hold is
        not unknown yet, repeats may be allowed of which it shows nothing.
        """
        self._policy = policy
        self._vendors = vendors
        self._silent_s = SEND_WITHIN_S + quiet_s
        """How long after the last permission to send a call its absence says that it never arrived."""
        self._dry_run = dry_run
        self._clock_s = clock_s
        self._seen_since: dict[_Name, float] = {}
        self._look_again_at: dict[_Name, float] = {}
        """When a hold is worth another look."""

    async def run(self, every_s: float) -> None:
        """Look again and again until cancelled; the pauses are of uneven length, so that sidecars spread."""
        pause_s = every_s
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                await self.look(every_s=every_s)
                pause_s = every_s
            except CannotLook as problem:
                log.warning("unknown outcomes wait: the vendor can't be asked: %s", problem)
                pause_s = min(pause_s * 2, max(every_s, _VENDOR_PAUSE_MAX_S))
            except grpc.aio.AioRpcError as error:
                log.warning("unknown outcomes wait: %s: %s", error.code().name, error.details())
                pause_s = min(pause_s * 2, max(every_s, _PAUSE_MAX_S))
            except Exception:
                log.exception("unknown outcomes wait: looking for them failed")
                pause_s = min(pause_s * 2, max(every_s, _VENDOR_PAUSE_MAX_S))

    async def look(self, *, account: str = "", every_s: float = 0) -> list[Looked]:
        """Look once for every hold that is due, all of them unless ``every_s`` is given; close what is found.

        Raises `CannotLook` and `grpc.aio.AioRpcError`; what was closed before stays closed.
        """
        looked: list[Looked] = []
        listed: set[_Name] = set()
        async for page in self._unresolved(account):
            names = [_name(hold) for hold in page.holds]
            listed.update(names)
            now = _Moment(page.read_time.ToMilliseconds(), self._clock_s())
            for name in names:
                self._seen_since.setdefault(name, now.here_s)
            due = [
                hold
                for hold, name in zip(page.holds, names, strict=True)
                if not every_s or self._look_again_at.get(name, 0) <= now.here_s
            ]
            found = await self._look_for(due, now)
            for one in found:
                if one.state == "unknown":
                    pause_s = self._pause_s(one.hold, now, every_s)
                    self._look_again_at[_name(one.hold)] = now.here_s + pause_s
            looked += found
        self._seen_since = {name: at for name, at in self._seen_since.items() if name in listed}
        self._look_again_at = {name: at for name, at in self._look_again_at.items() if name in listed}
        return looked

    async def look_until_quiet(self) -> list[Looked]:
        """Look, and if something stays unknown, once more when absence may count; else as `look`.

        Takes the quiet time then.
        """
        first = await self.look()
        if all(one.state != "unknown" for one in first):
            return first
        await asyncio.sleep(self._silent_s)
        again = await self.look()
        listed = {_name(one.hold) for one in again}
        closed = [one for one in first if one.state != "unknown" and _name(one.hold) not in listed]
        return closed + again

    def _pause_s(self, hold: pb.UnresolvedHold, now: _Moment, every_s: float) -> float:
        age_s = (now.store_ms - hold.hold_time.ToMilliseconds()) / 1000
        pause_s = min(max(every_s, age_s * _LOOK_AGAIN_AFTER_SHARE), _LOOK_AGAIN_MAX_S)
        quiet_in_s = self._quiet_in_s(hold, now)
        # Not later than when absence begins to count.
        return min(pause_s, quiet_in_s) if quiet_in_s > 0 else pause_s

    def _quiet_in_s(self, hold: pb.UnresolvedHold, now: _Moment) -> float:
        """Return in how many seconds absence counts; it does when that is not more than 0."""
        allowed_for_s = (now.store_ms - hold.last_send_time.ToMilliseconds()) / 1000
        seen_for_s = now.here_s - self._seen_since[_name(hold)]
        return self._silent_s - min(allowed_for_s, seen_for_s)

    async def _unresolved(self, account: str) -> AsyncIterator[pb.ListUnresolvedHoldsResponse]:
        token = ""
        while True:
            request = pb.ListUnresolvedHoldsRequest(page_size=_PAGE, page_token=token, account=account)
            page = await _patiently(partial(self._policy.list_unresolved_holds, request))
            yield page
            token = page.next_page_token
            if not token:
                return

    async def _look_for(self, holds: Sequence[pb.UnresolvedHold], now: _Moment) -> list[Looked]:
        looked: list[Looked] = []
        left = list(holds)
        for vendor, reads, sender in self._vendors:
            own = [hold for hold in left if vendor.made(hold.endpoint)]
            left = [hold for hold in left if not vendor.made(hold.endpoint)]
            if own:
                calls = [self._open_call(hold, sender, now) for hold in own]
                findings = await vendor.investigate(calls, reads.look, now_ms=now.store_ms)
                looked += await self._close([(hold, findings[hold.authorization_id]) for hold in own])
        return looked + [Looked(hold, NotFound("its vendor is not set up here")) for hold in left]

    def _open_call(self, hold: pb.UnresolvedHold, sender: str, now: _Moment) -> OpenCall:
        money = hold.amount
        return OpenCall(
            reference=hold.authorization_id,
            endpoint=hold.endpoint,
            upstream_key=hold.upstream_idempotency_key,
            object_id=hold.object_id,
            vendor_account=hold.vendor_account,
            money=Money(money.minor_units, money.currency_code) if hold.HasField("amount") else None,
            sent_from_ms=hold.hold_time.ToMilliseconds(),
            sent_until_ms=hold.last_send_time.ToMilliseconds() + round(SEND_WITHIN_S * 1000),
            absence_counts=hold.sender == sender and self._quiet_in_s(hold, now) <= 0,
        )

    async def _close(self, findings: Sequence[tuple[pb.UnresolvedHold, Finding]]) -> list[Looked]:
        looked = [Looked(hold, finding) for hold, finding in findings]
        settlements = [
            (index, settlement_of(one.hold, one.finding))
            for index, one in enumerate(looked)
            if isinstance(one.finding, Found)
        ]
        if not settlements:
            return looked
        if self._dry_run:
            for index, settlement in settlements:
                state = "settled" if settlement.outcome == pb.OUTCOME_SUCCEEDED else "released"
                looked[index] = Looked(looked[index].hold, looked[index].finding, state)
            return looked
        request = pb.BatchSettleRequest(requests=[settlement for _, settlement in settlements])
        reply = await _patiently(partial(self._policy.batch_settle, request))
        for (index, settlement), result in zip(settlements, reply.results, strict=True):
            hold, finding = looked[index].hold, looked[index].finding
            if result.WhichOneof("result") == "error":
                looked[index] = Looked(hold, NotFound(result.error.message))
                continue
            state = pb.HoldState.Name(result.response.state).removeprefix("HOLD_STATE_").lower()
            looked[index] = Looked(hold, finding, state, result.response.overrun)
            log.info("%s is %s: %s", hold.authorization_id, state, settlement.evidence)
        return looked


async def _patiently(ask: Callable[..., Awaitable[T]]) -> T:
    """Ask again a few times while the policy server is away; all that is asked here may be repeated."""
    for attempt in range(1, _TRIES):
        try:
            return await ask(timeout_s=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(_TRY_AGAIN_S * attempt)
    return await ask(timeout_s=_TIMEOUT_S)


def settlement_of(hold: pb.UnresolvedHold, found: Found) -> pb.SettleRequest:
    """Return the settlement that evidence asks for."""
    settlement = pb.SettleRequest(
        authorization_id=hold.authorization_id,
        attempt=hold.attempt,
        evidence=found.evidence[:_EVIDENCE_MAX],
        stale=not found.fresh,
    )
    fill(settlement, found.reading)
    if settlement.outcome == pb.OUTCOME_FAILED:
        # A repeat that was allowed meanwhile may be the one that is carried out.
        settlement.unless_sent_after.CopyFrom(hold.last_send_time)
    return settlement


def _name(hold: pb.UnresolvedHold) -> _Name:
    return hold.authorization_id, hold.attempt, hold.last_send_time.ToMilliseconds()
