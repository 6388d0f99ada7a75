"""The payment tools of every agent framework: what a model may ask for, and what it is answered.

Needs ``httpx`` and ``pydantic``, which every extra for a framework has.

A tool call names its effect by the run and by what is wanted, never by the
framework's id of the call: a model that asks again has a new id, in other words
or not. So payments of one run are one effect, by charge or by intent, and
refunds are another; with purposes, there is one of each for every purpose.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from spendgate import answers, errors
from spendgate.http import TIMEOUT_S, RunAuth
from spendgate.money import Money
from spendgate.vault_deps import VaultDeps

_PAUSES_S = (0.2, 1.0)
"""Between repeats of one and the same effect, after an answer that may be another next time."""

_TELLING_LENGTH_MIN = 5
"""Shorter values, such as a currency, tell nobody who the customer is."""

_AMOUNT_MAX = 999_999_999_999

Amount = Annotated[
    int,
    Field(
        strict=True, gt=0, le=_AMOUNT_MAX, description="In the currency's smallest unit: 1900 is 19.00 USD."
    ),
]
Currency = Annotated[
    str, Field(pattern="^[A-Za-z]{3}$", description="Three-letter code in lower case, such as usd.")
]
Text = Annotated[str, Field(min_length=1, max_length=500)]


def _id(what: str) -> Any:
    return Annotated[str | None, Field(min_length=1, max_length=255, description=what)]


@dataclass(frozen=True)
class PaymentTool:
    """One tool as a model sees it, and the call that it is."""

    name: str
    description: str
    kind: Literal["pay", "refund"]
    """Tools of one kind are ways to the same effect."""
    endpoint: str
    path: str
    parameters: Mapping[str, tuple[Any, Any]]
    """Type and default of each, as `pydantic.create_model` takes them."""

    def arguments(self, deps: VaultDeps) -> type[BaseModel]:
        """Return the model of the arguments in a run: without what is fixed, and with its purposes."""
        fields = {name: kind for name, kind in self.parameters.items() if name not in deps.fixed}
        if deps.purposes:
            what = f"What this is for. There is one {self.name} for each purpose."
            purpose = Annotated[Literal[tuple(deps.purposes)], Field(description=what)]  # type: ignore[valid-type]
            fields["purpose"] = (purpose, ...)
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload, no-any-return]

    def schema(self, deps: VaultDeps) -> dict[str, Any]:
        """Return the JSON schema of the arguments in a run."""
        schema = self.arguments(deps).model_json_schema()
        del schema["title"]
        return schema


CHARGE = PaymentTool(
    name="charge",
    description="Charge a customer once. Repeating it never charges twice.",
    kind="pay",
    endpoint="POST /v1/charges",
    path="/stripe/v1/charges",
    parameters={
        "amount": (Amount, ...),
        "currency": (Currency, ...),
        "customer": (_id("Id of the customer, such as cus_1; or give a source."), None),
        "source": (_id("What to charge, such as a card's id or a token."), None),
        "description": (Text | None, None),
    },
)
PAYMENT_INTENT = PaymentTool(
    name="create_payment_intent",
    description=(
        "Make a payment intent, which counts as spent from then on. With confirm it is paid at once. "
        "Repeating it never pays twice."
    ),
    kind="pay",
    endpoint="POST /v1/payment_intents",
    path="/stripe/v1/payment_intents",
    parameters={
        "amount": (Amount, ...),
        "currency": (Currency, ...),
        "customer": (_id("Id of the customer, such as cus_1."), None),
        "payment_method": (_id("Id of the payment method, such as pm_1; needed to confirm."), None),
        "confirm": (Annotated[bool, Field(description="Pay at once.")], False),
        "description": (Text | None, None),
    },
)
REFUND = PaymentTool(
    name="refund",
    description="Give a payment back, in full or in part. Repeating it never refunds twice.",
    kind="refund",
    endpoint="POST /v1/refunds",
    path="/stripe/v1/refunds",
    parameters={
        "charge": (_id("Id of the charge, such as ch_1; or give a payment_intent."), None),
        "payment_intent": (_id("Id of the payment intent, such as pi_1."), None),
        "amount": (
            Annotated[Amount | None, Field(description="Part to give back; without it, all of it.")],
            None,
        ),
        "reason": (Literal["duplicate", "fraudulent", "requested_by_customer"] | None, None),
    },
)
PAYMENT_TOOLS: tuple[PaymentTool, ...] = (CHARGE, PAYMENT_INTENT, REFUND)
"""All there are."""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool call came to."""

    text: str
    """For the model: lines of ``name: value``, without secrets, customers and client secrets."""
    done: bool
    again: bool = False
    """Whether the model can help by asking again, for less or with other arguments."""
    error: errors.SpendGateError | None = None
    """What Spendgate refused with, when it did."""


