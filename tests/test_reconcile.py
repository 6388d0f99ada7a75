"""Unknown outcomes are found out from what Stripe shows: real processes, a simulated Stripe at the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import grpc
import httpx
import pytest

from sidecar import reconciler
from sidecar.reconcile import NOT_ALL_EXPLAINED, ReconcileOptions, reconcile_once
from sidecar.report import Report, as_json
from spendgate.v1 import policy_service_pb2 as pb
from spendgate.v1 import policy_service_pb2_grpc
from tests.processes import (
    REPOSITORY,
    clean_environment,
    policy_server_address,
    temporary_folder,
    token,
    wait_for,
)
from tests.stack import CHARGE, STRIPE_KEY, Stack, VaultKey, cap, running_stack, variable

ON_DEMAND: dict[str, Any] = {"stripe_timeout_s": "2", "decision_timeout_ms": "5000"}
HOLD_TTL_S = "1"
QUIET_S = 0.1
POST = {"method": "POST"}
IN_A_HURRY = ("tests.in_a_hurry", "sidecar.reconcile")
_names = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What one ``spendgate reconcile`` printed, and its exit status."""

    status: int
    report: dict[str, Any]
    errors: str

    def states(self) -> dict[str, str]:
        """State by authorization."""
        return {one["authorization_id"]: one["state"] for one in self.report["unknown_outcomes"]}


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    """A Spendgate whose sidecar looks for nothing by itself."""
    with (
        temporary_folder() as folder,
        running_stack(folder, server_settings={"SPENDGATE_HOLD_TTL_S": HOLD_TTL_S}, **ON_DEMAND) as stack,
    ):
        yield stack


@pytest.fixture
def stack(shared: Stack) -> Stack:
    """That Spendgate, a Stripe that knows nothing, and no unknown outcome from the test before."""
    for hold in unresolved(shared):
        settle(shared, hold, pb.OUTCOME_FAILED)
    shared.simulator.reset()
    return shared


def own_key(stack: Stack, limit: int = 10_000) -> VaultKey:
    """A vault key in an account of its own, whose trail knows nothing of other tests' charges."""
    return stack.key(caps=[cap(limit)], account=f"shop-{next(_names)}")


@contextmanager
def decisions(stack: Stack) -> Iterator[tuple[policy_service_pb2_grpc.PolicyServiceStub, Any]]:
    """The decision service and the metadata that it wants."""
    server = stack.policy_servers[0]
    with grpc.insecure_channel(policy_server_address(server)) as channel:
        yield (
            policy_service_pb2_grpc.PolicyServiceStub(channel),
            [("authorization", f"Bearer {token(server, 'sidecar')}")],
        )


def beside(stack: Stack) -> httpx.Client:
    """Somebody who has the real key, and goes past Spendgate."""
    authorization = {"Authorization": f"Bearer {STRIPE_KEY}"}
    return httpx.Client(base_url=stack.simulator.origin, headers=authorization, timeout=30)


def unresolved(stack: Stack) -> list[pb.UnresolvedHold]:
    """The unresolved holds of every account."""
    return list(list_unresolved(stack).holds)


def list_unresolved(stack: Stack) -> pb.ListUnresolvedHoldsResponse:
    """The first page of them, and what time it is."""
    with decisions(stack) as (stub, metadata):
        while True:
            try:
                return stub.ListUnresolvedHolds(
                    pb.ListUnresolvedHoldsRequest(), metadata=metadata, timeout=10
                )
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:  # a busy machine
                    raise


def settle(stack: Stack, hold: pb.UnresolvedHold, outcome: pb.Outcome, **more: Any) -> None:
    """Close a hold by hand."""
    with decisions(stack) as (stub, metadata):
        stub.Settle(
            pb.SettleRequest(
                authorization_id=hold.authorization_id, attempt=hold.attempt, outcome=outcome, **more
            ),
            metadata=metadata,
            timeout=10,
        )


@pytest.fixture(autouse=True, scope="module")
def nothing_is_sent_late() -> Iterator[None]:
    """A call of these tests is sent at once or never, so nobody has to wait the minute that it may take."""
    with mock.patch.object(reconciler, "SEND_WITHIN_S", 0.0):
        yield


