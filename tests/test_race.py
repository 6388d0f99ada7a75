"""Many callers at once, through two real policy servers that share one Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from spendgate.v1 import policy_service_pb2 as pb
from tests.processes import Process, policy_server_process, redis_url, temporary_folder
from tests.rpc import Caller, calling, charge, day_cap, make_key, usage


@pytest.fixture(scope="module")
def processes(redis_server: Process, shared_policy_server: Process) -> Iterator[list[Process]]:
    """Two policy servers over one Redis."""
    with temporary_folder() as folder, policy_server_process(folder, redis_url(redis_server)) as other:
        yield [shared_policy_server, other]


@pytest.fixture
def servers(redis: str, processes: list[Process]) -> Iterator[list[Caller]]:
    """A caller of each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(calling(process, "sidecar")) for process in processes]


@pytest.fixture
def admin(redis: str, processes: list[Process]) -> Iterator[Caller]:
    """An operator."""
    with calling(processes[0], "admin") as caller:
        yield caller


def all_at_once(servers: list[Caller], which: str, requests: list[Any]) -> list[Any]:
    """Send every request before any answer is read, in turn to each server.

    What a busy server could not answer in time is sent again, as it is, until it is answered.
    """
    begun: list[tuple[Caller, Any, Any, Any]] = []
    for n, request in enumerate(requests):
        server = servers[n % len(servers)]
        method = getattr(server.policy, which)
        begun.append((server, method, request, server.begin(method, request)))
    answers = []
    for server, method, request, call in begun:
        if call.code() is grpc.StatusCode.UNAVAILABLE:
            answers.append(server.persist(method, request))
        else:
            answers.append(call.result())
    return answers


def ask_at_once(servers: list[Caller], requests: list[pb.AuthorizeRequest]) -> list[pb.AuthorizeResponse]:
    """Ask for every decision at once; each request has an id, so that it can be sent again."""
    for n, request in enumerate(requests):
        request.request_id = f"request-{n}"
    return all_at_once(servers, "Authorize", requests)


def test_of_fifty_large_charges_on_a_small_cap_exactly_one_is_allowed(
    servers: list[Caller], admin: Caller
) -> None:
    """Fifty times 60 dollars at once on a cap of 100: one passes, and the counter says 6000 cents."""
    key, key_id = make_key(admin, day_cap(10_000))
    answers = ask_at_once(servers, [charge(key, 6_000, f"run-{n}") for n in range(50)])
    decisions = [answer.decision for answer in answers]
    assert decisions.count(pb.DECISION_ALLOW) == 1
    assert {answer.deny_reason for answer in answers if answer.decision == pb.DECISION_DENY} == {
        pb.DENY_REASON_CAP_EXCEEDED
    }
    status = usage(admin, key_id)
    assert (status.settled, status.held, status.remaining) == (0, 6_000, 4_000)


@pytest.mark.parametrize("seed", range(12))
def test_random_amounts_never_exceed_the_cap_and_leave_no_room_unused(
    servers: list[Caller], admin: Caller, seed: int
) -> None:
    """The sum of what was allowed is what is counted, within the cap, and no refused call would still fit."""
    chance = random.Random(seed)
    cap = chance.randint(500, 4_000)
    key, key_id = make_key(admin, day_cap(cap))
    amounts = [chance.randint(1, 99) for _ in range(200)]
    answers = ask_at_once(servers, [charge(key, amount, f"run-{n}") for n, amount in enumerate(amounts)])
    allowed = sum(
        amount
        for amount, answer in zip(amounts, answers, strict=True)
        if answer.decision == pb.DECISION_ALLOW
    )
    refused = [
        amount for amount, answer in zip(amounts, answers, strict=True) if answer.decision == pb.DECISION_DENY
    ]
    assert allowed <= cap
    assert usage(admin, key_id).held == allowed
    assert all(amount > cap - allowed for amount in refused)


def test_batches_race_as_single_calls_do(servers: list[Caller], admin: Caller) -> None:
    """Calls that travel in batches are held one by one: the cap fits exactly as many as it fits."""
    key, key_id = make_key(admin, day_cap(1_000))
    batches = [
        pb.BatchAuthorizeRequest(
            requests=[charge(key, 7, f"run-{batch}-{n}", request_id=f"{batch}-{n}") for n in range(20)]
        )
        for batch in range(20)
    ]
    answers = all_at_once(servers, "BatchAuthorize", batches)
    for n, (batch, answer) in enumerate(zip(batches, answers, strict=True)):
        while any(item.HasField("error") for item in answer.results):
            answer = servers[n % 2].persist(servers[n % 2].policy.BatchAuthorize, batch)  # noqa: PLW2901
            answers[n] = answer
    decisions = [item.response.decision for answer in answers for item in answer.results]
    assert decisions.count(pb.DECISION_ALLOW) == 1_000 // 7
    assert usage(admin, key_id).held == 1_000 // 7 * 7


def test_concurrent_duplicates_make_one_hold(servers: list[Caller], admin: Caller) -> None:
    """Twenty callers with one effect on two servers: one goes ahead, nineteen join it, one hold counts."""
    key, key_id = make_key(admin, day_cap(10_000))
    answers = ask_at_once(servers, [charge(key, 700, "run") for _ in range(20)])
    assert {answer.decision for answer in answers} == {pb.DECISION_ALLOW}
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 19
    assert {answer.replay for answer in answers if answer.duplicate} == {pb.REPLAY_JOIN}
    assert len({answer.upstream_idempotency_key for answer in answers}) == 1
    assert usage(admin, key_id).held == 700


def test_concurrent_settlements_of_one_hold_count_once(servers: list[Caller], admin: Caller) -> None:
    """A report that is delivered many times at once, to both servers, moves the money once."""
    key, key_id = make_key(admin, day_cap(10_000))
    (answer,) = ask_at_once(servers, [charge(key, 700, "run")])
    report = pb.SettleRequest(
        authorization_id=answer.authorization_id, attempt=answer.attempt, outcome=pb.OUTCOME_SUCCEEDED
    )
    answers = all_at_once(servers, "Settle", [report] * 20)
    assert {answer.state for answer in answers} == {pb.HOLD_STATE_SETTLED}
    status = usage(admin, key_id)
    assert (status.settled, status.held) == (700, 0)


def test_releases_and_holds_race_without_losing_a_cent(servers: list[Caller], admin: Caller) -> None:
    """While some calls are released and others asked for, the count is always what is held."""
    key, key_id = make_key(admin, day_cap(1_000))
    chance = random.Random(7)
    open_holds: list[tuple[pb.AuthorizeResponse, int]] = []
    for turn in range(20):
        amounts = [chance.randint(1, 200) for _ in range(10)]
        asked = [charge(key, amount, f"{turn}-{n}") for n, amount in enumerate(amounts)]
        closing = [
            pb.SettleRequest(
                authorization_id=held.authorization_id, attempt=held.attempt, outcome=pb.OUTCOME_FAILED
            )
            for held, _ in open_holds
        ]
        with ThreadPoolExecutor(1) as other:
            closed = other.submit(all_at_once, servers, "Settle", closing)
            answers = ask_at_once(servers, asked)
            assert {answer.state for answer in closed.result()} <= {pb.HOLD_STATE_RELEASED}
        open_holds = [
            (answer, amount)
            for answer, amount in zip(answers, amounts, strict=True)
            if answer.decision == pb.DECISION_ALLOW
        ]
        held = sum(amount for _, amount in open_holds)
        assert held <= 1_000
        status = usage(admin, key_id)
        assert (status.settled, status.held) == (0, held)
