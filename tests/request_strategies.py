"""Requests to Stripe as a hostile or careless client might write them, for Hypothesis."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sidecar.stripe.endpoints import ENDPOINTS, MONEY

Pair = tuple[str, str]

ODD_NUMBERS = [
    "0",
    "-1",
    "+5",
    "01",
    "007",
    "1e3",
    "1E3",
    "1.0",
    "1.5",
    ".5",
    "5.",
    "0x10",
    "1_000",
    "1,000",
    "NaN",
    "Infinity",
    "999999999999",
    "1000000000000",
    "9223372036854775808",
    "18446744073709551716",
    "",
    " 5",
    "5 ",
    "\t5",
    "5\n",
    "\uff1500",
    "\u0661\u0660\u0660",
    "1\xb2",
    "\u22125",
    "5\u200b",
    "\ufeff5",
]
NUMBERS = st.sampled_from([*map(str, (1, 50, 100, 600, 1900, 2500)), *ODD_NUMBERS])
ODD_TEXTS = [
    "",
    "true",
    "false",
    "usd",
    "USD",
    "eur",
    "jpy",
    "us d",
    "a&b=c",
    "a+b c",
    "%",
    "%2",
    "é",
    "\ud7ff",
    "😀",
    "\x01",
    "\u2028",
    "ch_1",
    "../v1/x",
]
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
)
VALUES = NUMBERS | TEXTS

_OUTER = [
    "amount",
    "currency",
    "source",
    "customer",
    "payment_method",
    "confirm",
    "capture_method",
    "charge",
    "payment_intent",
    "invoice",
    "price",
    "quantity",
    "items",
    "line_items",
    "lines",
    "mode",
    "metadata",
    "expand",
    "description",
    "destination",
    "transfer_data",
    "balance",
    "card",
    "amount_to_capture",
    "amount_to_confirm",
    "refund_amount",
    "idempotency_key",
    "key",
    "_stripe_account",
    "_method",
    "shipping_options",
    "subscription",
    "price_data",
    "restrictions",
    "add_invoice_items",
    "adjustable_quantity",
    "quantity_decimal",
    "unit_amount",
    "a_b",
    "A",
]
_INNER = [
    "",
    "0",
    "1",
    "00",
    "01",
    "10",
    "amount",
    "currency",
    "price",
    "quantity",
    "id",
    "value",
    "a.b",
    "a-b",
]
NAMES = st.builds(
    lambda outer, inner: outer + "".join(f"[{one}]" for one in inner),
    st.sampled_from(_OUTER),
    st.lists(st.sampled_from(_INNER), max_size=3),
)
ODD_NAMES = st.sampled_from(
    [
        "",
        "[]",
        "[a]",
        "a[b",
        "a]b[",
        "a[b]c",
        "a[[b]]",
        "a[b][c]d",
        "amount ",
        " amount",
        "am\u043eunt",
        "amount\0",
        "amount.x",
        "a" * 257,
        "a" + "[b]" * 9,
        "Key",
        "key[]",
        "key[a]",
    ]
)
PAIRS: SearchStrategy[list[Pair]] = st.lists(st.tuples(NAMES | ODD_NAMES, VALUES), max_size=8)


def _raw(text: str) -> str:
    return text


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _plus(text: str) -> str:
    return quote(text, safe=" ").replace(" ", "+")


def _lower_hex(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def _utf16(text: str) -> str:
    return quote(text.encode("utf-16"))


def _latin(text: str) -> str:
    return quote(text.encode("latin-1", "replace"))


WRITINGS = st.sampled_from([_quoted] * 8 + [_plus, _lower_hex, _raw, _utf16, _latin])


@st.composite
def forms(draw: DrawFn, pairs: SearchStrategy[list[Pair]] = PAIRS, *, plain: bool = False) -> bytes:
    """A form body: mostly as a library would write it, sometimes not, unless it must be plain."""
    if plain:
        return urlencode(draw(pairs)).encode()
    fields = []
    writings = draw(st.sampled_from([st.just(_quoted)] * 3 + [WRITINGS]))
    for name, value in draw(pairs):
        equals = draw(st.sampled_from(["="] * 40 + ["", "==", "%3D", " = "]))
        fields.append(draw(writings)(name).replace("%5B", "[").replace("%5D", "]") + equals)
        fields[-1] += draw(writings)(value)
    between = draw(st.sampled_from(["&"] * 30 + ["&&", ";", "\n", "&amp;"]))
    return between.join(fields).encode("utf-8", "surrogatepass")


PAY = [("amount", "1900"), ("currency", "usd")]
VALID: dict[str, list[list[Pair]]] = {
    "POST /v1/charges": [
        [*PAY, ("source", "tok_visa")],
        [*PAY, ("source", "tok_visa"), ("capture", "false")],
    ],
    "POST /v1/payment_intents": [
        PAY,
        [*PAY, ("payment_method", "pm_card_visa"), ("confirm", "true")],
        [*PAY, ("payment_method_types[]", "card"), ("payment_method_types[]", "link")],
        [*PAY, ("metadata[order]", "6735"), ("capture_method", "manual")],
    ],
    "POST /v1/refunds": [[("charge", "ch_1"), ("amount", "500")], [("payment_intent", "pi_1")]],
    "POST /v1/payouts": [PAY],
    "POST /v1/topups": [PAY],
    "POST /v1/transfers": [[*PAY, ("destination", "acct_1")]],
    "POST /v1/invoiceitems": [
        [*PAY, ("customer", "cus_1")],
        [("customer", "cus_1"), ("quantity", "2"), ("pricing[price]", "price_1")],
    ],
    "POST /v1/invoices": [[("customer", "cus_1"), ("pending_invoice_items_behavior", "include")]],
    "POST /v1/subscriptions": [
        [("customer", "cus_1"), ("items[0][price]", "price_1"), ("items[0][quantity]", "2")]
    ],
    "POST /v1/checkout/sessions": [
        [
            ("mode", "payment"),
            ("line_items[0][price_data][currency]", "usd"),
            ("line_items[0][price_data][unit_amount]", "1200"),
            ("line_items[0][price_data][product_data][name]", "Mug"),
            ("line_items[0][quantity]", "2"),
        ]
    ],
    "POST /v1/customers/{customer}/balance_transactions": [[("amount", "-500"), ("currency", "usd")]],
    "DELETE /v1/subscriptions/{subscription}": [[("prorate", "true")], []],
    "POST /v1/customers": [[("email", "a@example.com"), ("metadata[a]", "b")]],
}
"""Parameters that an endpoint takes, by method and template."""


@st.composite
def mutated(draw: DrawFn, pairs: list[Pair]) -> list[Pair]:
    """Parameters with at most a few changes."""
    pairs = list(pairs)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(pairs)))
        kind = draw(st.sampled_from(["value", "name", "more", "again", "less", "nest"]))
        if kind == "more" or at == len(pairs):
            pairs.insert(at, (draw(NAMES | ODD_NAMES), draw(VALUES)))
        elif kind == "value":
            pairs[at] = (pairs[at][0], draw(VALUES))
        elif kind == "name":
            pairs[at] = (draw(NAMES | ODD_NAMES), pairs[at][1])
        elif kind == "again":
            pairs.append((pairs[at][0], draw(VALUES)))
        elif kind == "nest":
            pairs[at] = (pairs[at][0] + draw(st.sampled_from(["[]", "[0]", "[amount]"])), pairs[at][1])
        else:
            del pairs[at]
    return pairs


@st.composite
def form_calls(draw: DrawFn) -> tuple[str, str, bytes]:
    """Method, path and parameters of a call that is valid, or nearly so."""
    endpoint = draw(st.sampled_from(sorted(VALID)))
    method, template = endpoint.split(" ")
    pairs = draw(st.sampled_from(VALID[endpoint]).flatmap(mutated))
    path = "/".join(draw(IDS) if part.startswith("{") else part for part in template.split("/"))
    return method, path, draw(forms(st.just(pairs)))


JSON_LEAVES = (
    st.sampled_from([1, 1200, 0, -5, 2**63, 10**40, 1.5, 1e3, True, False, None])
    | VALUES
    | st.sampled_from(["\ud800", "a\0b", "usd", "12"])
)
JSON_NAMES = st.sampled_from(
    [
        "note",
        "x",
        "amount",
        "value",
        "currency",
        "from",
        "to",
        "id",
        "key",
        "_method",
        "metadata",
        "a.b",
        "a-b",
        "0",
        "1",
        "recipient",
    ]
    * 4
    + ["", "a b", "é", "a[b]", "\ud800", "a\0"]
)


def json_values(leaves: int = 12) -> SearchStrategy[Any]:
    """Values of any shape."""
    return st.recursive(
        JSON_LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_NAMES, inner, max_size=4),
        max_leaves=leaves,
    )


@st.composite
def json_objects(draw: DrawFn) -> dict[str, Any]:
    """A valid payment with at most a few more names, or other values."""
    money = {"value": draw(st.just(1200) | JSON_LEAVES), "currency": draw(st.just("usd") | VALUES)}
    body: dict[str, Any] = {"amount": money, "from": {"currency": "usd"}, "to": {"recipient": "acct_2"}}
    where = draw(st.sampled_from([body, money]))
    where.update(draw(st.dictionaries(JSON_NAMES, json_values(4), max_size=2)))
    return body


@st.composite
def json_bodies(draw: DrawFn) -> bytes:
    """A JSON body: mostly an object, in several writings, sometimes with a name twice."""
    body = draw(json_objects() | json_values())
    text = json.dumps(body, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0 and text.startswith("{"):
        text = '{"amount":{"value":1},' + text[1:]
    encoding = draw(st.sampled_from(["utf-8"] * 20 + ["utf-16", "utf-8-sig"]))
    return text.encode(encoding, "surrogatepass")


PART_HEADERS = st.sampled_from(
    [
        'form-data; name="purpose"',
        'form-data; name="file"; filename="a.png"',
        'form-data; name="file"; filename="a\u00e9.png"',
        'form-data; name="file"; filename="../a"',
        'form-data; name="file"; filename="a\\"b"',
        'form-data; name="file"; filename=""',
        "form-data; name=file",
        "form-data; name=file; name=purpose",
        "form-data; name*=utf-8''file",
        "form-data; name*0=fi; name*1=le",
        "form-data; name=\"file\"; filename*=utf-8''a.png",
        'form-data; name="key"',
        'form-data; name="idempotency_key"',
        'form-data; name="file_link_data[create]"',
        'attachment; name="file"',
        "form-data",
        "",
    ]
)
MORE_PART_HEADERS = st.lists(
    st.sampled_from(
        [
            "Content-Type: image/png",
            "Content-Type: text/plain; charset=utf-16",
            "Content-Transfer-Encoding: base64",
            "content-disposition: form-data; name=b",
            "X: y",
            "X: y\n z",
            ": x",
            "Content-Length: 1",
        ]
    ),
    max_size=2,
)
CONTENTS = st.sampled_from(
    [b"", b"identity_document", b"\xff\xfe", b"--x\r\n", b"\r\n--b\r\n", b"a\0b"]
) | st.binary(max_size=20)


@st.composite
def multipart_bodies(draw: DrawFn) -> tuple[bytes, bytes]:
    """A multipart body and its content type."""
    boundary = draw(st.sampled_from(["b", "----x", "a b", "a" * 70, "a" * 71, ""]))
    line = draw(st.sampled_from(["\r\n"] * 9 + ["\n"]))
    body = b""
    for _ in range(draw(st.integers(0, 3))):
        head = [f"Content-Disposition: {draw(PART_HEADERS)}", *draw(MORE_PART_HEADERS)]
        body += f"--{boundary}{line}{line.join(head)}{line}{line}".encode() + draw(CONTENTS) + line.encode()
    body += draw(st.sampled_from([f"--{boundary}--{line}", f"--{boundary}--", f"--{boundary}", ""])).encode()
    quoted = draw(st.sampled_from([boundary, f'"{boundary}"', f"{boundary}; boundary=c", f'"{boundary}']))
    kind = draw(st.sampled_from(["multipart/form-data"] * 6 + ["multipart/mixed", "Multipart/Form-Data"]))
    return body, f"{kind}; boundary={quoted}".encode()


IDS = st.sampled_from(["ch_1", "pi_1", "in_1", "sub_1", "re_1", "cus_1", "po_1", "x", "a-b", "0", "refunds"])


@st.composite
def paths(draw: DrawFn) -> tuple[str, str]:
    """Method and path of an endpoint of the table; money comes up most."""
    endpoint = draw(st.sampled_from(MONEY) | st.sampled_from(ENDPOINTS))
    segments = [draw(IDS) if part.startswith("{") else part for part in endpoint.template.split("/")]
    return endpoint.method, "/".join(segments)


PATH_ODDITIES = st.sampled_from(
    [
        ("/v1/", "/V1/"),
        ("/v1/", "/v1//"),
        ("/v1/", "/v1/./"),
        ("/v1/", "/v1/charges/../"),
        ("/v1/", "/v1/%2e%2e/v1/"),
        ("/v1/", "/v2/"),
        ("/v1/", "/v1/../v2/"),
        ("c", "%63"),
        ("s", "S"),
        ("a", "\u0430"),
        ("/", "%2F"),
        ("/", "\\"),
        ("_", "-"),
        ("s", "s;x=1"),
        ("s", "s "),
        ("s", "s\0"),
    ]
)


@st.composite
def odd_paths(draw: DrawFn) -> tuple[str, str]:
    """Method and path, now and then written so that a careless reader takes it for another."""
    method, path = draw(paths())
    if draw(st.integers(0, 3)) == 0:
        old, new = draw(PATH_ODDITIES)
        path = path.replace(old, new, 1)
    if draw(st.integers(0, 7)) == 0:
        path += draw(
            st.sampled_from(["/", "?", "#", "//", "/..", "/refund", "/capture", "%00", ".json", "?amount=1"])
        )
    if draw(st.integers(0, 7)) == 0:
        method = draw(st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "post"]))
    return method, path
