"""Many callers at once, through two real policy servers that share one Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from spendgate.v1 import policy_pb2
from spendgate.v1 import policy_service_pb2 as pb
from tests.processes import Process, policy_server_process
from tests.rpc import Caller, calling, charge, day_cap, make_key, usage, usd


@pytest.fixture
def processes(policy_server: Process, redis: str) -> Iterator[list[Process]]:
    """Two policy servers over one Redis, with one data directory."""
    with policy_server_process(policy_server.folder, redis, name="other-policy-server") as other:
        yield [policy_server, other]


@pytest.fixture
def servers(processes: list[Process]) -> Iterator[list[Caller]]:
    """A caller of each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(calling(process, "sidecar")) for process in processes]


@pytest.fixture
def admin(processes: list[Process]) -> Iterator[Caller]:
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


def restoring(cap: int) -> policy_pb2.Policy:
    """A policy under which refunds give back."""
    policy = day_cap(cap)
    policy.refunds = policy_pb2.REFUND_RULE_RESTORE
    policy.unpriced.append("POST /v1/*")
    return policy


def settled(answer: pb.AuthorizeResponse, amount: int, object_id: str) -> pb.SettleRequest:
    """The report that a call succeeded."""
    return pb.SettleRequest(
        authorization_id=answer.authorization_id,
        attempt=answer.attempt,
        outcome=pb.OUTCOME_SUCCEEDED,
        amount=usd(amount),
        object_id=object_id,
    )


def made(servers: list[Caller], key: str, amount: int, object_id: str) -> None:
    """A charge, settled."""
    answer = servers[0](servers[0].policy.Authorize, charge(key, amount, f"make {object_id}"))
    servers[0](servers[0].policy.Settle, settled(answer, amount, object_id))


def test_concurrent_refunds_give_back_no_more_than_was_counted(servers: list[Caller], admin: Caller) -> None:
    """Of twenty refunds of a tenth each, on a full cap, ten are allowed, and in the end nothing counts."""
    key, key_id = make_key(admin, restoring(1_000))
    made(servers, key, 1_000, "ch_1")
    answers = ask_at_once(
        servers,
        [
            charge(key, 100, f"refund-{n}", endpoint="POST /v1/refunds", refunded_object_id="ch_1")
            for n in range(20)
        ],
    )
    allowed = [answer for answer in answers if answer.decision == pb.DECISION_ALLOW]
    assert len(allowed) == 10
    reports = [settled(answer, 100, f"re_{n}") for n, answer in enumerate(allowed)]
    results = all_at_once(servers, "Settle", reports * 2)
    assert {(result.state, result.overrun) for result in results} == {(pb.HOLD_STATE_SETTLED, False)}
    status = usage(admin, key_id)
    assert (status.settled, status.held) == (0, 0)


def test_of_many_calls_that_absorb_an_object_one_takes_it_over(servers: list[Caller], admin: Caller) -> None:
    """What is counted for an item stands for one invoice only; the other nineteen hold in full."""
    key, key_id = make_key(admin, restoring(100_000))
    made(servers, key, 1_000, "ii_1")
    answers = ask_at_once(
        servers,
        [
            charge(key, 1_000, f"run-{n}", endpoint="POST /v1/invoices", absorbed_object_ids=["ii_1"])
            for n in range(20)
        ],
    )
    assert usage(admin, key_id).held == 19_000
    reports = [settled(answer, 1_000, f"in_{n}") for n, answer in enumerate(answers)]
    results = all_at_once(servers, "Settle", reports)
    assert not any(result.overrun for result in results)
    status = usage(admin, key_id)
    assert (status.settled, status.held) == (20_000, 0)


def test_observations_and_repeats_of_them_count_once(servers: list[Caller], admin: Caller) -> None:
    """What both servers are told at once, again and again, changes the count once."""
    key, key_id = make_key(admin, day_cap(10_000))
    made(servers, key, 700, "pi_1")
    seen = pb.Observation(vault_key_id=key_id, object_id="pi_1", amount=usd(900))
    all_at_once(
        servers, "BatchRecordObservations", [pb.BatchRecordObservationsRequest(observations=[seen] * 3)] * 20
    )
    assert usage(admin, key_id).settled == 900


def test_calls_without_a_price_count_to_the_cent(servers: list[Caller], admin: Caller) -> None:
    """Settled at once, each counts its own amount; afterwards the full cap refuses the next."""
    key, key_id = make_key(admin, restoring(1_000))
    asked = [
        pb.AuthorizeRequest(vault_key=key, endpoint="POST /v1/invoices", run_id=f"run-{n}", unpriced=True)
        for n in range(20)
    ]
    answers = ask_at_once(servers, asked)
    reports = [settled(answer, 61, f"in_{n}") for n, answer in enumerate(answers)]
    assert not any(result.overrun for result in all_at_once(servers, "Settle", reports))
    assert usage(admin, key_id).settled == 20 * 61
    asked[0].run_id, asked[0].request_id = "next", "next"
    refused = servers[1].persist(servers[1].policy.Authorize, asked[0])
    assert refused.deny_reason == pb.DENY_REASON_CAP_EXCEEDED
