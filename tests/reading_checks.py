"""What must hold of whatever the sidecar reads, for Hypothesis and for the coverage-guided fuzzer alike."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from sidecar.exchange import Request
from sidecar.refusals import Refused
from sidecar.stripe import multipart
from sidecar.stripe.forms import RESERVED
from sidecar.stripe.vendor import Stripe
from sidecar.vendor import Call

STRIPE = Stripe()
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


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
    """Read a request; None when it is refused. Anything else that is raised is a fault."""
    try:
        return STRIPE.read(request)
    except Refused as refused:
        assert 400 <= refused.status < 500
        assert refused.message
        # A refusal is written as JSON and as HTTP headers.
        json.loads(STRIPE.refusal(refused, "req_sg_1").body)
        return None


def check(request: Request) -> Call | None:
    """Read a request, and check what is forwarded of it."""
    call = read(request)
    if call is None:
        return None
    check_headers(call)
    check_repeat(call)
    if call.forward.files and request.method == "POST":
        check_parts(request, call)
    elif request.path.startswith("/v2/") and request.method != "GET":
        check_json(request, call)
    else:
        check_form(request, call)
    return call


def check_headers(call: Call) -> None:
    """Only known headers go on, and none that names the agent or its key."""
    assert {name.lower() for name in call.forward.headers} <= {
        *("accept", "accept-encoding", "content-type", "stripe-account", "stripe-context"),
        *("stripe-version", "user-agent", "x-stripe-client-user-agent"),
    }
    for value in call.forward.headers.values():
        assert not set("\r\n\0") & set(value)


def check_repeat(call: Call) -> None:
    """Reading what is forwarded gives the same call."""
    second = read(_again(call))
    assert second is not None
    assert second.fingerprint == call.fingerprint
    assert second.price == call.price
    assert second.parameters == call.parameters
    assert (second.endpoint, second.object_id, second.moves_money, second.asks, second.vendor_account) == (
        *(call.endpoint, call.object_id, call.moves_money, call.asks),
        call.vendor_account,
    )


def check_form(request: Request, call: Call) -> None:
    """Python's own parser finds the same pairs in what came and what goes, and none that is reserved."""
    in_query = not call.forward.body
    came = _pairs(request.body or request.query.encode("latin-1"))
    goes = _pairs(call.forward.body or call.forward.target.partition("?")[2].encode())
    assert goes == [
        (name, value.lower() if name == "currency" or name.endswith("[currency]") else value)
        for name, value in came
        if name != "idempotency_key" or (in_query and not request.body)
    ]
    assert not {name.partition("[")[0] for name, _ in goes} & RESERVED


def check_json(request: Request, call: Call) -> None:
    """The same object goes on, with nothing reserved in it."""
    goes = json.loads(call.forward.body or b"{}")
    assert goes == json.loads(request.body or b"{}")
    assert not set(goes) & RESERVED


def check_parts(request: Request, call: Call) -> None:
    """Python's parser of mail finds the same parts in what goes on."""
    parts = multipart.parse(request.body, request.header(b"content-type"))
    found = email.message_from_bytes(
        b"Content-Type: " + call.forward.headers["Content-Type"].encode() + b"\r\n\r\n" + call.forward.body,
        policy=email.policy.HTTP,
    )
    assert found.is_multipart()
    assert [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))
        for part in found.iter_parts()
    ] == [(part.name, bytes(part.content)) for part in parts]
    assert not {part.name.partition("[")[0] for part in parts} & RESERVED


def _again(call: Call) -> Request:
    """What is forwarded, as a request that comes in."""
    path, _, query = call.forward.target.partition("?")
    headers = {
        name.lower().encode(): [value.encode("latin-1")] for name, value in call.forward.headers.items()
    }
    return Request(call.forward.method, path, query, headers, call.forward.body)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    return parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
