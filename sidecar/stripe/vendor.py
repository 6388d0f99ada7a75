"""Stripe as the sidecar's vendor."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from sidecar.exchange import Answer, Forward, Request
from sidecar.refusals import Refused, malformed
from sidecar.stripe import forms
from sidecar.stripe.endpoints import (
    Asked,
    Direct,
    Endpoint,
    EndpointTable,
    committed,
    is_final,
    is_plain,
)
from sidecar.vendor import Call, Failed, Fetch, Money, Reading, Succeeded, Unclear

_AMOUNT = re.compile(r"[0-9]{1,12}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_OBJECT_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_FORM = "application/x-www-form-urlencoded"
_KEY_FIELD = "idempotency_key"
_KEY_MAX = 255

_FORWARDED = (b"stripe-version", b"user-agent", b"x-stripe-client-user-agent")
_PASSED_BACK = frozenset(
    {
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
_FOR_OTHERS = (b"stripe-account", b"stripe-context")
_PRIVATE = ("card", "bank_account", "source[", "payment_method_data", "number", "cvc")
"""What the names of parameters begin with whose values the policy does not get to see."""

_HIDDEN = "(hidden)"

_OBJECT_PATHS = {
    "ch": "/v1/charges/",
    "py": "/v1/charges/",
    "pi": "/v1/payment_intents/",
    "re": "/v1/refunds/",
    "pyr": "/v1/refunds/",
    "cus": "/v1/customers/",
}


class Stripe:
    """Reads requests to Stripe's v1 API and says what its answers mean."""

    prefix = "/stripe"

    def __init__(self) -> None:
        self._table = EndpointTable()

    def read(self, request: Request) -> Call:
        """Read a request strictly; whatever could be read in two ways is refused."""
        if not is_plain(request.path):
            raise malformed(
                "",
                "The path must be /v1/… with plain segments of letters, digits, _ and -: no %, //, .. "
                "or trailing slash.",
                code="path_invalid",
            )
        for name in _FOR_OTHERS:
            if name in request.headers:
                raise Refused(
                    403,
                    "parameter_not_allowed",
                    f"Acting for another account ({name.decode()}) is not allowed.",
                )
        if b"content-encoding" in request.headers:
            raise malformed("", "Send the body as it is, without Content-Encoding.", status=415)
        if request.method == "GET":
            return self._read_get(request)
        if request.method in {"POST", "DELETE"}:
            return self._read_change(request)
        raise malformed("", f"The method {request.method} is not one of GET, POST, DELETE.", status=405)

    async def price(self, call: Call, fetch: Fetch) -> Money:
        """Ask Stripe for the object, and return what it commits after the call."""
        found = self._table.find(call.forward.method, call.forward.target)
        if found is None or not isinstance(found[0].money, Asked):
            raise Refused(400, "amount_unknown", f"{call.endpoint} can't be priced.")
        asked = found[0].money
        answer = await fetch(_source_path(asked, call))
        if answer.status != 200:
            raise Refused(
                400 if answer.status == 404 else 503,
                "amount_unknown",
                f"The object that the call is about can't be read at Stripe (status {answer.status}), so its "
                "amount is not known and the call was not sent.",
                retryable=answer.status == 429 or answer.status >= 500,
            )
        source = _json(answer)
        given = call.parameters.get(asked.amount)
        try:
            total = asked.total(source, int(given) if given is not None else None)
            currency = str(source["currency"]).upper()
        except (KeyError, TypeError, ValueError):
            raise Refused(
                400, "amount_unknown", "Stripe's answer does not say what the call would move."
            ) from None
        if total < 0 or (total == 0 and given is None):
            raise Refused(400, "amount_unknown", "There is nothing left that this call could move.")
        return Money(total, currency)

    def classify(self, call: Call, answer: Answer, *, repeat: bool) -> Reading:
        """Say what Stripe's answer means for the money."""
        if 200 <= answer.status < 300:
            return self._classify_success(call, answer)
        error = _json(answer).get("error")
        kind = error.get("type") if isinstance(error, Mapping) else None
        if answer.status == 409 or answer.status >= 500 or answer.status < 400 or kind == "idempotency_error":
            # An equal call is under way, or Stripe can't say: the money may have moved.
            return Unclear()
        if repeat and answer.status != 402 and answer.header(b"idempotent-replayed") != "true":
            # A limit, a key or a check that stands before the memory of keys: it
            # says nothing of the first try. A decline under the key is that try.
            return Unclear()
        return Failed()

    def object_path(self, object_id: str) -> str | None:
        """Return where an object can be fetched."""
        path = _OBJECT_PATHS.get(object_id.partition("_")[0])
        return f"{path}{object_id}" if path and _OBJECT_ID.fullmatch(object_id) else None

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
        return Answer(
            answer.status, [header for header in answer.headers if header[0] in _PASSED_BACK], answer.body
        )

    def _read_get(self, request: Request) -> Call:
        if request.body:
            raise malformed("", "A GET has no body.")
        found = self._table.find("GET", request.path)
        pairs = forms.parse(request.query.encode("latin-1"))
        query = forms.write(pairs).decode()
        return Call(
            endpoint=found[0].name if found else f"GET {request.path}",
            changes=False,
            moves_money=False,
            forward=Forward("GET", f"{request.path}?{query}" if query else request.path, _headers(request)),
            fingerprint="",
        )

    def _read_change(self, request: Request) -> Call:
        found = self._table.find(request.method, request.path)
        if found is None:
            raise Refused(
                403,
                "endpoint_not_allowed",
                f"Spendgate does not know what {request.method} {request.path} can move, so nobody may "
                "call it.",
                reason="endpoint_unknown",
            )
        endpoint, object_id = found
        pairs = _parameters(request)
        given_key = next((value for key, value in pairs if key == _KEY_FIELD), "")
        if len(given_key) > _KEY_MAX:
            raise malformed(_KEY_FIELD, f"An idempotency key has at most {_KEY_MAX} characters.")
        pairs = [(key, value) for key, value in pairs if key != _KEY_FIELD]
        named = dict(pairs)
        _refuse_unpriced(endpoint, named)
        money, moves = _money(endpoint, named)
        body = forms.write(pairs)
        target = request.path
        if request.method == "DELETE" and body:
            target, body = f"{target}?{body.decode()}", b""
        return Call(
            endpoint=endpoint.name,
            changes=True,
            moves_money=moves,
            forward=Forward(request.method, target, _headers(request, form=request.method == "POST"), body),
            fingerprint=_fingerprint(request.method, request.path, pairs),
            parameters=_visible(pairs),
            money=money,
            object_id=object_id if endpoint.step else "",
            given_key=given_key,
            header_key=_header_key(request),
        )

    def _classify_success(self, call: Call, answer: Answer) -> Reading:
        body = _json(answer)
        object_id = str(body.get("id", ""))
        found = self._table.find(call.forward.method, call.forward.target.partition("?")[0])
        if found is None or not found[0].commits:
            return Succeeded(object_id=object_id)
        money = None
        if body.get("object") == found[0].commits:
            try:
                money = committed(body)
            except (KeyError, TypeError, ValueError):
                money = None
        # A success that can't be read keeps what was held: all of it may have moved.
        return Succeeded(
            money=money, object_id=object_id if money else call.object_id, steps_follow=not is_final(body)
        )


