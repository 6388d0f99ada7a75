"""The examples, as a reader runs them: the built client in a fresh environment, and a running Spendgate."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, clean_environment
from tests.sdks import NODE, NODE_FOLDER, why_no_node
from tests.stack import Stack, VaultKey

EXAMPLES = REPOSITORY / "examples"
CREWAI = REPOSITORY / ".venv-crewai" / "bin" / "python"
CLIENT = REPOSITORY / ".venv-client" / "bin" / "python"
SUITE = REPOSITORY / ".venv-client" / "suite" / "bin" / "python"
SOURCE = REPOSITORY / "clients" / "python" / "src"


def run(*argv: str | Path, folder: Path, **environment: str) -> str:
    """Run a program away from the repository; return what it prints."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env=clean_environment() | {"HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_example(python: Path, name: str, stack: Stack, key: VaultKey, folder: Path, **more: str) -> str:
    """Run an example; return what it prints."""
    return run(
        python,
        EXAMPLES / f"{name}.py",
        folder=folder,
        SPENDGATE_SIDECAR_URL=stack.origin().removesuffix("/stripe"),
        SPENDGATE_VAULT_KEY=key.text,
        **more,
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel of the client as it is now, its extras, and nothing of the servers."""
    if not CLIENT.exists():
        pytest.skip("there is no fresh environment; `make fresh-client` makes one, with a network")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("-q", "--disable-pip-version-check", "--no-deps", "--no-index")
    source = REPOSITORY / "clients" / "python"
    run(
        *(sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", str(folder)),
        source,
        folder=folder,
    )
    (wheel,) = folder.glob("spendgate-*.whl")
    run(CLIENT, "-m", "pip", "install", *offline, "--force-reinstall", wheel, folder=folder)
    return CLIENT


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with both wheels as they are now, as `spendgate[pytest]` installs them."""
    if not SUITE.exists():
        pytest.skip("there is no fresh environment; `make fresh-client` makes one, with a network")
    folder = tmp_path_factory.mktemp("wheels")
    offline = ("-q", "--disable-pip-version-check", "--no-deps", "--no-index")
    sources = (REPOSITORY / "clients" / "python", REPOSITORY)
    run(
        *(sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", str(folder)),
        *sources,
        folder=folder,
    )
    run(SUITE, "-m", "pip", "install", *offline, "--force-reinstall", *folder.glob("*.whl"), folder=folder)
    return SUITE


@pytest.mark.parametrize("name", ["pydantic_ai_agent", "langgraph_agent", "mcp_client"])
def test_an_example_pays_once(client: Path, name: str, stack: Stack, tmp_path: Path) -> None:
    """Its model calls the tool twice, and is told so."""
    said = run_example(client, name, stack, stack.key(), tmp_path)
    assert re.search(r"id: ch_\w+", said), said
    assert "done before in this run; nothing was done again" in said
    assert stack.simulator.money["charged"] == 1900


@pytest.mark.skipif(not CREWAI.exists(), reason="CrewAI is not installed; `make crewai` installs it")
def test_the_crewai_example_pays_once(stack: Stack, tmp_path: Path) -> None:
    """With CrewAI's own packages; its second call has other words, because CrewAI itself stops equal ones."""
    key = stack.key()
    said = run_example(CREWAI, "crewai_crew", stack, key, tmp_path, PYTHONPATH=str(SOURCE))
    assert re.search(r"id: ch_\w+", said), said
    assert "was asked for before in this run" in said
    assert stack.simulator.money["charged"] == 1900
    assert {event.run_id for event in stack.events(key) if event.run_id} == {"order-64"}


@pytest.mark.skipif(bool(why_no_node()), reason=why_no_node() or "")
def test_the_node_example_pays_once(stack: Stack, tmp_path: Path) -> None:
    """With Stripe's SDK for Node; a second charge has a step."""
    said = run(
        str(NODE),
        EXAMPLES / "node_charge.js",
        folder=tmp_path,
        NODE_PATH=str(NODE_FOLDER / "node_modules"),
        SPENDGATE_SIDECAR_ROOT_URL=stack.origin(root=True),
        SPENDGATE_VAULT_KEY=stack.key().text,
    )
    assert "is the same charge" in said
    assert "idempotency_mismatch do not try again" in said
    assert stack.simulator.money["charged"] == 1900 + 2500


def test_the_client_is_typed_and_has_no_server(client: Path, tmp_path: Path) -> None:
    """What is installed is the client alone, with the mark that its types may be used."""
    program = """
import importlib.resources, importlib.util
import spendgate, spendgate.http, spendgate.stripe, spendgate.client
assert (importlib.resources.files(spendgate) / "py.typed").is_file()
for server in ("policy_server", "sidecar", "redis", "sqlalchemy"):
    assert importlib.util.find_spec(server) is None, server
"""
    run(client, "-c", program, folder=tmp_path)


def test_the_suite_works_where_only_the_wheels_are(suite: Path, tmp_path: Path) -> None:
    """Without a setting of its own, pytest finds the plugin, and the governed twins pass."""
    for path in (EXAMPLES / "naive").glob("*.py"):
        shutil.copy(path, tmp_path)
    said = run(suite, "-m", "pytest", "-q", "-W", "error", "test_governed.py", folder=tmp_path)
    assert re.search(r"^36 passed, 3 skipped in", said, re.MULTILINE), said


def test_every_example_is_run() -> None:
    """None is left out here."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"pydantic_ai_agent", "langgraph_agent", "mcp_client", "crewai_crew"}
