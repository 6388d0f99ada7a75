"""The shipping options of a checkout page: rates by id, or described in the request."""

from __future__ import annotations

from collections.abc import Callable

from stripe_simulator.call import Call
from stripe_simulator.checkout.shipping_rates import RATE_DATA, ShippingRate, keep_rate, read_rate_amount
from stripe_simulator.errors import missing_parameter
from stripe_simulator.parameters import Parameters

FindRate = Callable[[Call], ShippingRate]


def read_shipping_options(parameters: Parameters) -> list[FindRate]:
    return [
        _read_option(sent)
        for sent in parameters.hashes("shipping_options", "shipping_rate shipping_rate_data")
    ]


def _read_option(sent: Parameters) -> FindRate:
    data, named = sent.hash("shipping_rate_data", RATE_DATA), sent.text("shipping_rate")
    if data is not None:
        described = read_rate_amount(data)
        return lambda call: keep_rate(call, described)
    if named is None:
        raise missing_parameter(sent.full_name("shipping_rate"))
    param = sent.full_name("shipping_rate")
    return lambda call: call.ledger.shipping_rates.require(named, param=param, status=400)
