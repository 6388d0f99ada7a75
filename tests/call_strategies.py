"""Calls to the sidecar in bytes, and short stories of them on the same objects, for Hypothesis.

The bytes have places that are filled in when they are sent: ``<KEY0>`` and
``<BASIC0>`` for a vault key, and ``<ch>`` for the newest id that began so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.reading_checks import FORM, JSON
from tests.request_strategies import PATH_ODDITIES, Pair, forms, json_objects, mutated

FILES = "multipart/form-data; boundary=b"
KNOWN: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Call:
    """One request."""

    line: bytes
    headers: tuple[bytes, ...]
    body: bytes = b""
    framing: str = "length"
    """How the body's end is told: length, chunked, both, none, or a length that is short or long."""
    cuts: tuple[int, ...] = ()
    """Where the bytes are split into packets, in hundredths."""
    twice: bool = False
    """Whether it is sent on two connections at once."""


@dataclass(frozen=True)
class Step:
    """A call that is valid at its place in a story."""

    method: str
    path: str
    pairs: tuple[Pair, ...] = ()
    text: str = ""
    """A body of JSON, in place of pairs."""


def step(text: str, **parameters: str) -> Step:
    """A step from ``POST /v1/charges`` and its parameters, ``__`` for a bracket."""
    method, path = text.split(" ")
    pairs = []
    for name, value in parameters.items():
        outer, *inner = name.split("__")
        pairs.append((outer + "".join(f"[{one}]" for one in inner), value))
    return Step(method, path, tuple(pairs))


_CARDS = st.sampled_from(
    ["pm_card_visa"] * 4
    + [
        "pm_card_authenticationRequired",
        "pm_usBankAccount",
        "pm_card_chargeDeclined",
        "pm_card_chargeCustomerFail",
    ]
)
_AMOUNTS = st.sampled_from(["50", "500", "600", "1900", "2500", "4000"])
_TOKENS = st.sampled_from(["tok_visa"] * 4 + ["tok_chargeDeclined", "tok_usBankAccount"])


@st.composite
def charge_story(draw: DrawFn) -> list[Step]:
    """A charge, captured and given back in parts."""
    steps = [
        step(
            "POST /v1/charges",
            amount=draw(_AMOUNTS),
            currency=draw(st.sampled_from(["usd", "usd", "eur", "jpy"])),
            source=draw(_TOKENS),
            capture=draw(st.sampled_from(["true", "false"])),
        )
    ]
    more = [
        step("POST /v1/charges/<ch>/capture"),
        step("POST /v1/charges/<ch>/capture", amount=draw(_AMOUNTS)),
        step("POST /v1/refunds", charge="<ch>", amount=draw(_AMOUNTS)),
        step("POST /v1/refunds", charge="<ch>"),
        step("POST /v1/charges/<ch>/refund", amount=draw(_AMOUNTS)),
        step("POST /v1/charges/<ch>/refunds", amount=draw(_AMOUNTS)),
        step("POST /v1/charges/<ch>", description="x"),
        step("POST /v1/refunds/<re>/cancel"),
        step("GET /v1/charges/<ch>"),
    ]
    return steps + draw(st.lists(st.sampled_from(more), max_size=4))


@st.composite
def intent_story(draw: DrawFn) -> list[Step]:
    """An intent: made, changed, confirmed, captured, cancelled, given back, in any order."""
    made = {"amount": draw(_AMOUNTS), "currency": "usd", "payment_method": draw(_CARDS)}
    if draw(st.booleans()):
        made["capture_method"] = "manual"
    if draw(st.booleans()):
        made["confirm"] = "true"
    more = [
        step("POST /v1/payment_intents/<pi>", amount=draw(_AMOUNTS)),
        step("POST /v1/payment_intents/<pi>/confirm"),
        step("POST /v1/payment_intents/<pi>/confirm", payment_method=draw(_CARDS)),
        step("POST /v1/payment_intents/<pi>/capture"),
        step("POST /v1/payment_intents/<pi>/capture", amount_to_capture=draw(_AMOUNTS)),
        step("POST /v1/payment_intents/<pi>/increment_authorization", amount=draw(_AMOUNTS)),
        step("POST /v1/payment_intents/<pi>/cancel"),
        step("POST /v1/refunds", payment_intent="<pi>", amount=draw(_AMOUNTS)),
        step("POST /v1/refunds", payment_intent="<pi>"),
        step("GET /v1/payment_intents/<pi>"),
    ]
    if "update" not in KNOWN:
        more.append(step("POST /v1/payment_intents/<pi>", description="x"))
    return [step("POST /v1/payment_intents", **made), *draw(st.lists(st.sampled_from(more), max_size=5))]


