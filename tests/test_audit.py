"""The audit trail over real gRPC: complete, without gaps, without secrets, and easy to search."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from policy_server.core.types import AuditFilter, DenyReason, LocalRefusal
from spendgate.v1 import account_service_pb2 as accounts
from spendgate.v1 import audit_service_pb2 as pb
from spendgate.v1 import policy_pb2, policy_service_pb2, vault_key_service_pb2
from tests.processes import Process, token
from tests.rpc import CHARGES, Caller, calling, charge, day_cap, failure, make_key, usd
from tests.world import World, key_id

DECISION = pb.AUDIT_EVENT_KIND_DECISION
SETTLEMENT = pb.AUDIT_EVENT_KIND_SETTLEMENT
REFUSAL = pb.AUDIT_EVENT_KIND_REFUSAL
ADMINISTRATION = pb.AUDIT_EVENT_KIND_ADMINISTRATION


@pytest.fixture
def admin(policy_server: Process) -> Iterator[Caller]:
    """An operator."""
    with calling(policy_server, "admin") as caller:
        yield caller


@pytest.fixture
def sidecar(policy_server: Process) -> Iterator[Caller]:
    """A sidecar."""
    with calling(policy_server, "sidecar") as caller:
        yield caller


def listed(admin: Caller, page_size: int = 1000, page_token: str = "", **wanted: Any) -> Any:
    """One page of events."""
    return admin(
        admin.audit.ListAuditEvents,
        pb.ListAuditEventsRequest(
            page_size=page_size, page_token=page_token, filter=pb.AuditFilter(**wanted)
        ),
    )


def trail(admin: Caller, **wanted: Any) -> list[pb.AuditEvent]:
    """All wanted events, oldest first."""
    return list(listed(admin, **wanted).audit_events)[::-1]


def authorize(sidecar: Caller, request: policy_service_pb2.AuthorizeRequest) -> Any:
    """Ask about one call."""
    return sidecar(sidecar.policy.Authorize, request)


def test_every_step_leaves_one_event_with_its_facts(admin: Caller, sidecar: Caller) -> None:
    """Administration, decisions, duplicates, refusals, settlements: one event each, without a gap."""
    key, key_id = make_key(admin, day_cap(1_000))
    asked = charge(key, 700, "run-1", step="hotel", request_fingerprint="f1")
    first = authorize(sidecar, asked)
    authorize(sidecar, asked)
    authorize(sidecar, charge(key, 400, "run-2"))
    authorize(sidecar, charge(key, 1, "run-3", validate_only=True))
    authorize(sidecar, charge("vk_nonsense", 1, "run-4"))
    report = policy_service_pb2.SettleRequest(
        authorization_id=first.authorization_id,
        attempt=1,
        outcome=policy_service_pb2.OUTCOME_SUCCEEDED,
        amount=usd(900),
        object_id="ch_1",
        vendor_request_id="req_1",
        http_status=200,
        latency=Duration(nanos=321_000_000),
    )
    sidecar(sidecar.policy.Settle, report)
    sidecar(sidecar.policy.Settle, report)
    refusal = policy_service_pb2.Refusal(
        vault_key_id=key_id,
        endpoint="POST /v1/%63harges",
        run_id="run-5",
        code="parameter_invalid",
        http_status=400,
    )
    sidecar(
        sidecar.policy.BatchRecordRefusals,
        policy_service_pb2.BatchRecordRefusalsRequest(refusals=[refusal]),
    )

    events = trail(admin)

    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == [
        ADMINISTRATION,
        *[DECISION] * 4,
        SETTLEMENT,
        REFUSAL,
    ]
    times = [event.create_time.ToMilliseconds() for event in events]
    assert times == sorted(times)
    made, allowed, repeated, refused, stranger, settled, local = events
    assert (made.vault_key_id, made.account) == (key_id, "default")
    assert "agent" in made.detail
    assert "usd/day 1000" in made.detail
    assert allowed == pb.AuditEvent(
        sequence=2,
        create_time=allowed.create_time,
        kind=DECISION,
        account="default",
        vault_key_id=key_id,
        run_id="run-1",
        step="hotel",
        endpoint=CHARGES,
        amount=usd(700),
        idempotency_key="run-1:hotel",
        decision="allow",
        authorization_id=first.authorization_id,
        attempt=1,
        policy_version=1,
    )
    assert (repeated.duplicate, repeated.decision, repeated.attempt) == (True, "allow", 1)
    assert (refused.decision, refused.reason, refused.rule) == ("deny", "cap_exceeded", "usd/day")
    assert (stranger.vault_key_id, stranger.reason) == ("", "vault_key_unknown")
    assert settled == pb.AuditEvent(
        sequence=6,
        create_time=settled.create_time,
        kind=SETTLEMENT,
        account="default",
        vault_key_id=key_id,
        run_id="run-1",
        step="hotel",
        endpoint=CHARGES,
        amount=usd(700),
        settled_amount=usd(900),
        idempotency_key="run-1:hotel",
        authorization_id=first.authorization_id,
        attempt=1,
        state="settled",
        object_id="ch_1",
        vendor_request_id="req_1",
        http_status=200,
        latency=Duration(nanos=321_000_000),
        overrun=True,
        policy_version=1,
    )
    assert local == pb.AuditEvent(
        sequence=7,
        create_time=local.create_time,
        kind=REFUSAL,
        account="default",
        vault_key_id=key_id,
        run_id="run-5",
        endpoint="POST /v1/%63harges",
        decision="deny",
        reason="parameter_invalid",
        http_status=400,
    )


def test_every_administrative_change_is_recorded_and_says_what_it_did(admin: Caller) -> None:
    """Keys, policies, freezes and budgets: each change is on record, and nothing that did not happen."""
    key, key_id = make_key(admin, day_cap(1_000))
    keys, acc = admin.keys, admin.accounts
    budget = accounts.Budget(
        name="team", caps=[policy_pb2.Cap(amount=usd(500), window=policy_pb2.WINDOW_TOTAL)]
    )
    changes: list[tuple[Any, Any]] = [
        (
            keys.UpdateVaultKeyPolicy,
            vault_key_service_pb2.UpdateVaultKeyPolicyRequest(vault_key_id=key_id, policy=day_cap(5)),
        ),
        (acc.SetBudget, accounts.SetBudgetRequest(budget=budget)),
        (acc.FreezeAccount, accounts.FreezeAccountRequest(reason="an incident")),
        (acc.UnfreezeAccount, accounts.UnfreezeAccountRequest()),
        (acc.DeleteBudget, accounts.DeleteBudgetRequest(name="team")),
        (keys.RevokeVaultKey, vault_key_service_pb2.RevokeVaultKeyRequest(vault_key_id=key_id)),
        (keys.RevokeVaultKey, vault_key_service_pb2.RevokeVaultKeyRequest(vault_key_id=key_id)),
    ]
    for method, request in changes:
        admin(method, request)
    failure(admin, acc.DeleteBudget, accounts.DeleteBudgetRequest(name="team"))
    events = trail(admin, kind=ADMINISTRATION)
    assert [event.sequence for event in events] == list(range(1, 8))
    said = ["created", "usd/day 5", "usd/total 500", "an incident", "ended", "deleted", "revoked"]
    for event, words in zip(events, said, strict=True):
        assert words in event.detail
    assert key not in str(events)


async def test_every_reason_of_a_refusal_is_recorded_under_its_name(world: World) -> None:
    """A refusal's event names the reason, so that refusals can be counted by it."""
    key = await world.key(allow=(CHARGES,))
    verdicts = [
        await world.ask(key, 1, endpoint="POST /v1/refunds"),
        await world.ask(key, 1),
        await world.ask(key, None, moves_money=True),
        await world.ask(key[:-1] + "?", 1),
    ]
    await world.server.administration.freeze("", "an incident")
    verdicts.append(await world.ask(key, 1))
    await world.server.administration.revoke_key(key_id(key))
    verdicts.append(await world.ask(key, 1))
    reasons = [event.fields["reason"] for event in await world.events(kind="decision")]
    assert reasons == [str(verdict.reason) for verdict in verdicts]
    assert len(set(reasons)) == len(reasons)
    assert set(reasons) < set(DenyReason)


