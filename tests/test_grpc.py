"""The policy server as a process: its door, its errors, and what it does when Redis is not well."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import redis as redis_client
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from pydantic import SecretStr

from policy_server import app
from policy_server.archive.database import Database
from policy_server.archive.reader import ArchiveReader
from policy_server.core.settler import Settler
from policy_server.settings import PolicyServerSettings
from policy_server.store.keys import AccountKeys
from policy_server.store.scripts import newest_event
from spendgate.v1 import account_service_pb2 as accounts
from spendgate.v1 import amount_pb2, policy_pb2
from spendgate.v1 import audit_service_pb2 as audit
from spendgate.v1 import ledger_service_pb2 as ledgers
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1 import vault_key_service_pb2 as keys
from spendgate.v1.error_reason_pb2 import ErrorReason
from tests.processes import (
    IN_TIME,
    Process,
    policy_server_address,
    policy_server_process,
    redis_process,
    redis_url,
    temporary_folder,
    token,
    wait_for,
)
from tests.rpc import CHARGES, Caller, calling, charge, day_cap, failure, make_key, usage, usd

REDIS_AWAY_DEADLINE_S = 0.45
"""What the sidecar gives a decision, so that it can answer within 500 ms."""


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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory."""
    with temporary_folder() as path:
        yield path


@pytest.fixture
def own_redis() -> Iterator[Process]:
    """A Redis that the test may harm."""
    with temporary_folder() as path, redis_process(path) as process:
        yield process


def refuses_to_start(process: Process) -> str:
    """Start a program that must end by itself with an error; return what it said."""
    process.launch()
    assert process.wait() != 0
    assert "Traceback" not in process.log
    return process.log


# Errors.


def _settle(**fields: Any) -> pb.SettleRequest:
    return pb.SettleRequest(**{"attempt": 1, "outcome": pb.OUTCOME_FAILED, **fields})


