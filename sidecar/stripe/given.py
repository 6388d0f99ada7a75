"""The parameters of one request, as pricing reads them: strict integers, plain currencies, numbered lists."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from sidecar.refusals import Refused, malformed

_AMOUNT = re.compile(r"0|[1-9][0-9]{0,11}")
_SIGNED = re.compile(r"0|-?[1-9][0-9]{0,11}")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_NUMBER = re.compile(r"\[[0-9]*\]")
_ELEMENT = re.compile(r"\[([0-9]{1,4})\](.*)")


class Given:
    """Parameters by their flat names, such as ``line_items[0][quantity]``."""

    __slots__ = ("_named", "_within")

    def __init__(self, named: Mapping[str, str], within: str = "") -> None:
        """``within`` is the group that the names are in, for messages."""
        self._named = named
        self._within = within

    def __contains__(self, name: str) -> bool:
        """Tell whether the parameter is given, as a value or as a group."""
        return name in self._named or any(key.startswith(f"{name}[") for key in self._named)

    def get(self, name: str) -> str:
        """Return a value; empty when it is not given."""
        return self._named.get(name, "")

    @property
    def names(self) -> set[str]:
        """The outermost names that are given."""
        return {key.partition("[")[0] for key in self._named}

    def unknown(self, understood: Collection[str]) -> str:
        """Return a parameter that is neither in ``understood`` nor inside one that is, if there is one.

        The elements of a list are one parameter there, such as ``items[][price]``.
        """
        for key in self._named:
            name = _NUMBER.sub("[]", key)
            while name not in understood:
                name, bracket, _ = name.rpartition("[")
                if not bracket:
                    return key
        return ""

    def is_on(self, name: str) -> bool:
        """Tell whether a switch is on: given as anything but false."""
        return self._named.get(name, "false") != "false"

    def integer(self, name: str, *, signed: bool = False, zero: bool = False) -> int | None:
        """Return an amount in minor units or a count, at most 12 digits; None when it is not given."""
        value = self._scalar(name)
        if value is None:
            return None
        if not (_SIGNED if signed else _AMOUNT).fullmatch(value) or (not zero and int(value) == 0):
            kind = "a whole number" if signed else "a positive whole number"
            raise malformed(
                self._full(name),
                f"Invalid integer: {value[:32]}. {self._full(name)} must be {kind} in ASCII digits, at most "
                "12 of them and no leading 0; amounts are in the currency's smallest unit.",
                code="parameter_invalid_integer",
            )
        return int(value)

    def decimal(self, name: str) -> Decimal | None:
        """Return a decimal amount in minor units; None when it is not given."""
        value = self._scalar(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            raise malformed(
                self._full(name),
                f"Invalid decimal: {value[:32]}. {self._full(name)} must be digits, with at most 12 more "
                "after a point.",
            )
        return Decimal(value)

    def currency(self, name: str = "currency") -> str:
        """Return a currency in upper case, or raise `Refused`."""
        value = self.get(name)
        if not value:
            raise self.missing(name)
        if not _CURRENCY.fullmatch(value):
            raise malformed(self._full(name), f"Invalid currency: {value[:32]}. Use a code such as usd.")
        return value.upper()

    def object_id(self, name: str) -> str:
        """Return the id of an object, which may stand in a path; empty when it is not given."""
        value = self.get(name)
        if value and not _ID.fullmatch(value):
            raise malformed(self._full(name), f"{value[:64]!r} is not the id of an object.")
        return value

    def elements(self, name: str) -> list[Given]:
        """Return the elements of a list, which must be numbered."""
        found: dict[str, dict[str, str]] = {}
        for key, value in self._named.items():
            if not key.startswith(f"{name}["):
                if key == name and value:
                    raise malformed(self._full(name), f"{self._full(name)} must be a list.")
                continue
            match = _ELEMENT.fullmatch(key[len(name) :])
            if match is None:
                raise malformed(
                    self._full(name), f"Number the elements of {self._full(name)}: {self._full(name)}[0]…"
                )
            found.setdefault(match[1], {})[_unwrapped(match[2])] = value
        return [Given(element, f"{self._full(name)}[{number}]") for number, element in found.items()]

    def missing(self, name: str) -> Refused:
        """Return the refusal for a parameter that must be given."""
        full = self._full(name)
        return Refused(400, "parameter_missing", f"Missing required param: {full}.", parameter=full)

    def _scalar(self, name: str) -> str | None:
        value = self._named.get(name)
        if value is None and name in self:
            raise malformed(
                self._full(name), f"{self._full(name)} must be one value.", code="parameter_invalid_integer"
            )
        return value

    def _full(self, name: str) -> str:
        return _wrapped(self._within, name) if self._within else name


def _unwrapped(rest: str) -> str:
    """``[a][b]`` as ``a[b]``."""
    head, _, tail = rest[1:].partition("]")
    return f"{head}{tail}" if rest else ""


def _wrapped(within: str, name: str) -> str:
    head, bracket, tail = name.partition("[")
    return f"{within}[{head}]{bracket}{tail}"
