"""A Stripe simulator for its own tests, spoken to with Stripe's library and with raw requests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import stripe

PROJECT = Path(__file__).resolve().parents[1]
KEY = "sk_test_simulator"
DAY_SECONDS = 24 * 60 * 60
CHARGE = {"amount": "2000", "currency": "usd", "source": "tok_visa"}
PAY = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa"}


def start_simulator(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A simulator on a free port; the line it prints when it listens gives the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stripe_simulator", "--port", "0", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("stripe simulator listening on http://127.0.0.1:"), line
    return process, line.rpartition(" ")[2]


def stop_simulator(process: subprocess.Popen[str], by: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(by)
    status = process.wait(timeout=30)
    assert process.stdout is not None
    process.stdout.close()
    return status


class Simulator:
    """The running simulator, with the two ways to talk to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.raw = httpx.Client(base_url=url, timeout=60)
        client: Any = stripe.StripeClient(
            KEY, base_addresses={"api": url, "files": url}, max_network_retries=0
        )
        # Untyped on purpose: the library's parameter types would refuse what these tests must send.
        self.stripe: Any = client.v1
        self.v2: Any = client.v2

    def post(
        self, path: str, data: dict[str, str] | str | None = None, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """A form POST; a string is sent as it is."""
        sent = {"Authorization": f"Bearer {KEY}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if key is not None:
            sent["Idempotency-Key"] = key
        if isinstance(data, str):
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
            return self.raw.post(path, content=data, headers=sent)
        return self.raw.post(path, data=data, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {KEY}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.raw.get(path, headers=sent).json()

    def post_json(
        self, path: str, body: object, key: str | None = None, method: str = "POST", **headers: str
    ) -> httpx.Response:
        """A v2 request."""
        sent = {"Authorization": f"Bearer {KEY}", "Stripe-Version": "2026-10-28.endive"}
        sent |= {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Idempotency-Key"] = key
        content = b"" if body is None else json.dumps(body)
        return self.raw.request(method, path, content=content, headers=sent)

    def control(self, name: str, body: object) -> Any:
        answer = self.raw.post(f"/_simulator/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, object_id: str, **choices: object) -> Any:
        """The customer pays; returns the object, and fails if the customer was refused."""
        answer = self.control("pay", {"id": object_id, **choices})
        assert answer["error"] is None, answer
        return answer["object"]

    def resolve(self, object_id: str, outcome: str) -> Any:
        """What waited for a person or a bank is decided."""
        return self.control("resolve", {"id": object_id, "outcome": outcome})["object"]

    def money_of_last(self) -> list[tuple[str, str, int | None, int | None]]:
        """Step, direction, amount and new amount of each movement that the last request made."""
        moved = self.seen()[-1]["money"]
        return [(one["step"], one["direction"], one["amount"], one["new"]) for one in moved]

    def seen(self, name: str = "requests") -> Any:
        return self.raw.get(f"/_simulator/{name}").json()

    def fault(self, kind: str, **fields: object) -> None:
        self.control("faults", {"fault": kind, "match": {"method": "POST"}, **fields})

    def has_admitted_one(self) -> bool:
        """Whether the first request got past authentication, where it also takes its idempotency key."""
        seen = self.seen()
        return bool(seen) and seen[0]["authorization"]["kind"] == "bearer"

    def event_types(self) -> list[str]:
        """Oldest first."""
        return [event["type"] for event in reversed(self.get("/v1/events?limit=100")["data"])]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert isinstance(error, dict)
    return error


def error_in(raised: stripe.StripeError) -> dict[str, Any]:
    body = raised.json_body
    assert isinstance(body, dict) and isinstance(body["error"], dict)
    return body["error"]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process is sure to bring about."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")
