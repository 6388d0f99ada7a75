"""Twilio as a second vendor: real processes all the way, the official SDK, a simulated Twilio at the end."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from sidecar.exchange import Answer, Request
from sidecar.refusals import Refused
from sidecar.twilio.endpoints import ENDPOINTS
from sidecar.twilio.prices import price_of
from sidecar.twilio.vendor import Twilio
from sidecar.vendor import Call, Failed, Money, Seen, Succeeded, Unclear
from spendgate.v1 import audit_service_pb2, policy_pb2
from tests.processes import Process, redis_process, temporary_folder, wait_for
from tests.stack import CHARGE, Stack, VaultKey, cap, running_stack
from tests.test_reconcile import reconcile

ACCOUNT = f"AC{7:032x}"
TOKEN = "0123456789abcdefTheTokenOfTheTests"
VERSION = "/2010-04-01"
MESSAGES = f"{VERSION}/Accounts/{ACCOUNT}/Messages"
SEND = "POST /twilio/2010-04-01/Accounts/{account}/Messages.json"
HELLO: Mapping[str, str] = {"To": "+15550000001", "From": "+15550000009", "Body": "Hello"}
SID = f"SM{1:032x}"


class Simulated:
    """Twilio as the tests see it: what it was sent, what happens there by itself, and what goes wrong."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.http = httpx.Client(base_url=f"{origin}/_simulator", timeout=10)

    def requests(self, method: str = "POST") -> list[dict[str, Any]]:
        """What it received, in order."""
        return [one for one in self.http.get("/requests").json() if one["method"] == method]

    @property
    def sent(self) -> int:
        """How many messages it has made."""
        return int(self.http.get("/summary").json()["messages"])

    def move(self, sid: str, **changes: Any) -> None:
        """Bring a message to another state, or let its price appear."""
        self.http.post(f"/messages/{sid}", json=changes).raise_for_status()

    def fault(self, fault: str, **more: Any) -> None:
        """Let something go wrong, once."""
        self.http.post("/faults", json={"fault": fault, **more}).raise_for_status()


class InRun(TwilioHttpClient):
    """The SDK's own HTTP client, which names the run; the SDK takes no headers for one call."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def request(self, *args: Any, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
        """Send one request."""
        named = {**(headers or {}), "Spendgate-Run-Id": self._run_id}
        return super().request(*args, headers=named, **more)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Stack, Simulated]]:
    """Everything, with both vendors set up."""
    with temporary_folder() as folder, twilio_process(folder) as process:
        origin = process.found(r"listening on (\S+)")
        assert origin is not None
        simulated = Simulated(origin)
        settings = {"twilio_account_sid": ACCOUNT, "twilio_auth_token": TOKEN, "twilio_api_base": origin}
        with running_stack(folder, **settings) as stack, simulated.http:
            yield stack, simulated


@pytest.fixture
def stack(running: tuple[Stack, Simulated]) -> Stack:
    """A running Spendgate with both vendors."""
    running[0].simulator.reset()
    return running[0]


@pytest.fixture
def twilio(running: tuple[Stack, Simulated]) -> Simulated:
    """A Twilio that knows nothing yet."""
    running[1].http.post("/reset").raise_for_status()
    return running[1]


def twilio_process(folder: Path) -> Process:
    """The simulated Twilio on a free port."""
    return Process(
        "twilio",
        [
            *(sys.executable, "-m", "twilio_simulator", "--port", "0"),
            *("--account-sid", ACCOUNT, "--auth-token", TOKEN),
        ],
        folder=folder,
        ready=lambda process: process.found(r"listening on (\S+)") is not None,
    )


def base(stack: Stack) -> str:
    """Where the sidecar's Twilio is."""
    return stack.origin().removesuffix("/stripe") + "/twilio"


def sender(stack: Stack, *allow: str, **policy: Any) -> VaultKey:
    """A key that may do everything with messages, and spend 5 USD a day on them."""
    policy.setdefault("caps", [cap(500, endpoints=["POST /twilio/*"])])
    policy.setdefault("unpriced", [SEND])
    return stack.key(*(allow or ("* /twilio/*",)), **policy)


