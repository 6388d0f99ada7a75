"""Twilio as the sidecar's vendor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.exchange import Answer, Forward, Request
from sidecar.refusals import Refused, malformed
from sidecar.twilio import endpoints, parameters
from sidecar.twilio.endpoints import CREATE, DELETE, VERSION, Target
from sidecar.twilio.prices import ENDED, charged_so_far, price_of
from sidecar.vault_keys import key_text
from sidecar.vendor import (
    Call,
    Failed,
    Fetch,
    Finding,
    Look,
    Movement,
    NotFound,
    OpenCall,
    Price,
    Reading,
    Seen,
    Statement,
    Succeeded,
    Unclear,
    Unpriced,
)

_OWN_KEY = re.compile(r"(?:AC|SK)[0-9a-fA-F]{32}")
_MESSAGE = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")
_FORWARDED = (b"user-agent", b"x-twilio-client")
_PASSED_BACK = frozenset(
    {
        b"content-type",
        b"retry-after",
        b"twilio-concurrent-requests",
        b"twilio-request-duration",
        b"twilio-request-id",
    }
)
_AUTHENTICATE = 20003
"""Twilio's code for a key that it does not take."""


class Twilio:
    """Reads requests for messages and says what Twilio's answers mean."""

    name = "Twilio"
    prefix = "/twilio"
    versions: tuple[str, ...] = (VERSION,)
    replays = False
    request_id_header = b"twilio-request-id"

    def __init__(self, account_sid: str) -> None:
        """``account_sid`` is the account that every call acts for."""
        self._account = account_sid

    def owns_key(self, key: str) -> bool:
        """Tell whether a key is an account or an API key of Twilio's."""
        return _OWN_KEY.fullmatch(key) is not None

    def read(self, request: Request) -> Call:
        """Read a request strictly; whatever could be read in two ways is refused."""
        target = self._target(request)
        given = parameters.read(request, target.endpoint)
        endpoint = target.endpoint
        changes = endpoint.method != "GET"
        path = self._path(target.message)
        written = given.written
        in_query = endpoint.method != "POST" and written
        return Call(
            endpoint=endpoint.name,
            changes=changes,
            moves_money=endpoint.sends,
            asks=endpoint.sends,
            idempotent=changes and not endpoint.sends,
            forward=Forward(
                endpoint.method,
                f"{path}?{written.decode()}" if in_query else path,
                _headers(request),
                b"" if in_query else written,
            ),
            fingerprint=given.fingerprint(path) if changes else "",
            parameters=given.visible,
            given_key=given.given_key,
            header_key=_header_key(request),
            plan=target,
        )

    async def price(self, call: Call, fetch: Fetch) -> Price | None:
        """Raise `Unpriced`: segments, route and carrier are only known when the message was sent."""
        raise Unpriced("Twilio says the price of a message only after it was sent")

    def lookup(self, call: Call, path: str) -> Forward:
        """Return a GET for a message."""
        return _get(path)

    def named(self, call: Call, upstream_key: str) -> Forward:
        """Return what to send; Twilio has no name by which it would recognise a repeat."""
        return call.forward

    def classify(self, call: Call, answer: Answer, *, repeat: bool) -> Reading:
        """Say what Twilio's answer means for the money."""
        target = _target_of(call)
        if 200 <= answer.status < 300:
            return _success(target, answer)
        if repeat:
            # Gone is what the first try was to lead to. Anything else says nothing of that try.
            gone = target.endpoint is DELETE and answer.status == 404
            return Succeeded(object_id=target.message) if gone else Unclear()
        # A refusal comes before anything is done; Twilio documents so even for 429.
        certain = 400 <= answer.status < 500 and answer.status != 408
        return Failed() if certain else Unclear()

    def seen(self, call: Call, answer: Answer) -> Sequence[Seen]:
        """Return the prices of messages at their end, in a message or a list of them."""
        return _seen(answer)

    def object_path(self, object_id: str) -> str | None:
        """Return where a message can be fetched."""
        return self._path(object_id) if _MESSAGE.fullmatch(object_id) else None

    def made(self, endpoint: str) -> bool:
        """Tell whether an endpoint is one of Twilio's."""
        return endpoint.partition(" ")[2].startswith(f"{self.prefix}/")

    async def investigate(
        self, calls: Sequence[OpenCall], look: Look, *, now_ms: int
    ) -> Mapping[str, Finding]:
        """Find nothing out: Twilio does not say which request made a message."""
        return {
            call.reference: NotFound("Twilio does not say which request made a message") for call in calls
        }

    async def statement(self, look: Look, account: str, *, since_ms: int, until_ms: int) -> Statement | None:
        """Tell nothing: which messages cost how much is in no list that can be trusted to be complete."""
        return None

    async def related(self, movement: Movement, look: Look, account: str) -> Sequence[str]:
        """Return nothing: a message counts under its own id."""
        return ()

    async def exists(self, object_id: str, look: Look, account: str) -> bool | None:
        """Tell whether there is a message of this id."""
        path = self.object_path(object_id)
        answer = await look(_get(path)) if path else None
        return {200: True, 404: False}.get(answer.status) if answer else None

    async def final(self, object_id: str, look: Look, account: str) -> Seen | None:
        """Return the price of a message that is at its end."""
        path = self.object_path(object_id)
        answer = await look(_get(path)) if path else None
        return next(iter(_seen(answer)), None) if answer else None

    def refusal(self, refused: Refused, request_id: str) -> Answer:
        """Write a refusal in Twilio's error shape; its SDKs keep ``details`` on what they raise."""
        code = _AUTHENTICATE if refused.status == 401 else 20000 + refused.status
        detail: dict[str, Any] = {
            "code": refused.code,
            "reason": refused.detail.get("reason") or refused.code,
            "retryable": refused.retryable,
            "parameter": refused.parameter or None,
        } | {key: value for key, value in refused.detail.items() if key != "reason"}
        body = {
            "code": code,
            "message": refused.message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": refused.status,
            "details": {"spendgate": {key: value for key, value in detail.items() if value is not None}},
        }
        headers = [(b"content-type", b"application/json"), (self.request_id_header, request_id.encode())]
        if refused.retry_after_s is not None:
            headers.append((b"retry-after", str(refused.retry_after_s).encode()))
        return Answer(refused.status, headers, json.dumps(body).encode())

    def pass_back(self, answer: Answer) -> Answer:
        """Return Twilio's answer with only the headers that an agent may see."""
        return answer.with_headers([header for header in answer.headers if header[0] in _PASSED_BACK])

    def _path(self, message: str) -> str:
        return f"{VERSION}/Accounts/{self._account}/Messages{f'/{message}' if message else ''}.json"

    def _target(self, request: Request) -> Target:
        """Return what a request names, once it is sure that it can be read in one way."""
        if b"content-encoding" in request.headers:
            raise malformed("", "Send the body as it is, without Content-Encoding.", status=415)
        target = endpoints.find(request.method, request.path)
        if target is None:
            raise Refused(
                403,
                "endpoint_not_allowed",
                "Of Twilio, Spendgate passes on messages only: POST and GET "
                f"{self.prefix}{VERSION}/Accounts/…/Messages.json, and POST, GET and DELETE "
                f"{self.prefix}{VERSION}/Accounts/…/Messages/SM….json.",
                reason="endpoint_unknown",
            )
        # SDKs take the user name of the authentication for the account, unless they are told it.
        if target.account not in {self._account, key_text(request)}:
            raise Refused(
                403,
                "parameter_not_allowed",
                "The account in the path is neither the one that Spendgate acts for nor the vault key.",
                parameter="AccountSid",
            )
        return target


