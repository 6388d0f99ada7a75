"""The examples, as a reader runs them: the built client in a fresh environment, and a running Spendgate."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, clean_environment
from tests.stack import Stack, VaultKey

EXAMPLES = REPOSITORY / "examples"
CREWAI = REPOSITORY / ".venv-crewai" / "bin" / "python"
SOURCE = REPOSITORY / "clients" / "python" / "src"


def run_example(python: Path, name: str, stack: Stack, key: VaultKey, folder: Path, **more: str) -> str:
    """Run an example away from the repository; return what it prints."""
    done = subprocess.run(
        [python, EXAMPLES / f"{name}.py"],
        cwd=folder,
        env=clean_environment()
        | {
            "SPENDGATE_SIDECAR_URL": stack.origin().removesuffix("/stripe"),
            "SPENDGATE_VAULT_KEY": key.text,
            "HOME": str(folder),
            **more,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pays_once(said: str, stack: Stack) -> None:
    """The example's model called its tool twice."""
    assert re.search(r"id: ch_\w+", said), said
    assert "done before in this run; nothing was done again" in said
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.skipif(
    not CREWAI.exists(), reason="CrewAI is not installed; `make crewai` installs it, with a network"
)
def test_crewai(stack: Stack, tmp_path: Path) -> None:
    """With CrewAI's own packages, which do not go together with the others'."""
    key = stack.key()
    said = run_example(CREWAI, "crewai_crew", stack, key, tmp_path, PYTHONPATH=str(SOURCE))
    assert re.search(r"id: ch_\w+", said), said
    assert "was asked for before in this run" in said
    assert stack.simulator.money["charged"] == 1900
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"order-64"}
