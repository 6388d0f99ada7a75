"""The sidecar as an agent meets it: real processes all the way, and Stripe's simulator at the end."""

from __future__ import annotations

import base64
import signal
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from spendgate.v1 import policy_pb2
from tests.processes import temporary_folder, wait_for
from tests.stack import CHARGE, STRIPE_KEY, Stack, cap, running_stack


def error(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()["error"]
    return body


# What an agent gets


def test_a_charge_is_forwarded_counted_and_on_record(stack: Stack) -> None:
    """An allowed charge reaches Stripe once, with the real key, and is counted and recorded."""
    key = stack.key()
    answer = stack.agent(key, "run-1").post("/charges", data=CHARGE)
    assert answer.status_code == 200
    assert answer.json()["object"] == "charge"
    assert answer.headers["spendgate-duplicate"] == "false"
    assert answer.headers["spendgate-remaining"] == "8100"
    assert answer.headers["spendgate-resets-at"].endswith("T00:00:00Z")
    (post,) = stack.simulator.posts()
    assert post["authorization"]["last4"] == STRIPE_KEY[-4:]
    assert post["idempotency_key"].startswith("run-1:POST")
    stack.settled(key, 1900)
    created, decided, settled = stack.events(key)
    assert created.detail.startswith("created the vault key")
    assert (decided.decision, decided.run_id, decided.amount.minor_units) == ("allow", "run-1", 1900)
    assert (settled.state, settled.settled_amount.minor_units) == ("settled", 1900)
    assert settled.object_id == answer.json()["id"]
    assert settled.vendor_request_id == answer.headers["request-id"]
    assert settled.http_status == 200


def test_a_repeat_in_one_run_pays_once(stack: Stack) -> None:
    """The same call again, with any Idempotency-Key an SDK makes up, is answered by the first."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    first = agent.post("/charges", data=CHARGE, headers={"Idempotency-Key": str(uuid.uuid4())})
    again = agent.post("/charges", data=CHARGE, headers={"Idempotency-Key": str(uuid.uuid4())})
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["spendgate-duplicate"] == "true"
    assert len(stack.simulator.executed()) == 1
    stack.settled(key, 1900)


def test_a_model_that_asks_in_other_words_does_not_pay_again(stack: Stack) -> None:
    """Other parameters in the same run are refused, and nothing is forwarded."""
    agent = stack.agent(stack.key(), "run-1")
    agent.post("/charges", data=CHARGE)
    other = agent.post("/charges", data={**CHARGE, "amount": "1901"})
    assert (other.status_code, error(other)["code"]) == (400, "idempotency_key_reused")
    assert error(other)["type"] == "idempotency_error"
    assert len(stack.simulator.posts()) == 1


def test_two_wanted_charges_in_one_run_need_two_steps(stack: Stack) -> None:
    """Equal charges with different steps are both made; each step is made once."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    ids = {
        agent.post("/charges", data=CHARGE, headers={"Spendgate-Step": step}).json()["id"]
        for step in ("first", "second", "first")
    }
    assert len(ids) == 2
    stack.settled(key, 3800)


def test_the_form_field_names_the_effect_and_is_not_forwarded(stack: Stack) -> None:
    """idempotency_key in the form wins over the header; its leading UUID is the run."""
    key, run = stack.key(), str(uuid.uuid4())
    agent = stack.agent(key)
    form = {**CHARGE, "idempotency_key": f"{run}-charge"}
    ids = {
        agent.post("/charges", data=form, headers={"Idempotency-Key": str(n)}).json()["id"] for n in (1, 2)
    }
    assert len(ids) == 1
    assert "idempotency_key" not in stack.simulator.posts()[0]["parameters"]
    assert stack.events(key, decision="allow")[0].run_id == run


