"""A vault key anywhere but in Authorization, however it is written: it is not sent and not recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from sidecar.vault_keys import masked
from spendgate.derived_keys import derive_key
from tests.processes import wait_for
from tests.stack import CHARGE, Stack, VaultKey

Send = Callable[[httpx.Client, str], httpx.Response]


def charge(http: httpx.Client, **headers: str) -> httpx.Response:
    """A charge that would be allowed, but for its headers."""
    return http.post("/charges", data=CHARGE, headers={"Spendgate-Run-Id": "run-1", **headers})


PLACES: dict[str, Send] = {
    "run": lambda http, key: charge(http, **{"Spendgate-Run-Id": key}),
    "part of a run": lambda http, key: charge(http, **{"Spendgate-Run-Id": f"run of {key}/1"}),
    "other header of a run": lambda http, key: http.post("/charges", data=CHARGE, headers={"X-Run-Id": key}),
    "step": lambda http, key: charge(http, **{"Spendgate-Step": key}),
    "idempotency key": lambda http, key: http.post("/charges", data=CHARGE, headers={"Idempotency-Key": key}),
    "form's idempotency key": lambda http, key: http.post(
        "/charges", data={**CHARGE, "idempotency_key": key}
    ),
    "path": lambda http, key: http.get(f"/charges/{key}"),
    "query": lambda http, key: raw_get(http, f"/charges?limit=1&customer={key}"),
    "user agent": lambda http, key: charge(http, **{"User-Agent": f"agent/{key}"}),
    "form": lambda http, key: http.post(
        "/charges", data={**CHARGE, "metadata[key]": f"it is {key}"}, headers={"Spendgate-Run-Id": "run-1"}
    ),
}

SPELLINGS: dict[str, Callable[[str], str]] = {
    "whole": lambda key: key,
    "in capitals": str.upper,
    "percent-encoded": lambda key: key.replace("_", "%5F"),
    "in capitals and percent-encoded": lambda key: key.upper().replace("_", "%5f"),
    "letters percent-encoded": lambda key: f"%76%6B{key[2:]}",
    "percent-encoded twice": lambda key: quote(key.replace("_", "%5F")),
    "its secret alone": lambda key: key[-32:],
    "its secret alone, in capitals": lambda key: key[-32:].upper(),
    "its secret alone, percent-encoded": lambda key: f"%{ord(key[-32]):x}{key[-31:]}",
}


def raw_get(http: httpx.Client, target: str) -> httpx.Response:
    """A GET whose query is sent as it is written here."""
    url = http.base_url.copy_with(raw_path=http.base_url.raw_path.rstrip(b"/") + target.encode())
    return http.send(httpx.Request("GET", url, headers=http.headers))


def requests(stack: Stack) -> list[dict[str, Any]]:
    """Everything that reached Stripe."""
    return list(stack.simulator.http.get("/requests").json())


def shown(stack: Stack, key: VaultKey, secrets: Iterable[str]) -> list[str]:
    """Events that have a secret in them, in whatever case; of everything that was refused until now."""
    with stack.agent(key, "last") as http:
        assert http.post("/charges?limit=1").status_code == 400
    wait_for(lambda: stack.events(key, run_id="last"), "the last refusal is on record")
    return [
        text
        for text in map(str, stack.events(key))
        if any(secret.lower() in text.lower() for secret in secrets)
    ]


@pytest.mark.parametrize("place", PLACES)
def test_a_key_in_another_place_stays_here(stack: Stack, place: str) -> None:
    """In any case and encoding; its secret too, which is all that there is to steal."""
    key = stack.key()
    with stack.agent(key) as http:
        for spelling, spelled in SPELLINGS.items():
            answer = PLACES[place](http, spelled(key.text))
            assert answer.status_code in {400, 403}, f"{spelling}: {answer.text}"
            assert key.text[-32:] not in answer.text.lower(), spelling
    assert requests(stack) == []
    assert shown(stack, key, [key.text[-32:], key.text[-31:]]) == []


def test_a_derived_key_stays_here_too(stack: Stack) -> None:
    """Whole, and the seed at its end alone, which signs for it."""
    key = stack.key()
    derived = derive_key(key.text, run_id="run-1")
    seed = derived.rpartition(".")[2]
    with stack.agent(VaultKey(derived, key.id, "")) as http:
        for text in (derived, derived.upper(), quote(derived).replace("_", "%5F"), seed, seed.upper()):
            for place in ("step", "query", "form", "user agent"):
                assert PLACES[place](http, text).status_code in {400, 403}, place
    assert requests(stack) == []
    assert shown(stack, key, [seed]) == []


def test_what_only_looks_like_a_key_passes(stack: Stack) -> None:
    """Names that agents use: no word, hash or UUID is taken for a secret."""
    key = stack.key()
    for number, run in enumerate(
        (
            "task_test_7",
            "risk_live_monitor",
            "vk_notes",
            f"vk_{key.id}",
            "a" * 32,
            "0b9c" * 8,
            "network_test_1",
        )
    ):
        with stack.agent(key, run) as http:
            answer = http.post(
                "/charges", data={**CHARGE, "amount": str(100 + number), "metadata[task_test_id]": run}
            )
            assert answer.status_code == 200, f"{run}: {answer.text}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_log_line_has_no_key(spelling: str) -> None:
    """What is masked has neither the caller's secret nor, whole, anybody's; and the rest of it stays."""
    own, other = (
        f"vk_{letter * 12}_{secret * 4}" for letter, secret in (("a", "abcdefgh"), ("b", "hgfedcba"))
    )
    spelled = SPELLINGS[spelling]
    line = masked(f"POST /v1/charges/{spelled(own)}/capture", own)
    assert own[-31:] not in line.lower()
    assert line.startswith("POST /v1/charges/")
    assert line.endswith("/capture")
    if "alone" not in spelling:
        assert other[-32:] not in masked(spelled(other), own).lower()
