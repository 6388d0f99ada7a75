"""Whatever a request says: it is refused, or what is forwarded says exactly what was read."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sidecar.exchange import Request
from sidecar.refusals import Refused
from sidecar.stripe import forms, json_body, multipart
from sidecar.stripe.endpoints import ENDPOINTS
from sidecar.stripe.forms import RESERVED
from sidecar.stripe.vendor import Stripe
from sidecar.vendor import Call
from tests import request_strategies as requests

STRIPE = Stripe()
EXAMPLES = 400 * int(os.environ.get("SPENDGATE_FUZZ_TIMES", "1"))
many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
FILES = [endpoint for endpoint in ENDPOINTS if endpoint.files and endpoint.method == "POST"]

ANYWHERE = st.builds(
    lambda where, body: (*where, body), requests.odd_paths(), requests.forms() | st.binary(max_size=60)
)
PAYMENTS = st.sampled_from(["outbound_payments", "outbound_transfers", "inbound_transfers"]).map(
    lambda name: ("POST", f"/v2/money_management/{name}")
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            b"stripe-version",
            b"stripe-account",
            b"stripe-context",
            b"idempotency-key",
            b"user-agent",
            b"content-type",
            b"content-encoding",
            b"x-stripe-client-user-agent",
        ]
    ),
    st.lists(
        st.sampled_from([b"", b"acct_1", b"a/b", b"2026-10-28.endive", b"\xff", b"a" * 300]), max_size=2
    ),
    max_size=2,
)


def sent(
    method: str, path: str, body: bytes, content_type: bytes, more: Mapping[bytes, list[bytes]]
) -> Request:
    """A request as the edge hands it over: the parameters stand where its kind of call has them."""
    headers = {b"content-type": [content_type], **{name: values for name, values in more.items() if values}}
    in_query = method == "GET" or (method == "DELETE" and path.startswith("/v1/"))
    if in_query:
        return Request(method, path, body.decode("latin-1"), headers, b"")
    return Request(method, path, "", headers, body)


def read(request: Request) -> Call | None:
    """Read a request; None when it is refused. Anything else that is raised fails the test."""
    where = f"{request.method!r}, {request.path!r}, {request.query!r}"
    note(f"replay: Request({where}, {dict(request.headers)!r}, {request.body!r})")
    try:
        return STRIPE.read(request)
    except Refused as refused:
        assert 400 <= refused.status < 500
        assert refused.message
        # A refusal is written as JSON and as HTTP headers.
        json.loads(STRIPE.refusal(refused, "req_sg_1").body)
        return None


def again(call: Call) -> Request:
    """What is forwarded, as a request that comes in."""
    path, _, query = call.forward.target.partition("?")
    headers = {
        name.lower().encode(): [value.encode("latin-1")] for name, value in call.forward.headers.items()
    }
    return Request(call.forward.method, path, query, headers, call.forward.body)


def check_repeat(call: Call) -> None:
    """Reading what is forwarded gives the same call."""
    second = read(again(call))
    assert second is not None
    assert second.fingerprint == call.fingerprint
    assert second.price == call.price
    assert second.parameters == call.parameters
    assert (second.endpoint, second.object_id, second.moves_money, second.asks, second.vendor_account) == (
        *(call.endpoint, call.object_id, call.moves_money, call.asks),
        call.vendor_account,
    )


def check_headers(call: Call) -> None:
    """Only known headers go on, and none that names the agent or its key."""
    assert {name.lower() for name in call.forward.headers} <= {
        *("accept", "accept-encoding", "content-type", "stripe-account", "stripe-context"),
        *("stripe-version", "user-agent", "x-stripe-client-user-agent"),
    }
    for value in call.forward.headers.values():
        assert not set("\r\n\0") & set(value)


@many
@given(requests.form_calls() | ANYWHERE, HEADERS)
def test_what_is_forwarded_of_a_form_is_what_was_read(
    what: tuple[str, str, bytes], headers: dict[bytes, list[bytes]]
) -> None:
    """Python's own parser finds the same pairs in it, and no parameter that is reserved."""
    method, path, body = what
    request = sent(method, path, body, requests.FORM.encode(), headers)
    call = read(request)
    if call is None or path.startswith("/v2/"):
        return
    check_headers(call)
    check_repeat(call)
    raw = (call.forward.body or call.forward.target.partition("?")[2].encode()).decode("ascii")
    pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
    came = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), errors="strict")
    kept = [
        pair
        for pair in came
        if call.forward.method == "GET" or pair[0] != "idempotency_key" or not request.body
    ]
    lowered = [
        (name, value.lower() if name == "currency" or name.endswith("[currency]") else value)
        for name, value in kept
    ]
    assert pairs == lowered
    names = {name.partition("[")[0] for name, _ in pairs}
    assert not names & RESERVED
    if request.body:
        assert "idempotency_key" not in names