@st.composite
def invoice_story(draw: DrawFn) -> list[Step]:
    """Items, the invoice that takes them, and its end."""
    steps = [
        step(
            "POST /v1/customers",
            payment_method="pm_card_visa",
            invoice_settings__default_payment_method="pm_card_visa",
        ),
        step("POST /v1/invoiceitems", customer="<cus>", amount=draw(_AMOUNTS), currency="usd"),
    ]
    if "absorbed" in KNOWN:
        more = [
            step("POST /v1/invoiceitems/<ii>", amount=draw(_AMOUNTS)),
            step("DELETE /v1/invoiceitems/<ii>"),
            step("POST /v1/customers/<cus>/balance_transactions", amount=draw(_AMOUNTS), currency="usd"),
        ]
    else:
        steps.append(step("POST /v1/invoices", customer="<cus>", pending_invoice_items_behavior="include"))
        more = [
            step("POST /v1/invoiceitems", customer="<cus>", amount="700", currency="usd", invoice="<in>"),
            step("POST /v1/invoices/<in>/finalize"),
            step("POST /v1/invoices/<in>/pay"),
            step("POST /v1/invoices/<in>/void"),
            step("POST /v1/invoices/<in>/send"),
            step("DELETE /v1/invoices/<in>"),
            step("POST /v1/credit_notes", invoice="<in>", amount=draw(_AMOUNTS)),
        ]
    return steps + draw(st.lists(st.sampled_from(more), max_size=4))


@st.composite
def subscription_story(draw: DrawFn) -> list[Step]:
    """A subscription, changed and ended."""
    steps = [
        step("POST /v1/products", name="Seat"),
        step(
            "POST /v1/prices",
            currency="usd",
            product="<prod>",
            unit_amount=draw(_AMOUNTS),
            recurring__interval="month",
        ),
        step(
            "POST /v1/customers",
            payment_method="pm_card_visa",
            invoice_settings__default_payment_method="pm_card_visa",
        ),
        step(
            "POST /v1/subscriptions",
            customer="<cus>",
            items__0__price="<price>",
            items__0__quantity=draw(st.sampled_from(["1", "2", "3"])),
            expand__0="latest_invoice",
        ),
    ]
    more = [
        step("POST /v1/subscriptions/<sub>", cancel_at_period_end="true"),
        step("POST /v1/subscriptions/<sub>", metadata__a="b"),
        step("DELETE /v1/subscriptions/<sub>"),
        step("DELETE /v1/subscriptions/<sub>", invoice_now="true", prorate="true"),
    ]
    return steps + draw(st.lists(st.sampled_from(more), max_size=3))


@st.composite
def checkout_story(draw: DrawFn) -> list[Step]:
    """A session that somebody could pay, and its end."""
    lines = {
        "line_items__0__price_data__currency": "usd",
        "line_items__0__price_data__unit_amount": draw(_AMOUNTS),
        "line_items__0__price_data__product_data__name": "Mug",
        "line_items__0__quantity": draw(st.sampled_from(["1", "2", "5"])),
    }
    if draw(st.booleans()):
        lines |= {
            "line_items__0__adjustable_quantity__enabled": "true",
            "line_items__0__adjustable_quantity__maximum": draw(st.sampled_from(["1", "9", "20"])),
        }
    if draw(st.booleans()):
        fixed = "shipping_options__0__shipping_rate_data__fixed_amount"
        lines |= {
            f"{fixed}__amount": "500",
            f"{fixed}__currency": "usd",
            "shipping_options__0__shipping_rate_data__display_name": "Post",
        }
    made = step("POST /v1/checkout/sessions", mode="payment", success_url="https://example.com", **lines)
    more = [
        step("POST /v1/checkout/sessions/<cs>/expire"),
        step("POST /v1/checkout/sessions/<cs>", metadata__a="b"),
        step("GET /v1/checkout/sessions/<cs>"),
    ]
    return [made, *draw(st.lists(st.sampled_from(more), max_size=3))]


