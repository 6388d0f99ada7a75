"""NAIVE, not to be copied: a charge that is tried again until an answer arrives.

What goes wrong: Stripe charges, the answer is lost, and the next try charges again.
The twin is `retried_charge_governed.py`.
"""

from __future__ import annotations

import httpx

_TRIES = 5


def bill(customer: str, *, stripe: str, secret_key: str) -> list[str]:
    """Charge a customer 19 USD; return what was said."""
    said = [f"user: bill {customer}, 19 USD"]
    with httpx.Client(base_url=stripe, headers={"Authorization": f"Bearer {secret_key}"}) as http:
        for _ in range(_TRIES):
            try:
                answer = http.post(
                    "/v1/charges", data={"amount": 1900, "currency": "usd", "customer": customer}
                )
            except httpx.TransportError as error:
                said.append(f"tool: {error}, trying again")
                continue
            if answer.is_success:
                said.append(f"tool: charged, {answer.json()['id']}")
                break
            said.append(f"tool: {answer.status_code}, trying again")
    return said
