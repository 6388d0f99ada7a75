"""Reads typed values out of a request's parameters, refusing in Stripe's words what Stripe refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from stripe_simulator import currencies
from stripe_simulator.errors import (
    StripeError,
    empty_parameter,
    invalid_integer,
    missing_parameter,
    unknown_parameters,
)
from stripe_simulator.forms import Form, FormValue

# ASCII only: Python's int() would also take other scripts' digits, signs, spaces and underscores.
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
# Stripe takes up to twelve decimal places.
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,12})?", re.ASCII)

METADATA_MOST_KEYS = 50
METADATA_LONGEST_KEY = 40
METADATA_LONGEST_VALUE = 500


class Parameters:
    """The parameters of one request after the API key and the account were taken out of them.

    A nested hash is read by an object of its own, whose `prefix` puts the whole bracketed name in refusals.
    """

    def __init__(self, form: Form, prefix: str = "") -> None:
        self._form = form
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return name in self._form

    def full_name(self, name: str) -> str:
        """The name as the caller wrote it, with the brackets of the hashes around it."""
        return f"{self._prefix}[{name}]" if self._prefix else name

    @property
    def form(self) -> Form:
        """Everything that was sent, by name."""
        return self._form

    def nested(self, form: Form, prefix: str) -> Parameters:
        """Reads a hash inside this one."""
        return Parameters(form, prefix)

    def refuse_unknown(self, known: frozenset[str]) -> None:
        if not self._form.keys() <= known:
            raise unknown_parameters([self.full_name(name) for name in self._form if name not in known])

    def hash(self, name: str, known: str) -> Parameters | None:
        """A nested hash in which only these names, separated by spaces, are known."""
        value = self.mapping(name)
        if value is None:
            return None
        inner = self.nested(value, self.full_name(name))
        inner.refuse_unknown(frozenset(known.split()))
        return inner

    def hashes(self, name: str, known: str) -> list[Parameters]:
        """An array of hashes, sent as `name[0][…]=` or `name[][…]=`."""
        value = self._form.get(name)
        if value is None or value == "":
            return []
        if isinstance(value, str):
            raise StripeError(400, "Invalid array", param=self.full_name(name))
        entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        names = frozenset(known.split())
        found = []
        for index, entry in entries:
            here = f"{self.full_name(name)}[{index}]"
            if not isinstance(entry, dict) or not str(index).isdecimal():
                raise StripeError(400, "Invalid array", param=here)
            inner = self.nested(entry, here)
            inner.refuse_unknown(names)
            found.append(inner)
        return found

    def decimal(self, name: str) -> Decimal | None:
        """A plain decimal number, without exponent; None when the parameter is absent."""
        value = self.text(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            raise StripeError(
                400,
                f"Invalid decimal: {value}",
                code="parameter_invalid_decimal",
                param=self.full_name(name),
            )
        return Decimal(value)

    def text(self, name: str) -> str | None:
        """The value, or None when it is absent or was sent empty to unset it."""
        value = self._form.get(name)
        if value is None or isinstance(value, str):
            return value or None
        raise StripeError(400, f"Invalid string: {shown(value)}", param=self.full_name(name))

    def required_text(self, name: str) -> str:
        if name not in self._form:
            raise missing_parameter(self.full_name(name))
        value = self.text(name)
        if value is None:
            raise empty_parameter(self.full_name(name))
        return value

    def integer(self, name: str) -> int | None:
        """A strict decimal integer, as Stripe reads one; None when the parameter is absent."""
        value = self._form.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _INTEGER.fullmatch(value):
            raise invalid_integer(self.full_name(name), value if isinstance(value, str) else shown(value))
        return int(value)

    def positive_integer(self, name: str) -> int | None:
        number = self.integer(name)
        if number is not None and number < 1:
            raise StripeError(
                400,
                "This value must be greater than or equal to 1.",
                code="parameter_invalid_integer",
                param=self.full_name(name),
            )
        return number

    def required_positive_integer(self, name: str) -> int:
        number = self.positive_integer(name)
        if number is None:
            raise missing_parameter(self.full_name(name))
        return number

    def boolean(self, name: str, default: bool) -> bool:
        value = self._form.get(name)
        if value is None:
            return default
        if value in ("true", "false"):
            return value == "true"
        raise StripeError(
            400,
            f"Invalid boolean: {value if isinstance(value, str) else shown(value)}",
            code="parameter_invalid_boolean",
            param=self.full_name(name),
        )

    def choice(self, name: str, allowed: Iterable[str]) -> str | None:
        value = self.text(name)
        options = list(allowed)
        if value is None or value in options:
            return value
        listed = ", ".join(options[:-1]) + f", or {options[-1]}" if len(options) > 2 else " or ".join(options)
        full_name = self.full_name(name)
        raise StripeError(400, f"Invalid {full_name}: must be one of {listed}", param=full_name)

    def currency(self) -> str:
        """Lower-cased: Stripe accepts either case and answers in lower case."""
        sent = self.required_text("currency")
        currency = sent.lower()
        if currency not in currencies.DECIMAL_DIGITS:
            known = ", ".join(currencies.DECIMAL_DIGITS)
            raise StripeError(
                400,
                f"Invalid currency: {currency}. Stripe currently supports these currencies: {known}",
                param=self.full_name("currency"),
            )
        return currency

    def mapping(self, name: str) -> Form | None:
        """A nested hash; None when absent or unset with an empty string."""
        value = self._form.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            raise StripeError(400, "Invalid object", param=self.full_name(name))
        return value

    def texts(self, name: str) -> list[str]:
        """An array of strings, sent as `name[]=` or `name[0]=`."""
        value = self._form.get(name)
        if value is None or value == "":
            return []
        if isinstance(value, str):
            raise StripeError(400, "Invalid array", param=self.full_name(name))
        items = list(value.values()) if isinstance(value, dict) else value
        return [item for item in items if isinstance(item, str)]

    def metadata(self, current: dict[str, str]) -> dict[str, str]:
        """The metadata after this request: keys merge, an empty value removes one, `metadata=` clears all."""
        sent = self._form.get("metadata")
        if sent is None:
            return current
        if sent == "":
            return {}
        if not isinstance(sent, dict):
            raise StripeError(400, "Invalid object", param="metadata")
        merged = dict(current)
        for key, value in sent.items():
            _refuse_oversized_metadata(key, value)
            if value == "":
                merged.pop(key, None)
            else:
                merged[key] = str(value)
        if len(merged) > METADATA_MOST_KEYS:
            raise StripeError(
                400,
                f"Metadata can have at most {METADATA_MOST_KEYS} keys; this object would have {len(merged)}.",
                param="metadata",
            )
        return merged


def _refuse_oversized_metadata(key: str, value: FormValue) -> None:
    if not isinstance(value, str):
        raise StripeError(400, "Metadata values must be strings.", param=f"metadata[{key}]")
    if len(key) > METADATA_LONGEST_KEY:
        raise StripeError(
            400, f"Metadata keys must be under {METADATA_LONGEST_KEY + 1} characters long.", param="metadata"
        )
    if len(value) > METADATA_LONGEST_VALUE:
        raise StripeError(
            400,
            f"Metadata values can have up to {METADATA_LONGEST_VALUE} characters, but you passed in a value "
            f"that is {len(value)} characters.",
            param=f"metadata[{key}]",
        )


def shown(value: FormValue) -> str:
    """A nested value as Stripe's messages show it."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return "{" + ", ".join(f'"{key}"=>{shown(item)}' for key, item in value.items()) + "}"


def check_charge_amount(amount: int, currency: str, param: str = "amount") -> None:
    """The limits on one charge, in minor units of the currency."""
    if amount > currencies.LARGEST_CHARGE:
        largest = currencies.written(currencies.LARGEST_CHARGE, currency)
        raise StripeError(400, f"Amount must be no more than {largest}", code="amount_too_large", param=param)
    smallest = currencies.smallest_charge(currency)
    if amount < smallest:
        least = currencies.written(smallest, currency)
        tail = "" if least.endswith(currency) else f" {currency}"
        raise StripeError(400, f"Amount must be at least {least}{tail}", code="amount_too_small", param=param)
    step = currencies.amount_step(currency)
    if amount % step:
        raise StripeError(
            400,
            f"Invalid amount: amounts in {currency} must be divisible by {step}.",
            code="invalid_charge_amount",
            param=param,
        )
