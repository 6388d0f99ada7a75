"""Finds the row of a raw path, in one look at each of its segments."""

from __future__ import annotations

import re
from typing import Any

from sidecar.stripe.endpoints import ENDPOINTS, Endpoint

_PATH = re.compile(r"/v[12](?:/[A-Za-z0-9_-]+)+")
_PATH_BYTES_MAX = 200


def is_plain(path: str) -> bool:
    """Tell whether a raw path can be read in one way only."""
    return len(path) <= _PATH_BYTES_MAX and _PATH.fullmatch(path) is not None


class EndpointTable:
    """The rows as a tree of path segments, so that the last row costs no more than the first."""

    def __init__(self, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> None:
        self._root: dict[str, Any] = {}
        for endpoint in endpoints:
            node = self._root
            for segment in (endpoint.method, *endpoint.template[1:].split("/")):
                node = node.setdefault("{}" if segment.startswith("{") else segment, {})
            node[""] = endpoint

    def find(self, method: str, path: str) -> tuple[Endpoint, str] | None:
        """Return the row and the first id in the path; None when there is no such row."""
        node: dict[str, Any] | None = self._root.get(method)
        object_id = ""
        for segment in path[1:].split("/"):
            if node is None:
                return None
            if segment in node:
                node = node[segment]
            else:
                node = node.get("{}")
                object_id = object_id or segment
        endpoint: Endpoint | None = node.get("") if node else None
        return (endpoint, object_id) if endpoint else None
