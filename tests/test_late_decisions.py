"""A repeat that is decided on before the first call's outcome arrives, and hears of it afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1 import policy_service_pb2_grpc
from tests.processes import policy_server_address, temporary_folder, token
from tests.stack import CHARGE, running_stack, sidecar_process

WAIT_S = 20


class Between(policy_service_pb2_grpc.PolicyServiceServicer):
    """Stands before a policy server: the first outcome arrives between the second decision and its answer."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._server = policy_service_pb2_grpc.PolicyServiceStub(channel)
        self._second_decided = threading.Event()
        self._first_settled = threading.Event()

    def StreamAuthorize(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        """Keep the second decision until the outcome of the first call was taken."""
        metadata = _token_of(context)
        for number, request in enumerate(request_iterator, 1):
            (reply,) = self._server.StreamAuthorize(iter([request]), metadata=metadata)
            if number == 2:
                self._second_decided.set()
                self._first_settled.wait(WAIT_S)
                # Both answers go over one connection, each at its own pace.
                threading.Event().wait(0.2)
            yield reply

    def BatchSettle(self, request: pb.BatchSettleRequest, context: Any) -> pb.BatchSettleResponse:
        """Deliver the outcome when the second decision was made without it."""
        self._second_decided.wait(WAIT_S)
        reply: pb.BatchSettleResponse = self._server.BatchSettle(request, metadata=_token_of(context))
        self._first_settled.set()
        return reply


def _token_of(context: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in context.invocation_metadata() if name == "authorization"]


@contextmanager
def between(address: str) -> Iterator[str]:
    """Stand before the policy server at ``address``; yield the address of that."""
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(Between(channel), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


def test_a_repeat_that_was_decided_on_before_the_outcome_hears_the_first_answer() -> None:
    """And not that the call is under way elsewhere."""
    with temporary_folder() as folder, running_stack(folder) as stack:
        server = stack.policy_servers[0]
        with (
            between(policy_server_address(server)) as address,
            sidecar_process(
                folder / "late",
                address,
                stack.simulator.origin,
                name="late",
                sidecar_token=token(server, "sidecar"),
                decision_timeout_ms="10000",
            ) as late,
        ):
            stack.sidecars.append(late)
            agent = stack.agent(stack.key(), "run-1", sidecar=1)
            first, again = (agent.post("/charges", data=CHARGE) for _ in range(2))
            assert (first.status_code, again.status_code) == (200, 200)
            assert again.json()["id"] == first.json()["id"]
            assert again.headers["spendgate-duplicate"] == "true"
            assert len(stack.simulator.posts("/v1/charges")) == 1
