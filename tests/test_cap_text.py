"""Caps, parameter rules and amounts as operators write them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendgate import cap_text, currencies, parameter_text
from spendgate.v1 import amount_pb2, policy_pb2

CALENDAR_WINDOWS = ("hour", "day", "week", "month")


def money(minor: int, currency: str, window: policy_pb2.Window, **more: object) -> policy_pb2.Cap:
    amount = amount_pb2.Amount(minor_units=minor, currency_code=currency)
    return policy_pb2.Cap(amount=amount, window=window, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("usd 500.00/day", money(50_000, "USD", policy_pb2.WINDOW_DAY)),
        ("usd 100/call", money(10_000, "USD", policy_pb2.WINDOW_CALL)),
        ("USD 0/Total", money(0, "USD", policy_pb2.WINDOW_TOTAL)),
        ("  usd   0.5 / hour ", money(50, "USD", policy_pb2.WINDOW_HOUR)),
        (
            "jpy 5000/month in Asia/Tokyo",
            money(5_000, "JPY", policy_pb2.WINDOW_MONTH, time_zone="Asia/Tokyo"),
        ),
        ("kwd 1.250/week", money(1_250, "KWD", policy_pb2.WINDOW_WEEK)),
        ("isk 500/day", money(50_000, "ISK", policy_pb2.WINDOW_DAY)),
        ("ugx 500/run", money(50_000, "UGX", policy_pb2.WINDOW_RUN)),
        ("usd 5/day in UTC", money(500, "USD", policy_pb2.WINDOW_DAY)),
        ("usd 5/day in Etc/GMT+5", money(500, "USD", policy_pb2.WINDOW_DAY, time_zone="Etc/GMT+5")),
        (
            "calls 20/run on POST /v1/charges",
            policy_pb2.Cap(calls=20, window=policy_pb2.WINDOW_RUN, endpoints=["POST /v1/charges"]),
        ),
        (
            "Calls 9007199254740991/day in Europe/Berlin on POST /v1/refunds,  GET /v1/*",
            policy_pb2.Cap(
                calls=2**53 - 1,
                window=policy_pb2.WINDOW_DAY,
                time_zone="Europe/Berlin",
                endpoints=["POST /v1/refunds", "GET /v1/*"],
            ),
        ),
    ],
)
def test_a_cap_is_read_as_written(text: str, cap: policy_pb2.Cap) -> None:
    assert cap_text.parse(text) == cap
    assert cap_text.parse(cap_text.text(cap)) == cap


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the currency ''"),
        ("usd", "the amount ''"),
        ("500/day", "the currency '500/day'"),
        ("usd500/day", "the currency 'usd500/day'"),
        ("$500/day", "the currency '$500/day'"),
        ("xyz 5/day", "the currency 'xyz'"),
        ("call 5/day", "the currency 'call'"),
        ("usd /day", "the amount '' is empty"),
        ("usd 5,000/day", "the amount '5,000' has a separator"),
        ("usd 1.000.000/day", "the amount '1.000.000' is not a number"),
        ("usd 5_000/day", "the amount '5_000' has a separator"),
        ("usd -5/day", "the amount '-5' has a sign"),
        ("usd +5/day", "the amount '+5' has a sign"),
        ("usd 5e3/day", "the amount '5e3' has an exponent"),
        ("usd 007/day", "the amount '007' has leading zeros"),
        ("usd .50/day", "the amount '.50' is not a number"),
        ("usd 5./day", "the amount '5.' is not a number"),
        ("usd 5.001/day", "has too many decimals: USD has at most 2 decimals"),
        ("jpy 5.0/day", "has too many decimals: JPY has no decimals"),
        ("usd 90071992547409.92/day", "is too large; the most is 90071992547409.91"),
        ("usd \u0665/day", "characters other than ASCII"),
        ("u\u017fd 5/day", "characters other than ASCII"),
        ("usd 5", "the window is missing"),
        ("usd 5/", "the window is missing"),
        ("usd 5 day", "the amount '5 day'"),
        ("usd 5/year", "the window 'year' is not one of call, run, hour, day, week, month, total"),
        ("usd 5/day/call", "the window 'day/call'"),
        ("usd 5/day per agent", "the window 'day per agent'"),
        ("usd 5/day in", "the time zone ''"),
        ("usd 5/day in New York", "the time zone 'New York'"),
        ("usd 5/call in Asia/Tokyo", "the window call follows no calendar"),
        ("usd 5/run in UTC", "the window run follows no calendar"),
        ("usd 5/total in Asia/Tokyo", "the window total follows no calendar"),
        ("usd 5/day on", "an endpoint is missing"),
        ("usd 5/day on POST /v1/charges,", "an endpoint is missing"),
        ("usd 5/day on /v1/charges", "the endpoint '/v1/charges'"),
        ("usd 5/day on post /v1/charges", "the endpoint 'post /v1/charges'"),
        ("usd 5/day on POST /v1/charges in UTC", "the endpoint 'POST /v1/charges in UTC'"),
        ("calls 0/day", "the count '0'"),
        ("calls 1.5/day", "the count '1.5'"),
        ("calls 9007199254740992/day", "the count '9007199254740992'"),
        ("calls 5", "the window is missing"),
        ("calls 5/call", "counts the calls of one call"),
    ],
)
def test_a_malformed_cap_is_named_with_an_example(text: str, part: str) -> None:
    with pytest.raises(cap_text.CapTextError) as raised:
        cap_text.parse(text)
    message = str(raised.value)
    assert message.startswith(f"in the cap {text!r}, ")
    assert part in message
    assert "\n" not in message


def segments() -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.from_regex(r"[a-z0-9_.~-]{1,12}|\{[a-z]{1,8}\}", fullmatch=True))


def endpoint_lists() -> st.SearchStrategy[list[str]]:
    methods = st.sampled_from(["GET", "POST", "DELETE", "*"])
    paths = st.lists(segments(), min_size=1, max_size=4).map("/".join)
    return st.lists(st.builds(lambda method, path: f"{method} /{path}", methods, paths), max_size=3)


@st.composite
def caps(draw: st.DrawFn) -> policy_pb2.Cap:
    """Any cap that the policy server would take."""
    cap = policy_pb2.Cap()
    limit = draw(st.integers(0, currencies.MAX_MINOR_UNITS))
    windows = set(cap_text.WINDOWS)
    if draw(st.booleans()):
        cap.amount.minor_units = limit
        cap.amount.currency_code = draw(st.sampled_from(sorted(currencies.DECIMALS)))
    else:
        cap.calls = max(1, limit)
        windows.remove("call")
    window = draw(st.sampled_from(sorted(windows)))
    cap.window = cap_text.WINDOWS[window]
    if window in CALENDAR_WINDOWS:
        cap.time_zone = draw(st.sampled_from(["", "Asia/Tokyo", "America/Port-au-Prince", "Etc/GMT-14"]))
    cap.endpoints.extend(draw(endpoint_lists()))
    return cap


@given(caps())
def test_every_cap_survives_being_written_and_read(cap: policy_pb2.Cap) -> None:
    assert cap_text.parse(cap_text.text(cap)) == cap


@given(st.text())
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        cap_text.parse(text)
    except cap_text.CapTextError as error:
        assert str(error).startswith("in the cap ")


def test_what_only_a_newer_server_knows_is_shown_as_a_number() -> None:
    assert cap_text.text(money(5, "XTS", policy_pb2.WINDOW_DAY)) == "xts 5 minor units/day"
    newer = policy_pb2.Cap.FromString(policy_pb2.Cap(calls=5).SerializeToString() + b"\x18\x63")
    assert cap_text.text(newer) == "calls 5/window-99"
    assert currencies.text(5, "XTS") == "5 XTS (minor units)"


@given(st.sampled_from(sorted(currencies.DECIMALS)), st.integers(0, currencies.MAX_MINOR_UNITS))
def test_every_amount_survives_being_written_and_read(currency: str, minor: int) -> None:
    written = currencies.major_units(minor, currency)
    assert Decimal(written).scaleb(currencies.DECIMALS[currency]) == minor
    assert currencies.minor_units(currency.lower(), written) == minor
    assert currencies.text(minor, currency) == f"{written} {currency}"


def test_amounts_have_the_decimals_that_stripe_counts() -> None:
    assert currencies.minor_units("usd", "500.00") == 50_000
    assert currencies.text(50_000, "usd") == "500.00 USD"
    assert currencies.text(5, "USD") == "0.05 USD"
    assert currencies.text(500, "JPY") == "500 JPY"
    assert currencies.text(1_250, "KWD") == "1.250 KWD"
    without = {code for code, decimals in currencies.DECIMALS.items() if decimals == 0}
    assert " ".join(sorted(without)) == "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
    # No smaller unit, or none in payouts, and yet two decimals in charges.
    assert {currencies.decimals(code) for code in ("isk", "ugx", "huf", "twd")} == {2}
    for unknown in ("xyz", "u\u017fd", ""):
        with pytest.raises(ValueError, match="is not a currency that Stripe charges in"):
            currencies.minor_units(unknown, "1")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("customer=cus_1", policy_pb2.ParameterRule(parameter="customer", one_of=["cus_1"])),
        (
            "customer=cus_1,cus_2 required",
            policy_pb2.ParameterRule(parameter="customer", one_of=["cus_1", "cus_2"], required=True),
        ),
        ("!destination", policy_pb2.ParameterRule(parameter="destination")),
        (
            "!transfer_data[destination] on POST /v1/charges, POST /v1/payment_intents",
            policy_pb2.ParameterRule(
                parameter="transfer_data[destination]",
                endpoints=["POST /v1/charges", "POST /v1/payment_intents"],
            ),
        ),
        (
            "currency=usd=x required on *  /v1/charges",
            policy_pb2.ParameterRule(
                parameter="currency", one_of=["usd=x"], required=True, endpoints=["* /v1/charges"]
            ),
        ),
    ],
)
def test_a_parameter_rule_is_read_as_written(text: str, rule: policy_pb2.ParameterRule) -> None:
    assert parameter_text.parse(text) == rule
    assert parameter_text.parse(parameter_text.text(rule)) == rule


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the parameter is missing"),
        ("on POST /v1/charges", "a value is missing"),
        ("customer", "a value is missing"),
        ("customer=", "a value is missing"),
        ("customer=a,,b", "a value is missing"),
        ("customer!=a", "the parameter name 'customer!'"),
        ("=a", "the parameter name ''"),
        ("!", "the parameter name ''"),
        ("!a=b", "the parameter name 'a=b'"),
        ("!a required", "'required' can't follow a forbidden parameter"),
        ("customer=a b", "'b' is not understood"),
        ("customer=a on", "an endpoint is missing"),
        ("customer=a on charges", "the endpoint 'charges'"),
    ],
)
def test_a_malformed_parameter_rule_is_named_with_an_example(text: str, part: str) -> None:
    with pytest.raises(parameter_text.ParameterTextError, match=re.escape(part)):
        parameter_text.parse(text)
