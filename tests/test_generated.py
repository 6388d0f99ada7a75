"""The committed code of the contract is what the generator writes from the contract."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

COMMITTED = REPOSITORY / "clients" / "python" / "src" / "spendgate" / "v1"
# Read when this is imported: the tests themselves see no SPENDGATE_ variables.
GENERATOR = Path(os.environ.get("SPENDGATE_PROTO_VENV", REPOSITORY / ".venv-protos"))


@pytest.mark.skipif(
    not (GENERATOR / "bin" / "python").exists(),
    reason=f"no generator in {GENERATOR}; see protos/generate.sh, or set SPENDGATE_PROTO_VENV",
)
def test_the_committed_code_is_what_the_contract_says(tmp_path: Path) -> None:
    """Generating again changes nothing, leaves nothing out and adds nothing."""
    subprocess.run(
        [REPOSITORY / "protos" / "generate.sh", GENERATOR, tmp_path],
        check=True,
        capture_output=True,
        timeout=100,
    )
    fresh = {path.name: path.read_text() for path in (tmp_path / "spendgate" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*_pb2*")}
    assert fresh.keys() == committed.keys()
    for name, text in fresh.items():
        assert text == committed[name], f"{name} differs; run protos/generate.sh"


def test_every_proto_has_its_code() -> None:
    """No file of the contract is left without code, and no code is left of a file that is gone."""
    protos = {path.stem for path in (REPOSITORY / "protos" / "spendgate" / "v1").glob("*.proto")}
    assert protos == {path.name.removesuffix("_pb2.py") for path in COMMITTED.glob("*_pb2.py")}


def test_the_floors_of_the_client_are_the_versions_of_the_generator() -> None:
    """The oldest grpcio and protobuf that the client accepts are those its code was written for."""
    project = tomllib.loads((REPOSITORY / "clients" / "python" / "pyproject.toml").read_text())["project"]
    floors = {
        match[1]: match[2]
        for line in project["dependencies"]
        if (match := re.match(r"([a-z]+)>=([0-9.]+)", line))
    }
    written_for = {
        "protobuf": {
            match[1]
            for path in COMMITTED.glob("*_pb2.py")
            if (match := re.search(r"^# Protobuf Python Version: ([0-9.]+)$", path.read_text(), re.MULTILINE))
        },
        "grpcio": {
            match[1]
            for path in COMMITTED.glob("*_pb2_grpc.py")
            if (match := re.search(r"^GRPC_GENERATED_VERSION = '([0-9.]+)'$", path.read_text(), re.MULTILINE))
        },
    }
    assert {name: {floor} for name, floor in floors.items()} == written_for
