"""grpcurl, unchanged, against a running policy server: reflection, four arguments, keys, the audit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from spendgate import DerivedCap, derive_key
from spendgate.derived_keys import derived_key_id
from tests.processes import REPOSITORY, policy_server_address, token, wait_for
from tests.stack import Stack

GRPCURL = shutil.which("grpcurl", path=f"{REPOSITORY}/.tools/bin{os.pathsep}{os.environ['PATH']}")

pytestmark = pytest.mark.skipif(
    GRPCURL is None, reason="grpcurl is not installed; `make grpcurl` builds it where Go is"
)


def arguments(stack: Stack, which: str, method: str, request: dict[str, Any] | None) -> list[str]:
    """The command for one call, with the admin or the sidecar token."""
    server = stack.policy_servers[0]
    body = ["-d", json.dumps(request)] if request is not None else []
    return [
        *(str(GRPCURL), "-plaintext", "-H", f"authorization: Bearer {token(server, which)}"),
        *(*body, policy_server_address(server), method),
    ]


def call(stack: Stack, which: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Make one call and return its response."""
    done = subprocess.run(
        arguments(stack, which, f"spendgate.v1.{method}", request),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    response: dict[str, Any] = json.loads(done.stdout)
    return response


def billing_key(stack: Stack, name: str) -> tuple[str, str]:
    """Make a vault key with grpcurl; return its secret and its id."""
    policy = {
        "allow": ["POST /v1/charges"],
        "caps": [{"amount": {"minor_units": 10000, "currency_code": "USD"}, "window": "WINDOW_DAY"}],
    }
    made = call(stack, "admin", "VaultKeyService/CreateVaultKey", {"name": name, "policy": policy})
    made = {key.replace("_", "").lower(): value for key, value in made.items()}
    return made["secretvaultkey"], made["vaultkey"].get("vault_key_id") or made["vaultkey"]["vaultKeyId"]


def test_services_are_listed_by_reflection(stack: Stack) -> None:
    """No proto file is needed to talk to the server."""
    listed = subprocess.run(
        arguments(stack, "admin", "list", None), capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()
    wanted = {"PolicyService", "VaultKeyService", "AuditService", "AccountService"}
    assert {f"spendgate.v1.{name}" for name in wanted} < set(listed)
    assert "grpc.health.v1.Health" in listed


def test_authorize_works_with_its_four_arguments(stack: Stack) -> None:
    """vault_key, endpoint, amount and run_id: allowed, then a duplicate; a second run is over the cap."""
    key, _ = billing_key(stack, "four-arguments")
    request = {
        "vault_key": key,
        "endpoint": "POST /v1/charges",
        "amount": {"minor_units": 6000, "currency_code": "USD"},
        "run_id": "run-1",
    }
    first = call(stack, "sidecar", "PolicyService/Authorize", request)
    again = call(stack, "sidecar", "PolicyService/Authorize", request)
    other = call(stack, "sidecar", "PolicyService/Authorize", {**request, "run_id": "run-2"})
    assert first["decision"] == again["decision"] == "DECISION_ALLOW"
    assert "duplicate" not in first
    assert again["duplicate"] is True
    assert other["decision"] == "DECISION_DENY"
    assert "DENY_REASON_CAP_EXCEEDED" in other.values()


def test_a_key_is_revoked_for_the_next_call(stack: Stack) -> None:
    """Revoked with grpcurl, refused at once."""
    key, key_id = billing_key(stack, "to-be-revoked")
    call(stack, "admin", "VaultKeyService/RevokeVaultKey", {"vault_key_id": key_id})
    request = {"vault_key": key, "endpoint": "GET /v1/charges", "run_id": "run-1"}
    answer = call(stack, "sidecar", "PolicyService/Authorize", request)
    assert "DENY_REASON_VAULT_KEY_REVOKED" in answer.values()


def test_the_audit_is_watched_live(stack: Stack, tmp_path: Any) -> None:
    """A watcher sees a decision as it is made."""
    key, key_id = billing_key(stack, "watched")
    seen = tmp_path / "events"
    filtered = {"filter": {"vault_key_id": key_id}}
    with seen.open("wb") as output:
        watcher = subprocess.Popen(
            arguments(stack, "admin", "spendgate.v1.AuditService/WatchAuditEvents", filtered), stdout=output
        )
    try:
        number = 0

        def decided_and_seen() -> bool:
            # The watcher begins at some moment; one of these decisions comes after it.
            nonlocal number
            number += 1
            request = {"vault_key": key, "endpoint": "POST /v1/refunds", "run_id": f"run-{number}"}
            call(stack, "sidecar", "PolicyService/Authorize", request)
            return '"endpoint_not_allowed"' in seen.read_text()

        wait_for(decided_and_seen, "the watcher has a decision")
    finally:
        watcher.terminate()
        watcher.wait(10)
    assert key not in seen.read_text()


def test_a_run_that_asks_again_and_again_is_frozen_and_let_go_on(stack: Stack) -> None:
    """The operator sees the run with the reason, and lifts it."""
    key, key_id = billing_key(stack, "in-circles")
    asked = {"vault_key": key, "endpoint": "POST /v1/refunds", "run_id": "run-1"}
    allowed = {**asked, "endpoint": "POST /v1/charges", "amount": {"minor_units": 1, "currency_code": "USD"}}
    for _ in range(10):
        assert (
            "DENY_REASON_ENDPOINT_NOT_ALLOWED"
            in call(stack, "sidecar", "PolicyService/Authorize", asked).values()
        )
    frozen = call(stack, "sidecar", "PolicyService/Authorize", allowed)
    assert "DENY_REASON_RUN_FROZEN" in frozen.values()
    listed = json.dumps(call(stack, "admin", "AccountService/ListFrozenRuns", {}))
    assert key_id in listed and "endpoint_not_allowed" in listed
    run = {"vault_key_id": key_id, "run_id": "run-1"}
    assert call(stack, "admin", "AccountService/UnfreezeRun", run) == {}
    assert call(stack, "sidecar", "PolicyService/Authorize", allowed)["decision"] == "DECISION_ALLOW"


def test_a_call_is_explained_without_its_secret(stack: Stack) -> None:
    """By the key's id; the rule that decides is among those that are shown."""
    _, key_id = billing_key(stack, "explained")
    asked = {
        "vault_key_id": key_id,
        "call": {
            "endpoint": "POST /v1/charges",
            "amount": {"minor_units": 10001, "currency_code": "USD"},
            "run_id": "run-1",
        },
    }
    told = call(stack, "admin", "VaultKeyService/ExplainAuthorization", asked)
    assert told["answer"]["decision"] == "DECISION_DENY"
    assert [rule["rule"] for rule in told["rules"] if rule["verdict"] == "RULE_VERDICT_BROKEN"] == ["usd/day"]


def test_a_derived_key_authorizes_and_is_revoked_alone(stack: Stack) -> None:
    """It names its run, brings its cap, and ends without its parent."""
    key, key_id = billing_key(stack, "parent")
    derived = derive_key(key, run_id="run-1", caps=[DerivedCap("total", 100, "USD")])
    asked = {
        "vault_key": derived,
        "endpoint": "POST /v1/charges",
        "amount": {"minor_units": 101, "currency_code": "USD"},
    }
    over = call(stack, "sidecar", "PolicyService/Authorize", asked)
    assert f"{derived_key_id(derived)}: usd/total" in over.values()
    asked["amount"] = {"minor_units": 100, "currency_code": "USD"}
    assert call(stack, "sidecar", "PolicyService/Authorize", asked)["decision"] == "DECISION_ALLOW"
    one = {"vault_key_id": key_id, "derived_key_id": derived_key_id(derived)}
    call(stack, "admin", "VaultKeyService/RevokeDerivedKey", one)
    ended = call(stack, "sidecar", "PolicyService/Authorize", asked)
    assert "DENY_REASON_VAULT_KEY_REVOKED" in ended.values()
    asked |= {"vault_key": key, "run_id": "run-2"}
    assert call(stack, "sidecar", "PolicyService/Authorize", asked)["decision"] == "DECISION_ALLOW"