def sdk(stack: Stack, key: VaultKey, run_id: str = "run-1") -> Client:
    """The official SDK, with nothing but its address and the run set."""
    client = Client(key.text, "unused", ACCOUNT, http_client=InRun(run_id))
    client.api.base_url = base(stack)
    return client


def agent(stack: Stack, key: VaultKey, run_id: str = "run-1") -> httpx.Client:
    """An agent without an SDK."""
    headers = {"Authorization": f"Bearer {key.text}", "Spendgate-Run-Id": run_id}
    return httpx.Client(base_url=base(stack), headers=headers, timeout=30)


def say(client: Client, body: str = "Hello") -> Any:
    """Send a message with the SDK."""
    return client.messages.create(to=HELLO["To"], from_=HELLO["From"], body=body)


def detail(refused: TwilioRestException) -> dict[str, Any]:
    """What Spendgate says of a refusal, beside Twilio's own fields."""
    assert isinstance(refused.details, dict)
    return dict(refused.details["spendgate"])


# --- what an agent gets --------------------------------------------------------------


def test_a_message_is_sent_once_for_repeats_in_one_run(stack: Stack, twilio: Simulated) -> None:
    """The SDK's calls with the same run are one message, sent with the real account and token."""
    key = sender(stack)
    first, again = say(sdk(stack, key)), say(sdk(stack, key))
    assert first.sid == again.sid
    (post,) = twilio.requests()
    assert post["user"] == ACCOUNT
    assert post["path"] == f"{MESSAGES}.json"
    assert post["parameters"] == {name: [value] for name, value in HELLO.items()}
    assert post["headers"]["user-agent"].startswith("twilio-python/")
    assert not [name for name in post["headers"] if name.startswith(("spendgate", "idempotency"))]


def test_a_repeat_of_a_settled_message_shows_what_became_of_it(stack: Stack, twilio: Simulated) -> None:
    """It is fetched by its sid, not sent again, and its price is counted on the way."""
    key = sender(stack)
    sid = say(sdk(stack, key)).sid
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the message is settled")
    twilio.move(sid, status="delivered", price="-0.00790")
    again = say(sdk(stack, key))
    assert (again.sid, again.status) == (sid, "delivered")
    assert twilio.sent == 1
    stack.settled(key, 1)


def test_other_words_in_one_run_are_not_a_second_message(stack: Stack, twilio: Simulated) -> None:
    """As with charges: another step, or another run, says that it is wanted."""
    key = sender(stack)
    say(sdk(stack, key))
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, key), "Hello there")
    assert (refused.value.status, detail(refused.value)["code"]) == (400, "idempotency_key_reused")
    say(sdk(stack, key, "run-2"), "Hello there")
    assert twilio.sent == 2


def test_the_form_field_and_the_header_name_the_effect(stack: Stack, twilio: Simulated) -> None:
    """Without a run; the field is taken out of the body, and lists keep all their elements."""
    key = sender(stack)
    with httpx.Client(base_url=base(stack), auth=(key.text, ""), timeout=30) as client:
        form = {**HELLO, "MediaUrl": ["https://example.com/1.png", "https://example.com/2.png"]}
        named = {**form, "idempotency_key": "order-7"}
        sids = {client.post(f"{MESSAGES}.json", data=named).json()["sid"] for _ in range(2)}
        by_header = client.post(f"{MESSAGES}.json", data=form, headers={"Idempotency-Key": "order-8"})
        unnamed = client.post(f"{MESSAGES}.json", data=form)
    assert len(sids | {by_header.json()["sid"]}) == 2
    assert unnamed.json()["details"]["spendgate"]["code"] == "run_id_required"
    assert [post["parameters"] for post in twilio.requests()] == [
        {name: value if isinstance(value, list) else [value] for name, value in form.items()}
    ] * 2