def test_every_error_has_its_code_its_reason_and_its_metadata(admin: Caller, sidecar: Caller) -> None:
    """Each ErrorReason comes with the code and the metadata that the contract names."""
    key, key_id = make_key(admin, day_cap(1000))
    _, revoked_id = make_key(admin, day_cap(1000), "revoked")
    admin(admin.keys.RevokeVaultKey, keys.RevokeVaultKeyRequest(vault_key_id=revoked_id))
    held = sidecar(sidecar.policy.Authorize, charge(key, 1, "run")).authorization_id
    sidecar(sidecar.policy.Settle, _settle(authorization_id=held, outcome=pb.OUTCOME_SUCCEEDED))
    missing = f"az_{key_id}_{'0' * 32}"
    nobody = Caller(admin.address, None)
    update = keys.UpdateVaultKeyPolicyRequest
    code = grpc.StatusCode
    table: dict[str, tuple[Callable[[], Any], grpc.StatusCode, dict[str, str]]] = {
        "FIELD_INVALID": (
            lambda: sidecar(sidecar.policy.Authorize, charge(key, 1, "")),
            code.INVALID_ARGUMENT,
            {"field": "run_id"},
        ),
        "TOKEN_INVALID": (
            lambda: nobody(nobody.policy.Authorize, charge(key, 1, "run")),
            code.UNAUTHENTICATED,
            {},
        ),
        "TOKEN_NOT_SUFFICIENT": (
            lambda: sidecar(sidecar.keys.GetVaultKey, keys.GetVaultKeyRequest(vault_key_id=key_id)),
            code.PERMISSION_DENIED,
            {},
        ),
        "VAULT_KEY_NOT_FOUND": (
            lambda: admin(admin.keys.GetVaultKey, keys.GetVaultKeyRequest(vault_key_id="a" * 12)),
            code.NOT_FOUND,
            {"vaultKeyId": "a" * 12},
        ),
        "NAME_TAKEN": (lambda: make_key(admin, day_cap(1)), code.ALREADY_EXISTS, {"name": "agent"}),
        "VERSION_CONFLICT": (
            lambda: admin(
                admin.keys.UpdateVaultKeyPolicy,
                update(vault_key_id=key_id, policy=day_cap(1), expected_policy_version=7),
            ),
            code.ABORTED,
            {"present": "1"},
        ),
        "HOLD_NOT_FOUND": (
            lambda: sidecar(sidecar.policy.Settle, _settle(authorization_id=missing)),
            code.NOT_FOUND,
            {"authorizationId": missing},
        ),
        "HOLD_CLOSED": (
            lambda: sidecar(sidecar.policy.Settle, _settle(authorization_id=held)),
            code.FAILED_PRECONDITION,
            {"authorizationId": held, "state": "settled"},
        ),
        "BUDGET_NOT_FOUND": (
            lambda: admin(admin.accounts.DeleteBudget, accounts.DeleteBudgetRequest(name="team")),
            code.NOT_FOUND,
            {"name": "team"},
        ),
        "LEDGER_PRESENT": (
            lambda: admin(admin.ledgers.RebuildLedger, ledgers.RebuildLedgerRequest()),
            code.FAILED_PRECONDITION,
            {"account": "default"},
        ),
        "NOTHING_LOST": (
            lambda: admin(admin.audit.AcceptAuditLoss, audit.AcceptAuditLossRequest(reason="a test")),
            code.FAILED_PRECONDITION,
            {"account": "default"},
        ),
        "RUN_NOT_FROZEN": (
            lambda: admin(
                admin.accounts.UnfreezeRun, accounts.UnfreezeRunRequest(vault_key_id=key_id, run_id="run")
            ),
            code.NOT_FOUND,
            {"vaultKeyId": key_id, "runId": "run"},
        ),
        "VAULT_KEY_REVOKED": (
            lambda: admin(
                admin.keys.UpdateVaultKeyPolicy, update(vault_key_id=revoked_id, policy=day_cap(1))
            ),
            code.FAILED_PRECONDITION,
            {"vaultKeyId": revoked_id},
        ),
    }
    for reason, (call, wanted, metadata) in table.items():
        got_code, got_reason, got_metadata, message = failure(call)
        assert (got_reason, got_code, got_metadata) == (reason, wanted, metadata)
        assert message
    nobody.channel.close()
    # A Redis or an archive that is away, or has lost something, has tests of its own: below, in
    # test_archive.py and in test_ledger_lost.py.
    trouble = (
        "STORE_UNAVAILABLE",
        "ARCHIVE_UNAVAILABLE",
        "ARCHIVE_BROKEN",
        "LEDGER_LOST",
        "AUDIT_BACKLOG_FULL",
    )
    elsewhere = (*trouble, "UNSPECIFIED")
    covered = {f"ERROR_REASON_{reason}" for reason in (*table, *elsewhere)}
    assert covered == set(ErrorReason.keys())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vault_key": ""}, "vault_key"),
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": "/v1/charges"}, "endpoint"),
        ({"endpoint": "post /v1/charges"}, "endpoint"),
        ({"endpoint": "POST /v1/charges\n"}, "endpoint"),
        ({"endpoint": "POST /v1/../v1/charges"}, "endpoint"),
        ({"endpoint": "POST /v1/.."}, "endpoint"),
        ({"endpoint": "POST /v1/./charges"}, "endpoint"),
        ({"endpoint": "POST /v1//charges"}, "endpoint"),
        ({"endpoint": "POST /v1/charges/"}, "endpoint"),
        ({"endpoint": "POST /v1/%63harges"}, "endpoint"),
        ({"endpoint": "POST /v1/charges;a=b"}, "endpoint"),
        ({"endpoint": "POST /v1/charges?a=b"}, "endpoint"),
        ({"endpoint": "POST /v1\\charges"}, "endpoint"),
        ({"endpoint": f"POST /{'a' * 256}"}, "endpoint"),
        ({"amount": usd(-1)}, "amount.minor_units"),
        ({"amount": usd(2**53)}, "amount.minor_units"),
        ({"amount": usd(2**63 - 1)}, "amount.minor_units"),
        ({"amount": amount_pb2.Amount(minor_units=1)}, "amount.currency_code"),
        ({"amount": amount_pb2.Amount(minor_units=1, currency_code="usd")}, "amount.currency_code"),
        ({"amount": amount_pb2.Amount(minor_units=1, currency_code="USDT")}, "amount.currency_code"),
        ({"run_id": "r" * 129}, "run_id"),
        ({"run_id": "é" * 65}, "run_id"),
        ({"run_id": "a\0b"}, "run_id"),
        ({"run_id": "a\r\nb"}, "run_id"),
        ({"step": "s" * 129}, "step"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"request_fingerprint": "f" * 129}, "request_fingerprint"),
        ({"request_id": "i" * 65}, "request_id"),
        ({"object_id": "o" * 256}, "object_id"),
        ({"vendor_account": "a" * 256}, "vendor_account"),
        ({"refunded_object_id": "o" * 256}, "refunded_object_id"),
        ({"absorbed_object_ids": ["ii_1"] * 101}, "absorbed_object_ids"),
        ({"absorbed_object_ids": ["ii_1", ""]}, "absorbed_object_ids"),
        ({"absorbed_object_ids": ["o" * 256]}, "absorbed_object_ids"),
        ({"hold_ttl": Duration(seconds=0)}, "hold_ttl"),
        ({"hold_ttl": Duration(seconds=86_401)}, "hold_ttl"),
        ({"hold_ttl": Duration(seconds=-1)}, "hold_ttl"),
        ({"hold_ttl": Duration(seconds=2**62)}, "hold_ttl"),
    ],
)
def test_a_malformed_call_is_refused_and_the_field_is_named(
    sidecar: Caller, change: dict[str, Any], field: str
) -> None:
    """Nothing is decided on what could be read in two ways."""
    request = charge("vk_key", 1, "run")
    for name in change:
        request.ClearField(name)
    request.MergeFrom(pb.AuthorizeRequest(**change))
    code, reason, metadata, _ = failure(sidecar, sidecar.policy.Authorize, request)
    assert (code, reason, metadata) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        {"field": field},
    )


