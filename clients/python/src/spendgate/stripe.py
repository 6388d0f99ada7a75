"""Stripe's official SDK through the sidecar, with one run's key and name. Needs ``spendgate[stripe]``.

Every call has a run, so the SDK's own retries repeat the same effect and pay
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe

from spendgate import answers, errors
from spendgate.run import DEFAULT_SIDECAR, RUN_HEADER, Run, safe_sidecar
from spendgate.vault_key import SecretText

_MODULE_ADDRESSES = ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")


def client(
    vault_key: str | SecretText,
    run_id: str = "",
    *,
    step: str = "",
    sidecar: str = DEFAULT_SIDECAR,
    http_client: stripe.HTTPClient | None = None,
    **options: Any,
) -> stripe.StripeClient:
    """Return a `stripe.StripeClient` for one run, all of whose calls go to the sidecar.

    ``http_client`` may be shared by the clients of many runs; ``options`` go to
    `stripe.StripeClient`. A call of its own step says so in its options:
    ``{"headers": {"Spendgate-Step": "deposit"}}``. Raises `ValueError` for a raw
    Stripe key.
    """
    run = Run.of(vault_key, run_id, step)
    base = _base(sidecar)
    return stripe.StripeClient(
        run.key.get_secret_value(),
        base_addresses={"api": base, "files": base, "connect": base, "meter_events": base},
        http_client=_RunClient(run, http_client),
        **options,
    )


def set_module_addresses(sidecar: str = DEFAULT_SIDECAR) -> None:
    """Let every module-style call, such as ``stripe.Charge.create``, go to the sidecar.

    Addresses are no secret, so they may be module state; keys are not. Raises
    `RuntimeError` when ``stripe.api_key`` is set: pass `call_options` instead.
    """
    if stripe.api_key is not None:
        raise RuntimeError(
            "stripe.api_key is set, so every run in this process would share one key; set it to None, and "
            "pass **spendgate.stripe.call_options(vault_key, run_id) to each call"
        )
    for name in _MODULE_ADDRESSES:
        setattr(stripe, name, _base(sidecar))


def call_options(vault_key: str | SecretText, run_id: str, *, step: str = "") -> dict[str, Any]:
    """Return what a module-style call is given, so that it carries the key and the name of its run.

    ``stripe.Charge.create(amount=1900, currency="usd", source=…, **call_options(key, run))``.
    """
    run = Run.of(vault_key, run_id, step)
    headers = run.headers()
    del headers["Authorization"]
    return {"api_key": run.key.get_secret_value(), "headers": headers}


def refusal(error: stripe.StripeError) -> errors.SpendGateError | None:
    """Return what Spendgate refused a call with; None for Stripe's own errors and lost connections."""
    return answers.refusal(error.http_status or 0, error.json_body)


class _RunClient(stripe.HTTPClient):
    """Names the run in each request."""

    def __init__(self, run: Run, inner: stripe.HTTPClient | None) -> None:
        super().__init__()
        self._run = run
        self._inner: Any = inner or stripe.new_default_http_client()
        self._inner_async: Any = inner
        self.name = self._inner.name  # type: ignore[misc]

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **more: Any) -> Any:
        return self._inner.request(method, url, self._named(headers), post_data, **more)

    def request_stream(self, method: str, url: str, headers: Any, post_data: Any = None, **more: Any) -> Any:
        return self._inner.request_stream(method, url, self._named(headers), post_data, **more)

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        return await self._asynchronous().request_async(method, url, self._named(headers), post_data)

    async def request_stream_async(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        return await self._asynchronous().request_stream_async(method, url, self._named(headers), post_data)

    def sleep_async(self, secs: float) -> Any:
        return self._asynchronous().sleep_async(secs)

    def close(self) -> None:
        self._inner.close()

    async def close_async(self) -> None:
        await self._asynchronous().close_async()

    def _asynchronous(self) -> Any:
        # Made when it is needed: its TLS context takes a while, and most programs use one kind of call.
        if self._inner_async is None:
            self._inner_async = stripe.HTTPXClient()
        return self._inner_async

    def _named(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        # A call may have a step of its own, but no other run and no other key.
        own = self._run.headers()
        given = {name.title(): value for name, value in (headers or {}).items()}
        return {**own, **given, RUN_HEADER: own[RUN_HEADER], "Authorization": own["Authorization"]}


def _base(sidecar: str) -> str:
    return f"{safe_sidecar(sidecar)}/stripe"
