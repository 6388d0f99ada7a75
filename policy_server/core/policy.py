"""What a vault key may do, and which caps a call falls under.

Only look-ups live here: nothing counts, waits or asks the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from policy_server.core.effects import is_read
from policy_server.core.errors import FieldInvalid
from policy_server.core.types import MAX_MINOR_UNITS
from policy_server.core.window import Window, zone

_METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE"
_PATTERN = re.compile(rf"(?:{_METHODS}|\*) /(?:(?:[A-Za-z0-9_.~-]+|\{{[a-z_]+\}}|\*)(?:/(?!$)|$))+")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBER = re.compile(r"\[[0-9]*\]")
_VENDOR_ACCOUNT = re.compile(r"[!-~]{1,255}")


REPEATED_REFUSALS_MAX = 10
"""Unless a policy says otherwise: more than frameworks repeat by themselves, which is 1 to 5 times,
and less than a model that goes round in circles would."""

_REPEATED_REFUSALS_MOST = 1_000_000


class PolicyMode(StrEnum):
    """What a broken rule does."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class EffectNaming(StrEnum):
    """How a call that names no effect is named within a run."""

    BY_ENDPOINT = "by_endpoint"
    BY_PARAMETERS = "by_parameters"


class RefundRule(StrEnum):
    """How a call counts that gives back the money of an object."""

    COUNTED = "counted"
    """As any money that moves."""
    OWN_CAP = "own_cap"
    """Only under caps that name endpoints."""
    RESTORE = "restore"
    """It gives back what is counted for the object; only what is above that counts."""


class EndpointPattern:
    """A method and a path, some segments of which may be anything.

    ``*`` or ``{name}`` in the middle stands for exactly one segment, ``*`` at
    the end for one or more. No pattern matches a part of a segment, so
    ``POST /v1/charges`` never lets ``POST /v1/charges/{charge}/refund`` pass.
    """

    __slots__ = ("_regex", "text")

    def __init__(self, text: str) -> None:
        if not _PATTERN.fullmatch(text) or len(text) > 256:
            raise FieldInvalid(
                "endpoint pattern", f"must look like 'POST /v1/charges' or 'GET /v1/*', not {text!r}"
            )
        self.text = text
        method, path = text.split(" ")
        segments = path[1:].split("/")
        parts = [
            "[^/]+" if segment == "*" or segment.startswith("{") else re.escape(segment)
            for segment in segments
        ]
        if segments[-1] == "*":
            parts[-1] = "[^/]+(?:/[^/]+)*"
        self._regex = re.compile(f"{'[A-Z]+' if method == '*' else method} /{'/'.join(parts)}")

    def matches(self, endpoint: str) -> bool:
        """Tell whether ``endpoint``, such as ``POST /v1/charges``, is one of them."""
        return self._regex.fullmatch(endpoint) is not None

    def overlaps(self, other: EndpointPattern) -> bool:
        """Tell whether some endpoint is one of both."""
        method, path = self.text.split(" ")
        other_method, other_path = other.text.split(" ")
        same_method = method == other_method or "*" in {method, other_method}
        return same_method and _paths_overlap(path[1:].split("/"), other_path[1:].split("/"))


@dataclass(frozen=True)
class Cap:
    """A limit on money of one currency, or on calls, over a window."""

    limit: int
    """Minor units, or calls."""
    window: Window
    currency: str = ""
    """Upper case; empty when calls are limited."""
    time_zone: str = "UTC"
    endpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.currency:
            check_currency("cap currency", self.currency)
        if not 0 <= self.limit <= MAX_MINOR_UNITS:
            raise FieldInvalid("cap limit", f"must be from 0 to {MAX_MINOR_UNITS}")
        if not self.currency and (self.limit == 0 or self.window is Window.CALL):
            raise FieldInvalid("calls", "must be at least 1, over a window longer than one call")
        zone(self.time_zone)
        _patterns(self.endpoints)

    @property
    def id(self) -> str:
        """Identity within its owner: everything but the limit, so that a changed limit keeps its count."""
        parts = [f"{self.currency.lower() or 'calls'}/{self.window}"]
        if self.time_zone != "UTC" and self.window not in {Window.CALL, Window.RUN, Window.TOTAL}:
            parts.append(f"in {self.time_zone}")
        if self.endpoints:
            parts.append(f"on {', '.join(sorted(self.endpoints))}")
        return " ".join(parts)