def test_an_amount_of_zero_moves_no_money(admin: Caller, sidecar: Caller) -> None:
    """Zero is an amount like any other, and needs neither room nor a cap."""
    key, key_id = make_key(admin, day_cap(0))
    assert sidecar(sidecar.policy.Authorize, charge(key, 0, "run")).decision == pb.DECISION_ALLOW
    assert sidecar(sidecar.policy.Authorize, charge(key, 1, "run-2")).decision == pb.DECISION_DENY
    assert usage(admin, key_id).held == 0


def test_an_answer_says_everything_a_caller_needs(admin: Caller, sidecar: Caller) -> None:
    """Allowed: what to send and until when. Refused: why, what is left and when it resets."""
    key, key_id = make_key(admin, day_cap(1000))
    allowed = sidecar(sidecar.policy.Authorize, charge(key, 700, "run", hold_ttl=Duration(seconds=60)))
    assert (allowed.decision, allowed.attempt, allowed.vault_key_id) == (pb.DECISION_ALLOW, 1, key_id)
    assert allowed.authorization_id.startswith(f"az_{key_id}_")
    assert allowed.idempotency_key == "run:POST /v1/charges"
    assert allowed.upstream_idempotency_key.endswith("~1")
    assert allowed.HasField("expire_time")
    refused = sidecar(sidecar.policy.Authorize, charge(key, 301, "run-2"))
    assert (refused.decision, refused.deny_reason) == (pb.DECISION_DENY, pb.DENY_REASON_CAP_EXCEEDED)
    (cap,) = refused.caps
    assert (cap.cap, cap.currency_code, cap.limit, cap.held, cap.remaining) == (
        "usd/day",
        "USD",
        1000,
        700,
        300,
    )
    assert cap.reset_time.ToMilliseconds() % 86_400_000 == 0
    assert "300 of 1000 left" in refused.message
    assert refused.upstream_idempotency_key == ""


# Batches.


def test_a_batch_keeps_its_order_and_a_bad_item_harms_no_other(admin: Caller, sidecar: Caller) -> None:
    """Each item gets its own answer or its own error, in its own place."""
    key, key_id = make_key(admin, day_cap(1000))
    answer = sidecar(
        sidecar.policy.BatchAuthorize,
        pb.BatchAuthorizeRequest(
            requests=[
                charge(key, 600, "a"),
                charge(key, -5, "b"),
                charge(key, 600, "c"),
                charge(key, 1, "d", endpoint="nonsense"),
                charge(key, 1, ""),
                charge(key, 400, "e"),
                charge("vk_nonsense", 1, "f"),
                charge(key, 1, "g", hold_ttl=Duration(seconds=2**62)),
            ]
        ),
    )
    told = [
        item.error.reason if item.HasField("error") else pb.Decision.Name(item.response.decision)
        for item in answer.results
    ]
    allow, deny, invalid = "DECISION_ALLOW", "DECISION_DENY", "FIELD_INVALID"
    assert told == [allow, invalid, deny, invalid, invalid, allow, deny, invalid]
    assert {item.error.code for item in answer.results if item.HasField("error")} == {3}
    assert usage(admin, key_id).held == 1000

    first, last = answer.results[0].response, answer.results[5].response
    reports = [
        _settle(authorization_id=first.authorization_id, outcome=pb.OUTCOME_SUCCEEDED, amount=usd(500)),
        _settle(authorization_id=first.authorization_id, attempt=0),
        _settle(authorization_id=f"az_{key_id}_x"),
        _settle(authorization_id="nonsense"),
        _settle(authorization_id=last.authorization_id, outcome=pb.OUTCOME_UNSPECIFIED),
        _settle(authorization_id=last.authorization_id, latency=Duration(seconds=2**62)),
        _settle(authorization_id=last.authorization_id, outcome=pb.OUTCOME_UNKNOWN, amount=usd(5)),
        _settle(authorization_id=last.authorization_id),
        _settle(authorization_id=first.authorization_id),
    ]
    settled = sidecar(sidecar.policy.BatchSettle, pb.BatchSettleRequest(requests=reports))
    states = [
        item.error.reason if item.HasField("error") else pb.HoldState.Name(item.response.state)
        for item in settled.results
    ]
    assert states == [
        *("HOLD_STATE_SETTLED", invalid, "HOLD_NOT_FOUND", invalid, invalid, invalid, invalid),
        *("HOLD_STATE_RELEASED", "HOLD_CLOSED"),
    ]
    status = usage(admin, key_id)
    assert (status.settled, status.held) == (500, 0)


def test_a_stream_answers_every_batch_in_order_and_only_with_the_token(
    admin: Caller, sidecar: Caller
) -> None:
    """One answer for each request, a bad item in its place; without the sidecar token there is no stream."""
    key, key_id = make_key(admin, day_cap(1000))
    batches = [
        [charge(key, 600, "a")],
        [charge(key, -5, "b"), charge(key, 500, "c")],
        [charge(key, 400, "d")],
    ]
    requests = iter([pb.StreamAuthorizeRequest(requests=batch) for batch in batches])
    answers = list(sidecar(sidecar.policy.StreamAuthorize, requests))
    told = [
        [
            item.error.reason if item.HasField("error") else pb.Decision.Name(item.response.decision)
            for item in answer.results
        ]
        for answer in answers
    ]
    assert told == [["DECISION_ALLOW"], ["FIELD_INVALID", "DECISION_DENY"], ["DECISION_ALLOW"]]
    assert usage(admin, key_id).held == 1000
    code, reason, _, _ = failure(admin, admin.policy.StreamAuthorize, iter([]))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "TOKEN_NOT_SUFFICIENT")


