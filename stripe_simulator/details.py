"""The descriptive parameters that charges and intents share."""

from dataclasses import replace

from stripe_simulator.objects import Details
from stripe_simulator.parameters import Parameters

_TEXTS = (
    "description",
    "receipt_email",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "on_behalf_of",
)
_HASHES = ("shipping", "transfer_data")


def read_details(parameters: Parameters, current: Details) -> Details:
    """The details after this request: what it names changes, what it sends empty is unset."""
    changed = replace(current)
    for name in _TEXTS:
        if name in parameters:
            setattr(changed, name, parameters.text(name))
    for name in _HASHES:
        if name in parameters:
            setattr(changed, name, parameters.mapping(name))
    if "application_fee_amount" in parameters:
        changed.application_fee_amount = parameters.positive_integer("application_fee_amount")
    return changed
