"""A policy server whose archive is in trouble, while an agent goes on spending."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1.policy_service_pb2 import AuthorizeRequest
from tests.processes import Process, policy_server_address, policy_server_process, temporary_folder, wait_for
from tests.rpc import calling, charge, day_cap, failure, make_key

AUDIT_SERVICE = "spendgate.v1.AuditService"


def health_of(process: Process, service: str = AUDIT_SERVICE) -> str:
    """What a policy server says of one of its services."""
    with grpc.insecure_channel(policy_server_address(process)) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=10
        )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


class Operation:
    """A policy server under trouble, with an agent that goes on spending."""

    def __init__(self, process: Process, key: str = "") -> None:
        """It spends by ``key``, or by one that it makes."""
        self.process = process
        self.stack = contextlib.ExitStack()
        self.admin = self.stack.enter_context(calling(process, "admin"))
        self.sidecar = self.stack.enter_context(calling(process, "sidecar"))
        self._runs = itertools.count(1_000 if key else 1)
        self.key = key or make_key(self.admin, day_cap(10**9))[0]

    def spend(self, count: int) -> None:
        """Ask for decisions, all of which must be had."""
        for _ in range(count):
            assert self.sidecar(self.sidecar.policy.Authorize, self._call()).authorization_id

    def refused(self) -> tuple[str, str]:
        """Ask for a decision that can't be had; return reason and message."""
        _, reason, _, message = failure(self.sidecar, self.sidecar.policy.Authorize, self._call())
        return reason, message

    def is_decided(self) -> bool:
        """Tell whether a decision can be had."""
        try:
            self.spend(1)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False
        return True

    def _call(self) -> AuthorizeRequest:
        return charge(self.key, 1, f"run-{next(self._runs)}")

    def drainer(self) -> int:
        """The process id of the drainer."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task").glob("*/children")
        (drainer,) = {int(child) for one in children for child in one.read_text().split()}
        return drainer

    def progress(self) -> Any:
        """How far the archive is with the account."""
        reply = self.admin(self.admin.audit.GetAuditArchive, pb.GetAuditArchiveRequest())
        return reply, next(one for one in reply.accounts if one.account == "default")

    def wait_until_archived(self) -> None:
        """Wait until no event waits."""
        wait_for(lambda: self.progress()[1].backlog == 0, "all is archived", self.process)

    def wait_for_problem(self, words: str, *, decides: bool = True) -> None:
        """Wait until the server says what is wrong, and its health does, also whether it still decides."""
        wait_for(lambda: words in self.progress()[0].problem, f"it says {words!r}", self.process)
        wait_for(lambda: health_of(self.process) == "NOT_SERVING", "health says so", self.process)
        said = health_of(self.process, "spendgate.v1.PolicyService")
        assert said == ("SERVING" if decides else "NOT_SERVING")

    def wait_until_well(self) -> None:
        """Wait until nothing is wrong, and nothing was dropped."""
        self.wait_until_archived()
        wait_for(lambda: health_of(self.process) == "SERVING", "health is well again", self.process)
        found = []
        token = ""
        while True:
            page = self.admin(
                self.admin.audit.ListAuditEvents, pb.ListAuditEventsRequest(page_size=1000, page_token=token)
            )
            found += [event.sequence for event in page.audit_events]
            token = page.next_page_token
            if not token:
                break
        assert found == list(range(self.progress()[1].sequence, 0, -1))


@contextlib.contextmanager
def operation(redis: str, **env: str) -> Iterator[Operation]:
    """A policy server over an empty Redis."""
    with temporary_folder() as folder, policy_server_process(folder, redis, env=env) as process:
        running = Operation(process)
        with running.stack:
            yield running