def test_a_server_that_stops_ends_its_streams(own_redis: Process, folder: Path) -> None:
    """A stream between two answers ends without an error, and does not hold up the stop."""
    with policy_server_process(folder, redis_url(own_redis)) as server, calling(server, "sidecar") as caller:
        open_end = Event()

        def requests() -> Iterator[pb.StreamAuthorizeRequest]:
            yield pb.StreamAuthorizeRequest(requests=[charge("vk_nonsense", 1, "r")])
            open_end.wait(30)

        answers = caller(caller.policy.StreamAuthorize, requests(), timeout=30)
        assert len(next(answers).results) == 1
        server.signal(signal.SIGTERM)
        assert list(answers) == []
        assert answers.code() is grpc.StatusCode.OK
        open_end.set()
        assert server.wait(5) == 0


@pytest.mark.parametrize("size", [0, 257])
def test_a_batch_has_1_to_256_items(sidecar: Caller, size: int) -> None:
    """An empty or a huge batch is a mistake, not a decision."""
    policy = sidecar.policy
    for method, request in (
        (policy.BatchAuthorize, pb.BatchAuthorizeRequest(requests=[charge("vk", 1, "r")] * size)),
        (policy.BatchSettle, pb.BatchSettleRequest(requests=[_settle()] * size)),
        (policy.BatchRecordRefusals, pb.BatchRecordRefusalsRequest(refusals=[pb.Refusal()] * size)),
        (
            policy.BatchRecordObservations,
            pb.BatchRecordObservationsRequest(observations=[pb.Observation()] * size),
        ),
    ):
        code, _, metadata, _ = failure(sidecar, method, request)
        assert (code, metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"field": "requests"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vault_key_id": ""}, "vault_key_id"),
        ({"object_id": ""}, "object_id"),
        ({"object_id": "o" * 256}, "object_id"),
        ({"amount": None}, "amount"),
        ({"amount": amount_pb2.Amount(minor_units=1)}, "amount.currency_code"),
    ],
)
def test_a_malformed_observation_is_refused_and_the_field_is_named(
    sidecar: Caller, change: dict[str, Any], field: str
) -> None:
    """Of a batch with one in it nothing is recorded."""
    given = {"vault_key_id": "abcdefghijkl", "object_id": "pi_1", "amount": usd(1)}
    batch = [pb.Observation(**given), pb.Observation(**given | change)]
    code, _, metadata, _ = failure(
        sidecar,
        sidecar.policy.BatchRecordObservations,
        pb.BatchRecordObservationsRequest(observations=batch),
    )
    assert (code, metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"field": field})


def test_observations_are_recorded_each_by_itself(admin: Caller, sidecar: Caller) -> None:
    """What was seen of two objects is what counts, and each change is one event."""
    key, key_id = make_key(admin, day_cap(1000))
    for name, amount in (("pi_1", 300), ("pi_2", 200)):
        held = sidecar(sidecar.policy.Authorize, charge(key, amount, f"run {name}"))
        report = _settle(authorization_id=held.authorization_id, outcome=pb.OUTCOME_SUCCEEDED, object_id=name)
        sidecar(sidecar.policy.Settle, report)
    seen = [
        pb.Observation(vault_key_id=key_id, object_id=name, amount=usd(amount))
        for name, amount in (("pi_1", 0), ("pi_2", 250), ("pi_3", 5))
    ]
    for _ in range(2):
        sidecar(sidecar.policy.BatchRecordObservations, pb.BatchRecordObservationsRequest(observations=seen))
    assert usage(admin, key_id).settled == 250
    events = admin(admin.audit.ListAuditEvents, audit.ListAuditEventsRequest()).audit_events
    observed = [event for event in events if event.reason == "observed"]
    assert [(one.vault_key_id, one.object_id, one.settled_amount, one.overrun) for one in observed] == [
        (key_id, "pi_2", usd(250), True),
        (key_id, "pi_1", usd(0), False),
    ]


# Administration.


def test_keys_are_listed_page_by_page_and_a_revoked_name_is_free_again(admin: Caller) -> None:
    """Oldest first, each once, with its state; only working keys need names of their own."""
    made = [make_key(admin, day_cap(5), f"agent-{n}")[1] for n in range(5)]
    admin(admin.keys.RevokeVaultKey, keys.RevokeVaultKeyRequest(vault_key_id=made[0]))
    made.append(make_key(admin, day_cap(5), "agent-0")[1])
    seen, token_ = [], ""
    while True:
        page = admin(admin.keys.ListVaultKeys, keys.ListVaultKeysRequest(page_size=2, page_token=token_))
        seen += list(page.vault_keys)
        token_ = page.next_page_token
        if not token_:
            break
    # Keys made within one millisecond have no order between them.
    assert sorted(key.vault_key_id for key in seen) == sorted(made)
    states = {key.vault_key_id: key.state for key in seen}
    assert states.pop(made[0]) == keys.VAULT_KEY_STATE_REVOKED
    assert set(states.values()) == {keys.VAULT_KEY_STATE_ACTIVE}


