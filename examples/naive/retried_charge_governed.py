"""The twin of `retried_charge.py`: the same loop through the sidecar, with a vault key and a named run.

The repeats are one effect, so that Stripe is asked to charge once. What can't be
mended by trying again ends the loop.
"""

from __future__ import annotations

import httpx

import spendgate.http
from spendgate.errors import SpendGateError
from spendgate.run import DEFAULT_SIDECAR
from spendgate.vault_key import SecretText

_TRIES = 5


def bill(
    customer: str, *, vault_key: str | SecretText, run_id: str, sidecar: str = DEFAULT_SIDECAR
) -> list[str]:
    """Charge a customer 19 USD; return what was said, without saying whom."""
    said = ["user: bill the customer of this order, 19 USD"]
    with spendgate.http.client(vault_key, run_id, sidecar=sidecar) as http:
        for _ in range(_TRIES):
            try:
                answer = http.post(
                    "/stripe/v1/charges", data={"amount": 1900, "currency": "usd", "customer": customer}
                )
                spendgate.http.raise_for_refusal(answer).raise_for_status()
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                said.append(f"tool: {type(error).__name__}, trying again")
                continue
            except SpendGateError as refused:
                said.append(f"tool: {refused.message}")
                # A cap has room again after its reset, for which no run waits.
                if refused.retryable and refused.cap is None:
                    continue
                break
            said.append(f"tool: charged, {answer.json()['id']}")
            break
    return said
