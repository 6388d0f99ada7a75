"""Who may import whom: the arrows between the parts, read from the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

ROOTS = {
    "policy_server": REPOSITORY / "policy_server",
    "sidecar": REPOSITORY / "sidecar",
    "stripe_simulator": REPOSITORY / "stripe_simulator",
    "twilio_simulator": REPOSITORY / "twilio_simulator",
    "spendgate": REPOSITORY / "clients" / "python" / "src" / "spendgate",
}
OURS = frozenset(ROOTS)

MAY_IMPORT = {
    # Beside the standard library. The longest prefix that fits a module counts.
    "policy_server.core": {"policy_server.core", "cryptography"},
    "policy_server.store": {"policy_server.core", "policy_server.store", "hiredis", "redis", "pydantic_core"},
    "policy_server.archive": {
        *("policy_server.core", "policy_server.archive"),
        *("alembic", "cryptography", "psycopg", "pydantic", "pydantic_core", "sqlalchemy"),
    },
    "policy_server.rpc": {
        *("policy_server.core", "policy_server.rpc", "spendgate.v1"),
        *("grpc", "google", "grpc_status", "pydantic"),
    },
}
"""Parts of which every import is listed."""

SIMULATORS = {"stripe_simulator", "twilio_simulator"}
VENDORS = {"sidecar.stripe", "sidecar.twilio"}

MAY_NOT_IMPORT = {
    "policy_server": {"sidecar", *SIMULATORS},
    "sidecar": {"policy_server", "redis", *SIMULATORS},
    "spendgate": {"policy_server", "sidecar", "redis", *SIMULATORS},
    "stripe_simulator": {"policy_server", "sidecar", "spendgate", "twilio_simulator"},
    "twilio_simulator": {"policy_server", "sidecar", "spendgate", "stripe_simulator"},
}

FRAMEWORKS = {
    f"spendgate.{name}": name for name in ("pydantic_ai", "langchain", "crewai", "mcp", "http", "stripe")
}
"""Modules of the client that need an extra."""

REDIS_IN = ("policy_server.store", "policy_server.composition")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours by its dotted name."""
    for package, root in ROOTS.items():
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(modules())


def imports(module: str) -> set[str]:
    """What a module imports, as dotted names; of ``from a import b`` also ``a.b`` if that is a module."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            found |= {name for alias in node.names if (name := f"{base}.{alias.name}") in MODULES}
    return found


def within(name: str, part: str) -> bool:
    """Whether a dotted name is ``part`` or inside it."""
    return name == part or name.startswith(f"{part}.")


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_its_job_needs(part: str) -> None:
    """The core knows neither Redis nor gRPC; store and rpc know the core and not each other."""
    inside = [module for module in MODULES if within(module, part)]
    assert inside, f"{part} has moved; change this test with it"
    for module in inside:
        foreign = {
            name
            for name in imports(module)
            if name.partition(".")[0] not in sys.stdlib_module_names
            and not any(within(name, allowed) for allowed in MAY_IMPORT[part])
            and name != part.partition(".")[0]
        }
        assert not foreign, f"{module} imports {sorted(foreign)}"


@pytest.mark.parametrize("part", MAY_NOT_IMPORT)
def test_the_programs_know_each_other_only_by_their_contract(part: str) -> None:
    """Policy server, sidecar, client and simulator can be installed and changed apart."""
    for module in MODULES:
        if within(module, part):
            wrong = {n for n in imports(module) for other in MAY_NOT_IMPORT[part] if within(n, other)}
            assert not wrong, f"{module} imports {sorted(wrong)}"


def test_only_one_module_knows_which_vendors_there_are() -> None:
    """A vendor is behind `sidecar.vendor.Vendor`: the way of a request is the same for all."""
    for module in MODULES:
        known = {part for part in VENDORS for name in imports(module) if within(name, part)}
        own = {part for part in VENDORS if within(module, part)}
        if module.startswith("sidecar") and module != "sidecar.backends":
            assert known <= own, f"{module} imports {sorted(known - own)}"


def test_the_client_alone_needs_no_extra() -> None:
    """What ``import spendgate`` brings in needs gRPC and protobuf only, and no framework knows another."""
    reached, new = set(), {"spendgate"}
    while new:
        reached |= new
        new = {name for module in new for name in imports(module) if name in MODULES} - reached
    assert not reached & FRAMEWORKS.keys()
    assert not [module for module in reached if within(module, "spendgate.testing")]
    for module in reached:
        outside = {name.partition(".")[0] for name in imports(module)} - sys.stdlib_module_names
        # Deriving a key imports cryptography when it is called, and says which extra brings it.
        late = {"cryptography"} if module == "spendgate.derived_keys" else set()
        assert outside - late <= {"spendgate", "grpc", "google", "grpc_status"}, module
    tools = FRAMEWORKS.keys() - {"spendgate.http", "spendgate.stripe"}
    for module in tools:
        assert not imports(module) & (tools - {module}), module


def test_redis_is_known_where_it_is_used() -> None:
    """Only the store speaks to Redis, and the app that makes the connection."""
    for module in MODULES:
        if any(within(name, "redis") for name in imports(module)):
            assert any(within(module, part) for part in REDIS_IN), f"{module} imports redis"


def test_nobody_imports_what_puts_things_together() -> None:
    """Only a package's own __main__ imports its app, and nobody imports a __main__."""
    for module in MODULES:
        for name in imports(module):
            package, _, last = name.rpartition(".")
            if package in OURS and last == "app":
                assert module == f"{package}.__main__", f"{module} imports {name}"
            assert not (package.partition(".")[0] in OURS and last == "__main__"), f"{module} imports {name}"


@pytest.mark.parametrize("server", ["policy_server", "sidecar"])
def test_a_server_chooses_its_grpc_threads_before_it_imports_grpc(server: str) -> None:
    """gRPC reads the choice when it is imported, and not again."""
    program = f"""
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_EXPERIMENTS", "none"))

sys.meta_path.insert(0, Watch())
import {server}.__main__
"""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["-event_engine_client,-event_engine_listener"]