@dataclass(frozen=True)
class ParameterRule:
    """A condition on one request parameter."""

    parameter: str
    one_of: tuple[str, ...] = ()
    required: bool = False
    endpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.parameter:
            raise FieldInvalid("parameter_rules.parameter", "must be given")
        if self.required and not self.one_of:
            raise FieldInvalid(
                "parameter_rules", f"requires {self.parameter!r} and allows no value for it; set one_of"
            )
        _patterns(self.endpoints)

    def broken_by(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a call with these parameters is refused.

        The rule is for the parameter and for everything inside it: one on
        ``destination`` also sees ``destination[account]``. The elements of a
        list are one parameter, however they are numbered.
        """
        name = _unnumbered(self.parameter).removesuffix("[]")
        values = [
            value
            for key, value in parameters.items()
            if (plain := _unnumbered(key)) == name or plain.startswith(f"{name}[")
        ]
        return any(value not in self.one_of for value in values) or (self.required and not values)


def _unnumbered(parameter: str) -> str:
    return _NUMBER.sub("[]", parameter)


@dataclass(frozen=True)
class Policy:
    """What one vault key may do. What no field permits is refused."""

    allow: tuple[str, ...] = ()
    caps: tuple[Cap, ...] = ()
    currencies: tuple[str, ...] = ()
    parameter_rules: tuple[ParameterRule, ...] = ()
    mode: PolicyMode = PolicyMode.ENFORCE
    effects: EffectNaming = EffectNaming.BY_ENDPOINT
    expires_at_ms: int | None = None
    budgets: tuple[str, ...] = ()
    vendor_accounts: tuple[str, ...] = ()
    """Accounts at the vendor that calls may act for besides the key's own."""
    unpriced: tuple[str, ...] = ()
    """Endpoints that may be called although nobody can tell the amount before."""
    refunds: RefundRule = RefundRule.COUNTED
    repeated_refusals_max: int = REPEATED_REFUSALS_MAX
    """How often the same call may be refused in a run before the run is frozen; 0 never freezes one."""

    def __post_init__(self) -> None:
        for name, values, most in (
            ("allow", self.allow, 200),
            ("caps", self.caps, 50),
            ("parameter_rules", self.parameter_rules, 100),
            ("budgets", self.budgets, 20),
            ("vendor_accounts", self.vendor_accounts, 200),
            ("unpriced", self.unpriced, 50),
        ):
            if len(values) > most:
                raise FieldInvalid(name, f"may have at most {most} entries")
        if not self.allow:
            raise FieldInvalid("allow", "must name at least one endpoint, such as 'POST /v1/charges'")
        _patterns(self.allow)
        for currency in self.currencies:
            check_currency("currencies", currency)
        for budget in self.budgets:
            check_name("budgets", budget)
        for account in self.vendor_accounts:
            if not _VENDOR_ACCOUNT.fullmatch(account):
                raise FieldInvalid("vendor_accounts", f"must be ids such as 'acct_1', not {account!r}")
        if not 0 <= self.repeated_refusals_max <= _REPEATED_REFUSALS_MOST:
            raise FieldInvalid(
                "repeated_refusals_max", f"must be from 1 to {_REPEATED_REFUSALS_MOST}, or 0 for never"
            )
        check_caps(self.caps)
        for cap in self.caps:
            _refuse_idle("caps.endpoints", cap.endpoints, self.allow)
        for rule in self.parameter_rules:
            _refuse_idle("parameter_rules.endpoints", rule.endpoints, self.allow)
        _refuse_idle("unpriced", self.unpriced, self.allow)

    def to_json(self) -> str:
        """Write the policy as the store keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read what `to_json` wrote."""
        stored: dict[str, Any] = json.loads(text)
        return cls(
            allow=tuple(stored["allow"]),
            caps=tuple(cap_from_dict(cap) for cap in stored["caps"]),
            currencies=tuple(stored["currencies"]),
            parameter_rules=tuple(
                ParameterRule(r["parameter"], tuple(r["one_of"]), r["required"], tuple(r["endpoints"]))
                for r in stored["parameter_rules"]
            ),
            mode=PolicyMode(stored["mode"]),
            effects=EffectNaming(stored["effects"]),
            expires_at_ms=stored["expires_at_ms"],
            budgets=tuple(stored["budgets"]),
            vendor_accounts=tuple(stored.get("vendor_accounts", ())),
            unpriced=tuple(stored.get("unpriced", ())),
            refunds=RefundRule(stored.get("refunds", RefundRule.COUNTED)),
            repeated_refusals_max=stored.get("repeated_refusals_max", REPEATED_REFUSALS_MAX),
        )


def cap_from_dict(stored: Mapping[str, Any]) -> Cap:
    """Read one cap as `dataclasses.asdict` wrote it."""
    return Cap(
        limit=stored["limit"],
        window=Window(stored["window"]),
        currency=stored["currency"],
        time_zone=stored["time_zone"],
        endpoints=tuple(stored["endpoints"]),
    )


@dataclass(frozen=True, slots=True)
class OwnedCap:
    """A cap and whose it is: a budget's, a derived key's, or else the vault key's."""

    cap: Cap
    id: str
    budget: str = ""
    derived_key_id: str = ""
    """The derived key that brings it; such a cap holds in shadow mode too."""

    @property
    def rule(self) -> str:
        """The name by which a verdict's rule names the cap."""
        owner = self.budget or self.derived_key_id
        return f"{owner}: {self.id}" if owner else self.id


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy says about one endpoint."""

    allowed: bool
    caps: tuple[OwnedCap, ...]
    """In the order in which they are tested: call, run, windows, budgets."""
    rules: tuple[ParameterRule, ...]
    unpriced: bool
    """Whether a call may be made although nobody can tell its amount before."""


@dataclass
class PolicyView:
    """A policy with its budgets filled in, ready to be asked about calls."""

    policy: Policy
    budgets: Mapping[str, tuple[Cap, ...]]
    _terms: dict[tuple[str, bool], Terms] = field(default_factory=dict)

    _REMEMBERED = 1024

    def __post_init__(self) -> None:
        self._allow = _patterns(self.policy.allow)
        owned = [OwnedCap(cap, cap.id) for cap in self.policy.caps]
        owned.sort(key=lambda one: _TEST_ORDER.get(one.cap.window, 2))
        owned += [
            OwnedCap(cap, cap.id, name) for name in self.policy.budgets for cap in self.budgets.get(name, ())
        ]
        self._caps = [(one, _patterns(one.cap.endpoints)) for one in owned]
        self._unpriced = _patterns(self.policy.unpriced)
        self._rules = [(rule, _patterns(rule.endpoints)) for rule in self.policy.parameter_rules]

    @property
    def missing_budgets(self) -> list[str]:
        """Budgets that the policy names and the account has not."""
        return [name for name in self.policy.budgets if name not in self.budgets]

    @property
    def all_caps(self) -> list[OwnedCap]:
        """Every cap the key draws from."""
        return [one for one, _ in self._caps]

    def terms(self, endpoint: str, *, refund: bool = False) -> Terms:
        """Return what the policy says about ``endpoint``, called for a refund or not."""
        own_caps = refund and self.policy.refunds is RefundRule.OWN_CAP
        known = self._terms.get((endpoint, own_caps))
        if known is None:
            if len(self._terms) >= self._REMEMBERED:
                self._terms.clear()
            known = self._terms[endpoint, own_caps] = Terms(
                allowed=any(pattern.matches(endpoint) for pattern in self._allow),
                caps=tuple(one for one, on in self._caps if _applies(on, endpoint) and (on or not own_caps)),
                rules=tuple(
                    rule
                    for rule, on in self._rules
                    if _applies(on, endpoint) and not (is_read(endpoint) and not on)
                ),
                unpriced=any(pattern.matches(endpoint) for pattern in self._unpriced),
            )
        return known

    def permitting(self, endpoint: str) -> str:
        """Return the first entry of ``allow`` that permits ``endpoint``; empty when none does."""
        return next((pattern.text for pattern in self._allow if pattern.matches(endpoint)), "")

    def allows_currency(self, currency: str, caps: Iterable[OwnedCap]) -> bool:
        """Tell whether money of ``currency`` may move under ``caps``, one of which must count it."""
        return self._wants(currency) and any(one.cap.currency == currency for one in caps)

    def counted_currencies(self, caps: Iterable[OwnedCap]) -> tuple[str, ...]:
        """Return the currencies that may move under ``caps`` and that a window of them counts."""
        counted = {one.cap.currency for one in caps if one.cap.window is not Window.CALL}
        return tuple(sorted(currency for currency in counted if currency and self._wants(currency)))

    def _wants(self, currency: str) -> bool:
        return not self.policy.currencies or currency in self.policy.currencies


_TEST_ORDER = {Window.CALL: 0, Window.RUN: 1}


def check_caps(caps: Iterable[Cap]) -> None:
    """Refuse two caps that would count in one place."""
    seen: set[str] = set()
    for cap in caps:
        if cap.id in seen:
            raise FieldInvalid("caps", f"has {cap.id!r} twice; keep the one you mean")
        seen.add(cap.id)


def check_currency(field_name: str, currency: str) -> None:
    """Refuse what is not an upper-case currency code."""
    if not _CURRENCY.fullmatch(currency):
        raise FieldInvalid(field_name, f"must be three upper-case letters such as 'USD', not {currency!r}")


def check_name(field_name: str, name: str) -> None:
    """Refuse what is not a plain name."""
    if not _NAME.fullmatch(name):
        raise FieldInvalid(field_name, f"must be 1 to 64 of [A-Za-z0-9._-], not {name!r}")


def _patterns(texts: Iterable[str]) -> list[EndpointPattern]:
    return [EndpointPattern(text) for text in texts]


def _paths_overlap(ours: list[str], theirs: list[str]) -> bool:
    for position, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        open_ended = (mine == "*" and position == len(ours) - 1) or (
            other == "*" and position == len(theirs) - 1
        )
        if open_ended:
            return True
        if mine != other and not mine.startswith(("*", "{")) and not other.startswith(("*", "{")):
            return False
    return len(ours) == len(theirs)


def _refuse_idle(what: str, endpoints: tuple[str, ...], allow: tuple[str, ...]) -> None:
    """Refuse a limit on endpoints that the policy does not allow: a typo there would switch it off."""
    allowed = _patterns(allow)
    for pattern in _patterns(endpoints):
        if not any(pattern.overlaps(one) for one in allowed):
            raise FieldInvalid(
                what, f"names {pattern.text!r}, which nothing in allow permits; correct one of the two"
            )


def _applies(patterns: list[EndpointPattern], endpoint: str) -> bool:
    return not patterns or any(pattern.matches(endpoint) for pattern in patterns)
