"""Reads the parameters of a request, wherever its kind of call carries them, and writes them anew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sidecar.exchange import Request
from sidecar.forms import Pairs, write
from sidecar.refusals import malformed
from sidecar.stripe import forms, json_body, multipart

KEY_FIELD = "idempotency_key"
KEY_MAX = 255
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one request, and the bytes that carry exactly these."""

    pairs: Pairs
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    given_key: str = ""
    """The idempotency key among the parameters, which Stripe would refuse there."""

    def fingerprint(self, method: str, path: str, account: str) -> str:
        """Return a hash of everything that makes two requests the same."""
        rows = sorted(f"\0{key}\0{value}" for key, value in self.pairs)
        return hashlib.sha256(f"{method} {path} {account}{''.join(rows)}".encode()).hexdigest()[:32]


def read(request: Request, *, files: bool) -> Parameters:
    """Return the parameters of a call; raise `Refused` when they could be read in two ways."""
    v2 = request.path.startswith("/v2/")
    if request.method == "GET" or (request.method == "DELETE" and not v2):
        if request.body:
            raise malformed("", f"Send the parameters of a {request.method} in its query string.")
        return _from_form(forms.parse(request.query.encode("latin-1")), in_query=True)
    if request.query:
        raise malformed("", f"A {request.method} has its parameters in the body, none in the query string.")
    if len(request.headers.get(b"content-type", ())) > 1:
        raise malformed("", "Send one Content-Type header, not several.", status=415)
    content_type = request.header(b"content-type")
    if files:
        return _from_parts(request.body, content_type)
    wanted = _JSON if v2 else _FORM
    if request.body or content_type:
        _check_type(content_type, wanted)
    if not v2:
        return _from_form(forms.parse(request.body), in_query=False)
    body = json_body.parse(request.body)
    pairs = json_body.flatten(body)
    forms.refuse_ambiguity(pairs)
    written = json_body.write(body)
    return Parameters(pairs, body=written, content_type=_JSON if written else "")


def _from_form(pairs: Pairs, *, in_query: bool) -> Parameters:
    given_key = next((value for key, value in pairs if key == KEY_FIELD), "")
    if len(given_key) > KEY_MAX:
        raise malformed(KEY_FIELD, f"An idempotency key has at most {KEY_MAX} characters.")
    # Upper and lower case name the same currency; one spelling makes equal calls equal.
    pairs = [
        (key, value.lower() if key == "currency" or key.endswith("[currency]") else value)
        for key, value in pairs
        if in_query or key != KEY_FIELD
    ]
    written = write(pairs)
    if in_query:
        return Parameters(pairs, query=written.decode())
    return Parameters(pairs, body=written, content_type=_FORM, given_key=given_key)


def _from_parts(body: bytes, content_type: str) -> Parameters:
    parts = multipart.parse(body, content_type)
    pairs = [
        (
            forms.check_name(part.name),
            part.content.decode("latin-1") if part.filename is None else _digest(part),
        )
        for part in parts
    ]
    forms.refuse_ambiguity(pairs)
    written, kind = multipart.write(parts)
    return Parameters(pairs, body=written, content_type=kind)


def _digest(part: multipart.Part) -> str:
    return f"file {part.filename} sha256 {hashlib.sha256(part.content).hexdigest()}"


def _check_type(content_type: str, wanted: str) -> None:
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != wanted:
        raise malformed(
            "", f"Send the parameters as {wanted}.", code="content_type_not_supported", status=415
        )
    if parameters.strip() and parameters.strip().lower().replace('"', "") != "charset=utf-8":
        raise malformed("", "The body must be UTF-8.", code="content_type_not_supported", status=415)
