"""Asks the policy server whether an agent may spend, and reports what became of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar, Unpack, cast

import grpc

from spendgate import errors, rpc, transport
from spendgate.authorization import (
    Authorization,
    CallNames,
    Outcome,
    Replay,
    Settlement,
    SettlementFacts,
    authorization,
    authorize_request,
    settle_request,
    settlement,
)
from spendgate.money import Money
from spendgate.v1.policy_service_pb2_grpc import PolicyServiceStub
from spendgate.vault_key import SecretText, secret_text

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 5.0
_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class Attempt:
    """One allowed call, inside a ``with`` block.

    Say what became of it with `succeeded` or `failed`; it is reported when the
    block is left. Without either, also when an exception or a cancellation ends
    the block, the outcome is unknown and the money stays held.
    """

    def __init__(self, held: Authorization) -> None:
        self.authorization = held
        self.outcome = Outcome.UNKNOWN
        self.amount: Money | None = None
        self.facts = SettlementFacts()

    @property
    def upstream_idempotency_key(self) -> str:
        """The Idempotency-Key to send to the vendor."""
        return self.authorization.upstream_idempotency_key

    def succeeded(self, amount: Money | None = None, **facts: Unpack[SettlementFacts]) -> None:
        """Say that the vendor did it. ``amount`` is what its object commits now; left out, what was held."""
        self.outcome, self.amount, self.facts = Outcome.SUCCEEDED, amount, facts

    def failed(self, amount: Money | None = None, **facts: Unpack[SettlementFacts]) -> None:
        """Say that the vendor certainly did not do it: what was held is given back.

        Do so only when the vendor said no, or was not reached at all. After a
        time-out nobody knows, and the hold is left to be unknown. ``amount`` is what
        an object that the call left behind commits all the same.

        That a duplicate was turned away tells nothing of the first try: the outcome
        stays unknown, unless ``replayed`` says that the vendor's answer is the one
        that it gave to the first try, as Stripe's header Idempotent-Replayed does.
        """
        self.outcome, self.amount, self.facts = Outcome.FAILED, amount, facts


class SpendGate:
    """The decision service, for programs without an event loop. Threads may share one."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | SecretText,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Open a connection to the policy server at ``address``, a gRPC target.

        ``token`` is the sidecar token. ``timeout_s`` is how long a call may take
        with all its repeats, unless the call says otherwise. Without
        ``credentials`` nothing is encrypted: raises `ValueError` when the address
        is on another machine, unless SPENDGATE_ALLOW_PLAINTEXT says that a tunnel
        encrypts.
        """
        _check_encryption(address, credentials)
        options = list(rpc.CHANNEL_OPTIONS)
        self._channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._stub = PolicyServiceStub(self._channel)
        self._metadata = _metadata(token)
        self._timeout_s = timeout_s

    def authorize(
        self,
        vault_key: str | SecretText,
        endpoint: str,
        amount: Money | None = None,
        run_id: str = "",
        *,
        timeout_s: float | None = None,
        **names: Unpack[CallNames],
    ) -> Authorization:
        """Decide on one call and hold its amount; raise `Refused` when the answer is no.

        ``endpoint`` is method and path template, such as "POST /v1/charges". The
        effect is named by ``idempotency_key``, or run and ``step``, or run and
        endpoint; a repeat of it is a duplicate, which counts nothing.

        Raises `NoDecision` when there is no answer, and `ValueError` for a raw
        Stripe key. After either, do not spend.
        """
        request = authorize_request(vault_key, endpoint, amount, run_id, names)
        return authorization(self._call(self._stub.Authorize, request, timeout_s))

    def settle(
        self,
        held: Authorization,
        outcome: Outcome,
        amount: Money | None = None,
        *,
        timeout_s: float | None = None,
        **facts: Unpack[SettlementFacts],
    ) -> Settlement:
        """Close a hold; repeating it is harmless.

        Raises `HoldClosed`, `HoldNotFound` or another `NoDecision`.
        """
        request = settle_request(held, outcome, amount, facts)
        return settlement(self._call(self._stub.Settle, request, timeout_s))

    @contextmanager
    def attempt(
        self,
        vault_key: str | SecretText,
        endpoint: str,
        amount: Money | None = None,
        run_id: str = "",
        *,
        vendor_replays: bool = False,
        timeout_s: float | None = None,
        **names: Unpack[CallNames],
    ) -> Iterator[Attempt]:
        """Authorize as `authorize` does, and settle when the block is left.

        A duplicate never enters the block: it raises `DuplicateEffect`, or
        `EffectInFlight` while the first is under way. With ``vendor_replays`` it
        enters where sending again finds out what happened: only for a vendor that
        replays its first answer to a repeated Idempotency-Key, as Stripe does.
        """
        held = self.authorize(vault_key, endpoint, amount, run_id, timeout_s=timeout_s, **names)
        _check_duplicate(held, vendor_replays)
        attempt = Attempt(held)
        try:
            yield attempt
        except BaseException as error:
            with _noted(error):
                self._report(attempt, timeout_s)
            raise
        self._report(attempt, timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _report(self, attempt: Attempt, timeout_s: float | None) -> None:
        if not attempt.authorization.id:
            return  # a read holds nothing
        with _unknown_by_itself(attempt):
            self.settle(
                attempt.authorization, attempt.outcome, attempt.amount, timeout_s=timeout_s, **attempt.facts
            )

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        timeout_s: float | None,
    ) -> _Reply:
        give_up_at = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        for repeats in itertools.count():
            try:
                return method(
                    request, timeout=max(0.0, give_up_at - time.monotonic()), metadata=self._metadata
                )
            except grpc.RpcError as error:
                pause = rpc.pause_s(error, repeats)
                if pause is None or time.monotonic() + pause >= give_up_at:
                    raise rpc.failure(error) from None
            time.sleep(pause)
        raise AssertionError("the loop ends by itself")


class AsyncSpendGate:
    """The decision service, for programs with an event loop. Make it where the loop runs."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | SecretText,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Open a connection as `SpendGate` does."""
        _check_encryption(address, credentials)
        options = list(rpc.CHANNEL_OPTIONS)
        self._channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        # The generated stub serves both kinds of channel, which its types do not say.
        self._stub: Any = PolicyServiceStub(cast(Any, self._channel))
        self._metadata = _metadata(token)
        self._timeout_s = timeout_s
        self._reports: set[asyncio.Task[Settlement]] = set()

    async def authorize(
        self,
        vault_key: str | SecretText,
        endpoint: str,
        amount: Money | None = None,
        run_id: str = "",
        *,
        timeout_s: float | None = None,
        **names: Unpack[CallNames],
    ) -> Authorization:
        """Decide as `SpendGate.authorize` does."""
        request = authorize_request(vault_key, endpoint, amount, run_id, names)
        return authorization(await self._call(self._stub.Authorize, request, timeout_s))

    async def settle(
        self,
        held: Authorization,
        outcome: Outcome,
        amount: Money | None = None,
        *,
        timeout_s: float | None = None,
        **facts: Unpack[SettlementFacts],
    ) -> Settlement:
        """Close a hold as `SpendGate.settle` does."""
        request = settle_request(held, outcome, amount, facts)
        return settlement(await self._call(self._stub.Settle, request, timeout_s))

    @asynccontextmanager
    async def attempt(
        self,
        vault_key: str | SecretText,
        endpoint: str,
        amount: Money | None = None,
        run_id: str = "",
        *,
        vendor_replays: bool = False,
        timeout_s: float | None = None,
        **names: Unpack[CallNames],
    ) -> AsyncIterator[Attempt]:
        """Authorize and settle as `SpendGate.attempt` does; a cancelled block is reported, too."""
        held = await self.authorize(vault_key, endpoint, amount, run_id, timeout_s=timeout_s, **names)
        _check_duplicate(held, vendor_replays)
        attempt = Attempt(held)
        try:
            yield attempt
        except BaseException as error:
            with _noted(error):
                await self._report(attempt, timeout_s)
            raise
        await self._report(attempt, timeout_s)

    async def close(self) -> None:
        """Wait for reports under way, and close the connection."""
        if self._reports:
            await asyncio.wait(self._reports)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _report(self, attempt: Attempt, timeout_s: float | None) -> None:
        if not attempt.authorization.id:
            return
        # A second cancellation must not stop the report of what the vendor did.
        report = asyncio.create_task(
            self.settle(
                attempt.authorization, attempt.outcome, attempt.amount, timeout_s=timeout_s, **attempt.facts
            )
        )
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)
        with _unknown_by_itself(attempt):
            await asyncio.shield(report)

    async def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        for repeats in itertools.count():
            try:
                return await method(
                    request, timeout=max(0.0, give_up_at - loop.time()), metadata=self._metadata
                )
            except grpc.RpcError as error:
                pause = rpc.pause_s(error, repeats)
                if pause is None or loop.time() + pause >= give_up_at:
                    raise rpc.failure(error) from None
            await asyncio.sleep(pause)
        raise AssertionError("the loop ends by itself")


