"""Version 2 of the API in the Stripe simulator: JSON, its lists and its rules for repeats."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulator import DAY_SECONDS, Simulator, error_of

PATH = "/v2/money_management/outbound_payments"
PAYMENT: dict[str, Any] = {
    "from": {"financial_account": "fa_1", "currency": "usd"},
    "to": {"recipient": "acct_2", "payout_method": "usba_1"},
    "amount": {"value": 1200, "currency": "usd"},
}
DESTINATION = {"name": "hook", "type": "webhook_endpoint", "enabled_events": ["v1.charge.succeeded"]}


def test_an_outbound_payment_leaves_when_it_is_posted(simulator: Simulator) -> None:
    made = simulator.v2.money_management.outbound_payments.create(PAYMENT)
    assert (made.status, made.amount.value, made.cancelable) == ("processing", 1200, True)
    assert simulator.money_of_last() == [("committed", "out", 1200, 1200)]
    assert simulator.resolve(made.id, "succeeded")["status"] == "posted"
    found = simulator.v2.money_management.outbound_payments.retrieve(made.id)
    assert (found.status, found["from"].debited.value) == ("posted", 1200)
    refused = simulator.post_json(f"{PATH}/{made.id}/cancel", None)
    assert error_of(refused)["code"] == "not_cancelable"


def test_what_is_under_way_may_be_canceled_once(simulator: Simulator) -> None:
    for path in (PATH, "/v2/money_management/outbound_transfers"):
        to = {"payout_method": "usba_1"} if "transfers" in path else PAYMENT["to"]
        made = simulator.post_json(path, {**PAYMENT, "to": to}).json()
        assert simulator.post_json(f"{path}/{made['id']}/cancel", None).json()["status"] == "canceled"
        assert simulator.money_of_last() == [("released", "out", 1200, 0)]
        again = simulator.post_json(f"{path}/{made['id']}/cancel", {})
        assert error_of(again)["code"] == "already_canceled"


@pytest.mark.parametrize(
    "change",
    [
        {"amount": {"value": "1200", "currency": "usd"}},
        {"amount": {"value": 1200.0, "currency": "usd"}},
        {"amount": {"value": 1.2e3, "currency": "usd"}},
        {"amount": {"value": True, "currency": "usd"}},
        {"amount": {"value": 0, "currency": "usd"}},
        {"amount": {"value": 1200, "currency": "USD"}},
        {"amount": {"value": 1200, "currency": "usd", "cents": 5}},
        {"amount": 1200},
        {"amount": None},
        {"bogus": 1},
        {"to": {"recipient": 5}},
        {"from": {"financial_account": "fa_1", "currency": "eur"}},
    ],
)
def test_a_field_of_another_type_or_name_is_refused(simulator: Simulator, change: dict[str, Any]) -> None:
    assert simulator.post_json(PATH, {**PAYMENT, **change}).status_code == 400
    assert simulator.seen("money")["movements"] == []


def test_v2_wants_json_and_a_version(simulator: Simulator) -> None:
    assert simulator.post(PATH, {"amount": "5"}, Stripe_Version="2026-10-28.endive").status_code == 400
    headers = {"Authorization": "Bearer sk_test_simulator"}
    assert simulator.raw.post(PATH, json=PAYMENT, headers=headers).status_code == 400
    twice = '{"amount": {"value": 1, "value": 99999, "currency": "usd"}}'
    sent = {**headers, "Stripe-Version": "2026-10-28.endive", "Content-Type": "application/json"}
    assert simulator.raw.post(PATH, content=twice, headers=sent).status_code == 400


def test_lists_lead_from_page_to_page(simulator: Simulator) -> None:
    made = [simulator.post_json(PATH, PAYMENT).json()["id"] for _ in range(5)]
    listed = simulator.v2.money_management.outbound_payments.list({"limit": 2})
    assert listed.next_page_url.startswith(f"{PATH}?")
    assert [one.id for one in listed.auto_paging_iter()] == made[::-1]
    second = simulator.get(listed.next_page_url, Stripe_Version="2026-10-28.endive")
    assert [one["id"] for one in second["data"]] == made[2:0:-1]
    first = simulator.get(second["previous_page_url"], Stripe_Version="2026-10-28.endive")
    assert [one["id"] for one in first["data"]] == made[:2:-1]
    simulator.post_json(f"{PATH}/{made[0]}/cancel", None)
    canceled = simulator.v2.money_management.outbound_payments.list({"status": ["canceled"]})
    assert [one.id for one in canceled.data] == made[:1]


# --- repeats


def test_a_success_is_replayed_for_thirty_days(simulator: Simulator) -> None:
    simulator.control("clock", {"set": 1_800_000_000})
    first = simulator.post_json(PATH, PAYMENT, key="k")
    simulator.control("clock", {"advance_seconds": 29 * DAY_SECONDS})
    again = simulator.post_json(PATH, PAYMENT, key="k")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    other = simulator.post_json(PATH, {**PAYMENT, "description": "x"}, key="k")
    assert other.status_code == 400
    simulator.control("clock", {"advance_seconds": 2 * DAY_SECONDS})
    assert simulator.post_json(PATH, PAYMENT, key="k").json()["id"] != first.json()["id"]


def test_a_failure_is_executed_again(simulator: Simulator) -> None:
    simulator.control("settings", {"limited_funds": True})
    refused = simulator.post_json(PATH, PAYMENT, key="k")
    assert (refused.status_code, simulator.seen()[-1]["executed"]) == (400, True)
    simulator.control("fund", {"amount": 5000, "currency": "usd"})
    again = simulator.post_json(PATH, PAYMENT, key="k")
    assert again.status_code == 200 and "Idempotent-Replayed" not in again.headers


def test_an_error_after_the_effect_does_not_repeat_the_effect(simulator: Simulator) -> None:
    simulator.fault("error_after")
    assert simulator.post_json(PATH, PAYMENT, key="k").status_code == 500
    again = simulator.post_json(PATH, PAYMENT, key="k")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert len(simulator.v2.money_management.outbound_payments.list().data) == 1


def test_a_delete_has_a_key_too(simulator: Simulator) -> None:
    path = "/v2/core/event_destinations"
    made = simulator.post_json(path, DESTINATION).json()["id"]
    first = simulator.post_json(f"{path}/{made}", None, key="k", method="DELETE")
    again = simulator.post_json(f"{path}/{made}", None, key="k", method="DELETE")
    assert first.json()["deleted"] is True
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert simulator.post_json(f"{path}/{made}", None, key="k2", method="DELETE").status_code == 404
