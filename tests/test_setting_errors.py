"""A setting that can't be used is named as whoever set it knows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import clean_environment

STRIPE = {"STRIPE_SECRET_KEY": "rk_test_51SettingsOfTheTests"}
REDIS = {"SPENDGATE_REDIS_URL": "unix:///nowhere"}

WRONG: dict[str, tuple[list[str], dict[str, str], str]] = {
    "sidecar's variable": (["sidecar"], {**STRIPE, "SPENDGATE_SIDECAR_PORT": "no"}, "SPENDGATE_SIDECAR_PORT"),
    "sidecar's option": (["sidecar", "--drain-s", "9999"], STRIPE, "--drain-s"),
    "vendor's own variable": (
        ["sidecar"],
        {"TWILIO_ACCOUNT_SID": "no", "TWILIO_AUTH_TOKEN": "x"},
        "TWILIO_ACCOUNT_SID",
    ),
    "sidecar's address": (
        ["sidecar"],
        {**STRIPE, "SPENDGATE_SIDECAR_HOST": "0.0.0.0"},
        "SPENDGATE_SIDECAR_HOST",
    ),
    "vendor's address": (
        ["sidecar"],
        {**STRIPE, "SPENDGATE_STRIPE_API_BASE": "http://stripe.example"},
        "SPENDGATE_STRIPE_API_BASE",
    ),
    "Redis not given": (["policy-server"], {}, "SPENDGATE_REDIS_URL"),
    "policy server's variable": (["policy-server"], {"SPENDGATE_HOLD_TTL_S": "0"}, "SPENDGATE_HOLD_TTL_S"),
    "policy server's option": (["policy-server", "--log-level", "loud"], {}, "--log-level"),
    "policy server's address": (
        ["policy-server"],
        REDIS | {"SPENDGATE_POLICY_HOST": "0.0.0.0"},
        "SPENDGATE_POLICY_HOST",
    ),
    "Redis elsewhere": (
        ["policy-server"],
        {"SPENDGATE_REDIS_URL": "redis://redis.example"},
        "SPENDGATE_REDIS_URL",
    ),
    "archive elsewhere": (
        ["policy-server"],
        REDIS | {"SPENDGATE_ARCHIVE_URL": "postgresql://archive.example/audit"},
        "SPENDGATE_ARCHIVE_URL",
    ),
    "reconcile": (
        ["reconcile"],
        {**STRIPE, "SPENDGATE_RECONCILE_READS_PER_S": "0"},
        "SPENDGATE_RECONCILE_READS_PER_S",
    ),
    "up": (["up"], {"SPENDGATE_SIDECAR_PORT": "70000"}, "SPENDGATE_SIDECAR_PORT"),
    "up's option": (["up", "--policy-port", "70000"], {}, "--policy-port"),
    "command's variable": (["usage", "shop"], {"SPENDGATE_POLICY_ADDRESS": "x"}, "SPENDGATE_POLICY_ADDRESS"),
    "command's option": (["usage", "shop", "--policy-address", "x"], {}, "--policy-address"),
    "doctor": (["doctor"], {"SPENDGATE_SIDECAR_PORT": "no"}, "SPENDGATE_SIDECAR_PORT"),
    "an empty path": (["doctor"], {"SPENDGATE_SIDECAR_CA": ""}, "SPENDGATE_SIDECAR_CA"),
}


@pytest.mark.parametrize("which", WRONG)
def test_it_is_named_by_its_variable_or_option(which: str, tmp_path: Path) -> None:
    """And not by the name that it has in the program; the exit code says that nothing was done."""
    arguments, environment, name = WRONG[which]
    done = subprocess.run(
        [sys.executable, "-m", "spendgate.cli", *arguments],
        cwd=tmp_path,
        env=clean_environment() | {"HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}, done.stdout
    assert name in done.stderr, done.stderr
    field = name.removeprefix("SPENDGATE_").removeprefix("--").replace("-", "_").lower()
    assert not re.search(rf"(?<![A-Za-z_-]){field}\b", done.stderr), done.stderr
    assert "Value error" not in done.stderr