def test_without_a_run_the_header_names_the_effect(stack: Stack) -> None:
    """An SDK's own key keeps its retries one charge, and other keys are other charges."""
    agent = stack.agent(stack.key())
    ids = [
        agent.post("/charges", data=CHARGE, headers={"Idempotency-Key": name}).json()["id"] for name in "aab"
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_charge_without_any_name_is_refused(stack: Stack) -> None:
    """A call whose repeat nobody could recognise is not made."""
    answer = stack.agent(stack.key()).post("/charges", data=CHARGE)
    assert (answer.status_code, error(answer)["code"]) == (400, "run_id_required")
    assert stack.simulator.posts() == []


def test_a_delete_needs_no_name(stack: Stack) -> None:
    """SDKs name no DELETE, because what is gone can't be deleted again; each is a call of its own."""
    agent = stack.agent(stack.key())
    made = agent.post("/customers", headers={"Idempotency-Key": "a"}).json()["id"]
    assert agent.delete(f"/customers/{made}").json()["deleted"] is True
    gone = agent.delete(f"/customers/{made}")
    assert (gone.status_code, gone.headers["spendgate-duplicate"]) == (404, "false")


def test_a_decline_gives_the_money_back_and_a_fresh_try_is_possible(stack: Stack) -> None:
    """402 passes through, releases the hold, and the next try goes out under a new upstream key."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    declined = agent.post("/charges", data={**CHARGE, "source": "tok_chargeDeclined"})
    assert (declined.status_code, error(declined)["code"]) == (402, "card_declined")
    assert agent.post("/charges", data=CHARGE).status_code == 200
    first, second = (post["idempotency_key"] for post in stack.simulator.posts())
    assert (first[-2:], second[-2:]) == ("~1", "~2")
    stack.settled(key, 1900)


def test_reads_are_passed_and_recorded(stack: Stack) -> None:
    """A GET goes through with its query, holds nothing and is on record."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    made = agent.post("/charges", data=CHARGE).json()["id"]
    listed = agent.get("/charges", params={"limit": 1, "created[gte]": "1"})
    assert [one["id"] for one in listed.json()["data"]] == [made]
    assert agent.get(f"/charges/{made}").json()["id"] == made
    assert [event.endpoint for event in stack.events(key, decision="allow")][1:] == [
        "GET /v1/charges",
        "GET /v1/charges/{charge}",
    ]


def test_basic_authentication_and_the_root_port_work(stack: Stack) -> None:
    """curl's -u and clients that can't take a path prefix are served alike."""
    key = stack.key()
    answer = httpx.get(f"{stack.origin(root=True)}/v1/charges", auth=(key.text, ""))
    assert answer.status_code == 200


# Steps on one object


def test_an_intent_counts_once_over_all_its_steps(stack: Stack) -> None:
    """Create holds 1,000; confirm counts nothing more; a capture of 600 gives 400 back."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    form = {"amount": "1000", "currency": "usd", "capture_method": "manual", "payment_method": "pm_card_visa"}
    intent = agent.post("/payment_intents", data=form).json()["id"]
    stack.settled(key, 1000)
    assert agent.post(f"/payment_intents/{intent}/confirm").json()["status"] == "requires_capture"
    stack.settled(key, 1000)
    agent.post(f"/payment_intents/{intent}/capture", data={"amount_to_capture": "600"})
    stack.settled(key, 600)
    assert stack.simulator.money["captured"] == 600


def test_steps_may_follow_each_other_at_once(stack: Stack) -> None:
    """Create, confirm and capture without a pause, under a cap that has room for the intent once."""
    key = stack.key(caps=[cap(1000)])
    agent = stack.agent(key, "run-1")
    form = {"amount": "1000", "currency": "usd", "capture_method": "manual", "payment_method": "pm_card_visa"}
    intent = agent.post("/payment_intents", data=form).json()["id"]
    assert agent.post(f"/payment_intents/{intent}/confirm").status_code == 200
    captured = agent.post(f"/payment_intents/{intent}/capture", data={"amount_to_capture": "600"})
    assert captured.json()["amount_received"] == 600
    assert agent.post("/charges", data={**CHARGE, "amount": "400"}).status_code == 200
    stack.settled(key, 1000)


def test_raising_an_intent_after_its_check_is_not_free(stack: Stack) -> None:
    """An update above what was counted holds the difference, and is refused over the cap."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    intent = agent.post("/payment_intents", data={"amount": "1000", "currency": "usd"}).json()["id"]
    raised = agent.post(f"/payment_intents/{intent}", data={"amount": "4000"})
    assert raised.status_code == 200
    stack.settled(key, 4000)
    over = agent.post(
        f"/payment_intents/{intent}", data={"amount": "10001"}, headers={"Spendgate-Step": "again"}
    )
    assert over.status_code == 429
    switched = agent.post(f"/payment_intents/{intent}", data={"currency": "eur"})
    assert (switched.status_code, error(switched)["code"]) == (403, "parameter_not_allowed")
    stack.settled(key, 4000)


def test_a_cancelled_intent_gives_everything_back(stack: Stack) -> None:
    """Cancelling an intent lowers what it counted to nothing."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    form = {
        **{"amount": "1000", "currency": "usd", "confirm": "true"},
        **{"capture_method": "manual", "payment_method": "pm_card_visa"},
    }
    intent = agent.post("/payment_intents", data=form).json()["id"]
    stack.settled(key, 1000)
    assert agent.post(f"/payment_intents/{intent}/cancel").json()["status"] == "canceled"
    stack.settled(key, 0)


def test_an_object_made_elsewhere_is_priced_by_asking_stripe(stack: Stack) -> None:
    """Confirming an intent that another key made counts its whole amount, and may exceed the cap."""
    maker, spender = stack.key(), stack.key(caps=[cap(999)])
    form = {"amount": "1000", "currency": "usd", "payment_method": "pm_card_visa"}
    intent = stack.agent(maker, "run-1").post("/payment_intents", data=form).json()["id"]
    answer = stack.agent(spender, "run-2").post(f"/payment_intents/{intent}/confirm")
    assert answer.status_code == 429
    assert stack.simulator.money["charged"] == 0


def test_a_refund_without_amount_counts_what_is_left(stack: Stack) -> None:
    """The rest of a charge is asked of Stripe; a repeat returns the first refund."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    charge = agent.post("/charges", data=CHARGE).json()["id"]
    agent.post("/refunds", data={"charge": charge, "amount": "500"}, headers={"Spendgate-Step": "part"})
    rest = agent.post("/refunds", data={"charge": charge})
    again = agent.post("/refunds", data={"charge": charge})
    assert rest.json()["amount"] == 1400
    assert again.json()["id"] == rest.json()["id"]
    assert again.headers["spendgate-duplicate"] == "true"
    stack.settled(key, 1900 + 500 + 1400)
    assert stack.simulator.money["refunded"] == 1900


# Refusals


def test_refusals_say_what_happened_and_nothing_is_forwarded(stack: Stack) -> None:
    """Each refusal has its status, code and detail, and a header that stops SDK retries."""
    key = stack.key("POST /v1/charges", "GET /v1/*", caps=[cap(5000), cap(3000, "CALL")])
    agent = stack.agent(key, "run-1")
    over = agent.post("/charges", data={**CHARGE, "amount": "5001"}, headers={"Spendgate-Step": "over"})
    assert over.status_code == 429
    assert error(over)["code"] == "spend_cap_exceeded"
    assert error(over)["spendgate"]["cap"] == "usd/call"
    forbidden = agent.post("/refunds", data={"charge": "ch_1"})
    assert (forbidden.status_code, error(forbidden)["code"]) == (403, "endpoint_not_allowed")
    assert error(forbidden)["spendgate"]["allowed_endpoints"] == ["POST /v1/charges", "GET /v1/*"]
    euros = agent.post("/charges", data={**CHARGE, "currency": "eur"}, headers={"Spendgate-Step": "eur"})
    assert (euros.status_code, error(euros)["code"]) == (403, "currency_not_allowed")
    stack.revoke(key)
    revoked = agent.post("/charges", data=CHARGE)
    assert (revoked.status_code, error(revoked)["code"]) == (401, "vault_key_invalid")
    for refusal in (over, forbidden, euros, revoked):
        assert refusal.headers["stripe-should-retry"] == "false"
        assert refusal.headers["request-id"].startswith("req_")
        assert error(refusal)["message"]
    assert stack.simulator.posts() == []


def test_a_reached_cap_says_what_is_left_and_when_it_resets(stack: Stack) -> None:
    """429 has Retry-After, remaining and resets_at; less than the rest is still allowed."""
    agent = stack.agent(stack.key(), "run-1")
    agent.post("/charges", data={**CHARGE, "amount": "6000"})
    answer = agent.post("/charges", data={**CHARGE, "amount": "6000"}, headers={"Spendgate-Step": "2"})
    detail = error(answer)["spendgate"]
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 86_401
    assert (detail["remaining"], detail["cap"], detail["retryable"]) == (4000, "usd/day", True)
    assert detail["resets_at"].endswith("T00:00:00Z")
    rest = agent.post("/charges", data={**CHARGE, "amount": "4000"}, headers={"Spendgate-Step": "3"})
    assert rest.status_code == 200


@pytest.mark.parametrize("raw", ["sk_live_abc", "rk_test_abc", "sk_test_abc"])
def test_a_raw_stripe_key_is_refused_and_says_why(stack: Stack, raw: str) -> None:
    """An agent that holds the real key is told so; nothing is forwarded."""
    answer = httpx.post(
        f"{stack.origin()}/v1/charges", data=CHARGE, headers={"Authorization": f"Bearer {raw}"}
    )
    assert answer.status_code == 401
    assert "raw Stripe key" in error(answer)["message"]
    assert raw not in answer.text
    assert stack.simulator.posts() == []


_STRANGE_PATHS = [
    "/v1//charges",
    "/v1/charges/",
    "/v1/./charges",
    "/v1/charges/../refunds",
    "/v1/%63harges",
    "/v1/charges%2Fch_1%2Frefund",
    "/v1/charges;x=1",
    "/V1/charges",
    "/v1/charges/ch_1/refund",
    "/v1/nothing",
    "/v1/charges/ch_1/capture/now",
    "/v2/nothing",
    "/v3/core/accounts",
]


@pytest.mark.parametrize("path", _STRANGE_PATHS)
def test_a_path_that_is_not_in_the_table_never_leaves(stack: Stack, path: str) -> None:
    """Odd paths are refused as they are, never normalised; unknown ones are refused too."""
    key = stack.key()
    lines = [
        f"POST /stripe{path} HTTP/1.1",
        "Host: api.stripe.com",
        f"Authorization: Bearer {key.text}",
        "Spendgate-Run-Id: run-1",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Length: 26",
        "Connection: close",
        "",
        "amount=100&currency=usd&a=",
    ]
    host, port = stack.origin().removeprefix("http://").removesuffix("/stripe").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        status = connection.makefile("rb").readline()
    assert status.split()[1] in {b"400", b"403", b"404"}, status
    assert stack.simulator.posts() == []


_STRANGE_FORMS = {
    "query on a POST": ("/charges?amount=1", "amount=100&currency=usd", {}),
    "repeated amount": ("/charges", "amount=100&amount=999999&currency=usd", {}),
    "repeated amount, escaped": ("/charges", "amount=100&%61mount=999999&currency=usd", {}),
    "amount as a list": ("/charges", "amount[]=100&currency=usd", {}),
    "amount as a list, where it is optional": ("/payment_intents/pi_1", "amount[]=100", {}),
    "amount as value and group": ("/charges", "amount=100&amount[0]=5&currency=usd", {}),
    "API key as a field": ("/charges", "amount=100&currency=usd&key=sk_test_1", {}),
    "account as a field": ("/charges", "amount=100&currency=usd&_stripe_account=acct_1", {}),
    "no equals sign": ("/charges", "amount=100&currency=usd&x", {}),
    "broken escape": ("/charges", "amount=100&currency=usd&x=%zz", {}),
    "not UTF-8": ("/charges", "amount=100&currency=usd&x=%ff", {}),
    "unclosed bracket": ("/charges", "amount=100&currency=usd&a[b=1", {}),
    "fraction": ("/charges", "amount=10.5&currency=usd", {}),
    "exponent": ("/charges", "amount=1e3&currency=usd", {}),
    "negative": ("/charges", "amount=-1&currency=usd", {}),
    "plus sign": ("/charges", "amount=%2B100&currency=usd", {}),
    "zero": ("/charges", "amount=0&currency=usd", {}),
    "empty": ("/charges", "amount=&currency=usd", {}),
    "missing amount": ("/charges", "currency=usd", {}),
    "missing currency": ("/charges", "amount=100", {}),
    "2^63": ("/charges", "amount=9223372036854775808&currency=usd", {}),
    "full-width digits": ("/charges", "amount=%EF%BC%91%EF%BC%90%EF%BC%90&currency=usd", {}),
    "underscore": ("/charges", "amount=1_000&currency=usd", {}),
    "leading space": ("/charges", "amount=+100&currency=usd", {}),
    "currency of four letters": ("/charges", "amount=100&currency=usdx", {}),
    "JSON": ("/charges", '{"amount":100,"currency":"usd"}', {"Content-Type": "application/json"}),
    "no content type": ("/charges", "amount=100&currency=usd", {"Content-Type": "text/plain"}),
    "utf-16": (
        "/charges",
        "amount=100&currency=usd",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"},
    ),
    "compressed": ("/charges", "amount=100&currency=usd", {"Content-Encoding": "gzip"}),
    "two accounts": (
        "/charges",
        "amount=100&currency=usd",
        {"Stripe-Account": "acct_1", "Stripe-Context": "acct_2"},
    ),
    "odd account": ("/charges", "amount=100&currency=usd", {"Stripe-Account": "acct_1, acct_2"}),
    "leading zero": ("/charges", "amount=0100&currency=usd", {}),
    "list numbered in part": ("/charges", "amount=100&currency=usd&expand[]=a&expand[1]=b", {}),
    "list of groups without numbers": ("/charges", "amount=100&currency=usd&a[][b]=1&a[][c]=2", {}),
    "deep nesting": ("/charges", f"amount=100&currency=usd&a{'[b]' * 9}=1", {}),
    "another protocol": (
        "/charges",
        "amount=100&currency=usd",
        {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": ""},
    ),
}


@pytest.mark.parametrize("name", _STRANGE_FORMS)
def test_a_request_that_could_be_read_in_two_ways_never_leaves(stack: Stack, name: str) -> None:
    """Every ambiguity is refused before anything is counted, and is on record."""
    path, body, headers = _STRANGE_FORMS[name]
    key = stack.key()
    answer = stack.agent(key, "run-1").post(
        path,
        content=body,
        headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
    )
    assert answer.status_code in {400, 403, 415}
    assert error(answer)["code"]
    assert stack.simulator.posts() == []
    assert stack.usage(key).held == 0
    if name == "another protocol":
        return  # refused before anybody knows whose request it is
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_REFUSAL"), "the refusal is on record")


def test_several_authorization_headers_are_refused(stack: Stack) -> None:
    """Who asks must be plain."""
    key = stack.key()
    second = base64.b64encode(f"{key.text}:".encode()).decode()
    answer = httpx.get(
        f"{stack.origin()}/v1/charges",
        headers=[("Authorization", f"Bearer {key.text}"), ("Authorization", f"Basic {second}")],
    )
    assert answer.status_code == 400


def test_a_body_over_the_limit_is_refused(stack: Stack) -> None:
    """413 before anything is read of it."""
    form = {**CHARGE, "description": "x" * 1_100_000}
    assert stack.agent(stack.key(), "run-1").post("/charges", data=form).status_code == 413


# When things break


def test_a_lost_reply_is_unknown_and_a_repeat_finds_the_first_charge(stack: Stack) -> None:
    """Stripe charges and the reply is lost: 504, the money stays held, and a repeat pays nothing."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    stack.simulator.fault("drop_reply")
    lost = agent.post("/charges", data=CHARGE)
    assert (lost.status_code, error(lost)["code"]) == (504, "outcome_unknown")
    assert error(lost)["spendgate"]["retryable"] is True
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the outcome is on record")
    assert stack.usage(key).held == 1900
    again = agent.post("/charges", data=CHARGE)
    assert again.status_code == 200
    assert again.headers["spendgate-duplicate"] == "true"
    assert len(stack.simulator.executed("/v1/charges")) == 1
    stack.settled(key, 1900)


def test_a_lost_decline_is_found_by_a_repeat_and_gives_the_money_back(stack: Stack) -> None:
    """Stripe gives the first answer again, which says that nothing was paid."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    declined = {**CHARGE, "source": "tok_chargeDeclined"}
    stack.simulator.fault("drop_reply")
    assert agent.post("/charges", data=declined).status_code == 504
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the outcome is on record")
    assert stack.usage(key).held == 1900
    assert agent.post("/charges", data=declined).status_code == 402
    stack.settled(key, 0)


_SAYS_NOTHING = [("error_before", {"status": 429}), ("error_before", {"status": 401}), ("refuse", {})]


@pytest.mark.parametrize(("fault", "how"), _SAYS_NOTHING)
def test_a_repeat_that_is_turned_away_does_not_release_the_first(
    stack: Stack, fault: str, how: dict[str, Any]
) -> None:
    """Lost reply, then a repeat that never reaches Stripe's memory of keys: held on, and still one charge."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    stack.simulator.fault("drop_reply")
    assert agent.post("/charges", data=CHARGE).status_code == 504
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the outcome is on record")
    stack.simulator.fault(fault, **how)
    assert agent.post("/charges", data=CHARGE).status_code >= 400
    assert agent.post("/charges", data=CHARGE).status_code == 200
    assert len(stack.simulator.executed()) == 1
    assert {post["idempotency_key"][-2:] for post in stack.simulator.posts()} == {"~1"}
    stack.settled(key, 1900)


def test_a_repeat_that_can_not_be_sent_does_not_release_the_first() -> None:
    """Lost reply, then no connection at all: the money stays held, and a later repeat finds the charge."""
    with temporary_folder() as folder, running_stack(folder, sidecars=2) as stack:
        key = stack.key()
        stack.simulator.fault("drop_reply")
        assert stack.agent(key, "run-1").post("/charges", data=CHARGE).status_code == 504
        wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the outcome is on record")
        lonely = stack.sidecars[1]
        lonely.stop()
        with socket.create_server(("127.0.0.1", 0)) as unused:
            lonely.env["SPENDGATE_STRIPE_API_BASE"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        lonely.log_path.unlink()
        lonely.start()
        answer = stack.agent(key, "run-1", sidecar=1).post("/charges", data=CHARGE)
        assert (answer.status_code, error(answer)["code"]) == (503, "vendor_unavailable")
        lonely.stop()
        assert stack.usage(key).held == 1900
        assert stack.agent(key, "run-1").post("/charges", data=CHARGE).status_code == 200
        assert len(stack.simulator.executed()) == 1
        stack.settled(key, 1900)


def test_a_parameter_rule_sees_every_part_of_a_parameter(stack: Stack) -> None:
    """A forbidden parameter is refused however it is written, also where its value is private."""
    names = ("destination", "payment_method_data", "tags[]", "lines[][name]")
    rules = [policy_pb2.ParameterRule(parameter=name) for name in names]
    agent = stack.agent(stack.key(parameter_rules=rules), "run-1")
    for more in (
        *("destination[account]", "destination", "payment_method_data[type]", "tags[]", "tags[0]"),
        *("lines[0][name]", "lines[17][name]", "lines[0][name][first]"),
    ):
        answer = agent.post("/charges", data={**CHARGE, more: "x"})
        assert (answer.status_code, error(answer)["code"]) == (403, "parameter_not_allowed")
    assert stack.simulator.posts() == []


def test_a_stored_500_is_replayed_and_never_tried_under_another_key(stack: Stack) -> None:
    """Stripe's own 500 passes through, stays unknown, and a repeat gets the same 500."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    stack.simulator.fault("error_after")
    assert agent.post("/charges", data=CHARGE).status_code == 500
    assert agent.post("/charges", data=CHARGE).status_code == 500
    assert len({post["idempotency_key"] for post in stack.simulator.posts()}) == 1
    assert len(stack.simulator.executed()) == 1
    assert stack.usage(key).held == 1900


def test_a_client_that_hangs_up_cancels_nothing(stack: Stack) -> None:
    """The charge is made, settled and on record although nobody waits for the answer."""
    key = stack.key()
    stack.simulator.fault("delay", seconds=60)
    agent = stack.agent(key, "run-1")
    with pytest.raises(httpx.ReadTimeout):
        agent.post("/charges", data=CHARGE, timeout=0.5)
    wait_for(stack.simulator.posts, "Stripe has the charge")
    stack.simulator.heal()
    stack.settled(key, 1900)
    assert agent.post("/charges", data=CHARGE).headers["spendgate-duplicate"] == "true"
    assert len(stack.simulator.executed()) == 1


def test_twenty_equal_calls_at_once_are_one_post(stack: Stack) -> None:
    """All twenty get the one answer, and Stripe sees one request."""
    key = stack.key()
    ready = threading.Barrier(20)

    def call(_: int) -> httpx.Response:
        agent = stack.agent(key, "run-1")
        ready.wait(30)
        return agent.post("/charges", data=CHARGE)

    stack.simulator.fault("delay", seconds=0.3)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(stack.simulator.posts()) == 1
    assert [answer.headers["spendgate-duplicate"] for answer in answers].count("false") == 1
    stack.settled(key, 1900)


def test_stripe_out_of_reach_holds_nothing() -> None:
    """A refused connection sends nothing, so nothing stays held and the call may be repeated."""
    with temporary_folder() as folder, running_stack(folder) as stack:
        key = stack.key()
        stack.sidecars[0].stop()
        with socket.create_server(("127.0.0.1", 0)) as unused:
            nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        stack.sidecars[0].env["SPENDGATE_STRIPE_API_BASE"] = nowhere
        stack.sidecars[0].log_path.unlink()
        stack.sidecars[0].start()
        answer = stack.agent(key, "run-1").post("/charges", data=CHARGE)
        assert (answer.status_code, error(answer)["code"]) == (503, "vendor_unavailable")
        stack.settled(key, 0)


def test_without_a_policy_server_nothing_is_forwarded_and_it_comes_back() -> None:
    """503 within half a second while the policy server is gone; service is back by itself."""
    with temporary_folder() as folder, running_stack(folder) as stack:
        key, server = stack.key(), stack.policy_servers[0]
        agent = stack.agent(key, "run-1")
        address = server.found(r"listens on \S+:(\d+)")
        assert address is not None
        server.kill()
        answer = agent.post("/charges", data=CHARGE)
        assert (answer.status_code, error(answer)["code"]) == (503, "policy_unavailable")
        assert answer.elapsed.total_seconds() < 1.0
        assert stack.simulator.posts() == []
        ready = httpx.get(stack.origin().removesuffix("/stripe") + "/readyz")
        assert ready.status_code == 503
        assert httpx.get(stack.origin().removesuffix("/stripe") + "/healthz").status_code == 200
        server.env["SPENDGATE_POLICY_PORT"] = address
        server.start()
        wait_for(lambda: agent.post("/charges", data=CHARGE).status_code == 200, "service is back")
        wait_for(lambda: stack.usage(key).settled == 1900, "the charge is settled")
        assert len(stack.simulator.executed()) == 1


def test_a_policy_server_that_hangs_refuses_everybody_in_time() -> None:
    """SIGSTOP: each of forty concurrent calls is refused by itself within the limit, none is forwarded."""
    with temporary_folder() as folder, running_stack(folder) as stack:
        key, server = stack.key(), stack.policy_servers[0]
        agents = [stack.agent(key, f"run-{number}") for number in range(40)]
        server.signal(signal.SIGSTOP)
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda agent: agent.post("/charges", data=CHARGE), agents))
        server.signal(signal.SIGCONT)
        assert {answer.status_code for answer in answers} == {503}
        assert {error(answer)["code"] for answer in answers} == {"policy_unavailable"}
        # The decision's own limit is 450 ms; the rest is what forty clients cost on a busy machine.
        assert max(answer.elapsed.total_seconds() for answer in answers) < 2
        assert stack.simulator.posts() == []
        wait_for(
            lambda: stack.agent(key, "later").post("/charges", data=CHARGE).status_code == 200,
            "service is back",
        )