def test_messages_are_read_redacted_cancelled_and_deleted(stack: Stack, twilio: Simulated) -> None:
    """The rest of what the SDK does with messages."""
    client = sdk(stack, sender(stack))
    sid = say(client).sid
    assert client.messages(sid).fetch().body == "Hello"
    assert [one.sid for one in client.messages.list(to=HELLO["To"], limit=5)] == [sid]
    assert client.messages(sid).update(body="").body == ""
    twilio.move(sid, status="delivered")
    assert client.messages(sid).delete() is True
    assert twilio.sent == 0
    other = sdk(stack, sender(stack), "run-2")
    later = other.messages.create(
        to=HELLO["To"],
        messaging_service_sid=f"MG{1:032x}",
        body="Later",
        schedule_type="fixed",
        send_at="2031-01-01T00:00:00Z",  # type: ignore[arg-type]
    )
    assert later.status == "scheduled"
    assert other.messages(later.sid).update(status="canceled").status == "canceled"


def test_a_list_goes_on_page_by_page(stack: Stack, twilio: Simulated) -> None:
    """Twilio's links to further pages lead through the sidecar again."""
    key = sender(stack)
    sids = {say(sdk(stack, key, f"run-{number}")).sid for number in range(3)}
    assert {one.sid for one in sdk(stack, key).messages.stream(page_size=1)} == sids
    assert len(twilio.requests("GET")) >= 3


def test_the_sdk_may_take_the_vault_key_for_the_account(stack: Stack, twilio: Simulated) -> None:
    """Client(vault key, …) writes the key into the path; what is forwarded names the real account."""
    key = sender(stack)
    client = Client(key.text, "unused", http_client=InRun("run-1"))
    client.api.base_url = base(stack)
    assert say(client).account_sid == ACCOUNT
    assert [post["path"] for post in twilio.requests()] == [f"{MESSAGES}.json"]
    with httpx.Client(auth=(key.text, ""), timeout=30) as plain:
        at_root = stack.origin(root=True) + f"{MESSAGES}.json"
        assert plain.get(at_root).status_code == 200
        elsewhere = plain.get(base(stack) + f"{VERSION}/Accounts/AC{8:032x}/Messages.json")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, 20403)


# --- outcomes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "status"), [("drop_reply", 504), ("error_after", 500), ("refuse", 504)])
def test_a_message_whose_outcome_is_unknown_is_never_sent_again(
    stack: Stack, twilio: Simulated, fault: str, status: int
) -> None:
    """Twilio recognises no repeat, so nothing but a person can find out; nothing is retried."""
    key = sender(stack)
    twilio.fault(fault)
    with pytest.raises(TwilioRestException) as lost:
        say(sdk(stack, key))
    assert lost.value.status == status
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT"), "the outcome is on record")
    for _ in range(2):
        with pytest.raises(TwilioRestException) as refused:
            say(sdk(stack, key))
        assert (refused.value.status, refused.value.code) == (409, 20409)
        assert detail(refused.value)["code"] == "outcome_unknown"
        assert detail(refused.value)["retryable"] is False
    assert len(twilio.requests()) == 1


@pytest.mark.parametrize("status", [429, 400, 401])
def test_what_twilio_turns_away_may_be_tried_afresh(stack: Stack, twilio: Simulated, status: int) -> None:
    """A 4xx comes through as Twilio wrote it, certainly sent nothing, and the next try goes out."""
    key = sender(stack)
    twilio.fault("error_before", status=status)
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, key))
    assert (refused.value.status, refused.value.details) == (status, None)
    assert say(sdk(stack, key)).status == "queued"
    assert (twilio.sent, len(twilio.requests())) == (1, 2)


