"""What a sidecar says that a vault key may call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from spendgate.derived_keys import derive_key
from spendgate.v1 import policy_pb2
from tests.stack import STRIPE_KEY, Stack, VaultKey

ASKED = ["POST /v1/charges", "POST /v1/refunds", "GET /v1/charges/{charge}"]


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the sidecar, without a key."""
    with httpx.Client(base_url=stack.origin().removesuffix("/stripe"), trust_env=False) as http:
        yield http


def ask(
    http: httpx.Client, key: str, headers: Mapping[str, str] | None = None, **params: Any
) -> httpx.Response:
    """Ask what a key may call."""
    return http.get(
        "/spendgate/allowed",
        params=params or {"endpoint": ASKED},
        headers={**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})},
    )


def allowed(http: httpx.Client, key: VaultKey) -> list[str]:
    """What a key may call of `ASKED`."""
    answer = ask(http, key.text)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["allowed"])


def test_it_says_what_the_policy_allows_and_counts_nothing(stack: Stack, http: httpx.Client) -> None:
    """Whatever caps, currencies and parameters say; no event, no hold."""
    key = stack.key("POST /v1/charges", "GET /v1/*", caps=[])
    before = len(stack.events(key))
    assert allowed(http, key) == [ASKED[0], ASKED[2]]
    assert allowed(http, stack.key()) == ASKED
    rule = policy_pb2.ParameterRule(parameter="customer", one_of=["cus_1"], required=True)
    assert allowed(http, stack.key(parameter_rules=[rule], currencies=["EUR"])) == ASKED
    assert len(stack.events(key)) == before


def test_a_revoked_key_may_call_nothing(stack: Stack, http: httpx.Client) -> None:
    """And is told so."""
    key = stack.key()
    stack.revoke(key)
    answer = ask(http, key.text)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "vault_key_invalid")


@pytest.mark.parametrize("key", ["", STRIPE_KEY, "vk_aaaaaaaaaaaa_short", "vk_aaaaaaaaaaaa_" + "a" * 32])
def test_only_who_holds_a_vault_key_is_answered(http: httpx.Client, key: str) -> None:
    """No key, a raw one, a malformed one, an unknown one."""
    answer = ask(http, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "vault_key_invalid")
    assert STRIPE_KEY not in answer.text


@pytest.mark.parametrize(
    "params",
    [{"other": "POST /v1/charges"}, {"endpoint": ["GET /v1/charges"] * 17}, {"endpoint": "charges"}],
)
def test_a_question_that_is_none_is_refused(stack: Stack, http: httpx.Client, params: dict[str, Any]) -> None:
    """Nothing named, too many, no endpoint."""
    assert ask(http, stack.key().text, **params).status_code == 400


def test_only_get_is_answered(stack: Stack, http: httpx.Client) -> None:
    """It changes nothing."""
    assert http.post("/spendgate/allowed").status_code == 404


@pytest.mark.parametrize("header", ["Spendgate-Run-Id", "X-Run-Id", None])
def test_a_key_for_one_run_may_call_there(stack: Stack, http: httpx.Client, header: str | None) -> None:
    """The run is named by either header, or by the key alone, as for a call."""
    derived = derive_key(stack.key().text, run_id="order-42", allow=[ASKED[0]])
    named = {header: "order-42"} if header else {}
    answer = ask(http, derived, headers=named)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"allowed": [ASKED[0]]}


def test_a_key_for_one_run_may_call_nothing_in_another(stack: Stack, http: httpx.Client) -> None:
    """And a name that no call could have is refused as there."""
    derived = derive_key(stack.key().text, run_id="order-42")
    for header in ("Spendgate-Run-Id", "X-Run-Id"):
        answer = ask(http, derived, headers={header: "order-43"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "run_not_allowed")
        assert ask(http, derived, headers={header: "x" * 129}).status_code == 400
