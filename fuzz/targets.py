"""One run of one target: ``python -m fuzz.targets TARGET [libFuzzer's options]``."""

from __future__ import annotations

import re
import sys

import atheris

with atheris.instrument_imports(include=["sidecar", "python_multipart", "tests.reading_checks", "urllib"]):
    from sidecar.exchange import Request
    from sidecar.stripe.endpoints import ENDPOINTS
    from tests.reading_checks import FORM, JSON, check, sent

_CONTROLS = re.compile(rb"[\0-\x08\x0b-\x1f\x7f]")
_PATHS = [(endpoint.method, endpoint.template.replace("{", "").replace("}", "")) for endpoint in ENDPOINTS]
_FORMS = [where for where in _PATHS if where[0] == "POST" and where[1].startswith("/v1/")]
_QUERIES = [where for where in _PATHS if where[0] != "POST" and where[1].startswith("/v1/")]
_OBJECTS = [where for where in _PATHS if where[0] == "POST" and where[1].startswith("/v2/")]


def _chosen(where: list[tuple[str, str]], data: bytes) -> tuple[str, str]:
    """The first two bytes choose the endpoint."""
    return where[int.from_bytes(data[:2], "big") % len(where)]


def form(data: bytes) -> None:
    """A form in a body."""
    check(sent(*_chosen(_FORMS, data), data[2:], FORM.encode(), {}))


def query(data: bytes) -> None:
    """A form in a query string."""
    check(sent(*_chosen(_QUERIES, data), data[2:], b"", {}))


def json(data: bytes) -> None:
    """A JSON body."""
    check(sent(*_chosen(_OBJECTS, data), data[2:], JSON.encode(), {}))


def multipart(data: bytes) -> None:
    """A file; the first line is the rest of its content type."""
    kind, _, body = data.partition(b"\n")
    check(sent("POST", "/v1/files", body, b"multipart/form-data; " + kind, {}))


def request(data: bytes) -> None:
    """A whole request: method, path, query, headers and body, each on a line."""
    if _CONTROLS.search(data):
        return  # the HTTP parser refuses these before anything is read
    method, path, query_string, *rest = [*data.split(b"\n"), b"", b""]
    headers: dict[bytes, list[bytes]] = {}
    while rest and b":" in rest[0]:
        name, _, value = rest.pop(0).partition(b":")
        headers.setdefault(name.lower(), []).append(value)
    text = [part.decode("latin-1") for part in (method, path, query_string)]
    check(Request(*text, headers, b"\n".join(rest[1:-2])))


TARGETS = {"form": form, "query": query, "json": json, "multipart": multipart, "request": request}


def main() -> None:
    """Hand a target over to libFuzzer, which ends the process."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
