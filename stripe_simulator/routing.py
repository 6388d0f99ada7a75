"""Finds the endpoint for a request line, and keeps the table of those that are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from stripe_simulator.call import Call
from stripe_simulator.downloads import Download
from stripe_simulator.errors import JsonObject, unknown_url

Run = Callable[[Call], JsonObject | Download]

ANY = "*"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path; `kind` is the kind of object it answers with, or lists."""

    method: str
    template: str
    run: Run
    kind: str
    known: frozenset[str]
    in_list: bool
    version: str = "v1"

    @property
    def name(self) -> str:
        return f"{self.method} /{self.version}/{self.template.replace(ANY, '{id}')}"


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint found for a request, with the ids that its path names."""

    endpoint: Endpoint
    path: str
    ids: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """What may follow a piece of a path; a word of the API goes before an id."""

    children: dict[str, _Node] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class Routes:
    """The endpoints by path. `*` in a template stands for one id."""

    def __init__(self) -> None:
        self._root = _Node()

    def serve(
        self, method: str, template: str, run: Run, kind: str, known: str = "", *, in_list: bool = False
    ) -> None:
        """Serve a v1 endpoint that knows these parameters, separated by spaces, and `expand`."""
        names = frozenset(("expand", *known.split()))
        self._add(Endpoint(method, template, run, kind, names, in_list))

    def serve_list(self, template: str, run: Run, kind: str, filters: str = "") -> None:
        """Serve a v1 list with its own filters beside those that every list has."""
        known = "limit starting_after ending_before created " + filters
        self.serve("GET", template, run, kind, known, in_list=True)

    def serve_v2(self, method: str, template: str, run: Run, kind: str, known: str = "") -> None:
        """Serve a v2 endpoint; those do not expand."""
        names = frozenset(known.split())
        self._add(Endpoint(method, template, run, kind, names, in_list=False, version="v2"))

    def _add(self, endpoint: Endpoint) -> None:
        node = self._root
        for step in (endpoint.version, *endpoint.template.split("/")):
            node = node.children.setdefault(step, _Node())
        node.endpoints[endpoint.method] = endpoint

    def find(self, method: str, raw_path: str) -> Route:
        """The endpoint for a request line's path, whose segments are percent-decoded one by one."""
        root, *encoded = raw_path.split("/")
        segments = [unquote(segment) for segment in encoded]
        if root or not all(segments):
            raise unknown_url(method, raw_path)
        found = _find(self._root, method, segments, 0, ())
        if found is None:
            raise unknown_url(method, raw_path)
        endpoint, ids = found
        return Route(endpoint, "/" + "/".join(segments), ids)


def _find(
    node: _Node, method: str, segments: list[str], position: int, ids: tuple[str, ...]
) -> tuple[Endpoint, tuple[str, ...]] | None:
    if position == len(segments):
        endpoint = node.endpoints.get(method)
        return None if endpoint is None else (endpoint, ids)
    segment = segments[position]
    if (word := node.children.get(segment)) is not None and segment != ANY:
        found = _find(word, method, segments, position + 1, ids)
        if found is not None:
            return found
    if (any_id := node.children.get(ANY)) is not None:
        return _find(any_id, method, segments, position + 1, (*ids, segment))
    return None
