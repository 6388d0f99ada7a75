"""Reads the JSON bodies of v2, keeping what JSON knows about a value that a form does not."""

from __future__ import annotations

import json
from typing import Any

from stripe_simulator.errors import StripeError
from stripe_simulator.forms import Form, FormValue
from stripe_simulator.parameters import Parameters


class JsonLiteral(str):
    """A number, true or false, as written; a JSON string that looks the same is not one."""

    __slots__ = ()


def parse_json(content_type: str, body: bytes) -> Form:
    """The parameters in a v2 request body; nulls are as if they were not sent."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise StripeError(
            400, "Invalid request: v2 of the API takes application/json.", code="invalid_fields"
        )
    try:
        read = json.loads(body, parse_float=JsonLiteral, parse_int=JsonLiteral, object_pairs_hook=_no_repeats)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise StripeError(400, "Invalid request: the body is not a JSON object.", code="invalid_fields")
    return {name: _as_form(value) for name, value in read.items() if value is not None}


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name came twice")
    return read


def _as_form(value: Any) -> FormValue:
    if isinstance(value, dict):
        return {name: _as_form(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_as_form(inner) for inner in value]
    if isinstance(value, bool):
        return JsonLiteral("true" if value else "false")
    return value if isinstance(value, str) else JsonLiteral(value)


class JsonParameters(Parameters):
    """Parameters that must have the JSON type their meaning has."""

    def text(self, name: str) -> str | None:
        if isinstance(self._form.get(name), JsonLiteral):
            raise self._invalid(name, "a string")
        return super().text(name)

    def integer(self, name: str) -> int | None:
        value = self._form.get(name)
        if value is not None and not isinstance(value, JsonLiteral):
            raise self._invalid(name, "an integer")
        return super().integer(name)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._form.get(name)
        if value is not None and not isinstance(value, JsonLiteral):
            raise self._invalid(name, "a boolean")
        return super().boolean(name, default)

    def _invalid(self, name: str, wanted: str) -> StripeError:
        field = self.full_name(name)
        return StripeError(400, f"Invalid value for {field}: expected {wanted}.", code="invalid_fields")

    def nested(self, form: Form, prefix: str) -> Parameters:
        return JsonParameters(form, prefix)