def _metadata(token: str | SecretText) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret_text(token).strip()}"),)


def _check_encryption(address: str, credentials: grpc.ChannelCredentials | None) -> None:
    if (
        credentials is None
        and not transport.target_is_local(address)
        and not transport.plaintext_is_allowed()
    ):
        raise ValueError(
            f"the policy server at {address} is on another machine, and token and vault keys would cross the "
            "network unencrypted: pass credentials=grpc.ssl_channel_credentials(…); "
            "SPENDGATE_ALLOW_PLAINTEXT=true is for tunnels that encrypt"
        )


def _check_duplicate(held: Authorization, vendor_replays: bool) -> None:
    if held.replay is Replay.NONE or (vendor_replays and held.replay is Replay.FORWARD):
        return
    made = f"; the vendor's object is {held.object_id}" if held.object_id else ""
    if held.replay is Replay.JOIN:
        raise errors.EffectInFlight(
            f"The call {held.idempotency_key!r} is under way already; it is not made again.",
            authorization_id=held.id,
        )
    raise errors.DuplicateEffect(
        f"The call {held.idempotency_key!r} was made before{made}; it is not made again.",
        authorization_id=held.id,
    )


@contextmanager
def _noted(error: BaseException) -> Iterator[None]:
    """Let a report that fails not hide what ended the block."""
    try:
        yield
    except errors.SpendGateError as failed:
        error.add_note(f"What became of the call could not be reported either: {failed}")


@contextmanager
def _unknown_by_itself(attempt: Attempt) -> Iterator[None]:
    """Pass over an unknown outcome that was not reported: at its deadline the hold is unknown anyway."""
    try:
        yield
    except errors.NoDecision as failed:
        if attempt.outcome is not Outcome.UNKNOWN:
            raise
        log.warning("the outcome of %s was not reported: %s", attempt.authorization.id, failed)
