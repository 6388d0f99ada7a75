"""The currencies Stripe charges in, their decimal digits on the wire and their smallest charge.

Source: Stripe's page on supported currencies. Amounts are integer minor units.
"""

_TWO_DECIMALS = (
    "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf "
    "cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr "
    "isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn "
    "nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb "
    "tjs top try ttd twd tzs uah ugx uyu uzs wst xcd yer zar zmw"
)
_NO_DECIMALS = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
_THREE_DECIMALS = "bhd jod kwd omr tnd"

DECIMAL_DIGITS: dict[str, int] = {
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
}

# Stripe publishes a minimum for these; for the rest it converts, and 50 minor units stand in for that.
_SMALLEST_CHARGE = {
    "aed": 200,
    "czk": 1500,
    "dkk": 250,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "thb": 1000,
}
_SMALLEST_CHARGE_ELSEWHERE = 50

LARGEST_CHARGE = 99_999_999
"""Minor units: Stripe takes at most eight digits."""

# Whole units sent with two decimals, and three-decimal currencies whose last digit no card network carries.
_AMOUNT_STEP = {"isk": 100, "ugx": 100, **dict.fromkeys(_THREE_DECIMALS.split(), 10)}

_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£"}


def smallest_charge(currency: str) -> int:
    """The smallest amount Stripe charges, in minor units."""
    return _SMALLEST_CHARGE.get(currency, _SMALLEST_CHARGE_ELSEWHERE)


def amount_step(currency: str) -> int:
    """An amount must be a multiple of this many minor units."""
    return _AMOUNT_STEP.get(currency, 1)


def written(amount: int, currency: str) -> str:
    """The amount as Stripe's messages write it: `$0.50` for dollars, `500 jpy` for yen."""
    digits = DECIMAL_DIGITS[currency]
    whole, fraction = divmod(amount, 10**digits)
    number = f"{whole:,}.{fraction:0{digits}d}" if digits else f"{whole:,}"
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{number}" if symbol else f"{number} {currency}"