def test_a_change_that_is_safe_to_do_twice_is_sent_again(stack: Stack, twilio: Simulated) -> None:
    """After a lost reply a repeated delete finds the message gone, and is settled."""
    key = sender(stack)
    client = sdk(stack, key)
    sid = say(client).sid
    twilio.move(sid, status="delivered")
    twilio.fault("drop_reply")
    with pytest.raises(TwilioRestException) as lost:
        client.messages(sid).update(body="")
    assert (lost.value.status, detail(lost.value)["retryable"]) == (504, True)
    wait_for(lambda: len(stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT")) == 2, "it is on record")
    assert client.messages(sid).update(body="").body == ""
    twilio.fault("drop_reply", method="DELETE")
    with pytest.raises(TwilioRestException):
        client.messages(sid).delete()
    wait_for(lambda: len(stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT")) == 4, "it is on record")
    with pytest.raises(TwilioRestException) as gone:
        client.messages(sid).delete()
    assert (gone.value.status, gone.value.code) == (404, 20404)
    wait_for(
        lambda: (
            [one.state for one in stack.events(key, kind="AUDIT_EVENT_KIND_SETTLEMENT")][-2:]
            == ["unknown", "settled"]
        ),
        "the delete is settled",
    )
    assert len(twilio.requests("DELETE")) == 2


# --- money -------------------------------------------------------------------------------


def test_a_price_is_counted_when_it_shows(stack: Stack, twilio: Simulated) -> None:
    """Nothing at first; 0.0079 USD is a cent once somebody looks at the message, and stays one."""
    key = sender(stack)
    client = sdk(stack, key)
    sid = say(client).sid
    client.messages(sid).fetch()
    stack.settled(key, 0)
    twilio.move(sid, status="sent", price="-0.00790")
    for _ in range(3):
        client.messages(sid).fetch()
    stack.settled(key, 1)
    observed = [one for one in stack.events(key) if one.reason == "observed"]
    assert [(one.object_id, one.settled_amount.minor_units) for one in observed] == [(sid, 1)]


def test_reconciling_counts_the_prices_that_nobody_looked_at(stack: Stack, twilio: Simulated) -> None:
    """Each once, in the windows of its message; one without a price yet waits for the next time."""
    key = sender(stack, account="texts")
    sids = [say(sdk(stack, key, f"run-{n}")).sid for n in range(3)]
    twilio.move(sids[0], status="delivered", price="-0.00790")
    twilio.move(sids[1], status="delivered", price="-0.01580")
    credentials = {
        "twilio_account_sid": ACCOUNT,
        "twilio_auth_token": TOKEN,
        "twilio_api_base": twilio.origin,
    }
    settlement = audit_service_pb2.AUDIT_EVENT_KIND_SETTLEMENT
    wait_for(lambda: len(stack.events(key, kind=settlement)) == 3, "every outcome is counted")
    answer = reconcile(stack, key, **credentials)
    assert (answer.report["settled_authorizations"], answer.report["settled_missing"]) == (3, [])
    assert [one["object_id"] for one in answer.report["prices_counted"]] == sorted(sids[:2])
    stack.settled(key, 3)
    twilio.move(sids[2], status="delivered", price="-0.00790")
    assert len(reconcile(stack, key, **credentials).report["prices_counted"]) == 1
    stack.settled(key, 4)


def test_a_list_counts_every_price_on_it(stack: Stack, twilio: Simulated) -> None:
    """One read is enough for many messages; each is rounded up by itself."""
    key = sender(stack)
    sids = [say(sdk(stack, key, f"run-{number}")).sid for number in range(3)]
    for sid, price in zip(sids, ("-0.00790", "-0.01580", None), strict=True):
        twilio.move(sid, status="delivered", price=price)
    stack.settled(key, 0)
    sdk(stack, key).messages.list()
    stack.settled(key, 1 + 2)


def test_one_key_has_a_cap_for_each_vendor(stack: Stack, twilio: Simulated) -> None:
    """What messages cost does not touch what may be charged, and the other way round."""
    caps = [cap(2, endpoints=["POST /twilio/*"]), cap(2000, endpoints=["POST /v1/*"])]
    key = sender(stack, "* /twilio/*", "* /v1/*", caps=caps)
    for number in range(2):
        sid = say(sdk(stack, key, f"run-{number}")).sid
        twilio.move(sid, status="delivered", price="-0.00790")
        sdk(stack, key).messages(sid).fetch()
        stack.settled(key, number + 1)
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, key, "run-3"))
    assert (refused.value.status, refused.value.code) == (429, 20429)
    assert detail(refused.value)["code"] == "spend_cap_exceeded"
    assert detail(refused.value)["cap"] == "usd/day on POST /twilio/*"
    assert twilio.sent == 2
    charging = stack.agent(key, "run-3")
    assert charging.post("/charges", data=CHARGE).status_code == 200
    over = charging.post("/charges", data=CHARGE, headers={"Spendgate-Step": "2"})
    assert over.json()["error"]["spendgate"]["cap"] == "usd/day on POST /v1/*"


def test_a_cap_on_the_count_of_messages_holds_before_they_are_sent(stack: Stack, twilio: Simulated) -> None:
    """Where no price is known yet, this is what limits."""
    count = policy_pb2.Cap(calls=2, window="WINDOW_DAY", endpoints=[SEND])
    key = sender(stack, caps=[cap(500), count])
    say(sdk(stack, key, "run-1"))
    say(sdk(stack, key, "run-2"))
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, key, "run-3"))
    assert detail(refused.value)["code"] == "spend_cap_exceeded"
    assert twilio.sent == 2


