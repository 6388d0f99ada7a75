"""Conditions on request parameters as operators write and read them.

    NAME=VALUE[,VALUE...] [required] [on ENDPOINT[, ENDPOINT...]]
    !NAME [on ENDPOINT[, ENDPOINT...]]

`customer=cus_1,cus_2` lets a call name one of the two customers, or none;
with `required` it must name one. `!destination` refuses every call that sends
the parameter at all. Without endpoints a condition holds for every write.
Values with a comma or a space can only be written in a policy file.
"""

from __future__ import annotations

import re

from spendgate.cap_text import endpoint_patterns
from spendgate.v1 import policy_pb2

_EXAMPLES = "'customer=cus_1,cus_2', 'customer=cus_1 required' or '!destination'"
_NAME = re.compile(r"[A-Za-z0-9_.-]+(\[[A-Za-z0-9_.-]*\])*")


class ParameterTextError(ValueError):
    """A condition is not written as the grammar wants; the message is one sentence with an example."""


def parse(text: str) -> policy_pb2.ParameterRule:
    """Return the condition that `text` describes, or raise `ParameterTextError`."""
    condition, on, endpoints = (" ".join(text.split()) + " ").partition(" on ")
    words = condition.split()
    try:
        if not words:
            raise ValueError(f"the parameter is missing; write one such as {_EXAMPLES}")
        rule = _forbidden(words) if words[0].startswith("!") else _one_of(words)
        if on:
            rule.endpoints.extend(endpoint_patterns(endpoints))
    except ValueError as error:
        raise ParameterTextError(f"in the parameter rule {text!r}, {error}") from None
    return rule


def text(rule: policy_pb2.ParameterRule) -> str:
    """Return `rule` as `parse` reads it, if its values have no comma and no space."""
    parts = [f"{rule.parameter}={','.join(rule.one_of)}" if rule.one_of else f"!{rule.parameter}"]
    if rule.required:
        parts.append("required")
    if rule.endpoints:
        parts.append(f"on {', '.join(rule.endpoints)}")
    return " ".join(parts)


def _forbidden(words: list[str]) -> policy_pb2.ParameterRule:
    if len(words) > 1:
        raise ValueError(f"{words[1]!r} can't follow a forbidden parameter; write a rule such as {_EXAMPLES}")
    return policy_pb2.ParameterRule(parameter=_name(words[0][1:]))


def _one_of(words: list[str]) -> policy_pb2.ParameterRule:
    name, equals, values = words[0].partition("=")
    one_of = values.split(",")
    if not equals or not all(one_of):
        raise ValueError(f"a value is missing; write a rule such as {_EXAMPLES}")
    if words[1:] not in ([], ["required"]):
        raise ValueError(f"{' '.join(words[1:])!r} is not understood; write a rule such as {_EXAMPLES}")
    return policy_pb2.ParameterRule(parameter=_name(name), one_of=one_of, required=len(words) == 2)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the parameter name {name!r} is not one that Stripe has; write a rule such as {_EXAMPLES}"
        )
    return name
