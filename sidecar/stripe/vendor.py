"""Stripe as the sidecar's vendor."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.exchange import Answer, Forward, Request
from sidecar.forms import Pairs
from sidecar.refusals import Refused, malformed
from sidecar.stripe import bodies, evidence, forms, statements
from sidecar.stripe.commitments import SEEN, committed, is_final
from sidecar.stripe.endpoints import ENDPOINTS, Direction, Endpoint
from sidecar.stripe.given import Given
from sidecar.stripe.listing import VERSION as _VERSION
from sidecar.stripe.listing import Span, fetched
from sidecar.stripe.table import EndpointTable, is_plain
from sidecar.vendor import (
    Call,
    Failed,
    Fetch,
    Finding,
    Look,
    Money,
    Movement,
    OpenCall,
    Price,
    Reading,
    Seen,
    Statement,
    Succeeded,
    Unclear,
)

_OBJECT_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_/]{1,255}")

_FORWARDED = (b"stripe-version", b"user-agent", b"x-stripe-client-user-agent")
_PASSED_BACK = frozenset(
    {
        b"content-disposition",
        b"content-type",
        b"idempotent-replayed",
        b"original-request",
        b"request-id",
        b"retry-after",
        b"stripe-notice",
        b"stripe-rate-limited-reason",
        b"stripe-should-retry",
        b"stripe-version",
    }
)
_ACCOUNTS = (b"stripe-account", b"stripe-context")
_PRIVATE = ("card", "bank_account", "source[", "payment_method_data", "number", "cvc")
"""What the names of parameters begin with whose values the policy does not get to see."""

_HIDDEN = "(hidden)"
_VERSION_SHOWN = "Stripe-Version"
"""The name by which the policy sees a request's version; no parameter can be called so."""

_VERSION_MIN = "2022-11-15"
"""Before, parameters had other meanings, such as an amount in a cart's lines."""

_VERSION_SHAPE = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(\.[a-z_]{1,32})?")
_AMOUNT_MAX = 999_999_999_999


_ROWS = {endpoint.name: endpoint for endpoint in ENDPOINTS}

_OBJECT_PATHS = {
    "ch": "/v1/charges/",
    "py": "/v1/charges/",
    "pi": "/v1/payment_intents/",
    "re": "/v1/refunds/",
    "pyr": "/v1/refunds/",
    "cus": "/v1/customers/",
    "in": "/v1/invoices/",
    "ii": "/v1/invoiceitems/",
    "sub": "/v1/subscriptions/",
    "si": "/v1/subscription_items/",
    "cs": "/v1/checkout/sessions/",
    "plink": "/v1/payment_links/",
    "po": "/v1/payouts/",
    "tr": "/v1/transfers/",
    "tu": "/v1/topups/",
    "cn": "/v1/credit_notes/",
    "seti": "/v1/setup_intents/",
    "pm": "/v1/payment_methods/",
    "prod": "/v1/products/",
    "price": "/v1/prices/",
    "qt": "/v1/quotes/",
    "file": "/v1/files/",
    "obp": "/v2/money_management/outbound_payments/",
    "obt": "/v2/money_management/outbound_transfers/",
}
"""Where an object can be fetched, by the prefix of its id."""