def _target_of(call: Call) -> Target:
    if not isinstance(call.plan, Target):
        raise TypeError(f"{call.endpoint} was not read here")
    return call.plan


def _get(path: str) -> Forward:
    return Forward("GET", path, {"Accept": "application/json", "Accept-Encoding": "identity"})


def _seen(answer: Answer) -> list[Seen]:
    if answer.status != 200:
        return []
    body = _json(answer)
    listed = body.get("messages")
    found = []
    for message in listed if isinstance(listed, list) else [body]:
        if not isinstance(message, dict) or message.get("direction") == "inbound":
            continue
        money = price_of(message) if message.get("status") in ENDED else None
        if money is not None and _MESSAGE.fullmatch(str(message.get("sid"))):
            found.append(Seen(str(message["sid"]), money))
    return found


def _success(target: Target, answer: Answer) -> Reading:
    if target.endpoint is not CREATE:
        return Succeeded(object_id=target.message)
    message = _json(answer)
    sid = str(message.get("sid"))
    if not _MESSAGE.fullmatch(sid):
        # Something was done, and nobody could ever ask what: people must look.
        return Unclear()
    return Succeeded(charged_so_far(message), sid)


def _headers(request: Request) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    for name in _FORWARDED:
        value = request.header(name)
        if value:
            headers[name.decode()] = value
    if request.method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    return headers


def _header_key(request: Request) -> str:
    if len(request.headers.get(b"idempotency-key", ())) > 1:
        raise malformed("", "Send one Idempotency-Key header, not several.")
    key = request.header(b"idempotency-key")
    if len(key) > parameters.KEY_MAX:
        raise malformed("", f"An Idempotency-Key has at most {parameters.KEY_MAX} characters.")
    return key


def _json(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