def test_a_policy_is_replaced_as_a_whole_and_its_version_counts_up(admin: Caller, sidecar: Caller) -> None:
    """The new policy acts at once; what a cap counted stays counted under a new limit."""
    key, key_id = make_key(admin, day_cap(1000))
    sidecar(sidecar.policy.Authorize, charge(key, 700, "run"))
    updated = admin(
        admin.keys.UpdateVaultKeyPolicy,
        keys.UpdateVaultKeyPolicyRequest(vault_key_id=key_id, policy=day_cap(800), expected_policy_version=1),
    )
    assert updated.vault_key.policy_version == 2
    assert usage(admin, key_id).remaining == 100
    refused = sidecar(sidecar.policy.Authorize, charge(key, 101, "run-2"))
    assert (refused.decision, refused.policy_version) == (pb.DECISION_DENY, 2)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (keys.CreateVaultKeyRequest(name="a"), "policy"),
        (keys.CreateVaultKeyRequest(name="", policy=day_cap(1)), "name"),
        (keys.CreateVaultKeyRequest(name="a b", policy=day_cap(1)), "name"),
        (keys.CreateVaultKeyRequest(name="a", account="}{", policy=day_cap(1)), "account"),
        (keys.CreateVaultKeyRequest(name="a", policy=policy_pb2.Policy()), "allow"),
        (accounts.FreezeAccountRequest(), "reason"),
        (accounts.SetBudgetRequest(), "budget.name"),
        (accounts.SetBudgetRequest(budget=accounts.Budget(name="team")), "budget.caps"),
        (
            accounts.SetBudgetRequest(
                budget=accounts.Budget(
                    name="team", caps=[policy_pb2.Cap(amount=usd(1), window=policy_pb2.WINDOW_CALL)]
                )
            ),
            "budget.caps",
        ),
    ],
)
def test_a_malformed_change_is_refused_and_the_field_is_named(
    admin: Caller, request_: Any, field: str
) -> None:
    """An operator is told what is wrong, and nothing is changed."""
    method = {
        keys.CreateVaultKeyRequest: admin.keys.CreateVaultKey,
        accounts.FreezeAccountRequest: admin.accounts.FreezeAccount,
        accounts.SetBudgetRequest: admin.accounts.SetBudget,
    }[type(request_)]
    code, _, metadata, _ = failure(admin, method, request_)
    assert (code, metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"field": field})
    assert not admin(admin.audit.ListAuditEvents, audit.ListAuditEventsRequest()).audit_events


# The door.


def test_tokens_open_their_own_services_only(policy_server: Process) -> None:
    """The sidecar token decides and settles, the admin token administers and reads, neither does both."""
    address = policy_server_address(policy_server)
    tokens = {
        "none": None,
        "wrong": "sgt_wrong",
        "empty": "",
        # The sidecar's decision is the event that the admin's watch then sees.
        "sidecar": token(policy_server, "sidecar"),
        "admin": token(policy_server, "admin"),
    }
    requests: dict[str, Callable[[Caller], Any]] = {
        "decide": lambda caller: caller(caller.policy.Authorize, charge("vk_x", 1, "run")),
        "administer": lambda caller: caller(caller.accounts.GetAccount, accounts.GetAccountRequest()),
        "list": lambda caller: caller(caller.audit.ListAuditEvents, audit.ListAuditEventsRequest()),
        "watch": lambda caller: caller(
            caller.audit.WatchAuditEvents, audit.WatchAuditEventsRequest(after_sequence=0)
        ),
    }
    for name, bearer in tokens.items():
        caller = Caller(address, bearer)
        for what, ask in requests.items():
            if (name == "sidecar" and what == "decide") or (name == "admin" and what != "decide"):
                answer = ask(caller)
                if what == "watch":
                    assert next(answer).sequence >= 0
                    answer.cancel()
                continue
            code, reason, _, message = failure(ask, caller)
            if name in {"admin", "sidecar"}:
                assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "TOKEN_NOT_SUFFICIENT")
            else:
                assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
            assert f"{'sidecar' if what == 'decide' else 'admin'}.token" in message
        caller.channel.close()


def test_token_files_are_for_their_owner_and_stay_the_same(redis: str, folder: Path) -> None:
    """They are made once, with mode 0600, and a file that others can read stops the server."""
    with policy_server_process(folder, redis) as process:
        files = {which: folder / f"{which}.token" for which in ("admin", "sidecar")}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files.values()} == {0o600}
        first = {which: token(process, which) for which in files}
        assert first["admin"] != first["sidecar"]
        assert process.stop() == 0
    with policy_server_process(folder, redis, name="second") as process:
        assert {which: token(process, which) for which in files} == first
    files["sidecar"].chmod(0o640)
    said = refuses_to_start(policy_server_process(folder, redis, name="third"))
    assert "sidecar.token can be read by others" in said
    assert first["sidecar"] not in said
    files["sidecar"].chmod(0o600)
    files["admin"].write_text("\n")
    assert "admin.token is empty" in refuses_to_start(policy_server_process(folder, redis, name="fourth"))


