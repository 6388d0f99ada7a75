"""httpx clients through the sidecar, with one run's key and name. Needs ``spendgate[http]``."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx

from spendgate import answers
from spendgate.run import DEFAULT_SIDECAR, Run, safe_sidecar
from spendgate.vault_key import SecretText

TIMEOUT_S = 90.0
"""Longer than the sidecar waits for Stripe, so that its answer is not missed."""


class RunAuth(httpx.Auth):
    """Puts vault key, run and step into requests to the sidecar, and into no others.

    Many runs may share one httpx client when each call is given the ``auth`` of
    its run.
    """

    def __init__(
        self,
        vault_key: str | SecretText,
        run_id: str = "",
        *,
        step: str = "",
        sidecar: str = DEFAULT_SIDECAR,
    ) -> None:
        """Take the key and the name of a run; raises `ValueError` for a raw Stripe key."""
        self.run = Run.of(vault_key, run_id, step)
        self._sidecar = httpx.URL(safe_sidecar(sidecar))

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Name the run; refuse to show the key to any other host."""
        ours, url = self._sidecar, request.url
        if (url.scheme, url.host, url.port) != (ours.scheme, ours.host, ours.port):
            raise ValueError(f"a vault key is for the sidecar at {ours}, not for {url.host}")
        for name, value in self.run.headers().items():
            if name == "Authorization" or name not in request.headers:
                request.headers[name] = value
        yield request

    def __repr__(self) -> str:
        return f"RunAuth({self.run!r}, sidecar={str(self._sidecar)!r})"


def client(
    vault_key: str | SecretText,
    run_id: str = "",
    *,
    step: str = "",
    sidecar: str = DEFAULT_SIDECAR,
    **options: Any,
) -> httpx.Client:
    """Return a client for one run, whose paths begin with the vendor: ``/stripe/v1/charges``.

    ``options`` go to httpx, such as ``verify``. It follows no redirects, uses no
    proxy of the environment, and repeats nothing by itself.
    """
    auth = RunAuth(vault_key, run_id, step=step, sidecar=sidecar)
    return httpx.Client(**_options(auth, sidecar, options))


def async_client(
    vault_key: str | SecretText,
    run_id: str = "",
    *,
    step: str = "",
    sidecar: str = DEFAULT_SIDECAR,
    **options: Any,
) -> httpx.AsyncClient:
    """Return a client as `client` does, for programs with an event loop."""
    auth = RunAuth(vault_key, run_id, step=step, sidecar=sidecar)
    return httpx.AsyncClient(**_options(auth, sidecar, options))


def raise_for_refusal(response: httpx.Response) -> httpx.Response:
    """Raise the `SpendGateError` that ``response`` is, or return it: the vendor's own errors pass."""
    if response.is_success:
        return response
    try:
        body = response.json()
    except ValueError:
        return response
    refused = answers.refusal(response.status_code, body)
    if refused is not None:
        raise refused
    return response


def _options(auth: RunAuth, sidecar: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "timeout": TIMEOUT_S,
        "trust_env": False,
        **options,
        "base_url": sidecar,
        "auth": auth,
        "follow_redirects": False,
    }
