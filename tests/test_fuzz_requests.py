"""What the simulator executed is what was authorized, or nothing was executed, whatever an agent sends."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, given, note, settings

from spendgate.v1 import audit_service_pb2, policy_pb2
from tests.call_strategies import KNOWN, Call, plain_head, scripts
from tests.processes import temporary_folder, wait_for
from tests.reading_checks import FORM
from tests.stack import Stack, VaultKey, cap, running_stack
from tests.wire import Reply, connect, receive, send

TIMES = int(os.environ.get("SPENDGATE_FUZZ_TIMES", "0"))
_accounts = itertools.count(1)
CURRENCIES = ("USD", "EUR", "JPY")


def runs(examples: int) -> settings:
    """So many examples, always the same, or so many times as many that change with every run."""
    return settings(
        max_examples=examples * max(1, TIMES),
        derandomize=not TIMES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Stack]:
    """A stack that is patient with a busy machine, and not with a request that does not come."""
    with (
        temporary_folder() as folder,
        running_stack(folder, read_timeout_s="0.3", decision_timeout_ms="8000") as stack,
    ):
        yield stack


def show(text: str) -> None:
    """Print something when the example fails."""
    (note if currently_in_test_context() else print)(text)


class Example:
    """One story, told to a Stripe that knows nothing, by two vault keys."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        stack.simulator.reset()
        # The trail of an account of its own is short, and so quickly read.
        self._account = f"fuzz-{next(_accounts)}"
        self.keys = [self._key(1_000_000), self._key(3_000)]
        self._ids: dict[str, str] = {}
        self._seen = 0
        self.executed: list[dict[str, Any]] = []

    def _key(self, limit: int) -> VaultKey:
        caps: list[policy_pb2.Cap] = [cap(limit, "TOTAL", currency) for currency in CURRENCIES]
        return self.stack.key(
            "* /v1/*", "* /v2/*", caps=caps, account=self._account, vendor_accounts=["acct_1"]
        )

    def tell(self, call: Call) -> None:
        """Send a call, and check what comes back against what Stripe saw."""
        pieces = packets(
            self._filled(call.line), [*map(self._filled, call.headers)], self._filled(call.body), call
        )
        show(f"sent: {pieces!r}")
        with ExitStack() as opened:
            connections = [opened.enter_context(connect(self.stack.origin())) for _ in range(1 + call.twice)]
            for connection in connections:
                send(connection, pieces)
            bodyless = call.line.startswith(b"HEAD ")
            replies = [receive(connection, bodyless=bodyless) for connection in connections]
        for reply in replies:
            show(f"came: {reply.statuses} {reply.body[:300]!r}")
        self._check(replies)

    def _filled(self, text: bytes) -> bytes:
        for number, key in enumerate(self.keys):
            basic = base64.b64encode(f"{key.text}:".encode())
            text = text.replace(b"<KEY%d>" % number, key.text.encode()).replace(b"<BASIC%d>" % number, basic)
        for opening, closing in ((b"<", b">"), (b"%3C", b"%3E")):
            pattern = re.escape(opening) + rb"([a-z]{2,5})" + re.escape(closing)
            text = re.sub(pattern, lambda match: self._ids.get(match[1].decode(), "none").encode(), text)
        return text

    def _check(self, replies: Sequence[Reply]) -> None:
        requests = self.stack.simulator.http.get("/requests", params={"after": self._seen}).json()
        changes = [request for request in requests if request["method"] in {"POST", "DELETE"}]
        for request in changes:
            shown = ("method", "path", "query", "body", "executed", "status", "money", "idempotency_key")
            show(f"seen: { {name: request[name] for name in shown}!r}")
        self._seen = max([self._seen, *(request["n"] for request in requests)])
        self.executed += [request for request in changes if request["executed"]]
        assert all(len(set(reply.statuses) - {100}) <= 1 for reply in replies), "one request, one answer"
        assert all(reply.status != 500 for reply in replies), "the sidecar failed"
        if all(refused(reply) for reply in replies):
            assert changes == [], "refused, and sent all the same"
        for reply in replies:
            self._note_ids(reply)

    def _note_ids(self, reply: Reply) -> None:
        found = parsed(reply).get("id")
        if isinstance(found, str) and "_" in found:
            self._ids[found.partition("_")[0]] = found

    def check(self) -> None:
        """Compare what was executed with what was decided and counted."""
        if currently_in_test_context():
            event(f"executed: {len(self.executed)}")
        self._check_counters()
        decisions = self._decisions()
        done: Counter[tuple[str, int]] = Counter()
        succeeded: Counter[str] = Counter()
        for request in self.executed:
            _, authorization_id, attempt = request["idempotency_key"].rsplit("~", 2)
            decided = decisions.get((authorization_id, int(attempt)))
            assert decided is not None, f"executed without an authorization: {request}"
            check_authorized(request, decided)
            done[authorization_id, int(attempt)] += 1
            succeeded[authorization_id] += request["status"] < 400
        assert all(times == 1 for times in done.values()), f"executed twice: {done}"
        assert all(times <= 1 for times in succeeded.values()), f"done twice: {succeeded}"
        wait_for(lambda: set(done) <= self._settled(), "every outcome is on record")
        self._check_counters()

    def _events(self) -> list[audit_service_pb2.AuditEvent]:
        return [event for key in self.keys for event in self.stack.events(key)]

    def _decisions(self) -> dict[tuple[str, int], audit_service_pb2.AuditEvent]:
        return {
            (event.authorization_id, event.attempt): event
            for event in self._events()
            if event.decision == "allow" and not event.duplicate and event.authorization_id
        }

    def _settled(self) -> set[tuple[str, int]]:
        return {(event.authorization_id, event.attempt) for event in self._events() if event.state}

    def _check_counters(self) -> None:
        committed = self._committed()
        counted = self._counted()
        for currency, amount in committed.items():
            assert counted[currency] >= amount, (
                f"counted {dict(counted)}, committed or moved {dict(committed)}"
            )

    def _committed(self) -> Counter[str]:
        """What Stripe has moved, or may still move by itself, by currency."""
        found: Counter[str] = Counter()
        for movement in self.stack.simulator.http.get("/money").json()["movements"]:
            if "declined" in KNOWN and movement["object"] in self._left_by_failures():
                continue
            assert movement["amount"] is not None, f"committed without bound: {movement}"
            amount = -movement["amount"] if movement["step"] == "released" else movement["new"]
            found[movement["currency"].upper()] += amount
        return found

    def _left_by_failures(self) -> set[str]:
        failures = [request for request in self.executed if request["status"] >= 400]
        return {movement["object"] for request in failures for movement in request["money"]}

    def _counted(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for key in self.keys:
            for status in self.stack.usages(key):
                found[status.currency_code] += status.held + status.settled
        return found


def check_authorized(request: dict[str, Any], decided: audit_service_pb2.AuditEvent) -> None:
    """The decision was about this endpoint, and about no less money than the call committed."""
    method, template = decided.endpoint.split(" ")
    pattern = re.sub(r"\\\{[a-z_]+\\\}", "[A-Za-z0-9_-]+", re.escape(template))
    assert method == request["method"] and re.fullmatch(pattern, request["path"]), (request, decided)
    new: Counter[str] = Counter()
    for movement in request["money"]:
        assert movement["new"] is not None, f"committed without bound: {movement}"
        new[movement["currency"].upper()] += movement["new"]
    for currency, amount in new.items():
        allowed = decided.amount.minor_units if decided.amount.currency_code == currency else 0
        assert amount <= allowed, f"committed {amount} {currency}, authorized {decided}"


def packets(line: bytes, headers: Sequence[bytes], body: bytes, call: Call) -> list[bytes]:
    """Write a call as bytes, split where its packets are."""
    more = {
        "length": [b"Content-Length: %d" % len(body)],
        "long": [b"Content-Length: %d" % (len(body) + 1)],
        "both": [b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"],
        "chunked": [b"Transfer-Encoding: chunked"],
        "none": [],
    }[call.framing]
    if call.framing in {"chunked", "both"}:
        half = len(body) // 2
        body = b"".join(
            b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:], b"") if part
        )
        body += b"0\r\n\r\n"
    raw = b"\r\n".join([line, *headers, *more, b"", body])
    at = [0, *(len(raw) * cut // 100 for cut in call.cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(at) if end > start]


def parsed(reply: Reply) -> dict[str, Any]:
    """The object in an answer; empty when it has none."""
    try:
        body = json.loads(reply.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def refused(reply: Reply) -> bool:
    """Tell whether an answer, or its lack, is the sidecar's own and says that nothing was sent."""
    return b"\r\nrequest-id: req_0" not in reply.raw


def replay(stack: Stack, calls: Sequence[Call]) -> None:
    """Tell a story, and check it."""
    show(f"calls: {calls!r}")
    example = Example(stack)
    for call in calls:
        example.tell(call)
    example.check()


@runs(200)
@given(calls=scripts(odd_ones=False))
def test_a_story_is_executed_as_it_was_authorized(fuzzed: Stack, calls: list[Call]) -> None:
    """Valid calls in any order, some by another key or run, some twice at once."""
    replay(fuzzed, calls)


@runs(350)
@given(calls=scripts(odd_ones=True))
def test_an_odd_call_is_executed_as_it_was_authorized_or_not_at_all(fuzzed: Stack, calls: list[Call]) -> None:
    """A story with one call that has something odd in path, headers, parameters, framing or packets."""
    replay(fuzzed, calls)


FOUND: dict[str, list[Call]] = {
    "a session whose customer may choose more": [
        Call(
            b"POST /stripe/v1/checkout/sessions HTTP/1.1",
            plain_head(0, FORM),
            b"mode=payment&success_url=https%3A%2F%2Fexample.com&line_items[0][price_data][currency]=usd&"
            b"line_items[0][price_data][unit_amount]=50&line_items[0][price_data][product_data][name]=Mug&"
            b"line_items[0][quantity]=1&line_items[0][adjustable_quantity][enabled]=true&"
            b"line_items[0][adjustable_quantity][maximum]=9",
        ),
        Call(b"POST /stripe/v1/checkout/sessions/<cs> HTTP/1.1", plain_head(1, FORM), b"metadata[a]=b"),
    ],
    "an intent that its failed confirmation leaves behind": [
        Call(
            b"POST /stripe/v1/payment_intents HTTP/1.1",
            plain_head(0, FORM),
            b"amount=2500&currency=usd&confirm=true",
        )
    ],
}
"""What failed once: the ``calls`` that a failure prints."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_found(fuzzed: Stack, name: str) -> None:
    """A failure of the past."""
    replay(fuzzed, FOUND[name])