class RunTools:
    """The payment tools of one run."""

    def __init__(self, deps: VaultDeps, run_id: str = "", offered: Sequence[str] | None = None) -> None:
        """Offer the tools named, else all; ``run_id`` is for deps that have none. Raises `ValueError`."""
        names = {tool.name for tool in PAYMENT_TOOLS}
        unknown = set(offered or ()) - names
        if unknown:
            raise ValueError(f"there is no tool {sorted(unknown)}; there are {sorted(names)}")
        self.tools = {tool.name: tool for tool in PAYMENT_TOOLS if offered is None or tool.name in offered}
        _check_fixed(deps)
        self.deps = deps
        self.run_id = deps.run(run_id).run_id

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """Make the call that a model asks for. What fails is an answer, too."""
        request = self._request(name, arguments)
        if isinstance(request, ToolAnswer):
            return request
        async with httpx.AsyncClient(**self.connection()) as http:
            for pause in (*_PAUSES_S, None):
                try:
                    answer = _read(request.tool, await http.post(**request.post))
                except httpx.TransportError as error:
                    answer = _lost(request.tool, error)
                if not answer.repeat or pause is None:
                    return self._without_fixed(answer.answer)
                await asyncio.sleep(pause)
        raise AssertionError("the last repeat returns")

    def call_sync(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """Make the call without an event loop."""
        request = self._request(name, arguments)
        if isinstance(request, ToolAnswer):
            return request
        with httpx.Client(**self.connection()) as http:
            for pause in (*_PAUSES_S, None):
                try:
                    answer = _read(request.tool, http.post(**request.post))
                except httpx.TransportError as error:
                    answer = _lost(request.tool, error)
                if not answer.repeat or pause is None:
                    return self._without_fixed(answer.answer)
                time.sleep(pause)
        raise AssertionError("the last repeat returns")

    def _without_fixed(self, answer: ToolAnswer) -> ToolAnswer:
        """Leave out what the model is not to see, where the vendor repeats it."""
        text = answer.text
        for value in self.deps.fixed.values():
            if len(value) >= _TELLING_LENGTH_MIN:
                text = text.replace(value, "(fixed)")
        return replace(answer, text=text)

    def connection(self) -> dict[str, Any]:
        """Return how httpx reaches the sidecar."""
        return {
            "base_url": self.deps.sidecar,
            "timeout": TIMEOUT_S,
            "trust_env": False,
            "verify": self.deps.verify or _system_trust(),
        }

    def _request(self, name: str, arguments: Mapping[str, Any]) -> _Request | ToolAnswer:
        tool = self.tools.get(name)
        if tool is None:
            return ToolAnswer(f"{name}: there is no such tool", done=False)
        try:
            read = tool.arguments(self.deps).model_validate(dict(arguments)).model_dump(exclude_none=True)
        except ValidationError as error:
            return _wrong_arguments(tool, error)
        purpose = read.pop("purpose", "")
        step = f"{tool.kind}:{purpose}" if purpose else tool.kind
        run = self.deps.run(self.run_id)
        auth = RunAuth(run.key, run.run_id, step=step, sidecar=self.deps.sidecar)
        return _Request(tool, {"url": tool.path, "data": _form(tool, read, self.deps), "auth": auth})


@dataclass(frozen=True, slots=True)
class _Request:
    tool: PaymentTool
    post: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    answer: ToolAnswer
    repeat: bool = False
    """Whether the same effect, asked for again at once, may be answered otherwise."""


@functools.cache
def _system_trust() -> ssl.SSLContext:
    """Return whom the system trusts; it takes a while to read."""
    return ssl.create_default_context()


def _check_fixed(deps: VaultDeps) -> None:
    known = {name for tool in PAYMENT_TOOLS for name in tool.parameters}
    for name in deps.fixed:
        if name not in known and not name.startswith("metadata["):
            raise ValueError(
                f"no tool has a parameter {name!r} to fix; there are {sorted(known)} and metadata[…]"
            )


def _form(tool: PaymentTool, read: Mapping[str, Any], deps: VaultDeps) -> dict[str, str]:
    form = {name: _text(value) for name, value in read.items()}
    for name, value in deps.fixed.items():
        if name in tool.parameters or name.startswith("metadata["):
            form[name] = value
    if "currency" in form:
        form["currency"] = form["currency"].lower()
    if form.get("confirm") == "true":
        # Nobody is there who could follow a redirect.
        form["automatic_payment_methods[enabled]"] = "true"
        form["automatic_payment_methods[allow_redirects]"] = "never"
    return form


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrong_arguments(tool: PaymentTool, error: ValidationError) -> ToolAnswer:
    problems = "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}"
        for one in error.errors(include_input=False, include_url=False)
    )
    return ToolAnswer(
        _lines(
            (tool.name, "not done, nothing was sent"),
            ("why", problems),
            ("try again", "with other arguments"),
        ),
        done=False,
        again=True,
    )