@st.composite
def funds_story(draw: DrawFn) -> list[Step]:
    """Money that leaves or comes by itself, and is called back."""
    money = f'{{"value":{draw(_AMOUNTS)},"currency":"usd"}}'
    outbound = Step(
        "POST",
        "/v2/money_management/outbound_payments",
        text=f'{{"amount":{money},"from":{{"financial_account":"fa_1","currency":"usd"}},'
        '"to":{"recipient":"acct_2","payout_method":"usba_1"}}',
    )
    steps = [
        step("POST /v1/payouts", amount=draw(_AMOUNTS), currency="usd"),
        step("POST /v1/payouts/<po>/cancel"),
        step("POST /v1/topups", amount=draw(_AMOUNTS), currency="usd", source="src_1"),
        step("POST /v1/topups/<tu>/cancel"),
        step("POST /v1/transfers", amount=draw(_AMOUNTS), currency="usd", destination="acct_1"),
        step("POST /v1/transfers/<tr>/reversals", amount=draw(_AMOUNTS)),
        step("POST /v1/transfers/<tr>/reversals"),
        outbound,
        Step("POST", "/v2/money_management/outbound_payments/<obp>/cancel", text="{}"),
    ]
    at = draw(st.sampled_from([0, 2, 4, 7]))
    return [steps[at], *draw(st.lists(st.sampled_from(steps), max_size=4))]


STORIES = st.one_of(
    charge_story(), intent_story(), invoice_story(), subscription_story(), checkout_story(), funds_story()
)

_ODD_HEADERS = st.sampled_from(
    [
        b"Idempotency-Key: k1",
        b"Idempotency-Key: k2",
        b"idempotency-KEY: k1",
        b"Idempotency-Key: ",
        b"Idempotency-Key: \xff",
        b"Idempotency-Key: " + b"a" * 256,
        b"X-Run-Id: other",
        b"Spendgate-Run-Id: other",
        b"spendgate-run-id: ",
        b"Spendgate-Step: other",
        b"SPENDGATE-STEP: \xc3\xa9",
        b"Stripe-Account: acct_1",
        b"Stripe-Account: acct_9",
        b"Stripe-Context: acct_1",
        b"stripe-account: ",
        b"Stripe-Version: 2026-10-28.endive",
        b"Stripe-Version: 2012-01-01",
        b"Stripe-Version: a\tb",
        b"Content-Encoding: gzip",
        b"Content-Encoding: identity",
        b"Content-Type: application/json",
        b"Content-Type: text/plain",
        b"Content-Type: application/x-www-form-urlencoded; charset=utf-16",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding : chunked",
        b"Expect: 100-continue",
        b"Expect: 200-maybe",
        b"Upgrade: h2c",
        b"Connection: Upgrade",
        b"Connection: close",
        b"Connection: keep-alive, Authorization",
        b"X-HTTP-Method-Override: DELETE",
        b"X-Forwarded-For: 1.2.3.4",
        b"Authorization: Bearer sk_test_1",
        b"Authorization: Bearer <KEY1>",
        b"Authorization: Basic !!",
        b"User-Agent: \xff\xfe",
        b"X-Stripe-Client-User-Agent: {}",
        b"Cookie: a=b",
        b" folded: x",
        b"no colon",
        b"Trailer: Stripe-Account",
        b"Range: bytes=0-1",
        b"X: " + b"y" * 5000,
    ]
)
_KEYS = st.sampled_from(
    [b"Authorization: Bearer <KEY0>"] * 6
    + [b"Authorization: Bearer <KEY1>"] * 2
    + [
        b"Authorization: Basic <BASIC0>",
        b"authorization:bearer <KEY0>",
        b"Authorization: Bearer  <KEY0> ",
        b"Authorization: <KEY0>",
        b"Authorization: Bearer <KEY0>x",
        b"Authorization: Bearer",
        b"Authorization: Digest <KEY0>",
    ]
)