async def test_each_account_has_its_own_trail(world: World) -> None:
    """Events are numbered within their account, and a refusal goes to the account of its key."""
    mine, theirs = await world.key(account="mine"), await world.key(account="theirs")
    await world.server.settler.record_refusals(
        [
            LocalRefusal(key_id(mine), CHARGES, "run", "code", 400, world.now_ms),
            LocalRefusal(key_id(theirs), CHARGES, "run", "code", 400, world.now_ms),
            LocalRefusal("", CHARGES, "run", "code", 400, world.now_ms),
            LocalRefusal("a" * 12, CHARGES, "run", "code", 400, world.now_ms),
        ]
    )
    for account, kinds in (("mine", ["administration", "refusal"]), ("default", ["refusal", "refusal"])):
        events = await world.events(account)
        assert [event.fields["kind"] for event in events] == kinds
        assert [event.sequence for event in events] == [1, 2]


def test_no_secret_is_kept_or_logged_anywhere(
    admin: Caller, sidecar: Caller, redis: str, policy_server: Process
) -> None:
    """Neither Redis nor a log holds the secret of a vault key, a token, or a parameter's value."""
    key, _ = make_key(admin, day_cap(1_000))
    wrong = key[:-8] + "aaaaaaaa"
    parameters = {"source": "tok_4242424242424242"}
    for presented in (key, wrong, f"vk_{'b' * 12}_{'c' * 32}", "sk_live_abcdef123456"):
        for run in ("run-1", "run-2"):
            authorize(sidecar, charge(presented, 700, run, parameters=parameters))
    failure(authorize, sidecar, charge(key, 1, ""))
    failure(authorize, sidecar, charge(key, -1, "run"))
    everything = str(asyncio.run(_dump(redis))) + policy_server.log
    for secret in (
        *(key, key.rpartition("_")[2], wrong.rpartition("_")[2], "c" * 32, "sk_live_abcdef123456"),
        *(parameters["source"], token(policy_server, "admin"), token(policy_server, "sidecar")),
    ):
        assert secret not in everything
    for public in ("run-1", key.split("_")[1], "secret_hash"):
        assert public in everything, "the search looks where it should"