def _parameters(request: Request) -> forms.Pairs:
    if request.method == "DELETE":
        if request.body:
            raise malformed("", "Send the parameters of a DELETE in its query string.")
        return forms.parse(request.query.encode("latin-1"))
    if request.query:
        raise malformed("", "A POST has its parameters in the body only, none in the query string.")
    content_type = request.header(b"content-type")
    kind, _, parameters = content_type.partition(";")
    if len(request.headers.get(b"content-type", ())) > 1 or (
        (request.body or content_type) and kind.strip().lower() != _FORM
    ):
        raise malformed("", f"Send the parameters as {_FORM}.", code="content_type_not_supported", status=415)
    if parameters.strip() and parameters.strip().lower().replace('"', "") != "charset=utf-8":
        raise malformed("", "The form must be UTF-8.", code="content_type_not_supported", status=415)
    return forms.parse(request.body)


def _visible(pairs: forms.Pairs) -> dict[str, str]:
    """Return what the policy may see: every name, elements of lists numbered, private values hidden."""
    visible: dict[str, str] = {}
    for number, (key, value) in enumerate(pairs):
        name = f"{key[:-1]}{number}]" if key.endswith("[]") else key
        visible[name] = _HIDDEN if key.startswith(_PRIVATE) else value
    return visible


