"""Reads the parameters of a request to Twilio: known names only, each once unless it is a list."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from sidecar import forms
from sidecar.exchange import Request
from sidecar.forms import Pairs
from sidecar.refusals import malformed
from sidecar.twilio.endpoints import Endpoint

KEY_MAX = 255
_KEY_FIELD = "idempotency_key"
_FORM = "application/x-www-form-urlencoded"
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one request, without the name that they may give the effect."""

    endpoint: Endpoint
    pairs: Pairs
    given_key: str = ""

    @property
    def written(self) -> bytes:
        """The parameters as they are sent on."""
        return forms.write(self.pairs)

    @property
    def visible(self) -> dict[str, str]:
        """What the policy may look at: lists numbered from 0, texts hidden."""
        shown = {}
        seen: Counter[str] = Counter()
        for name, value in self.pairs:
            key = f"{name}[{seen[name]}]" if name in self.endpoint.lists else name
            shown[key] = _HIDDEN if name in self.endpoint.private else value
            seen[name] += 1
        return shown

    def fingerprint(self, path: str) -> str:
        """Return a hash of everything that makes two changes the same."""
        # Sorting by name alone keeps the elements of a list in their order.
        rows = [f"\0{name}\0{value}" for name, value in sorted(self.pairs, key=lambda pair: pair[0])]
        return hashlib.sha256(f"{self.endpoint.method} {path}{''.join(rows)}".encode()).hexdigest()[:32]


def read(request: Request, endpoint: Endpoint) -> Parameters:
    """Return the parameters of a call; raise `Refused` when they could be read in two ways."""
    if request.method == "POST":
        if request.query:
            raise malformed("", "A POST has its parameters in the body, none in the query string.")
        _check_type(request)
        return _from(forms.read(request.body, lambda name: _known(name, endpoint, _KEY_FIELD)), endpoint)
    if request.body:
        raise malformed("", f"Send the parameters of a {request.method} in its query string.")
    query = request.query.encode("latin-1")
    return _from(forms.read(query, lambda name: _known(name, endpoint)), endpoint)


def _from(pairs: Pairs, endpoint: Endpoint) -> Parameters:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1 and name not in endpoint.lists:
            raise malformed(name, f"The parameter {name!r} is given more than once.")
    given_key = dict(pairs).get(_KEY_FIELD, "")
    if len(given_key) > KEY_MAX:
        raise malformed(_KEY_FIELD, f"An idempotency key has at most {KEY_MAX} characters.")
    return Parameters(endpoint, [pair for pair in pairs if pair[0] != _KEY_FIELD], given_key)


def _known(name: str, endpoint: Endpoint, *more: str) -> str:
    # A name in another spelling could be the same parameter to Twilio, given a second time.
    if name in endpoint.parameters or name in more:
        return name
    raise malformed(
        name[:64],
        f"{endpoint.name} takes no parameter {name[:64]!r}; spell names as Twilio's documentation does.",
    )


def _check_type(request: Request) -> None:
    given = request.headers.get(b"content-type", ())
    if len(given) > 1:
        raise malformed("", "Send one Content-Type header, not several.", status=415)
    kind, _, rest = request.header(b"content-type").partition(";")
    if (request.body or given) and kind.strip().lower() != _FORM:
        raise malformed("", f"Send the parameters as {_FORM}.", code="content_type_not_supported", status=415)
    if rest.strip() and rest.strip().lower().replace('"', "") != "charset=utf-8":
        raise malformed("", "The body must be UTF-8.", code="content_type_not_supported", status=415)