def test_tokens_may_come_from_the_environment(redis: str, folder: Path) -> None:
    """Then no file is made, and the given tokens open the doors."""
    given = {"SPENDGATE_ADMIN_TOKEN": "given-admin", "SPENDGATE_SIDECAR_TOKEN": "given-sidecar"}
    with policy_server_process(folder, redis, env=given) as process:
        assert not list(folder.glob("*.token"))
        caller = Caller(policy_server_address(process), "given-admin")
        assert caller(caller.accounts.GetAccount, accounts.GetAccountRequest()).account.account == "default"
        caller.channel.close()
        assert "given-" not in process.log


def test_health_and_reflection_need_no_token(policy_server: Process) -> None:
    """A probe can ask for the health of each service, and grpcurl can read the contract."""
    services = {
        f"spendgate.v1.{name}"
        for name in ("PolicyService", "VaultKeyService", "AccountService", "AuditService")
    }
    with grpc.insecure_channel(policy_server_address(policy_server)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *services):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert services < listed
        found = ProtoReflectionDescriptorDatabase(channel).FindFileContainingSymbol(
            "spendgate.v1.AuthorizeRequest"
        )
        assert found.name == "spendgate/v1/policy_service.proto"


# Starting.


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
def test_a_redis_that_could_lose_the_count_is_refused(
    own_redis: Process, folder: Path, setting: str, value: str
) -> None:
    """The message names the setting; --allow-volatile starts all the same, and warns."""
    url = redis_url(own_redis)
    with redis_client.Redis.from_url(url) as client:
        client.config_set(setting, value)
    said = refuses_to_start(policy_server_process(folder, url))
    assert f"{setting} is '{value}'" in said
    assert "--allow-volatile" in said
    with policy_server_process(folder, url, "--allow-volatile", name="volatile") as process:
        assert f"{setting} is '{value}'" in process.log
        assert "WARNING" in process.log


@pytest.mark.parametrize(
    ("redis_address", "options", "said"),
    [
        (None, [], "SPENDGATE_REDIS_URL (--redis-url): must be set"),
        ("unix:///nowhere/redis.sock", [], "Redis does not answer"),
        ("redis://:hunter2@127.0.0.1:1/0", [], "Redis does not answer"),
        ("http://:hunter2@127.0.0.1:1/0", [], "redis_url"),
        ("unix:///nowhere/redis.sock", ["--no-such-option"], "--no-such-option"),
        ("unix:///nowhere/redis.sock", ["--policy-port", "70000"], "SPENDGATE_POLICY_PORT (--policy-port)"),
        ("unix:///nowhere/redis.sock", ["--hold-ttl-s", "0"], "SPENDGATE_HOLD_TTL_S (--hold-ttl-s)"),
        ("unix:///nowhere/redis.sock", ["--log-level", "LOUD"], "SPENDGATE_LOG_LEVEL (--log-level)"),
    ],
)
def test_a_server_that_can_not_work_does_not_start_and_says_why(
    folder: Path, redis_address: str | None, options: list[str], said: str
) -> None:
    """One plain sentence, no traceback, no password."""
    log = refuses_to_start(policy_server_process(folder, redis_address, *options))
    assert said in log
    assert "hunter2" not in log