# --- refusals ---------------------------------------------------------------------------


def test_a_message_needs_a_policy_that_lets_it_be_unpriced(stack: Stack, twilio: Simulated) -> None:
    """Allowed is not enough: its price is only known when it is sent."""
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, sender(stack, unpriced=[])))
    assert (refused.value.status, detail(refused.value)["code"]) == (400, "amount_unknown")
    assert "only after it was sent" in refused.value.msg
    assert twilio.requests() == []


def test_a_key_for_one_vendor_is_none_for_the_other(stack: Stack, twilio: Simulated) -> None:
    """Neither endpoints nor caps of one vendor let anything pass at the other."""
    with pytest.raises(TwilioRestException) as refused:
        say(sdk(stack, stack.key("* /v1/*")))
    assert (refused.value.status, refused.value.code) == (403, 20403)
    assert detail(refused.value)["allowed_endpoints"] == ["* /v1/*"]
    assert refused.value.msg.startswith("Unable to create record: This vault key may not call")
    charged = stack.agent(sender(stack), "run-1").post("/charges", data=CHARGE)
    assert charged.status_code == 403
    assert charged.json()["error"]["code"] == "endpoint_not_allowed"
    assert twilio.requests() == stack.simulator.posts() == []


def test_a_refusal_has_twilios_shape(stack: Stack, twilio: Simulated) -> None:
    """All of Twilio's fields, its code for the status, and its header for the request."""
    key = sender(stack)
    stack.revoke(key)
    with agent(stack, key) as client:
        answer = client.post(f"{MESSAGES}.json", data=HELLO)
    assert answer.status_code == 401
    assert answer.headers["twilio-request-id"].startswith("req_sg_")
    body = answer.json()
    assert {key: body[key] for key in ("code", "status", "more_info")} == {
        "code": 20003,
        "status": 401,
        "more_info": "https://www.twilio.com/docs/errors/20003",
    }
    assert body["details"]["spendgate"]["reason"] == "vault_key_revoked"
    assert twilio.requests() == []