def _lost(tool: PaymentTool, error: httpx.TransportError) -> _Read:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        text = _final(tool, "not done, nothing was sent", "Spendgate can't be reached.")
    else:
        text = _final(
            tool,
            "not known whether it was done",
            "The connection to Spendgate broke. Only this same run may ask again, which never pays twice.",
        )
    return _Read(ToolAnswer(text, done=False), repeat=True)


def _read(tool: PaymentTool, response: httpx.Response) -> _Read:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and isinstance(body, dict) and body.get("id"):
        return _Read(ToolAnswer(_success(tool, response.headers, body), done=True))
    refused = answers.refusal(response.status_code, body)
    if refused is not None:
        return _refusal(tool, refused)
    return _vendor_error(tool, response.status_code, body)


def _success(tool: PaymentTool, headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    again = headers.get("Spendgate-Duplicate") == "true"
    return _lines(
        (tool.name, "done before in this run; nothing was done again" if again else "done"),
        ("id", body["id"]),
        ("status", body.get("status")),
        ("amount", _money(body.get("amount"), body.get("currency"))),
        ("left", _left(headers)),
        ("authorization", headers.get("Spendgate-Authorization-Id")),
    )


def _refusal(tool: PaymentTool, refused: errors.SpendGateError) -> _Read:
    if refused.run_frozen:
        text = _failure(tool, refused, "no, this run is frozen; tell the user")
        return _Read(ToolAnswer(text, done=False, error=refused))
    left = refused.remaining_money
    if isinstance(refused, errors.CapExceeded) and left is not None and left.minor_units:
        text = _failure(tool, refused, f"with at most {left}, if less is of use; else tell the user")
        return _Read(ToolAnswer(text, done=False, again=True, error=refused))
    if isinstance(refused, errors.RequestInvalid):
        text = _failure(tool, refused, "with other arguments")
        return _Read(ToolAnswer(text, done=False, again=True, error=refused))
    if isinstance(refused, errors.IdempotencyMismatch):
        what = "was asked for before in this run" if tool.kind == "pay" else "was refunded before in this run"
        text = _failure(tool, refused, f"no: another {tool.kind} {what} under this name; tell the user")
        return _Read(ToolAnswer(text, done=False, error=refused))
    text = _failure(tool, refused, "no, not in this run; tell the user")
    # A cap has room again only after its reset, for which no tool call waits.
    repeat = refused.retryable and not isinstance(refused, errors.CapExceeded)
    return _Read(ToolAnswer(text, done=False, error=refused), repeat=repeat)


def _failure(tool: PaymentTool, refused: errors.SpendGateError, again: str) -> str:
    state = "not known whether it was done" if isinstance(refused, errors.OutcomeUnknown) else "not done"
    return _lines(
        (tool.name, state),
        ("why", refused.message),
        ("reason", refused.said),
        ("allowed", ", ".join(refused.allowed_endpoints)),
        ("authorization", refused.authorization_id),
        ("try again", again),
    )


def _vendor_error(tool: PaymentTool, status: int, body: object) -> _Read:
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or f"Stripe answered with status {status}.")
    if (status == 400 and error.get("type") == "invalid_request_error") or status == 404:
        text = _lines((tool.name, "not done"), ("why", message), ("try again", "with other arguments"))
        return _Read(ToolAnswer(text, done=False, again=True))
    declined = error.get("decline_code") or error.get("code")
    text = _lines(
        (tool.name, "not done"),
        ("why", message),
        ("reason", declined),
        ("try again", "no, not in this run; tell the user"),
    )
    return _Read(ToolAnswer(text, done=False), repeat=status == 429 or status >= 500)


def _final(tool: PaymentTool, state: str, why: str) -> str:
    return _lines((tool.name, state), ("why", why), ("try again", "no, not in this run; tell the user"))


def _left(headers: Mapping[str, str]) -> str:
    cap, left = headers.get("Spendgate-Cap"), headers.get("Spendgate-Remaining", "")
    if not cap or not left.isdecimal():
        return ""
    unit = cap.rpartition(": ")[2].partition("/")[0]
    amount = f"{left} calls" if unit == "calls" else _money(int(left), unit)
    until = headers.get("Spendgate-Resets-At")
    return f"{amount} under {cap}" + (f" until {until}" if until else "")


def _money(amount: object, currency: object) -> str:
    try:
        return str(Money(amount, currency))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"{amount} {currency}" if amount is not None else ""


def _lines(*pairs: tuple[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in pairs if value)