def test_a_port_in_use_is_said(redis: str, folder: Path) -> None:
    """Two servers never share a port by accident."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        log = refuses_to_start(policy_server_process(folder, redis, "--policy-port", port))
    assert f"can't listen on 127.0.0.1:{port}" in log
    assert "--policy-port" in log


# Redis away.


def test_a_socket_needs_the_same_tokens(redis: str, folder: Path) -> None:
    """Its path may have any characters; the port answers beside it."""
    path = folder / "po#li cy%41.sock"
    with policy_server_process(folder, redis, "--policy-socket", str(path)) as server:
        for address in (f"unix:{quote(str(path))}", policy_server_address(server)):
            question = charge("vk_unknown", 1, "run-1")
            caller, stranger = Caller(address, token(server, "sidecar")), Caller(address, "guess")
            with caller.channel, stranger.channel:
                assert caller(caller.policy.Authorize, question).decision == pb.DECISION_DENY
                with pytest.raises(grpc.RpcError) as refused:
                    stranger(stranger.policy.Authorize, question)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_socket_that_can_not_be_made_is_said(redis: str, folder: Path) -> None:
    """The message names the path and the option."""
    path = folder / "nowhere" / "policy.sock"
    log = refuses_to_start(policy_server_process(folder, redis, "--policy-socket", str(path)))
    assert str(path) in log
    assert "--policy-socket" in log


@pytest.fixture
def lone(own_redis: Process, folder: Path) -> Iterator[Process]:
    """A policy server over a Redis that the test may harm."""
    with policy_server_process(folder, redis_url(own_redis), env=IN_TIME) as process:
        yield process


def test_without_an_answer_from_redis_every_call_is_told_so_in_time(
    own_redis: Process, lone: Process
) -> None:
    """A Redis that hangs gives UNAVAILABLE within the caller's 450 ms, and all is well when it goes on."""
    with calling(lone, "admin") as admin, calling(lone, "sidecar") as sidecar:
        policy = sidecar.policy
        known, known_id = make_key(admin, day_cap(100_000), "known")
        unseen, _ = make_key(admin, day_cap(100_000), "unseen")
        held = sidecar(policy.Authorize, charge(known, 1, "before"))
        own_redis.signal(signal.SIGSTOP)
        requests: list[tuple[Any, Any]] = [
            (policy.Authorize, charge(known, 1, "known", request_id="same")),
            (policy.Authorize, charge(unseen, 1, "unseen")),
            (policy.Authorize, charge("vk_nobody", 1, "nobody")),
            (policy.Settle, _settle(authorization_id=held.authorization_id)),
        ]
        for method, request in requests:
            assert failure(sidecar, method, request, REDIS_AWAY_DEADLINE_S)[:2] == (
                grpc.StatusCode.UNAVAILABLE,
                "STORE_UNAVAILABLE",
            )
        batch = sidecar(
            policy.BatchAuthorize,
            pb.BatchAuthorizeRequest(requests=[charge(known, 1, f"batch-{n}") for n in range(50)]),
            REDIS_AWAY_DEADLINE_S,
        )
        assert {(item.error.code, item.error.reason) for item in batch.results} == {(14, "STORE_UNAVAILABLE")}
        strangers = pb.BatchAuthorizeRequest(
            requests=[charge(f"vk_{'a' * 11}{n}_{'a' * 32}", 1, "run") for n in (2, 3, 4, 5, 6, 7)]
        )
        assert failure(sidecar, policy.BatchAuthorize, strangers, REDIS_AWAY_DEADLINE_S)[:2] == (
            grpc.StatusCode.UNAVAILABLE,
            "STORE_UNAVAILABLE",
        )
        # More than there are connections. A busy machine needs its time to send so many.
        many = [sidecar.begin(policy.Authorize, charge(known, 1, f"many-{n}"), 5) for n in range(100)]
        assert {call.code() for call in many} == {grpc.StatusCode.UNAVAILABLE}
        with grpc.insecure_channel(policy_server_address(lone)) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            def serving() -> bool:
                status = health.Check(health_pb2.HealthCheckRequest(), timeout=10).status
                return bool(status == health_pb2.HealthCheckResponse.SERVING)

            wait_for(lambda: not serving(), "the server says that it can't serve", lone)
            own_redis.signal(signal.SIGCONT)
            wait_for(serving, "the server serves again", lone)
        again = sidecar(policy.Authorize, charge(known, 1, "known", request_id="same"))
        assert (again.decision, again.duplicate) == (pb.DECISION_ALLOW, False)
        assert sidecar(policy.Settle, _settle(authorization_id=held.authorization_id)).state
        events = admin(
            admin.audit.ListAuditEvents,
            audit.ListAuditEventsRequest(
                page_size=1000, filter=audit.AuditFilter(vault_key_id=known_id, decision="allow")
            ),
        ).audit_events
        counted = {event.idempotency_key for event in events if not event.duplicate}
        assert usage(admin, known_id).held == len(counted) - 1, (
            "all that was recorded, less what was released"
        )


def can_decide(sidecar: Caller) -> bool:
    """Whether a call is decided, if only that nobody has its key."""
    try:
        sidecar(sidecar.policy.Authorize, charge("vk_nobody", 1, "any"))
    except grpc.RpcError:
        return False
    return True


def test_a_redis_that_dies_takes_no_count_with_it(own_redis: Process, lone: Process) -> None:
    """After kill -9 of Redis calls are UNAVAILABLE; when it is back, 90 of 100 are still spent."""
    with calling(lone, "admin") as admin, calling(lone, "sidecar") as sidecar:
        key, key_id = make_key(admin, day_cap(10_000))
        verdict = sidecar(sidecar.policy.Authorize, charge(key, 9_000, "run"))
        sidecar(
            sidecar.policy.Settle,
            _settle(authorization_id=verdict.authorization_id, outcome=pb.OUTCOME_SUCCEEDED),
        )
        own_redis.kill()
        for method, request in (
            (sidecar.policy.Authorize, charge(key, 2_000, "next")),
            (sidecar.policy.Settle, _settle(authorization_id=verdict.authorization_id)),
        ):
            assert failure(sidecar, method, request, REDIS_AWAY_DEADLINE_S)[:2] == (
                grpc.StatusCode.UNAVAILABLE,
                "STORE_UNAVAILABLE",
            )
        with redis_process(own_redis.folder):
            # It is another Redis: nothing is decided until every server has had time to look what it lacks.
            wait_for(lambda: can_decide(sidecar), "calls are decided again", lone)
            refused = sidecar(sidecar.policy.Authorize, charge(key, 2_000, "next"))
            assert refused.deny_reason == pb.DENY_REASON_CAP_EXCEEDED
            assert sidecar(sidecar.policy.Authorize, charge(key, 1_000, "rest")).decision == pb.DECISION_ALLOW
            assert usage(admin, key_id).settled == 9_000
            assert lone.stop() == 0