@many
@given(PAYMENTS | requests.odd_paths(), requests.json_bodies(), HEADERS)
def test_what_is_forwarded_of_json_is_what_was_read(
    where: tuple[str, str], body: bytes, headers: dict[bytes, list[bytes]]
) -> None:
    """The same object, with nothing reserved in it; JSON is taken by v2 only."""
    path = where[1].replace("/v1/", "/v2/", 1)
    call = read(sent(where[0], path, body, requests.JSON.encode(), headers))
    if call is None or not call.forward.body:
        return
    check_headers(call)
    check_repeat(call)
    forwarded = json.loads(call.forward.body)
    assert forwarded == json.loads(body)
    assert not set(forwarded) & RESERVED


@many
@given(requests.json_bodies(), requests.json_bodies())
def test_different_objects_have_different_names_and_values(first: bytes, second: bytes) -> None:
    """What is not the same effect has not the same fingerprint."""
    path = "/v2/money_management/outbound_payments"
    calls = [read(sent("POST", path, body, requests.JSON.encode(), {})) for body in (first, second) if body]
    if len(calls) < 2 or calls[0] is None or calls[1] is None:
        return
    if calls[0].fingerprint == calls[1].fingerprint:
        flat = [sorted(json_body.flatten(json.loads(body))) for body in (first, second)]
        assert flat[0] == flat[1]


@many
@given(st.sampled_from(FILES), requests.multipart_bodies(), HEADERS)
def test_what_is_forwarded_of_a_file_is_what_was_read(
    endpoint: Any, sent_body: tuple[bytes, bytes], headers: dict[bytes, list[bytes]]
) -> None:
    """Python's parser of mail finds the same parts in it."""
    body, content_type = sent_body
    headers.pop(b"content-type", None)
    call = read(sent("POST", endpoint.template, body, content_type, headers))
    if call is None:
        return
    check_headers(call)
    check_repeat(call)
    parts = multipart.parse(body, content_type.decode())
    found = email.message_from_bytes(
        b"Content-Type: " + call.forward.headers["Content-Type"].encode() + b"\r\n\r\n" + call.forward.body,
        policy=email.policy.HTTP,
    )
    assert found.is_multipart()
    seen = [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))
        for part in found.iter_parts()
    ]
    assert seen == [(part.name, bytes(part.content)) for part in parts]
    assert not {part.name.partition("[")[0] for part in parts} & RESERVED


