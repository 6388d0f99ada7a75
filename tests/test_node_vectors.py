"""The specification of derived keys, followed in another language: Node with its crypto module alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from spendgate import derive_key
from tests.processes import REPOSITORY
from tests.stack import CHARGE, Stack

NODE = shutil.which("node")
EXAMPLE = REPOSITORY / "examples" / "node_derive_key.js"
VECTORS = json.loads((REPOSITORY / "tests" / "vectors" / "derived_keys.json").read_text())

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

PROGRAM = """
const { caveats, deriveKey, derivedKeyId } = require(process.argv[1]);
const cases = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const made = cases.map(({ parent, arguments: said }) => {
  const { run_id: runId, expires_at: expiresAt, ...rest } = said;
  const key = deriveKey(parent, { runId, expiresAt, ...rest });
  return { key, id: derivedKeyId(key), caveats: caveats({ runId, expiresAt, ...rest }) };
});
console.log(JSON.stringify(made));
"""


def node(*argv: str, stdin: str) -> str:
    """What a program of Node prints."""
    assert NODE is not None
    done = subprocess.run([NODE, *argv], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_node_derives_what_the_vectors_have() -> None:
    """Every key with its caveats and its public id, to the last character."""
    cases: list[dict[str, Any]] = VECTORS["derived_keys"]
    assert len(cases) >= 3
    made = json.loads(node("-e", PROGRAM, str(EXAMPLE), stdin=json.dumps(cases)))
    for case, own in zip(cases, made, strict=True):
        assert own["caveats"] == case["caveats"], case["about"]
        assert own["key"] == case["derived_key"], case["about"]
        assert own["id"] == case["derived_key_id"], case["about"]


def test_a_key_that_node_derived_works_in_its_run_alone(stack: Stack) -> None:
    """The program as the documentation shows it, against a real Spendgate; Python derives the same."""
    parent = stack.key()
    derived = node(str(EXAMPLE), "order-79", stdin=parent.text).strip()
    assert derived == derive_key(parent.text, run_id="order-79")
    with stack.agent(parent) as http:
        http.headers["Authorization"] = f"Bearer {derived}"
        assert http.post("/charges", data=CHARGE).status_code == 200
        other = http.post("/charges", data=CHARGE, headers={"Spendgate-Run-Id": "order-80"})
    assert (other.status_code, other.json()["error"]["code"]) == (403, "run_not_allowed")