async def _dump(redis: str) -> dict[str, Any]:
    world = World(redis)
    try:
        return await world.dump()
    finally:
        await world.close()


def test_events_can_be_found(admin: Caller, sidecar: Caller) -> None:
    """By run, key, effect, decision, kind, object and time, alone and together."""
    one, one_id = make_key(admin, day_cap(1_000), "one")
    two, two_id = make_key(admin, day_cap(1_000), "two")
    first = authorize(sidecar, charge(one, 700, "run-1", step="hotel"))
    authorize(sidecar, charge(one, 700, "run-2", step="flight"))
    authorize(sidecar, charge(two, 10, "run-1", idempotency_key="run-1:hotel-2"))
    sidecar(
        sidecar.policy.Settle,
        policy_service_pb2.SettleRequest(
            authorization_id=first.authorization_id,
            attempt=1,
            outcome=policy_service_pb2.OUTCOME_SUCCEEDED,
            object_id="ch_1",
        ),
    )

    def numbers(**wanted: Any) -> list[int]:
        return [event.sequence for event in trail(admin, **wanted)]

    assert numbers() == [1, 2, 3, 4, 5, 6]
    assert numbers(run_id="run-1") == [3, 5, 6]
    assert numbers(run_id="run") == []
    assert numbers(vault_key_id=one_id) == [1, 3, 4, 6]
    assert numbers(idempotency_key_prefix="run-1:hotel") == [3, 5, 6]
    assert numbers(idempotency_key_prefix="run-1:hotel", vault_key_id=two_id) == [5]
    assert numbers(decision="deny") == [4]
    assert numbers(decision="allow", run_id="run-1") == [3, 5]
    assert numbers(kind=SETTLEMENT) == [6]
    assert numbers(object_id="ch_1") == [6]
    third = trail(admin)[2].create_time
    assert numbers(start_time=third)[-4:] == [3, 4, 5, 6]
    later = Timestamp()
    later.FromMilliseconds(trail(admin)[-1].create_time.ToMilliseconds() + 1)
    assert numbers(start_time=later) == []
    assert numbers(end_time=later) == [1, 2, 3, 4, 5, 6]
    assert 3 not in numbers(end_time=third)


def test_pages_cover_every_event_once_while_new_ones_come(admin: Caller, sidecar: Caller) -> None:
    """Newest first, no event twice, none left out, whatever is written meanwhile."""
    key, _ = make_key(admin, day_cap(1_000))
    for n in range(24):
        authorize(sidecar, charge(key, 1, f"run-{n}"))
    seen: list[int] = []
    token = ""
    while True:
        page = listed(admin, 10, token)
        assert len(page.audit_events) <= 10
        seen += [event.sequence for event in page.audit_events]
        authorize(sidecar, charge(key, 1, f"new-{token}"))
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(25, 0, -1))
    exact = listed(admin, 28)
    assert (len(exact.audit_events), exact.next_page_token) == (28, "")


async def test_a_rare_event_is_found_far_back(world: World) -> None:
    """A page looks at many events and says where to go on, so a rare match is found."""
    key = await world.key()
    await world.ask(key, endpoint="GET /v1/rare", run="rare")
    other = LocalRefusal(key_id(key), CHARGES, "common", "code", 400, world.now_ms)
    for _ in range(12):
        await world.server.ledger.record_refusals([("default", other)] * 1_000)
    wanted = AuditFilter(run_id="rare")
    found, before = await world.trail.page("default", wanted, None, 10)
    assert (found, before) == ([], 2_003)
    found, before = await world.trail.page("default", wanted, before, 10)
    assert ([event.sequence for event in found], before) == ([2], None)