def reconcile(stack: Stack, key: VaultKey, *, wait: bool = False, times: int = 1, **settings: str) -> Answer:
    """Look once for the account of a key, as ``spendgate reconcile`` does, and in no other process.

    With ``wait``, once more when what is not there counts; ``times`` as often at once.
    """
    options: dict[str, Any] = {
        "stripe_secret_key": STRIPE_KEY,
        "stripe_api_base": stack.simulator.origin,
        "policy_address": policy_server_address(stack.policy_servers[0]),
        "data_dir": stack.sidecars[0].folder,
        "reconcile_reads_per_s": 20,
        "account": key.account,
        "wait": wait,
        **settings,
    }
    # Shorter than anybody may set it: nothing of these tests is ever late.
    hurried = ReconcileOptions(**options).model_copy(update={"reconcile_quiet_s": QUIET_S})

    async def all_at_once() -> list[Report]:
        return await asyncio.gather(*(reconcile_once(hurried) for _ in range(times)))

    reports = asyncio.run(all_at_once())
    told = as_json(reports[0])
    print(json.dumps(told, indent=2))
    return Answer(0 if all(one.all_explained for one in reports) else NOT_ALL_EXPLAINED, told, "")


def reconcile_command(
    stack: Stack,
    key: VaultKey,
    *options: str,
    program: Sequence[str] = ("spendgate.cli", "reconcile"),
    **settings: str,
) -> Answer:
    """Run ``spendgate reconcile``, for the account of a key; ``settings`` by their names in lower case."""
    folder = stack.sidecars[0].folder
    environment = clean_environment() | {
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "SPENDGATE_STRIPE_API_BASE": stack.simulator.origin,
        "SPENDGATE_POLICY_ADDRESS": policy_server_address(stack.policy_servers[0]),
        "SPENDGATE_DATA_DIR": str(folder),
        "SPENDGATE_RECONCILE_QUIET_S": "1",
        "SPENDGATE_RECONCILE_READS_PER_S": "20",
        "PYTHONPATH": str(REPOSITORY),
        **{variable(name): value for name, value in settings.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", *program, "--json", "--account", key.account, *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert STRIPE_KEY not in done.stdout + done.stderr
    return Answer(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)


def lost(stack: Stack, key: VaultKey, path: str = "/charges", **form: str) -> httpx.Response:
    """Make a call whose reply gets lost after Stripe has done it."""
    stack.simulator.fault("drop_reply", match=POST)
    return called(stack, key, path, **form)


def never_arrived(stack: Stack, key: VaultKey, path: str = "/charges", **form: str) -> httpx.Response:
    """Make a call that breaks off before Stripe has begun with it."""
    stack.simulator.fault("error_before", match=POST)
    return called(stack, key, path, **form)


def called(stack: Stack, key: VaultKey, path: str, **form: str) -> httpx.Response:
    """Make a call in a run of its own."""
    run = f"run-{os.getpid()}-{next(_names)}"
    return stack.agent(key, run).post(path, data=form or dict(CHARGE))


def unknown(stack: Stack, count: int = 1) -> list[pb.UnresolvedHold]:
    """Wait until so many outcomes are unknown."""
    wait_for(lambda: len(unresolved(stack)) == count, f"{count} outcomes are unknown")
    return unresolved(stack)


def quiet(stack: Stack) -> None:
    """Wait until nothing that is unknown can still be under way: by the store's own clock."""

    def is_quiet() -> bool:
        reply = list_unresolved(stack)
        now_ms = reply.read_time.ToMilliseconds()
        return all(now_ms > hold.last_send_time.ToMilliseconds() + QUIET_S * 1000 for hold in reply.holds)

    wait_for(is_quiet, "no call is under way any more")


def test_a_charge_whose_reply_was_lost_is_settled_with_what_it_took(stack: Stack) -> None:
    """Found by the key that it was sent with; nothing is sent again."""
    key = own_key(stack)
    assert lost(stack, key, amount="1900", currency="usd", source="tok_visa").status_code == 504
    (hold,) = unknown(stack)
    assert hold.endpoint == "POST /v1/charges"
    answer = reconcile(stack, key)
    assert answer.status == 0, answer
    (found,) = answer.report["unknown_outcomes"]
    assert (found["state"], found["authorization_id"]) == ("settled", hold.authorization_id)
    assert "charge.succeeded" in found["evidence"]
    stack.settled(key, 1900)
    assert stack.simulator.committed == 1900
    assert len(stack.simulator.posts("/v1/charges")) == 1
    told = stack.events(key)[-1]
    assert (told.state, told.reason) == ("settled", "reconciled")
    assert told.object_id == found["object_id"]
    assert "evt_" in told.detail


def test_a_dry_run_says_what_would_be_and_changes_nothing(stack: Stack) -> None:
    """The hold is still unknown after it."""
    key = own_key(stack)
    lost(stack, key)
    unknown(stack)
    answer = reconcile_command(stack, key, "--dry-run")
    assert [one["state"] for one in answer.report["unknown_outcomes"]] == ["settled"]
    assert len(unresolved(stack)) == 1
    assert stack.usage(key).held == 1900


def test_what_never_arrived_is_released_once_it_is_sure_that_it_never_will(stack: Stack) -> None:
    """Not before; and with other charges in the same time, each with a key of its own."""
    key = own_key(stack)
    assert called(stack, key, "/charges", **CHARGE).status_code == 200
    assert never_arrived(stack, key).status_code == 500
    unknown(stack)
    early = reconcile_command(stack, key, reconcile_quiet_s="3600")
    assert early.status == 3
    assert "too early" in early.report["unknown_outcomes"][0]["why"]
    quiet(stack)
    unseen = reconcile(stack, key)
    assert (unseen.status, list(unseen.states().values())) == (3, ["unknown"])
    answer = reconcile_command(stack, key, "--wait", program=IN_A_HURRY)
    assert answer.status == 0, answer
    (found,) = answer.report["unknown_outcomes"]
    assert found["state"] == "released"
    stack.settled(key, 1900)
    assert stack.simulator.committed == 1900


def test_a_decline_whose_reply_was_lost_is_released(stack: Stack) -> None:
    """The event says that it failed."""
    key = own_key(stack)
    lost(stack, key, amount="700", currency="usd", source="tok_chargeDeclined")
    unknown(stack)
    assert list(reconcile(stack, key).states().values()) == ["released"]
    stack.settled(key, 0)


def test_an_intent_that_was_declined_lives_on_and_stays_counted(stack: Stack) -> None:
    """Its client secret can still pay it, so what it commits counts, though the call failed."""
    key = own_key(stack)
    lost(
        stack,
        key,
        "/payment_intents",
        amount="700",
        currency="usd",
        payment_method="pm_card_chargeDeclined",
        confirm="true",
    )
    unknown(stack)
    assert list(reconcile(stack, key).states().values()) == ["released"]
    stack.settled(key, 700)
    assert stack.simulator.committed == 700


@pytest.mark.parametrize(
    ("path", "form", "amount"),
    [
        ("/payment_intents", {"amount": "700", "currency": "usd"}, 700),
        ("/payouts", {"amount": "600", "currency": "usd"}, 600),
        ("/transfers", {"amount": "500", "currency": "usd", "destination": "acct_1"}, 500),
        ("/topups", {"amount": "400", "currency": "usd"}, 400),
        ("/customers", {"email": "someone@example.com"}, 0),
    ],
)
@pytest.mark.parametrize("arrived", [True, False])
def test_each_kind_of_call_is_found_out(
    stack: Stack, path: str, form: Mapping[str, str], amount: int, arrived: bool
) -> None:
    """Done: what it commits is counted. Never arrived: nothing is."""
    key = own_key(stack)
    (lost if arrived else never_arrived)(stack, key, path, **form)
    unknown(stack)
    quiet(stack)
    assert list(reconcile(stack, key, wait=True).states().values()) == ["settled" if arrived else "released"]
    stack.settled(key, amount if arrived else 0)
    assert stack.simulator.committed == (amount if arrived else 0)


def test_a_lost_reversal_counts_though_its_event_is_about_the_transfer(stack: Stack) -> None:
    """The transfer is counted already; taking it for the answer would count nothing."""
    key = own_key(stack)
    stack.simulator.http.post("/fund", json={"amount": 100_000, "currency": "usd"})
    form = {"amount": "2000", "currency": "usd", "destination": "acct_1"}
    made = called(stack, key, "/transfers", **form)
    assert made.status_code == 200, made.text
    lost(stack, key, f"/transfers/{made.json()['id']}/reversals", amount="1500")
    unknown(stack)
    assert list(reconcile(stack, key).states().values()) == ["settled"]
    assert (stack.usage(key).settled, stack.usage(key).held) == (3500, 0)


@pytest.mark.parametrize("arrived", [True, False])
def test_a_capture_is_found_out_from_its_object(stack: Stack, arrived: bool) -> None:
    """Nothing can undo a capture, so a charge that is not captured never was."""
    key = own_key(stack)
    charge = called(
        stack, key, "/charges", amount="900", currency="usd", source="tok_visa", capture="false"
    ).json()
    stack.settled(key, 900)
    (lost if arrived else never_arrived)(stack, key, f"/charges/{charge['id']}/capture", amount="600")
    unknown(stack)
    quiet(stack)
    assert list(reconcile(stack, key, wait=True).states().values()) == ["settled" if arrived else "released"]
    stack.settled(key, 600 if arrived else 900)
    assert stack.simulator.committed == (600 if arrived else 900)


@pytest.mark.parametrize("arrived", [True, False])
def test_a_confirmation_is_found_out_from_its_intent(stack: Stack, arrived: bool) -> None:
    """An intent that was never tried shows neither a charge nor an error."""
    key = own_key(stack)
    intent = called(stack, key, "/payment_intents", amount="900", currency="usd").json()
    stack.settled(key, 900)
    confirm = f"/payment_intents/{intent['id']}/confirm"
    (lost if arrived else never_arrived)(stack, key, confirm, payment_method="pm_card_visa")
    unknown(stack)
    quiet(stack)
    assert list(reconcile(stack, key, wait=True).states().values()) == ["settled" if arrived else "released"]
    stack.settled(key, 900)


def test_what_is_not_provable_stays_unknown_and_keeps_counting(stack: Stack) -> None:
    """A new checkout session leaves no event, so that there is none proves nothing."""
    key = own_key(stack)
    line = {"line_items[0][price_data][currency]": "usd", "line_items[0][price_data][unit_amount]": "800"}
    never_arrived(
        stack,
        key,
        "/checkout/sessions",
        mode="payment",
        success_url="https://example.com",
        **line,
        **{"line_items[0][price_data][product_data][name]": "x", "line_items[0][quantity]": "1"},
    )
    unknown(stack)
    quiet(stack)
    answer = reconcile(stack, key, wait=True)
    assert answer.status == 3
    (found,) = answer.report["unknown_outcomes"]
    assert found["state"] == "unknown"
    assert "proves nothing" in found["why"]
    assert stack.usage(key).held == 800


def test_a_call_that_others_credentials_sent_is_never_released(stack: Stack) -> None:
    """Another Stripe account may have it; this one's silence says nothing."""
    key = own_key(stack)
    call = pb.AuthorizeRequest(
        vault_key=key.text, endpoint="POST /v1/charges", run_id=f"other-{next(_names)}", sender="another"
    )
    call.amount.minor_units, call.amount.currency_code = 300, "USD"
    with decisions(stack) as (stub, metadata):
        assert stub.Authorize(call, metadata=metadata, timeout=10).decision == pb.DECISION_ALLOW
    unknown(stack)
    quiet(stack)
    assert list(reconcile(stack, key, wait=True).states().values()) == ["unknown"]
    assert stack.usage(key).held == 300


def test_the_repeat_of_a_lost_call_and_the_reconciler_agree(stack: Stack) -> None:
    """Whichever finds out first: one charge, counted once, and the repeat is answered with it."""
    key = own_key(stack)
    stack.simulator.fault("drop_reply", match=POST)
    agent = stack.agent(key, f"agree-{next(_names)}")
    assert agent.post("/charges", data=dict(CHARGE)).status_code == 504
    unknown(stack)
    reconcile(stack, key)
    again = agent.post("/charges", data=dict(CHARGE))
    assert again.status_code == 200
    assert again.headers["Spendgate-Duplicate"] == "true"
    stack.settled(key, 1900)
    assert len(stack.simulator.executed("/v1/charges")) == 1


def test_events_are_read_page_by_page(stack: Stack) -> None:
    """The lost call is the oldest of more than two pages of events."""
    key = own_key(stack, 1_000_000)
    lost(stack, key)
    with beside(stack) as raw:
        for _ in range(230):
            raw.post("/v1/charges", data={"amount": "100", "currency": "usd", "source": "tok_visa"})
    unknown(stack)
    answer = reconcile(stack, key)
    assert list(answer.states().values()) == ["settled"]
    pages = stack.simulator.http.get("/requests", params={"method": "GET"}).json()
    asked = [one for one in pages if one["path"] == "/v1/events"]
    assert len([one for one in asked if "starting_after" in one["query"]]) >= 2
    assert len(answer.report["unexplained_movements"]) == 230
    stack.settled(key, 1900)


def test_a_rate_limit_is_waited_for_and_resolves_nothing_wrongly(stack: Stack) -> None:
    """429s are no evidence; after them it goes on where it was."""
    key = own_key(stack)
    lost(stack, key)
    unknown(stack)
    stack.simulator.fault("rate_limit", match={"method": "GET"}, times=3, seconds=1)
    assert list(reconcile(stack, key).states().values()) == ["settled"]
    stack.settled(key, 1900)


def test_a_stripe_that_only_says_429_leaves_everything_unknown(stack: Stack) -> None:
    """And the command says so, with another exit status than a report has."""
    key = own_key(stack)
    never_arrived(stack, key)
    unknown(stack)
    quiet(stack)
    stack.simulator.fault("rate_limit", match={"method": "GET"}, times=None, seconds=1)
    answer = reconcile_command(stack, key, "--wait")
    stack.simulator.heal()
    assert (answer.status, answer.report) == (1, {})
    assert "429" in answer.errors
    assert stack.usage(key).held == 1900
    assert len(unresolved(stack)) == 1


def test_two_reconcilers_at_once_find_the_same(stack: Stack) -> None:
    """Each hold is closed once, with the same amount."""
    key = own_key(stack)
    for amount in ("100", "200", "300"):
        lost(stack, key, amount=amount, currency="usd", source="tok_visa")
    never_arrived(stack, key)
    unknown(stack, 4)
    quiet(stack)
    assert reconcile(stack, key, wait=True, times=2).status == 0
    stack.settled(key, 600)
    assert stack.simulator.committed == 600
    closed = [one.state for one in stack.events(key) if one.reason == "reconciled"]
    assert sorted(closed) == ["released", "settled", "settled", "settled"]


def test_money_that_moved_beside_spendgate_is_reported(stack: Stack) -> None:
    """A charge, a refund and a payout made with the raw key; what agents made is explained."""
    key = own_key(stack)
    charge = called(stack, key, "/charges", **CHARGE).json()
    assert called(stack, key, "/refunds", charge=charge["id"], amount="200").status_code == 200
    intent = called(stack, key, "/payment_intents", amount="900", currency="usd").json()
    stack.settled(key, 1900 + 200 + 900)
    stack.simulator.act("pay", intent["id"], payment_method="pm_card_visa")  # its customer pays later
    assert reconcile(stack, key).status == 0
    with beside(stack) as raw:
        odd = [
            raw.post("/v1/charges", data={"amount": "5000", "currency": "usd", "source": "tok_visa"}).json(),
            raw.post("/v1/refunds", data={"charge": charge["id"], "amount": "300"}).json(),
        ]
    answer = reconcile(stack, key)
    assert answer.status == 3
    told = {
        (one["object_id"], one["direction"], one["amount"]["minor_units"])
        for one in answer.report["unexplained_movements"]
    }
    assert told == {(odd[0]["id"], "in", "5000"), (odd[1]["id"], "out", "300")}
    assert answer.report["movements"] == 5


def test_a_settled_authorization_that_stripe_does_not_know_is_reported(stack: Stack) -> None:
    """Somebody settled it by hand with a charge that is not there."""
    key = own_key(stack)
    never_arrived(stack, key)
    (hold,) = unknown(stack)
    money = pb.SettleRequest().amount
    money.minor_units, money.currency_code = 1900, "USD"
    settle(stack, hold, pb.OUTCOME_SUCCEEDED, object_id="ch_invented", amount=money)
    answer = reconcile(stack, key)
    assert answer.status == 3
    (missing,) = answer.report["settled_missing"]
    assert (missing["object_id"], missing["authorization_id"]) == ("ch_invented", hold.authorization_id)


def test_the_sidecar_finds_out_by_itself_and_agents_do_not_wait(tmp_path: Any) -> None:
    """Two sidecars look every few moments; both kinds of unknown outcomes go away, none wrongly."""
    settings: dict[str, Any] = {
        **ON_DEMAND,
        "reconcile_every_s": "0.3",
        "reconcile_quiet_s": "1",
        "reconcile_reads_per_s": "20",
    }
    with (
        temporary_folder() as folder,
        running_stack(
            folder,
            sidecars=2,
            server_settings={"SPENDGATE_HOLD_TTL_S": HOLD_TTL_S},
            sidecar_program=("tests.in_a_hurry", "sidecar"),
            **settings,
        ) as stack,
    ):
        key = own_key(stack)
        lost(stack, key, amount="100", currency="usd", source="tok_visa")
        never_arrived(stack, key)
        # Their looking is stuck at Stripe; a charge is not.
        stack.simulator.fault(
            "delay", match={"method": "GET", "path": "/v1/events"}, times=2, seconds=1.5, stage="before"
        )
        assert called(stack, key, "/charges", **CHARGE).status_code == 200
        stack.settled(key, 2000)
        assert unresolved(stack) == []
        assert stack.simulator.committed == 2000
