"""Whatever a request says: it is refused, or what is forwarded says exactly what was read."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sidecar.exchange import Request
from sidecar.forms import write
from sidecar.refusals import Refused
from sidecar.stripe import forms, json_body, multipart
from sidecar.stripe.endpoints import ENDPOINTS, Endpoint
from tests import request_strategies as requests
from tests.reading_checks import FORM, JSON, STRIPE, check, read, sent

TIMES = int(os.environ.get("SPENDGATE_FUZZ_TIMES", "0"))
many = settings(
    max_examples=500 * max(1, TIMES),
    derandomize=not TIMES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
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


def shown(request: Request) -> Request:
    """The request, printed when an example fails."""
    where = f"{request.method!r}, {request.path!r}, {request.query!r}"
    note(f"replay: Request({where}, {dict(request.headers)!r}, {request.body!r})")
    return request


@many
@given(requests.form_calls() | ANYWHERE, HEADERS)
def test_what_is_forwarded_of_a_form_is_what_was_read(
    what: tuple[str, str, bytes], headers: dict[bytes, list[bytes]]
) -> None:
    """In a body and in a query string."""
    method, path, body = what
    check(shown(sent(method, path, body, FORM.encode(), headers)))


@many
@given(PAYMENTS | requests.odd_paths(), requests.json_bodies(), HEADERS)
def test_what_is_forwarded_of_json_is_what_was_read(
    where: tuple[str, str], body: bytes, headers: dict[bytes, list[bytes]]
) -> None:
    """JSON is taken by v2 only."""
    path = where[1].replace("/v1/", "/v2/", 1)
    check(shown(sent(where[0], path, body, JSON.encode(), headers)))


@many
@given(requests.json_bodies(), requests.json_bodies())
def test_different_objects_have_different_fingerprints(first: bytes, second: bytes) -> None:
    """What is not the same effect is not taken for it."""
    path = "/v2/money_management/outbound_payments"
    calls = [read(shown(sent("POST", path, body, JSON.encode(), {}))) for body in (first, second)]
    if calls[0] and calls[1] and calls[0].fingerprint == calls[1].fingerprint:
        flat = [sorted(json_body.flatten(json_body.parse(body))) for body in (first, second)]
        assert flat[0] == flat[1]


@many
@given(st.sampled_from(FILES), requests.multipart_bodies(), HEADERS)
def test_what_is_forwarded_of_a_file_is_what_was_read(
    endpoint: Endpoint, upload: tuple[bytes, bytes], headers: dict[bytes, list[bytes]]
) -> None:
    """Fields and files."""
    headers.pop(b"content-type", None)
    check(shown(sent("POST", endpoint.template, *upload, headers)))


PAYMENT = b'{"amount":{"value":5,"currency":"usd"},"from":{"currency":"usd"},%s}'


@pytest.mark.parametrize(
    "more",
    [
        rb'"note":"\ud800"',
        rb'"note":"a\u0000b"',
        b'"key":[]',
        b'"_method":{}',
        b'"amount":{}',
        b'"x":1.0',
        b'"x":1e2',
    ],
)
def test_json_that_others_could_read_otherwise_is_refused(more: bytes) -> None:
    """No texts, names that are reserved whatever they hold, names given twice, numbers that are not whole."""
    path = "/v2/money_management/outbound_payments"
    assert check(sent("POST", path, PAYMENT % b'"note":"x"', JSON.encode(), {})) is not None
    assert check(sent("POST", path, PAYMENT % more, JSON.encode(), {})) is None


def test_an_empty_group_is_seen_by_the_policy() -> None:
    """It is forwarded, so a rule on its name must see it."""
    body = PAYMENT % b'"to":{"recipient":{},"methods":[]}'
    call = check(sent("POST", "/v2/money_management/outbound_payments", body, JSON.encode(), {}))
    assert call is not None
    assert {"to[recipient]", "to[methods]"} <= set(call.parameters)


@many
@given(st.binary(max_size=80), st.binary(max_size=40))
def test_readers_raise_nothing_but_refusals(raw: bytes, kind: bytes) -> None:
    """Each reader by itself, on any bytes."""
    readers: tuple[Callable[[], Any], ...] = (
        lambda: write(forms.parse(raw)),
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
    body = hostile(MEGABYTE)[name]
    read_or_refused(*body)
    # What other tests left in memory is not for the reader's garbage collections to go through.
    gc.collect()
    gc.freeze()
    try:
        began = time.process_time()
        read_or_refused(*body)
        assert time.process_time() - began < 0.5
    finally:
        gc.unfreeze()
    smaller = hostile(MEGABYTE // 8)[name]
    tracemalloc.start()
    read_or_refused(*smaller)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * MEGABYTE


def read_or_refused(path: str, body: bytes, kind: bytes) -> None:
    """Read a request whatever comes of it."""
    with contextlib.suppress(Refused):
        STRIPE.read(sent("POST", path, body, kind or FORM.encode(), {}))
