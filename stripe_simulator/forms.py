"""Reads form bodies and query strings the way Rack does, since Stripe's API stands behind Rack.

Rack's rules that matter to a caller: pairs are split on `&` only; the last of a repeated scalar wins;
`a[b]=1` nests; `a[]=1` appends; `a[0]=1` is a mapping with the key "0"; and for a request that has both, the
body's top-level names replace those of the query string.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email import message_from_bytes
from typing import Union
from urllib.parse import unquote_plus

from stripe_simulator.errors import StripeError, wrong_content_type

FormValue = Union[str, "list[FormValue]", "dict[str, FormValue]"]
Form = dict[str, FormValue]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent in a multipart body."""

    filename: str
    content_type: str
    content: bytes


# Rack refuses deeper nesting to keep a hostile body from exhausting the stack.
_DEEPEST_NESTING = 32


def parse_form(text: str) -> Form:
    """The nested parameters of one urlencoded text."""
    form: Form = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if name := _decode(name):
            _place(form, name, _decode(value), depth=0)
    return form


def parse_body(content_type: str, body: bytes, uploads: dict[str, Upload] | None = None) -> Form:
    """The parameters in a request body. JSON is refused: v1 of the API takes forms only.

    Files go into `uploads`; in the form a digest stands for each, so other contents are other parameters.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in ("", "application/x-www-form-urlencoded"):
        return parse_form(_as_utf8(body))
    if media_type == "multipart/form-data":
        return _parse_multipart(content_type, body, {} if uploads is None else uploads)
    raise wrong_content_type()


def flatten(form: Form) -> dict[str, str]:
    """The bracketed names and values again, one entry per leaf, for people to read."""
    flat: dict[str, str] = {}
    for name, value in form.items():
        _flatten_into(flat, name, value)
    return flat


def _flatten_into(flat: dict[str, str], name: str, value: FormValue) -> None:
    if isinstance(value, str):
        flat[name] = value
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        _flatten_into(flat, f"{name}[{key}]", inner)


def _as_utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise StripeError(400, "Invalid request: the parameters are not valid UTF-8.") from None


def _decode(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise StripeError(400, "Invalid request: the parameters are not valid UTF-8.") from None


def _parse_multipart(content_type: str, body: bytes, uploads: dict[str, Upload]) -> Form:
    message = message_from_bytes(
        b"Content-Type: " + content_type.encode("utf-8", "replace") + b"\r\n\r\n" + body
    )
    if not message.is_multipart():
        raise wrong_content_type()
    form: Form = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if not (isinstance(name, str) and name and isinstance(payload, bytes)):
            continue
        if (filename := part.get_filename()) is not None:
            uploads[name] = Upload(filename, part.get_content_type(), payload)
            _place(form, name, f"{filename}:{hashlib.sha256(payload).hexdigest()}", depth=0)
        else:
            _place(form, name, _as_utf8(payload), depth=0)
    return form


def _split_name(name: str, depth: int) -> tuple[str, str]:
    """The first key of a bracketed name and what follows it."""
    if depth == 0:
        start = name.find("[", 1)
        return (name, "") if start < 0 else (name[:start], name[start:])
    if name.startswith("[]"):
        return "[]", name[2:]
    if name.startswith("[") and (end := name.find("]", 1)) > 0:
        return name[1:end], name[end + 1 :]
    return name, ""


def _place(target: Form, name: str, value: str, depth: int) -> None:
    if depth >= _DEEPEST_NESTING:
        raise StripeError(400, "Invalid request: the parameters are nested too deeply.")
    key, rest = _split_name(name, depth)
    if not key:
        return
    if rest == "":
        target[key] = value
    elif rest == "[":
        target[name] = value
    elif rest == "[]":
        _array_at(target, key).append(value)
    elif rest.startswith("[]"):
        _place_in_array(_array_at(target, key), _name_inside_array(rest), value, depth)
    else:
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise StripeError(
                400, f"Invalid hash: the parameter {key} was sent both as a value and as a hash."
            )
        _place(inner, rest, value, depth + 1)


def _array_at(target: Form, key: str) -> list[FormValue]:
    array = target.setdefault(key, [])
    if not isinstance(array, list):
        raise StripeError(400, f"Invalid array: the parameter {key} was sent both as an array and otherwise.")
    return array


def _name_inside_array(rest: str) -> str:
    """For `[][b]` the plain name `b`; for anything more nested, what follows the empty brackets."""
    child = rest[3:-1]
    plain = rest[2] == "[" and rest.endswith("]") and child and "[" not in child and "]" not in child
    return child if plain else rest[2:]


def _place_in_array(array: list[FormValue], child: str, value: str, depth: int) -> None:
    """`x[][a]=1&x[][b]=2` is one mapping until a key comes a second time, which begins the next one."""
    last = array[-1] if array else None
    if isinstance(last, dict) and not _holds(last, child):
        _place(last, child, value, depth + 1)
    else:
        fresh: Form = {}
        _place(fresh, child, value, depth + 1)
        array.append(fresh)


def _holds(form: Form, name: str) -> bool:
    """Whether the mapping already has a value at this bracketed name."""
    if "[]" in name:
        return False
    current: FormValue = form
    for part in name.replace("]", "").split("["):
        if part == "":
            continue
        if not isinstance(current, dict) or part not in current:
            return False
        current = current[part]
    return True
