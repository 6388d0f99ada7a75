"""A caller of a policy server over real gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from spendgate.v1 import (
    account_service_pb2_grpc,
    amount_pb2,
    audit_service_pb2_grpc,
    ledger_service_pb2_grpc,
    policy_pb2,
    policy_service_pb2,
    policy_service_pb2_grpc,
    vault_key_service_pb2,
    vault_key_service_pb2_grpc,
)
from tests.processes import Process, policy_server_address, token

CHARGES = "POST /v1/charges"
DEADLINE_S = 10.0


class Caller:
    """Every service of one policy server; each call carries one token."""

    def __init__(
        self, address: str, bearer: str | None, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.address = address
        self.channel = (
            grpc.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
            if credentials
            else grpc.insecure_channel(address)
        )
        self._metadata = [("authorization", f"Bearer {bearer}")] if bearer is not None else []
        self.policy = policy_service_pb2_grpc.PolicyServiceStub(self.channel)
        self.keys = vault_key_service_pb2_grpc.VaultKeyServiceStub(self.channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.ledgers = ledger_service_pb2_grpc.LedgerServiceStub(self.channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(self.channel)

    def __call__(self, method: Any, request: Any, timeout: float = DEADLINE_S) -> Any:
        """Call a method and wait for its answer, or for its stream."""
        return method(request, metadata=self._metadata, timeout=timeout)

    def persist(self, method: Any, request: Any) -> Any:
        """Call a method until it answers, as a caller does whose server has too much to do."""
        give_up_at = time.monotonic() + 30
        while True:
            try:
                return self(method, request)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up_at:
                    raise

    def begin(self, method: Any, request: Any, timeout: float = DEADLINE_S) -> Any:
        """Call a method without waiting; the answer is in the future that is returned."""
        return method.future(request, metadata=self._metadata, timeout=timeout)


@contextmanager
def calling(process: Process, which: str) -> Iterator[Caller]:
    """A caller of ``process`` with its ``admin`` or ``sidecar`` token."""
    caller = Caller(policy_server_address(process), token(process, which))
    with caller.channel:
        yield caller


def usd(minor_units: int) -> amount_pb2.Amount:
    """US dollars in cents."""
    return amount_pb2.Amount(minor_units=minor_units, currency_code="USD")


def charge(vault_key: str, minor_units: int, run_id: str, **more: Any) -> policy_service_pb2.AuthorizeRequest:
    """The four arguments of Authorize, and more."""
    more = {"endpoint": CHARGES, **more}
    return policy_service_pb2.AuthorizeRequest(
        vault_key=vault_key, amount=usd(minor_units), run_id=run_id, **more
    )


def day_cap(minor_units: int) -> policy_pb2.Policy:
    """A policy that allows everything within so much a day."""
    return policy_pb2.Policy(
        allow=["* /v1/*"], caps=[policy_pb2.Cap(amount=usd(minor_units), window=policy_pb2.WINDOW_DAY)]
    )


def make_key(admin: Caller, policy: policy_pb2.Policy, name: str = "agent") -> tuple[str, str]:
    """Make a vault key; return it and its id."""
    made = admin(
        admin.keys.CreateVaultKey, vault_key_service_pb2.CreateVaultKeyRequest(name=name, policy=policy)
    )
    return made.secret_vault_key, made.vault_key.vault_key_id


def usage(admin: Caller, vault_key_id: str) -> policy_pb2.CapStatus:
    """How full the first cap of a vault key is."""
    answer = admin(
        admin.keys.GetVaultKeyUsage,
        vault_key_service_pb2.GetVaultKeyUsageRequest(vault_key_id=vault_key_id),
    )
    status: policy_pb2.CapStatus = answer.caps[0]
    return status


def failure(call: Callable[..., Any], *arguments: Any) -> tuple[grpc.StatusCode, str, dict[str, str], str]:
    """Run a call that must fail; return its code, its one ErrorInfo's reason and metadata, its message."""
    try:
        answer = call(*arguments)
        if hasattr(answer, "__next__"):
            next(answer)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        if status is None:
            return error.code(), "", {}, error.details() or ""
        (detail,) = status.details
        info = error_details_pb2.ErrorInfo()
        assert detail.Unpack(info)
        assert info.domain == "spendgate"
        return error.code(), info.reason, dict(info.metadata), status.message
    raise AssertionError(f"the call succeeded: {answer}")