def test_a_redis_that_takes_no_writes_decides_nothing(own_redis: Process, lone: Process) -> None:
    """When it can't be recorded, it is refused: nothing is allowed on a store that only reads."""
    with (
        redis_client.Redis.from_url(redis_url(own_redis)) as client,
        calling(lone, "admin") as admin,
        calling(lone, "sidecar") as sidecar,
    ):
        key, key_id = make_key(admin, day_cap(1_000))
        sidecar(sidecar.policy.Authorize, charge(key, 1, "before"))
        for name, hurt, heal in (("min-replicas-to-write", 1, 0), ("maxmemory", 1, 0)):
            client.config_set(name, hurt)
            code, reason, _, message = failure(
                lambda: sidecar(sidecar.policy.Authorize, charge(key, 1, "run"), REDIS_AWAY_DEADLINE_S)
            )
            client.config_set(name, heal)
            assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert message
        assert usage(admin, key_id).held == 1


def test_a_caller_that_hangs_up_leaves_nothing_for_the_next_one(admin: Caller, sidecar: Caller) -> None:
    """However many calls are cut off half way, every other one gets its own answer."""
    key, key_id = make_key(admin, day_cap(1_000_000))
    authorize = sidecar.policy.Authorize
    for turn in range(10):
        runs = [f"run-{turn}-{n}" for n in range(60)]
        begun = [(run, sidecar.begin(authorize, charge(key, 1, run))) for run in runs]
        for _, call in begun[::2]:
            call.cancel()
        for run, call in begun[1::2]:
            assert call.result().idempotency_key == f"{run}:{CHARGES}"
    for turn in range(10):
        for n in range(60):
            assert sidecar(authorize, charge(key, 1, f"run-{turn}-{n}")).decision == pb.DECISION_ALLOW
    assert usage(admin, key_id).held == 600


# Stopping.


def test_a_stop_loses_no_answer_and_no_event(redis: str, policy_server: Process) -> None:
    """On SIGTERM calls under way get their answers: what is held is what callers were told."""
    with calling(policy_server, "admin") as admin, calling(policy_server, "sidecar") as sidecar:
        key, key_id = make_key(admin, day_cap(1_000_000))
        stopping, enough = Event(), Event()

        def spend(worker: int) -> int:
            allowed = 0
            while True:
                try:
                    sidecar(sidecar.policy.Authorize, charge(key, 1, f"{worker}-{allowed}"), 5)
                except grpc.RpcError as error:
                    assert stopping.is_set(), error
                    # A call that came too late is turned away, or left alone by grpcio until its deadline.
                    assert error.code() in {
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.CANCELLED,
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                    }
                    return allowed
                allowed += 1
                if allowed == 50:
                    enough.set()

        with ThreadPoolExecutor(8) as pool:
            workers = [pool.submit(spend, n) for n in range(8)]
            assert enough.wait(30)
            stopping.set()
            policy_server.signal(signal.SIGTERM)
            told = sum(worker.result() for worker in workers)
    assert policy_server.wait() == 0
    with redis_client.Redis.from_url(redis) as client:
        (counter,) = client.keys("*:count:*")
        assert client.hget(counter, "held") == str(told).encode()
        assert key_id in counter.decode()
        archived = archived_by(policy_server)
        waiting = [
            int(name.partition(b"-")[0])
            for name, _ in client.xrange(AccountKeys("default").audit, min=f"({archived}")
        ]
        newest, _ = newest_event(client.get(AccountKeys("default").sequence).decode())
    # A busy machine may leave some for the next start.
    assert [*range(1, archived + 1), *waiting] == list(range(1, newest + 1))


def archived_by(server: Process) -> int:
    """How far the archive of a server has come."""
    archive = Database(None, server.folder)
    try:
        return ArchiveReader(archive).head("default")
    finally:
        archive.close()


async def test_a_command_that_swallows_its_cancellation_does_not_keep_a_server_from_stopping(
    redis: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py may go on when it is cancelled; the server ends all the same."""
    under_way = asyncio.Event()

    async def stubborn(_: Settler) -> int:
        swallowed = () if under_way.is_set() else (asyncio.CancelledError,)
        under_way.set()
        with contextlib.suppress(*swallowed):
            await asyncio.sleep(3600)
        return 0

    monkeypatch.setattr(Settler, "expire_holds", stubborn)
    monkeypatch.setattr(app, "_EXPIRE_EVERY_S", 0)
    stop = asyncio.Event()
    settings = PolicyServerSettings(redis_url=SecretStr(redis), data_dir=folder, policy_port=0)
    running = asyncio.create_task(app.PolicyServer(settings).run(stop))
    await under_way.wait()
    stop.set()
    async with asyncio.timeout(30):
        await running


def test_a_watcher_does_not_keep_a_server_from_stopping(redis: str, folder: Path) -> None:
    """Open streams end after the drain time."""
    with (
        policy_server_process(folder, redis, "--drain-s", "0.2") as process,
        calling(process, "admin") as admin,
    ):
        stream = admin(admin.audit.WatchAuditEvents, audit.WatchAuditEventsRequest(after_sequence=0), 60)
        make_key(admin, day_cap(1))
        assert next(stream).sequence == 1
        assert process.stop() == 0
        with pytest.raises(grpc.RpcError):
            list(stream)
