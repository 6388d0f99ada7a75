"""How many decimals each currency has in the amounts that Stripe counts.

Stripe counts money in integer minor units, and not always as ISO 4217 does:
`UGX` and `ISK` have no smaller unit, yet count with two decimals, and `HUF` and
`TWD` have two decimals except in payouts. An amount that is off by a power of
ten is a wrong cap, so an unknown currency is refused and never guessed.
"""

from __future__ import annotations

import re

MAX_MINOR_UNITS = 2**53 - 1
"""Largest amount the policy server counts."""

_NO_DECIMALS = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
_THREE_DECIMALS = "bhd jod kwd omr tnd"
_TWO_DECIMALS = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny
    cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk
    jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio
    nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs
    top try ttd twd tzs uah ugx usd uyu uzs wst xcd yer zar zmw
"""

DECIMALS: dict[str, int] = {
    code.upper(): decimals
    for codes, decimals in ((_NO_DECIMALS, 0), (_TWO_DECIMALS, 2), (_THREE_DECIMALS, 3))
    for code in codes.split()
}
"""Decimals on the wire by upper-case code."""

_NUMBER = re.compile(r"(?P<whole>0|[1-9][0-9]*)(?:\.(?P<fraction>[0-9]+))?")


def decimals(currency: str) -> int:
    """Return how many decimals `currency`, in any case, has; raises `ValueError` when Stripe has it not."""
    # Some other letters have an ASCII letter as their upper case.
    known = DECIMALS.get(currency.upper()) if currency.isascii() else None
    if known is None:
        raise ValueError(f"{currency!r} is not a currency that Stripe charges in; write a code such as usd")
    return known


def minor_units(currency: str, amount: str) -> int:
    """Return `amount`, written in major units such as "500.00", in minor units.

    Only ASCII digits and one decimal point are read, so that nothing is
    rounded and no separator is mistaken. Raises `ValueError` with one sentence
    that says what is wrong.
    """
    places = decimals(currency)
    match = _NUMBER.fullmatch(amount)
    if match is None:
        raise ValueError(f"the amount {amount!r} {_what_is_wrong(amount)}")
    fraction = match["fraction"] or ""
    if len(fraction) > places:
        most = f"at most {places} decimals" if places else "no decimals"
        raise ValueError(f"the amount {amount!r} has too many decimals: {currency.upper()} has {most}")
    minor = int(match["whole"] + fraction.ljust(places, "0"))
    if minor > MAX_MINOR_UNITS:
        raise ValueError(
            f"the amount {amount!r} is too large; the most is {major_units(MAX_MINOR_UNITS, currency)}"
        )
    return minor


def major_units(minor: int, currency: str) -> str:
    """Return `minor` units of `currency` in major units, such as "500.00".

    Raises `ValueError` when Stripe has not the currency.
    """
    places = decimals(currency)
    whole, fraction = divmod(minor, 10**places)
    return f"{whole}.{fraction:0{places}}" if places else str(whole)


def text(minor: int, currency: str) -> str:
    """Return an amount for people, such as "500.00 USD".

    A currency that is not in the table is shown in minor units and says so,
    because a newer server may count one that this version does not know.
    """
    code = currency.upper()
    if code not in DECIMALS:
        return f"{minor} {code} (minor units)"
    return f"{major_units(minor, code)} {code}"


def _what_is_wrong(amount: str) -> str:
    if not amount:
        return "is empty; write a number such as 500.00"
    if amount[0] in "+-":
        return "has a sign; write a plain number such as 500.00"
    if not amount.isascii():
        return "has characters other than the digits 0 to 9; write a plain number such as 500.00"
    if re.fullmatch(r"[0-9.]+e[+-]?[0-9]+", amount, re.IGNORECASE):
        return "has an exponent; write it out, such as 500.00"
    if re.fullmatch(r"[0-9]+([,_' ][0-9]+)+(\.[0-9]*)?", amount):
        return "has a separator; write digits and at most one decimal point, such as 1000.00"
    if re.fullmatch(r"0[0-9]+(\.[0-9]+)?", amount):
        return "has leading zeros; write a plain number such as 500.00"
    return "is not a number; write digits and at most one decimal point, such as 500.00"