@st.composite
def heads(draw: DrawFn, number: int, content_type: str) -> tuple[bytes, ...]:
    """Headers that name the key, the run and the step, mostly as they should."""
    named = draw(st.sampled_from([b"s%d" % number] * 5 + [b"s"]))
    lines = [
        b"Host: api.stripe.com",
        draw(_KEYS),
        b"Spendgate-Run-Id: " + draw(st.sampled_from([b"a", b"a", b"b"])),
        b"Spendgate-Step: " + named,
    ]
    if content_type:
        lines.append(b"Content-Type: " + content_type.encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        lines.insert(draw(st.integers(0, len(lines))), draw(_ODD_HEADERS))
    if draw(st.integers(0, 15)) == 0:
        del lines[draw(st.integers(0, len(lines) - 1))]
    return tuple(lines)


def plain_head(number: int, content_type: str, key: int = 0, run: bytes = b"a") -> tuple[bytes, ...]:
    """Headers as they should be."""
    lines = [
        b"Host: api.stripe.com",
        b"Authorization: Bearer <KEY%d>" % key,
        b"Spendgate-Run-Id: " + run,
        b"Spendgate-Step: s%d" % number,
    ]
    return (*lines, b"Content-Type: " + content_type.encode()) if content_type else tuple(lines)


@st.composite
def targets(draw: DrawFn, path: str) -> bytes:
    """A path below the vendor's prefix, now and then written oddly."""
    if draw(st.integers(0, 5)) == 0:
        old, new = draw(PATH_ODDITIES)
        path = path.replace(old, new, 1)
    if draw(st.integers(0, 7)) == 0:
        path += draw(
            st.sampled_from(
                ["/", "?", "#", "#/capture", "//", "/..", "/refund", "%00", ".json", "?amount=1", "?a"]
            )
        )
    before = draw(
        st.sampled_from(
            ["/stripe"] * 12
            + ["http://api.stripe.com/stripe", "//stripe", "/stripe/../stripe", "/Stripe", "/stripe/"]
        )
    )
    return (before + path).encode()


_FRAMINGS = st.sampled_from(["length"] * 12 + ["chunked"] * 4 + ["both", "none", "long"])
_CUTS = st.sampled_from([()] * 3 + [(20,), (50, 90), (99,), (1, 2, 3)])


def _framed(step: Step, body: bytes, line: bytes, headers: tuple[bytes, ...]) -> Call:
    """A call with its parameters where its kind has them."""
    if body and (step.method == "GET" or (step.method == "DELETE" and step.path.startswith("/v1/"))):
        method, target, version = line.split(b" ", 2)
        return Call(b" ".join([method, target + b"?" + body, version]), headers)
    return Call(line, headers, body)


def _content_type(step: Step) -> str:
    if step.method != "POST":
        return ""
    return JSON if step.path.startswith("/v2/") else FORM


@st.composite
def as_written(draw: DrawFn, step: Step, number: int) -> Call:
    """A step as a library sends it."""
    body = step.text.encode() or draw(forms(st.just(list(step.pairs)), plain=True))
    line = f"{step.method} /stripe{step.path} HTTP/1.1".encode()
    key, run = draw(st.sampled_from([(0, b"a")] * 4 + [(1, b"a"), (0, b"b")]))
    call = _framed(step, body, line, plain_head(number, _content_type(step), key, run))
    return replace(call, twice=draw(st.integers(0, 9)) == 0)


@st.composite
def odd_bodies(draw: DrawFn, step: Step) -> tuple[bytes, str]:
    """A body for a step and its content type: with changes, now and then of another kind than is due."""
    if step.text:
        body = step.text.encode() if draw(st.booleans()) else _dumped(draw(json_objects()))
        return body, draw(st.sampled_from([JSON] * 9 + [FORM]))
    pairs = list(step.pairs) if "update" in KNOWN and _updates(step) else draw(mutated(list(step.pairs)))
    match draw(st.sampled_from(["form"] * 14 + ["json", "multipart"])):
        case "json":
            return _dumped(dict(pairs)), draw(st.sampled_from([JSON, FORM]))
        case "multipart":
            parts = [
                f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                for name, value in pairs
            ]
            return f"{''.join(parts)}--b--\r\n".encode(), draw(st.sampled_from([FILES, FORM]))
        case _:
            return draw(forms(st.just(pairs))), _content_type(step)


@st.composite
def odd(draw: DrawFn, step: Step, number: int) -> Call:
    """A step with changes in its path, headers, parameters, framing or packets."""
    body, content_type = draw(odd_bodies(step))
    method = draw(st.sampled_from([step.method] * 15 + ["PUT", "HEAD", "DELETE", "GET", "POST", "post"]))
    version = draw(st.sampled_from(["HTTP/1.1"] * 15 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.1 "]))
    line = b" ".join([method.encode(), draw(targets(step.path)), version.encode()])
    call = _framed(step, body, line, draw(heads(number, content_type)))
    return replace(call, framing=draw(_FRAMINGS), cuts=draw(_CUTS), twice=draw(st.integers(0, 9)) == 0)


def _updates(step: Step) -> bool:
    return step.path == "/v1/payment_intents/<pi>"


def _dumped(body: object) -> bytes:
    return json.dumps(body).encode("utf-8", "surrogatepass")


@st.composite
def scripts(draw: DrawFn, *, odd_ones: bool) -> list[Call]:
    """A story in which steps are told as they are, or one of them oddly."""
    story = draw(STORIES)
    strange = draw(st.integers(0, len(story) - 1)) if odd_ones else -1
    calls = [
        draw(odd(one, number)) if number == strange else draw(as_written(one, number))
        for number, one in enumerate(story)
    ]
    return calls[: strange + 1] if odd_ones and draw(st.booleans()) else calls