@pytest.mark.parametrize("user", [ACCOUNT, f"SK{1:032x}"])
def test_twilios_own_keys_are_refused(stack: Stack, twilio: Simulated, user: str) -> None:
    """An agent that holds the real account is told so, and it goes no further."""
    answer = httpx.get(base(stack) + f"{MESSAGES}.json", auth=(user, TOKEN))
    assert answer.status_code == 401
    assert "raw Twilio key" in answer.json()["message"]
    assert answer.json()["details"]["spendgate"]["reason"] == "raw_vendor_key"
    assert twilio.requests("GET") == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{VERSION}/Accounts/{ACCOUNT}.json"),
        ("GET", f"{VERSION}/Accounts/{ACCOUNT}/Balance.json"),
        ("POST", f"{VERSION}/Accounts/{ACCOUNT}/Calls.json"),
        ("GET", f"{MESSAGES}"),
        ("GET", f"{MESSAGES}.xml"),
        ("POST", f"{MESSAGES}/{SID}/Feedback.json"),
        ("PUT", f"{MESSAGES}/{SID}.json"),
        ("GET", f"{VERSION}/Accounts//Messages.json"),
        ("GET", f"{MESSAGES}.json/"),
        ("GET", f"{VERSION}/Accounts/{ACCOUNT}/%4Dessages.json"),
    ],
)
def test_nothing_but_messages_is_passed_on(stack: Stack, twilio: Simulated, method: str, path: str) -> None:
    """Not even reads: the account itself would show its auth token."""
    with httpx.Client(auth=(sender(stack).text, ""), timeout=30) as client:
        url = httpx.URL(base(stack)).copy_with(raw_path=f"/twilio{path}".encode())
        answer = client.request(method, url, headers={"Spendgate-Run-Id": "run-1"})
    assert answer.status_code == 403
    assert answer.json()["details"]["spendgate"]["reason"] == "endpoint_unknown"
    assert twilio.http.get("/requests").json() == []


def test_a_parameter_rule_limits_who_gets_messages(stack: Stack, twilio: Simulated) -> None:
    """Recipients are seen by the policy, texts are not."""
    rules = [
        policy_pb2.ParameterRule(parameter="To", one_of=["+15550000001"], required=True),
        policy_pb2.ParameterRule(parameter="MediaUrl"),
    ]
    key = sender(stack, parameter_rules=rules)
    with agent(stack, key) as client:
        for more in ({"To": "+15550000002"}, {"MediaUrl": "https://example.com/1.png"}):
            answer = client.post(f"{MESSAGES}.json", data={**HELLO, **more})
            assert answer.json()["details"]["spendgate"]["code"] == "parameter_not_allowed"
        assert client.post(f"{MESSAGES}.json", data=HELLO).status_code == 201
    assert twilio.sent == 1


def test_no_secret_is_in_a_log_or_on_record(stack: Stack, twilio: Simulated) -> None:
    """Not the token, not what it is sent as, and not a vault key that an SDK wrote into a path."""
    key = sender(stack)
    client = Client(key.text, "unused", http_client=InRun("run-1"))
    client.api.base_url = base(stack)
    say(client)
    with pytest.raises(TwilioRestException):
        client.api.v2010.accounts(key.text).fetch()
    wait_for(lambda: stack.events(key, kind="AUDIT_EVENT_KIND_REFUSAL"), "the refusal is on record")
    (refusal,) = stack.events(key, kind="AUDIT_EVENT_KIND_REFUSAL")
    assert refusal.endpoint == f"GET /2010-04-01/Accounts/vk_{key.id}_***"
    everything = "".join(process.log for process in (*stack.sidecars, *stack.policy_servers))
    everything += "".join(str(event) for event in stack.events(key))
    secret = key.text.rpartition("_")[2]
    credentials = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert [one for one in (TOKEN, credentials, secret, HELLO["Body"]) if one in everything] == []


# --- settings ---------------------------------------------------------------------------


def test_twilio_works_without_stripe() -> None:
    """Its two settings are enough, and then nothing is at Stripe's paths."""
    with temporary_folder() as folder, redis_process(folder), twilio_process(folder) as process:
        origin = process.found(r"listening on (\S+)")
        assert origin is not None
        settings = {"twilio_account_sid": ACCOUNT, "twilio_auth_token": TOKEN, "twilio_api_base": origin}
        with running_stack(folder, **settings) as stack:
            (sidecar,) = stack.sidecars
            sidecar.stop()
            sidecar.log_path.unlink()
            del sidecar.env["STRIPE_SECRET_KEY"]
            sidecar.start()
            assert say(sdk(stack, sender(stack))).status == "queued"
            stripe = httpx.get(f"{stack.origin()}/v1/charges")
            assert stripe.status_code == 404
            assert "Call /twilio/2010-04-01/…" in stripe.json()["error"]["message"]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "set STRIPE_SECRET_KEY, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        ({"TWILIO_AUTH_TOKEN": TOKEN}, "set both TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        (
            {"TWILIO_ACCOUNT_SID": TOKEN, "TWILIO_AUTH_TOKEN": TOKEN},
            "TWILIO_ACCOUNT_SID (--twilio-account-sid): String should match",
        ),
    ],
)
def test_settings_that_can_not_be_used_are_named(environment: dict[str, str], sentence: str) -> None:
    """In one sentence, without the token."""
    with temporary_folder() as folder:
        sidecar = Process(
            "sidecar",
            [sys.executable, "-m", "sidecar"],
            folder=folder,
            env=environment,
            ready=lambda process: True,
        )
        sidecar.launch()
        assert sidecar.wait() == 1
        assert sentence in sidecar.log
        assert TOKEN not in sidecar.log