def test_outcomes_wait_for_the_policy_server_and_a_stopping_sidecar_delivers_them() -> None:
    """A settlement that can't be delivered is kept and delivered later, also by SIGTERM."""
    with temporary_folder() as folder, running_stack(folder) as stack:
        key, server = stack.key(), stack.policy_servers[0]
        port = server.found(r"listens on \S+:(\d+)")
        assert port is not None
        stack.simulator.fault("delay", seconds=60)
        with ThreadPoolExecutor(1) as pool:
            charge = pool.submit(lambda: stack.agent(key, "run-1").post("/charges", data=CHARGE))
            wait_for(stack.simulator.posts, "Stripe has the charge")
            server.kill()
            stack.simulator.heal()
            assert charge.result().status_code == 200
        server.env["SPENDGATE_POLICY_PORT"] = port
        server.start()
        assert stack.sidecars[0].stop() == 0
        assert "could not be delivered" not in stack.sidecars[0].log
        stack.settled(key, 1900)


def test_a_killed_sidecar_leaves_the_money_held_and_pays_once() -> None:
    """SIGKILL while Stripe works: the hold keeps counting, and a repeat by another sidecar is one charge."""
    with temporary_folder() as folder, running_stack(folder, sidecars=2) as stack:
        key = stack.key()
        stack.simulator.fault("delay", seconds=60)
        with ThreadPoolExecutor(1) as pool:
            charge = pool.submit(lambda: stack.agent(key, "run-1").post("/charges", data=CHARGE))
            wait_for(stack.simulator.posts, "Stripe has the charge")
            stack.sidecars[0].kill()
            with pytest.raises(httpx.TransportError):
                charge.result()
        stack.simulator.heal()
        assert stack.usage(key).held == 1900
        elsewhere = stack.agent(key, "run-1", sidecar=1).post("/charges", data=CHARGE)
        assert (elsewhere.status_code, error(elsewhere)["code"]) == (409, "idempotency_key_in_use")
        assert len(stack.simulator.posts()) == 1


def test_fifty_charges_of_60_on_a_cap_of_100_make_one_charge() -> None:
    """Two sidecars and two policy servers agree: one charge at Stripe, 49 refusals, counter 6,000."""
    with temporary_folder() as folder, running_stack(folder, servers=2, sidecars=2) as stack:
        key = stack.key()
        ready = threading.Barrier(50)

        def call(number: int) -> int:
            agent = stack.agent(key, f"run-{number}", sidecar=number % 2)
            ready.wait(60)
            # On a busy machine a decision may not come in time; repeating is safe, which is the point.
            answers = (agent.post("/charges", data={**CHARGE, "amount": "6000"}) for _ in range(100))
            return next(answer.status_code for answer in answers if answer.status_code != 503)

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(call, range(50)))
        assert sorted(statuses) == [200] + [429] * 49
        assert len(stack.simulator.executed()) == 1
        stack.settled(key, 6000)
        decisions = stack.events(key, kind="AUDIT_EVENT_KIND_DECISION")
        assert len(decisions) >= 50