def watch(admin: Caller, after: int | None, timeout: float = 30, **wanted: Any) -> Any:
    """Open a stream of events."""
    request = pb.WatchAuditEventsRequest(after_sequence=after, filter=pb.AuditFilter(**wanted))
    return admin(admin.audit.WatchAuditEvents, request, timeout)


def test_a_watcher_sees_every_event_and_goes_on_where_it_stopped(admin: Caller, sidecar: Caller) -> None:
    """The stream has no gap, also over two connections, and checkpoints say where to go on."""
    key, _ = make_key(admin, day_cap(1_000))
    authorize(sidecar, charge(key, 1, "before"))
    stream = watch(admin, 0)
    seen = []
    for message in stream:
        if message.HasField("audit_event"):
            assert message.sequence == message.audit_event.sequence
            seen.append(message.sequence)
        else:
            assert message.sequence == 2
            break
    authorize(sidecar, charge(key, 1, "live"))
    seen.append(next(stream).sequence)
    stream.cancel()
    authorize(sidecar, charge(key, 1, "while away"))
    again = watch(admin, seen[-1])
    seen.append(next(again).sequence)
    again.cancel()
    assert seen == [1, 2, 3, 4]


def test_a_watcher_may_filter_and_still_learns_how_far_it_is(admin: Caller, sidecar: Caller) -> None:
    """Unwanted events are left out and passed over: a checkpoint tells the number reached."""
    key, _ = make_key(admin, day_cap(1_000))
    for run in ("a", "b", "a"):
        authorize(sidecar, charge(key, 1, run))
    stream = watch(admin, 0, run_id="b")
    wanted, checkpoint = next(stream), next(stream)
    stream.cancel()
    assert (wanted.sequence, wanted.audit_event.run_id) == (3, "b")
    assert (checkpoint.sequence, checkpoint.HasField("audit_event")) == (4, False)


def test_a_watcher_from_now_on_sees_only_what_is_new(admin: Caller, sidecar: Caller) -> None:
    """Without a number the stream begins with what is written after it was opened."""
    key, _ = make_key(admin, day_cap(100_000))
    for n in range(5):
        authorize(sidecar, charge(key, 1, f"old-{n}"))
    stream = watch(admin, None)
    first: list[pb.WatchAuditEventsResponse] = []
    # Nothing tells a client that its stream has begun, so events are made until one is seen.
    reader = Thread(target=lambda: first.append(next(stream)))
    reader.start()
    made = 0
    while not first:
        made += 1
        authorize(sidecar, charge(key, 1, f"new-{made}"))
    reader.join()
    stream.cancel()
    assert first[0].sequence > 6


def test_many_watchers_that_leave_take_nothing_with_them(admin: Caller, sidecar: Caller) -> None:
    """Streams that are cancelled while they wait do not disturb those that stay or come."""
    key, _ = make_key(admin, day_cap(1_000))
    staying = watch(admin, 0)
    assert next(staying).sequence == 1
    for _ in range(30):
        leaving = watch(admin, 0)
        next(leaving)
        leaving.cancel()
    authorize(sidecar, charge(key, 1, "run"))
    for stream in (staying, watch(admin, 1)):
        message = next(m for m in stream if m.HasField("audit_event"))
        assert message.sequence == 2
        stream.cancel()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListAuditEventsRequest(page_size=-1), "page_size"),
        (pb.ListAuditEventsRequest(page_token="x"), "page_token"),
        (pb.ListAuditEventsRequest(page_token="0"), "page_token"),
        (pb.ListAuditEventsRequest(filter=pb.AuditFilter(decision="maybe")), "filter.decision"),
        (pb.ListAuditEventsRequest(filter=pb.AuditFilter(kind=99)), "filter.kind"),  # type: ignore[arg-type]
        (pb.ListAuditEventsRequest(account="a b"), "account"),
        (pb.WatchAuditEventsRequest(after_sequence=-1), "after_sequence"),
        (pb.WatchAuditEventsRequest(account="a b"), "account"),
    ],
)
def test_a_malformed_question_is_the_callers_mistake(admin: Caller, request_: Any, field: str) -> None:
    """What can't be answered names the field, and never looks like a store that is away."""
    listing = isinstance(request_, pb.ListAuditEventsRequest)
    method = admin.audit.ListAuditEvents if listing else admin.audit.WatchAuditEvents
    code, reason, metadata, _ = failure(admin, method, request_)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert metadata == {"field": field}