# --- the vendor by itself ------------------------------------------------------------------


def request(body: str = "", *, method: str = "POST", path: str = f"{MESSAGES}.json", **more: Any) -> Request:
    """A request as the sidecar gets it."""
    headers = {b"authorization": [b"Bearer vk_x"], **more.pop("headers", {})}
    if method == "POST":
        headers.setdefault(b"content-type", [b"application/x-www-form-urlencoded"])
    return Request(method, path, more.pop("query", ""), headers, body.encode())


@pytest.mark.parametrize(
    "strange",
    [
        request("To=1&To=2"),
        request("To=1&%54o=2"),
        request("to=1"),
        request("To[]=1"),
        request("To"),
        request("To=%zz"),
        request("To=%ff"),
        request("To=1", query="To=2"),
        request("{}", headers={b"content-type": [b"application/json"]}),
        request("To=1", headers={b"content-type": [b"application/x-www-form-urlencoded; charset=utf-16"]}),
        request("To=1", headers={b"content-encoding": [b"gzip"]}),
        request("Price=1"),
        request("Body=", path=f"{MESSAGES}/SM1.json"),
        request(method="GET", path=f"{VERSION}/Accounts/{ACCOUNT}/../{ACCOUNT}/Messages.json"),
        request("To=1", path=f"{MESSAGES}/{SID}.json"),
        request("a=1", method="DELETE", path=f"{MESSAGES}/{SID}.json"),
        request(method="GET", query="PageSize=1&PageSize=2"),
        request(method="GET", query="Nothing=1"),
        request("idempotency_key=" + "k" * 256),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused(strange: Request) -> None:
    """Names are Twilio's own, each at most once, in the one place where they belong."""
    with pytest.raises(Refused):
        Twilio(ACCOUNT).read(strange)


def test_a_call_is_written_anew_from_what_was_read() -> None:
    """Lists in their order, filters with their comparison, texts hidden from the policy."""
    vendor = Twilio(ACCOUNT)
    call = vendor.read(request("MediaUrl=b&Body=Hi+%26&MediaUrl=a&To=%2B1", path=f"{MESSAGES}.json"))
    assert call.forward.body == b"MediaUrl=b&Body=Hi+%26&MediaUrl=a&To=%2B1"
    assert call.parameters == {"MediaUrl[0]": "b", "Body": "(hidden)", "MediaUrl[1]": "a", "To": "+1"}
    assert (call.endpoint, call.moves_money, call.asks, call.idempotent) == (SEND, True, True, False)
    turned = vendor.read(request("To=%2B1&MediaUrl=b&MediaUrl=a&Body=Hi+%26"))
    swapped = vendor.read(request("To=%2B1&MediaUrl=a&MediaUrl=b&Body=Hi+%26"))
    assert call.fingerprint == turned.fingerprint != swapped.fingerprint
    listed = vendor.read(request(method="GET", query="DateSent%3E=2031-01-01"))
    assert listed.forward.target == f"{MESSAGES}.json?DateSent%3E=2031-01-01"


@pytest.mark.parametrize(
    ("price", "unit", "money"),
    [
        ("-0.00750", "USD", Money(1, "USD")),
        ("-0.01", "usd", Money(1, "USD")),
        ("-0.0100001", "USD", Money(2, "USD")),
        ("0.0075", "EUR", Money(1, "EUR")),
        ("-7.5", "JPY", Money(8, "JPY")),
        ("-0.0001", "KWD", Money(1, "KWD")),
        ("0.00000", "USD", Money(0, "USD")),
        ("-12", "USD", Money(1200, "USD")),
        (None, "USD", None),
        ("-0.0075", "XYZ", None),
        ("-0.0075", None, None),
        ("cheap", "USD", None),
        ("NaN", "USD", None),
        ("-1e30", "USD", None),
    ],
)
def test_prices_are_rounded_up_to_whole_units(price: Any, unit: Any, money: Money | None) -> None:
    """Never less than what was charged; what can't be read is no price."""
    assert price_of({"price": price, "price_unit": unit}) == money


def message(**fields: Any) -> dict[str, Any]:
    """A message as Twilio answers."""
    fresh = {"sid": SID, "status": "queued", "price": None, "price_unit": "USD", "direction": "outbound-api"}
    return {**fresh, **fields}


def reading(endpoint: int, status: int, body: Any, *, repeat: bool = False) -> Any:
    """How an answer is read; endpoints by their place in the table."""
    kinds = [("POST", ""), ("POST", f"/{SID}"), ("DELETE", f"/{SID}"), ("GET", f"/{SID}"), ("GET", "")]
    method, rest = kinds[endpoint]
    vendor = Twilio(ACCOUNT)
    call = vendor.read(request(method=method, path=f"{MESSAGES}{rest}.json"))
    assert call.endpoint == ENDPOINTS[endpoint].name
    return vendor.classify(call, Answer(status, [], json.dumps(body).encode()), repeat=repeat)


def test_answers_are_read_for_what_they_surely_say() -> None:
    """A message made, certainly not made, or nobody knows."""
    create, update, delete = 0, 1, 2
    assert reading(create, 201, message()) == Succeeded(Money(0, "USD"), SID)
    assert reading(create, 201, message(price="-0.0075")) == Succeeded(Money(1, "USD"), SID)
    assert reading(create, 201, message(price_unit=None)) == Succeeded(None, SID)
    assert reading(create, 201, {"sid": "?"}) == Unclear()
    assert [reading(create, status, {}) for status in (400, 401, 403, 404, 429)] == [Failed()] * 5
    assert [reading(create, status, {}) for status in (302, 408, 500, 503)] == [Unclear()] * 4
    assert reading(update, 200, message()) == Succeeded(object_id=SID)
    assert reading(delete, 204, None) == Succeeded(object_id=SID)
    assert reading(delete, 404, {}) == Failed()
    assert reading(delete, 404, {}, repeat=True) == Succeeded(object_id=SID)
    assert reading(delete, 409, {}, repeat=True) == reading(update, 404, {}, repeat=True) == Unclear()


def test_only_messages_at_their_end_are_seen() -> None:
    """With a price, and sent from here: what comes in is no call of an agent."""
    vendor = Twilio(ACCOUNT)
    call: Call = vendor.read(request(method="GET"))
    ended = message(status="delivered", price="-0.0075")
    listed = [ended, message(status="sending", price="-1"), message(status="sent")]
    listed.append(message(direction="inbound", status="received", price="-0.0075"))
    answer = Answer(200, [], json.dumps({"messages": listed}).encode())
    assert list(vendor.seen(call, answer)) == [Seen(SID, Money(1, "USD"))]
    assert list(vendor.seen(call, Answer(200, [], json.dumps(ended).encode()))) == [
        Seen(SID, Money(1, "USD"))
    ]
    assert list(vendor.seen(call, Answer(404, [], json.dumps(ended).encode()))) == []


def test_a_message_is_fetched_by_its_sid() -> None:
    """And nothing else is."""
    vendor = Twilio(ACCOUNT)
    assert vendor.object_path(SID) == f"{MESSAGES}/{SID}.json"
    assert [vendor.object_path(other) for other in ("", "ch_1", f"{SID}/Media")] == [None] * 3