def _refuse_unpriced(endpoint: Endpoint, named: Mapping[str, str]) -> None:
    for name in endpoint.refused:
        if any(key == name or key.startswith(f"{name}[") for key in named):
            raise Refused(
                403,
                "parameter_not_allowed",
                f"The parameter {name!r} of {endpoint.name} moves money in a way that is not priced.",
                parameter=name,
            )


def _money(endpoint: Endpoint, named: Mapping[str, str]) -> tuple[Money | None, bool]:
    """Return the amount, when the request says it, and whether the call moves money."""
    rule = endpoint.money
    given = _integer(rule.amount, named) if rule else None
    if rule is None or (endpoint.when and endpoint.when not in named):
        return None, False
    if isinstance(rule, Asked):
        return None, True
    if given is None:
        raise Refused(
            400, "parameter_missing", f"Missing required param: {rule.amount}.", parameter=rule.amount
        )
    return Money(given, _currency(rule, named)), True


def _integer(name: str, named: Mapping[str, str]) -> int | None:
    if any(key.startswith(f"{name}[") for key in named):
        raise malformed(name, f"{name} must be one integer.", code="parameter_invalid_integer")
    value = named.get(name)
    if value is None:
        return None
    if not _AMOUNT.fullmatch(value) or int(value) == 0:
        raise malformed(
            name,
            f"Invalid integer: {value[:32]}. {name} must be a positive whole number of the currency's "
            "smallest unit, in ASCII digits, at most 12 of them.",
            code="parameter_invalid_integer",
        )
    return int(value)


def _currency(rule: Direct, named: Mapping[str, str]) -> str:
    value = named.get(rule.currency)
    if value is None:
        raise Refused(
            400, "parameter_missing", f"Missing required param: {rule.currency}.", parameter=rule.currency
        )
    if not _CURRENCY.fullmatch(value):
        raise malformed(rule.currency, f"Invalid currency: {value[:32]}. Use a code such as usd.")
    return value.upper()


def _source_path(asked: Asked, call: Call) -> str:
    if not asked.sources:
        return call.forward.target.rpartition("/")[0] if _is_action(call) else call.forward.target
    given = [(call.parameters[name], path) for name, path in asked.sources if name in call.parameters]
    if len(given) != 1:
        names = " or ".join(name for name, _ in asked.sources)
        raise Refused(400, "amount_unknown", f"{call.endpoint} needs exactly one of {names}, to be priced.")
    object_id, path = given[0]
    if not _OBJECT_ID.fullmatch(object_id):
        raise malformed(asked.sources[0][0], f"{object_id[:64]!r} is not the id of an object.")
    return path.replace("{id}", object_id)


def _is_action(call: Call) -> bool:
    """Tell whether the path ends in a verb after the object's id."""
    return not call.endpoint.endswith("}")


def _header_key(request: Request) -> str:
    if len(request.headers.get(b"idempotency-key", ())) > 1:
        raise malformed("", "Send one Idempotency-Key header, not several.")
    key = request.header(b"idempotency-key")
    if len(key) > _KEY_MAX:
        raise malformed("", f"An Idempotency-Key has at most {_KEY_MAX} characters.")
    return key


def _headers(request: Request, *, form: bool = False) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    for name in _FORWARDED:
        value = request.header(name)
        if value:
            headers[name.decode()] = value
    if form:
        headers["Content-Type"] = _FORM
    return headers


def _fingerprint(method: str, path: str, pairs: forms.Pairs) -> str:
    hashed = hashlib.sha256(f"{method} {path}".encode())
    for key, value in sorted(pairs):
        hashed.update(f"\0{key}\0{value}".encode())
    return hashed.hexdigest()[:32]


def _json(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