class Stripe:
    """Reads requests to Stripe's v1 and v2 API and says what its answers mean."""

    name = "Stripe"
    prefix = "/stripe"
    versions: tuple[str, ...] = ("/v1", "/v2")
    replays = True
    request_id_header = b"request-id"

    def __init__(self) -> None:
        self._table = EndpointTable()

    def owns_key(self, key: str) -> bool:
        """Tell whether a key is a secret, restricted or publishable key of Stripe's."""
        return key.startswith(("sk_", "rk_", "pk_"))

    def read(self, request: Request) -> Call:
        """Read a request strictly; whatever could be read in two ways is refused."""
        _check(request)
        found = self._table.find(request.method, request.path)
        account = _account(request)
        if request.method == "GET":
            return _read(request, found[0] if found else None, account)
        if found is None:
            raise Refused(
                403,
                "endpoint_not_allowed",
                f"Spendgate does not know what {request.method} {request.path} can move, so nobody may "
                "call it.",
                reason="endpoint_unknown",
            )
        return _change(request, *found, account)

    async def price(self, call: Call, fetch: Fetch) -> Price | None:
        """Ask Stripe for what the request leaves open, and return what the call commits at most."""
        endpoint = _endpoint(call)
        if endpoint.rule is None:
            return None
        price = await endpoint.rule.ask(_given(call.parameters), _object_in(call), fetch)
        if price is not None and price.money.minor_units > _AMOUNT_MAX:
            raise malformed(
                "", f"The call comes to more than {_AMOUNT_MAX}, which no amount at Stripe can be."
            )
        return price

    def lookup(self, call: Call, path: str) -> Forward:
        """Return a GET for the account that the call acts for, read by the version that the table knows."""
        accounts = {name.decode() for name in _ACCOUNTS}
        headers = {name: value for name, value in call.forward.headers.items() if name in accounts}
        return Forward("GET", path, {**headers, "Accept-Encoding": "identity", "Stripe-Version": _VERSION})

    def named(self, call: Call, upstream_key: str) -> Forward:
        """Return what to send, under the key by which Stripe recognises a repeat."""
        forward, pins = call.forward, _endpoint(call).pins
        body = forward.body
        if pins and call.price is not None and pins not in call.parameters:
            body = b"&".join(filter(None, (body, f"{pins}={call.price.money.minor_units}".encode())))
        headers = {**forward.headers, "Idempotency-Key": upstream_key}
        return Forward(forward.method, forward.target, headers, body, files=forward.files)

    def classify(self, call: Call, answer: Answer, *, repeat: bool) -> Reading:
        """Say what Stripe's answer means for the money."""
        if 200 <= answer.status < 300:
            return _success(call, answer)
        error = _json(answer).get("error")
        kind = error.get("type") if isinstance(error, Mapping) else None
        if answer.status == 409 or answer.status >= 500 or answer.status < 400 or kind == "idempotency_error":
            # An equal call is under way, or Stripe can't say: the money may have moved.
            return Unclear()
        if repeat and answer.status != 402 and answer.header(b"idempotent-replayed") != "true":
            # A limit, a key or a check that stands before the memory of keys: it
            # says nothing of the first try. A decline under the key is that try.
            return Unclear()
        intent = error.get("payment_intent") if isinstance(error, Mapping) else None
        leaves_intent = (
            _endpoint(call).answers == "payment_intent"
        )  # an invoice's is counted with the invoice
        if leaves_intent and isinstance(intent, Mapping) and isinstance(intent.get("id"), str):
            # A declined intent lives on, and its client secret can still pay it.
            return Failed(committed(intent, "payment_intent"), intent["id"])
        return Failed()

    def seen(self, call: Call, answer: Answer) -> Sequence[Seen]:
        """Return what a GET shows of an object that is at its end."""
        if answer.status != 200 or not call.endpoint.endswith("}"):
            return ()
        found = _seen_in(_json(answer))
        return (found,) if found else ()

    def object_path(self, object_id: str) -> str | None:
        """Return where an object can be fetched."""
        path = _OBJECT_PATHS.get(object_id.partition("_")[0])
        return f"{path}{object_id}" if path and _OBJECT_ID.fullmatch(object_id) else None

    def made(self, endpoint: str) -> bool:
        """Tell whether an endpoint is one of Stripe's."""
        return endpoint in _ROWS

    async def investigate(
        self, calls: Sequence[OpenCall], look: Look, *, now_ms: int
    ) -> Mapping[str, Finding]:
        """Find out what became of calls from events, objects and lists."""
        return await evidence.investigate(
            calls,
            look,
            now_s=now_ms // 1000,
            read=_as_answered,
            kind_of=_answer_object,
            path_of=self.object_path,
        )

    async def statement(self, look: Look, account: str, *, since_ms: int, until_ms: int) -> Statement | None:
        """Return what moved the account's balance."""
        return await statements.statement(look, account, Span(since_ms // 1000, until_ms // 1000))

    async def related(self, movement: Movement, look: Look, account: str) -> Sequence[str]:
        """Return the invoice and the session that an intent pays."""
        return await statements.related(look, account, movement)

    async def exists(self, object_id: str, look: Look, account: str) -> bool | None:
        """Tell whether Stripe has an object."""
        path = self.object_path(object_id)
        return await fetched(look, path, account) is not None if path else None

    async def final(self, object_id: str, look: Look, account: str) -> Seen | None:
        """Return what an object at its end commits."""
        path = self.object_path(object_id)
        body = await fetched(look, path, account) if path else None
        return _seen_in(body) if body else None

    def refusal(self, refused: Refused, request_id: str) -> Answer:
        """Write a refusal in Stripe's error shape, so that its SDKs raise and do not try again."""
        kind = "invalid_request_error"
        if refused.code.startswith("idempotency_key_"):
            kind = "idempotency_error"
        elif refused.status >= 500:
            kind = "api_error"
        error: dict[str, Any] = {"type": kind, "code": refused.code, "message": refused.message}
        if refused.parameter:
            error["param"] = refused.parameter
        error["spendgate"] = {
            "reason": refused.detail.get("reason") or refused.code,
            "retryable": refused.retryable,
            **{key: value for key, value in refused.detail.items() if key != "reason" and value is not None},
        }
        headers = [
            (b"content-type", b"application/json"),
            (b"request-id", request_id.encode()),
            # Stripe's SDKs try a 409 again by themselves, which is what it is for.
            (b"stripe-should-retry", b"true" if refused.status == 409 else b"false"),
        ]
        if refused.retry_after_s is not None:
            headers.append((b"retry-after", str(refused.retry_after_s).encode()))
        return Answer(refused.status, headers, json.dumps({"error": error}).encode())

    def pass_back(self, answer: Answer) -> Answer:
        """Return Stripe's answer with only the headers that an agent may see."""
        return answer.with_headers([header for header in answer.headers if header[0] in _PASSED_BACK])


def _check(request: Request) -> None:
    if not is_plain(request.path):
        raise malformed(
            "",
            "The path must be /v1/… or /v2/… with plain segments of letters, digits, _ and -: no %, //, .. "
            "or trailing slash.",
            code="path_invalid",
        )
    if b"content-encoding" in request.headers:
        raise malformed("", "Send the body as it is, without Content-Encoding.", status=415)
    if request.method not in {"GET", "POST", "DELETE"}:
        raise malformed("", f"The method {request.method} is not one of GET, POST, DELETE.", status=405)
    _check_version(request)


def _check_version(request: Request) -> None:
    """Refuse versions of the API whose parameters mean other things than pricing reads."""
    if len(request.headers.get(b"stripe-version", ())) > 1:
        raise malformed("", "Send one Stripe-Version header, not several.")
    version = request.header(b"stripe-version")
    if version and (not _VERSION_SHAPE.fullmatch(version) or version < _VERSION_MIN):
        raise malformed("", f"Stripe-Version must be {_VERSION_MIN} or later, such as {_VERSION}.")


def _account(request: Request) -> str:
    """Return the account that the call acts for, as one header says it; empty for the key's own."""
    named = [value for name in _ACCOUNTS for value in request.headers.get(name, ())]
    if not named:
        return ""
    if len(named) > 1:
        raise malformed("", "Send one of Stripe-Account and Stripe-Context, once.")
    account = named[0].decode("latin-1").strip()
    if not _ACCOUNT.fullmatch(account):
        raise malformed("", "Stripe-Account and Stripe-Context must be the id of an account.")
    return account


def _read(request: Request, endpoint: Endpoint | None, account: str) -> Call:
    parameters = bodies.read(request, files=False)
    target = f"{request.path}?{parameters.query}" if parameters.query else request.path
    return Call(
        endpoint=endpoint.name if endpoint else f"GET {request.path}",
        changes=False,
        moves_money=False,
        forward=Forward(
            "GET",
            target,
            _headers(request),
            streams=endpoint is not None and endpoint.streams,
            files=endpoint is not None and endpoint.files,
        ),
        fingerprint="",
        parameters=_visible(request, ()),
        vendor_account=account,
        plan=endpoint,
    )


def _change(request: Request, endpoint: Endpoint, object_id: str, account: str) -> Call:
    parameters = bodies.read(request, files=endpoint.files)
    visible = _visible(request, parameters.pairs)
    given = _given(visible)
    _refuse_unpriced(endpoint, given)
    rule = endpoint.rule if endpoint.rule and endpoint.rule.moves(given) else None
    target = f"{request.path}?{parameters.query}" if parameters.query else request.path
    return Call(
        endpoint=endpoint.name,
        changes=True,
        moves_money=rule is not None and endpoint.direction is not Direction.NONE,
        asks=rule is not None,
        price=rule.read(given) if rule else None,
        forward=Forward(
            request.method,
            target,
            _headers(request, parameters.content_type),
            parameters.body,
            files=endpoint.files,
        ),
        fingerprint=parameters.fingerprint(request.method, request.path, account),
        parameters=visible,
        object_id=object_id if endpoint.step else "",
        given_key=parameters.given_key,
        header_key=_header_key(request),
        vendor_account=account,
        plan=(endpoint, object_id),
    )


def _endpoint(call: Call) -> Endpoint:
    plan = call.plan
    if not isinstance(plan, tuple):
        raise TypeError(f"{call.endpoint} was not read as a change")
    endpoint: Endpoint = plan[0]
    return endpoint


def _object_in(call: Call) -> str:
    return str(call.plan[1]) if isinstance(call.plan, tuple) else ""


def _seen_in(body: Mapping[str, Any]) -> Seen | None:
    """Return what an object that nothing can change any more commits."""
    kind = str(body.get("object"))
    if kind == "checkout.session" and body.get("mode") == "subscription" and body.get("status") != "expired":
        return None  # what it bills next comes without another call
    money = committed(body, kind) if kind in SEEN and is_final(body) else None
    return Seen(str(body.get("id", "")), money) if money else None


def _answer_object(endpoint: str) -> str:
    row = _ROWS.get(endpoint)
    return row.answer_object if row else ""


def _as_answered(call: OpenCall, body: Mapping[str, Any], request_id: str) -> Succeeded:
    """Read an object as the answer to a call that made or changed it.

    One of another kind shows that the call was carried out, and no amount: then
    what was held counts, and under no object that may be counted already.
    """
    row = _ROWS.get(call.endpoint)
    if row is None:
        return Succeeded(object_id=str(body.get("id") or ""))
    counts = row.rule is not None or row.step
    if counts and not row.apart and row.answers != "deleted" and body.get("object") != row.answer_object:
        return Succeeded()
    price = None
    if call.money is not None:
        # Whatever it refunds: what has not succeeded gives nothing back yet.
        price = Price(call.money, refunded=call.object_id or "?" if row.answers == "refund" else "")
    as_made = Call(
        endpoint=row.name,
        changes=True,
        moves_money=row.rule is not None and row.direction is not Direction.NONE,
        forward=Forward(row.method, ""),
        fingerprint=call.reference,
        price=price,
        object_id=call.object_id if row.step else "",
        vendor_account=call.vendor_account,
        plan=(row, call.object_id),
    )
    return _success(as_made, Answer(200, [(b"request-id", request_id.encode())], json.dumps(body).encode()))


def _success(call: Call, answer: Answer) -> Succeeded:
    endpoint = _endpoint(call)
    body = _json(answer)
    object_id = str(body.get("id") or "")
    if endpoint.answers == "deleted":
        money = Money(0, call.price.money.currency) if call.price and body.get("deleted") is True else None
        return Succeeded(money, call.object_id)
    if endpoint.apart:
        return Succeeded(object_id=object_id, counted_id=_apart(call, answer, object_id))
    if not endpoint.answers:
        return Succeeded(object_id=object_id or call.step_of, counted_id=call.step_of)
    money = committed(body, endpoint.answers)
    unpriced = call.moves_money and call.price is None
    if endpoint.answers == "checkout.session" and body.get("status") == "open" and not unpriced:
        # It shows its smallest total; its customer may still choose more, which is what was held.
        money = None
    counted_id = call.step_of if call.step_of != object_id else ""
    if endpoint.answers == "subscription":
        return _subscribed(call, answer, body, money)
    if (
        endpoint.answers == "refund"
        and body.get("status") != "succeeded"
        and call.price
        and call.price.refunded
    ):
        # It may never happen, so it gives nothing back yet.
        return Succeeded(None, object_id, steps_follow=True)
    if endpoint.answers == "checkout.session" and body.get("mode") == "subscription":
        money = money if body.get("status") == "expired" else None
    if counted_id:
        # It answers with another object than the one that it changed, so it does not say what that commits.
        money = None
    elif money is None and call.moves_money and body.get("object") != endpoint.answers:
        object_id = call.step_of
    # A success that can't be read keeps what was held: all of it may have moved.
    return Succeeded(money, object_id, counted_id, steps_follow=bool(call.step_of) or not is_final(body))


def _apart(call: Call, answer: Answer, object_id: str) -> str:
    """Return an id of the call's own to count under."""
    # The id of the request is the same in a replay, and no other call has it.
    name = answer.header(b"original-request") or answer.header(b"request-id") or call.fingerprint
    return f"{object_id}/{name}"


def _subscribed(call: Call, answer: Answer, body: Mapping[str, Any], money: Money | None) -> Succeeded:
    """Count a subscription under its first invoice where that is seen to bill all of it.

    The first invoice of a trial, or of a part of a period, is of less than what
    is billed next without another call; so what was held counts by itself.
    """
    object_id, invoice = str(body.get("id") or ""), body.get("latest_invoice")
    held = call.price.money.minor_units if call.price else 0
    if isinstance(invoice, Mapping) and money is not None and money.minor_units >= held:
        return Succeeded(money, object_id, str(invoice.get("id") or ""), steps_follow=True)
    return Succeeded(None, object_id, _apart(call, answer, object_id), steps_follow=True)


def _visible(request: Request, pairs: Pairs) -> dict[str, str]:
    """Return what the policy sees: every parameter, and the version that the call is read by."""
    visible = {
        key: _HIDDEN if key.startswith(_PRIVATE) else value for key, value in forms.numbered(pairs).items()
    }
    visible[_VERSION_SHOWN] = request.header(b"stripe-version") or _VERSION
    return visible


def _given(visible: Mapping[str, str]) -> Given:
    """Return what pricing reads: the parameters alone, since every SDK sends a version with every call."""
    return Given({name: value for name, value in visible.items() if name != _VERSION_SHOWN})


def _refuse_unpriced(endpoint: Endpoint, given: Given) -> None:
    for name in endpoint.refused:
        if name in given:
            raise Refused(
                403,
                "parameter_not_allowed",
                f"The parameter {name!r} of {endpoint.name} moves money in a way that is not priced.",
                parameter=name,
            )


def _header_key(request: Request) -> str:
    if len(request.headers.get(b"idempotency-key", ())) > 1:
        raise malformed("", "Send one Idempotency-Key header, not several.")
    key = request.header(b"idempotency-key")
    if len(key) > bodies.KEY_MAX:
        raise malformed("", f"An Idempotency-Key has at most {bodies.KEY_MAX} characters.")
    if not key and request.method == "DELETE":
        # SDKs name no DELETE: what is gone can't be deleted again, so each call may be one of its own.
        return f"delete-{secrets.token_hex(8)}"
    return key


def _headers(request: Request, content_type: str = "") -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    for name in (*_FORWARDED, *_ACCOUNTS):
        value = request.header(name)
        if value:
            headers[name.decode()] = value
    # Without it, Stripe would read the call by whatever version the account began with.
    headers.setdefault("stripe-version", _VERSION)
    if content_type:
        headers["Content-Type"] = content_type
    return headers


def _json(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