@many
@given(st.binary(max_size=80), st.binary(max_size=40))
def test_readers_raise_nothing_but_refusals(raw: bytes, kind: bytes) -> None:
    """Each reader by itself, on any bytes."""
    readers: tuple[Callable[[], Any], ...] = (
        lambda: forms.write(forms.parse(raw)),
        lambda: json_body.flatten(json_body.parse(raw)),
        lambda: multipart.write(multipart.parse(raw, kind.decode("latin-1"))),
        lambda: multipart.write(
            multipart.parse(b"--b\r\n" + raw + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")
        ),
    )
    for reader in readers:
        try:
            reader()
        except Refused:
            continue


MEGABYTE = 1_000_000


def hostile(size: int) -> dict[str, tuple[str, bytes, bytes]]:
    """Path, body and content type of requests that are meant to cost a lot."""
    return {
        "separators": ("/v1/charges", b"&" * size, b""),
        "one name": ("/v1/charges", b"a" * size, b""),
        "escapes": ("/v1/charges", b"a=" + b"%41" * (size // 3), b""),
        "broken escapes": ("/v1/charges", b"a=" + b"%" * size, b""),
        "brackets": ("/v1/charges", b"a" + b"[" * size, b""),
        "nested brackets": ("/v1/charges", b"a" + b"[a]" * (size // 3) + b"=1", b""),
        "many lists": ("/v1/charges", b"&".join(b"a%d[]=1" % n for n in range(1000)), b""),
        "one long list": ("/v1/charges", b"&".join(b"a[]=1" for n in range(1000)), b""),
        "many groups": ("/v1/charges", b"&".join(b"a[%d][b][c][d][e][f][g]=1" % n for n in range(1000)), b""),
        "many items": (
            "/v1/checkout/sessions",
            b"&".join(b"line_items[%d][price]=p" % n for n in range(1000)),
            b"",
        ),
        "many values": ("/v1/charges", b"&".join(b"a%d=%s" % (n, b"x" * 900) for n in range(1000)), b""),
        "JSON lists": ("/v2/core/accounts", b"[" * size, b"application/json"),
        "JSON objects": ("/v2/core/accounts", b'{"a":' * (size // 5), b"application/json"),
        "JSON in balance": ("/v2/core/accounts", b'{"a":' * 900 + b"1" + b"}" * 900, b"application/json"),
        "JSON numbers": ("/v2/core/accounts", b'{"a":' + b"1" * size + b"}", b"application/json"),
        "JSON values": ("/v2/core/accounts", b'{"a":[' + b"1," * (size // 2) + b"1]}", b"application/json"),
        "JSON empty lists": (
            "/v2/core/accounts",
            b'{"a":[' + b"[]," * (size // 3) + b"1]}",
            b"application/json",
        ),
        "JSON names": (
            "/v2/core/accounts",
            b"{" + b",".join(b'"a%d":1' % n for n in range(size // 10)) + b"}",
            b"application/json",
        ),
        "parts": ("/v1/files", b"--b\r\n\r\n\r\n" * (size // 9), b"multipart/form-data; boundary=b"),
        "part headers": (
            "/v1/files",
            b"--b\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(size // 10)) + b"\r\n\r\n--b--",
            b"multipart/form-data; boundary=b",
        ),
        "almost boundaries": (
            "/v1/files",
            b"--b\r\nA: b\r\n\r\n" + b"\r\n--" * (size // 4),
            b"multipart/form-data; boundary=b",
        ),
        "disposition": (
            "/v1/files",
            b"--b\r\nContent-Disposition: form-data" + b"; a*0=b" * (size // 7) + b"\r\n\r\nx\r\n--b--\r\n",
            b"multipart/form-data; boundary=b",
        ),
    }


@pytest.mark.parametrize("name", hostile(1))
def test_no_body_takes_long_or_much(name: str) -> None:
    """A body of a megabyte takes a moment, and a small multiple of its size; read or refused."""
    read_or_refused(*hostile(MEGABYTE)[name])
    began = time.process_time()
    read_or_refused(*hostile(MEGABYTE)[name])
    assert time.process_time() - began < 0.5
    smaller = hostile(MEGABYTE // 8)[name]
    tracemalloc.start()
    read_or_refused(*smaller)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * MEGABYTE


def read_or_refused(path: str, body: bytes, kind: bytes) -> None:
    """Read a request whatever comes of it."""
    with contextlib.suppress(Refused):
        STRIPE.read(sent("POST", path, body, kind or requests.FORM.encode(), {}))
