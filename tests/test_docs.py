"""The documentation says what the code does: each name is in it, and what a reader may paste works."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import annotated_types
import pytest
import stripe
import typer
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from policy_server.core.types import DenyReason
from policy_server.settings import PolicyServerSettings
from policy_server.store import keys
from sidecar import refusals
from sidecar.reconcile import ReconcileOptions
from sidecar.refusals import Refused
from sidecar.settings import SidecarSettings
from sidecar.stripe.vendor import Stripe
from sidecar.twilio import endpoints as twilio
from sidecar.vendor import Vendor
from spendgate.cap_text import WINDOWS
from spendgate.cli.app import app
from spendgate.cli.connection import OperatorSettings
from spendgate.cli.doctor import DoctorSettings
from spendgate.cli.mcp import McpSettings
from spendgate.cli.up_settings import UpSettings
from spendgate.v1 import (
    account_service_pb2,
    audit_service_pb2,
    ledger_service_pb2,
    policy_pb2,
    policy_service_pb2,
    vault_key_service_pb2,
)
from tests.processes import REPOSITORY, Process, clean_environment, temporary_folder
from tests.test_cli import free_port

PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md")),
]
PROGRAMS = ("policy_server", "sidecar", "clients/python/src/spendgate/cli")
SCRIPTS = REPOSITORY / "policy_server" / "store" / "scripts"
PATH = f"{REPOSITORY / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"

# --- reading pages ------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def text_of(page: str) -> str:
    """What a page says."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = text_of(page)
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in re.finditer(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE)
    ]


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(heading)}\n((?s:.*?))(?=^#+ |\Z)", text_of(page), re.MULTILINE)
    assert match, f"{page} has no heading {heading!r}"
    return match[1]


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without their head lines and backticks."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    table = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]
    rules = {index for index, row in enumerate(table) if set("".join(row)) <= {"-", ":"}}
    return [row for index, row in enumerate(table) if index not in rules and index + 1 not in rules]


def named(page: str) -> set[str]:
    """Everything that a page has between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text_of(page)))


# --- names ----------------------------------------------------------------------


def option(field: str) -> str:
    """The option of a setting."""
    return f"--{field.replace('_', '-')}"


def commands() -> dict[str, set[str]]:
    """Every command with its long options."""
    found = {}

    def walk(command: Any, path: str) -> None:
        options = {
            name
            for parameter in command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("--")
        }
        inner = getattr(command, "commands", {})
        if not inner or path == "spendgate":
            found[path] = options
        for name, one in inner.items():
            walk(one, f"{path} {name}")

    walk(typer.main.get_command(app), "spendgate")
    for name, settings in (("policy-server", PolicyServerSettings), ("sidecar", SidecarSettings)):
        found[f"spendgate {name}"] = {option(field) for field in settings.model_fields}
    found["spendgate reconcile"] = {*map(option, ReconcileOptions.model_fields), "--json"}
    return found


COMMANDS = commands()


def environment_name(field: str, alias: Any) -> str:
    """The environment variable of a setting."""
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"SPENDGATE_{field.upper()}"


def default_text(info: Any) -> str:
    """A default as the documentation writes it."""
    if info.is_required():
        return "required"
    if isinstance(info.default, bool):
        return str(info.default).lower()
    return "none" if info.default is None else str(info.default)


@pytest.mark.parametrize(
    ("heading", "settings", "command"),
    [
        ("Policy server", PolicyServerSettings, "spendgate policy-server"),
        ("Sidecar", SidecarSettings, "spendgate sidecar"),
        ("Reconcile", ReconcileOptions, "spendgate reconcile"),
        ("Everything in one terminal", UpSettings, "spendgate up"),
        ("Operator's commands", OperatorSettings, "spendgate keys list"),
        ("Doctor", DoctorSettings, "spendgate doctor"),
        ("MCP server", McpSettings, "spendgate mcp"),
    ],
)
def test_every_setting_is_documented(heading: str, settings: type[BaseSettings], command: str) -> None:
    """Name, option, default and range of each, and no other."""
    documented = {row[0]: row for row in rows("docs/settings.md", heading)}
    # What it shares with the sidecar stands there.
    shared = SidecarSettings.model_fields if settings is ReconcileOptions else {}
    fields = {
        environment_name(name, info.validation_alias): name
        for name, info in settings.model_fields.items()
        if name not in shared
    }
    assert documented.keys() == fields.keys()
    for variable, name in fields.items():
        info = settings.model_fields[name]
        _, flag, default, span, meaning = documented[variable]
        assert flag == (option(name) if option(name) in COMMANDS[command] else ""), variable
        assert default == default_text(info), variable
        assert meaning, variable
        bounds = {type(bound): bound for bound in info.metadata}
        if annotated_types.Ge in bounds:
            least, most = bounds[annotated_types.Ge].ge, bounds[annotated_types.Le].le
            assert span == f"{least} to {most}", variable


def test_every_variable_in_the_code_is_documented() -> None:
    """Also those that only development reads."""
    sources = [
        *(path for part in PROGRAMS for path in (REPOSITORY / part).rglob("*.py")),
        *(REPOSITORY / "protos").glob("*.sh"),
        REPOSITORY / "tests" / "test_generated.py",
        REPOSITORY / "Makefile",
    ]
    variables = {
        name
        for path in sources
        for name in re.findall(r"\bSPENDGATE_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert variables <= named("docs/settings.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_with_its_options(command: str) -> None:
    """The section of a command names its options, itself or by the groups it refers to, and no others."""
    page = "docs/commands.md"
    text = section(page, command)
    if command in {"spendgate policy-server", "spendgate sidecar", "spendgate reconcile"}:
        assert "settings.md#" in text
        return
    groups = {
        "#policy-options": "Policy options",
        "#connection-options": "Connection options",
        "#filters": "Filters",
    }
    text += "".join(section(page, heading) for anchor, heading in groups.items() if f"]({anchor})" in text)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) == COMMANDS[command]


def test_no_command_is_documented_that_there_is_not() -> None:
    """The headings of the page are the commands."""
    headings = re.findall(r"^## (spendgate.*)$", text_of("docs/commands.md"), re.MULTILINE)
    assert headings == sorted(headings, key=list(COMMANDS).index) or set(headings) == set(COMMANDS)
    assert set(headings) == set(COMMANDS)


def joined(text: str) -> str:
    """The text with each line that goes on put into one."""
    return text.replace("\\\n", " ")


def command_lines(page: str) -> Iterator[str]:
    """Every line of the page that runs the command."""
    for block in blocks(page):
        if block.language in {"sh", "text"}:
            yield from re.findall(r"(?:^|[\s(/])(spendgate [a-z][^|#\n]*)", joined(block.text))
    for code in named(page):
        if re.match(r"(?:\.venv/bin/)?spendgate( |$)", code):
            yield code.removeprefix(".venv/bin/")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_names_what_there_is(page: str) -> None:
    """Also those that no test runs."""
    for line in command_lines(page):
        words = shlex.split(line)
        known = [name for name in COMMANDS if words[: len(name.split())] == name.split()]
        command = max(known, key=len)
        groups = {name.split()[1] for name in COMMANDS if len(name.split()) == 3}
        assert command != "spendgate" or words[1:] in [
            [],
            ["COMMAND", "--help"],
            *([one] for one in groups),
        ], line
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert options <= COMMANDS[command], line


def codes_in_the_sidecar() -> set[tuple[int, str]]:
    """Status and code of every refusal that the sidecar's code makes."""
    found = set()
    for path in (REPOSITORY / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                found |= codes_of_call(node)
    for reason in policy_service_pb2.DenyReason.values():
        if reason:
            refused = refusals.denied(policy_service_pb2.AuthorizeResponse(deny_reason=reason))
            found.add((refused.status, refused.code))
    return found


def codes_of_call(call: ast.Call) -> set[tuple[int, str]]:
    """Status and code of a refusal that one call makes, if it makes one."""
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", "")
    given: dict[str, ast.expr] = {word.arg: word.value for word in call.keywords if word.arg}
    if name in {"Refused", "error_answer"} and len(call.args) >= 2:
        given |= {"status": call.args[0], "code": call.args[1]}
    elif name == "malformed":
        default = {"status": ast.Constant(400), "code": ast.Constant("parameter_invalid")}
        given = default | given
    else:
        return set()
    statuses, codes = constants(given["status"]), constants(given["code"])
    return {(status, code) for status in statuses for code in codes}


def constants(expression: ast.expr) -> list[Any]:
    """What an expression can be, as far as it stands there."""
    if isinstance(expression, ast.IfExp):
        return constants(expression.body) + constants(expression.orelse)
    return [expression.value] if isinstance(expression, ast.Constant) else []


def test_every_refusal_is_documented() -> None:
    """Each status with each code, and no other."""
    documented = [(int(row[0]), row[1]) for row in rows("docs/errors.md", "Refusals")]
    assert documented == sorted(set(documented))
    assert set(documented) == codes_in_the_sidecar()


class Canned(stripe.HTTPClient):
    """An HTTP client of the SDK that gets one refusal of the sidecar as its answer."""

    name = "canned"

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self._answer = Stripe().refusal(refused, "req_sg_1")

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Answer with the refusal."""
        told = {name.decode(): value.decode() for name, value in self._answer.headers}
        return self._answer.body, self._answer.status, told


@pytest.mark.parametrize("row", rows("docs/errors.md", "Refusals"), ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_sdk_raises_what_is_documented(row: list[str]) -> None:
    """Of Python; the type is the one that the text names."""
    status, code, exception, _, _, text = row
    client = stripe.StripeClient("vk_test", http_client=Canned(Refused(int(status), code, "No.")))
    with pytest.raises(stripe.StripeError) as raised:
        client.v1.charges.retrieve("ch_1")
    assert type(raised.value).__name__ == exception
    body = raised.value.json_body
    assert body is not None
    kind = body["error"]["type"]
    assert kind == "invalid_request_error" or f"type {kind}" in text
    assert raised.value.request_id == "req_sg_1"


def test_every_header_is_documented() -> None:
    """Those that are read and those that are written."""
    sources = "".join(path.read_text("utf-8") for path in (REPOSITORY / "sidecar").rglob("*.py"))
    headers = set(re.findall(r'b"(spendgate-[a-z-]+|x-run-id)"', sources))
    assert headers
    assert headers <= {row[0].lower() for row in rows("docs/errors.md", "Headers")} | {"x-run-id"}
    assert "X-Run-Id" in section("docs/errors.md", "Headers")


def test_every_field_of_a_refusal_is_documented() -> None:
    """What stands in error.spendgate."""
    source = (REPOSITORY / "sidecar" / "refusals.py").read_text("utf-8")
    (denied,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "denied"
    ]
    given = {word.arg for node in ast.walk(denied) if isinstance(node, ast.Call) for word in node.keywords}
    fields = {str(name) for name in given} - {"parameter", "retry_after_s", "decided", "again"}
    assert {row[0] for row in rows("docs/errors.md", "What an agent gets")} == fields


def test_every_reason_is_documented_in_its_order() -> None:
    """DenyReason, with the status and the code that the sidecar makes of it."""
    expected = []
    for reason in DenyReason:
        value = policy_service_pb2.DenyReason.Value(f"DENY_REASON_{reason.name}")
        refused = refusals.denied(policy_service_pb2.AuthorizeResponse(deny_reason=value))
        expected.append([f"DENY_REASON_{reason.name}", str(refused.status), refused.code])
    assert [row[:3] for row in rows("docs/errors.md", "Reasons for refusal")] == expected
    assert len(expected) == len(policy_service_pb2.DenyReason.keys()) - 1


def test_every_error_reason_is_documented() -> None:
    """ErrorReason, with the gRPC status that the contract gives it."""
    proto = (REPOSITORY / "protos/spendgate/v1/error_reason.proto").read_text("utf-8")
    expected = {
        match[2]: match[1]
        for match in re.finditer(r"// ([A-Z_]+)\. [^=]*?(ERROR_REASON_[A-Z_]+) = [1-9]", proto)
    }
    assert {row[0]: row[1] for row in rows("docs/errors.md", "gRPC errors")} == expected


def test_every_method_is_documented() -> None:
    """Each service with its methods."""
    files = (
        *(policy_service_pb2, vault_key_service_pb2, account_service_pb2),
        *(ledger_service_pb2, audit_service_pb2),
    )
    expected = {
        service.name: [method.name for method in service.methods]
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    documented = {row[0]: row[1].split(", ") for row in rows("docs/architecture.md", "The contract")}
    assert documented == expected


def fields_of(message: Any) -> list[str]:
    """The fields of a message in their order."""
    return [field.name for field in message.DESCRIPTOR.fields]


def test_the_audit_trail_is_documented() -> None:
    """Its fields, kinds and filters."""
    page = "docs/audit.md"
    assert {row[0] for row in rows(page, "Fields")} == set(fields_of(audit_service_pb2.AuditEvent))
    assert [row[0] for row in rows(page, "Kinds")] == audit_service_pb2.AuditEventKind.keys()[1:]
    assert set(fields_of(audit_service_pb2.AuditFilter)) <= named(page)
    scripts = "".join(path.read_text() for path in SCRIPTS.glob("*.lua"))
    for reason in ("deadline_passed", "currency_not_held", "observed"):
        assert f"'{reason}'" in scripts
        assert reason in named(page)


def test_policies_are_documented() -> None:
    """Their fields, windows and modes."""
    page = "docs/policy.md"
    assert [row[0] for row in rows(page, "Fields")] == fields_of(policy_pb2.Policy)
    assert {*fields_of(policy_pb2.Cap), *fields_of(policy_pb2.ParameterRule)} - {"window"} <= named(page)
    windows = [row[0] for row in rows(page, "Caps") if row[0] in WINDOWS]
    assert windows == list(WINDOWS)
    values = {*policy_pb2.PolicyMode.keys()[1:], *policy_pb2.EffectNaming.keys()[1:]}
    values |= {*policy_pb2.RefundRule.keys()[1:]}
    assert values <= named(page)


def test_the_interface_of_vendors_is_documented() -> None:
    """Each member, in its order."""
    members = [*Vendor.__annotations__, *(name for name in vars(Vendor) if not name.startswith("_"))]
    assert [row[0] for row in rows("docs/vendors.md", "What a vendor says")] == members


def test_what_can_be_called_of_twilio_is_documented() -> None:
    """Each endpoint, whether it costs money, and which parameters may be repeated."""
    documented = {row[0]: row for row in rows("docs/vendors.md", "Twilio")}
    assert documented.keys() == {one.name for one in twilio.ENDPOINTS}
    for one in twilio.ENDPOINTS:
        assert documented[one.name][1].startswith("yes") == one.sends
        assert all(name in documented[one.name][2] for name in one.lists)
    assert {"Body", "ContentVariables"} == twilio.CREATE.private


def test_what_redis_holds_is_documented() -> None:
    """Every key and every script."""
    page = "docs/architecture.md"
    names = keys.AccountKeys("<account>")
    expected = {
        keys.ACCOUNTS,
        keys.account_of_key("<key id>"),
        *(names.record, names.sequence, names.audit, names.deadlines, names.key_ids, names.key_names),
        *(names.rebuild, names.absent, names.audit_aside("<rebuild>")),
        *(names.frozen_runs, names.refusals("<key id>", "<run>")),
        *(names.archived, keys.ARCHIVE_LEASE, keys.ARCHIVE_PROBLEM),
        names.key("<key id>"),
        names.hold("<authorization id>"),
        names.exposure("<key id>", "<object>"),
        names.counter("<owner>", "<cap>", "<span>"),
    }
    documented = {row[0] for row in rows(page, "What is in Redis")}
    scripts = {path.name for path in SCRIPTS.glob("*.lua")}
    assert documented == expected | (scripts - {"common.lua"})
    assert "common.lua" in named(page)


def test_every_test_that_keeps_a_promise_is_there() -> None:
    """Each test named beside a promise exists, and every promise and every failure has one."""
    page = text_of("docs/guarantees.md")
    named_tests = set(re.findall(r"(tests/\w+\.py)::(\w+)", page))
    for file, test in named_tests:
        tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in functions, f"docs/guarantees.md names {file}::{test}"
    promises = [part for part in page.split("\n## ") if "**Exactly when.**" in part]
    assert len(promises) >= 5
    for promise in promises:
        assert "**What can still go wrong.**" in promise
        assert "::test_" in promise.partition("**Tests.**")[2], promise
    failures = rows("docs/guarantees.md", "Twelve failures of others")
    assert [int(row[0]) for row in failures] == list(range(1, 13))
    assert all("::test_" in row[3] for row in failures)


def test_every_target_of_make_is_documented() -> None:
    """In CONTRIBUTING.md, and nothing else is called a target."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    assert {row[0] for row in rows("CONTRIBUTING.md", "What there is to make")} == {
        f"make {t}" for t in targets
    }
    for page in PAGES:
        asked = set(re.findall(r"(?:^|`)make ([a-z-]+)(?=`|\s)", text_of(page), re.MULTILINE))
        assert asked <= targets, page


# --- links ------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a link can point to within a page."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every link within the project, with its anchor; and every path that is named."""
    here = REPOSITORY / page
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), target
        assert there.is_relative_to(REPOSITORY), target
        if anchor:
            assert anchor in anchors(there), target
    for name in named(page):
        if re.fullmatch(
            r"(?:policy_server|sidecar|protos|clients|tests|stripe_simulator|docs)/[\w./]*", name
        ):
            assert (REPOSITORY / name).exists(), name


# --- what a reader may paste --------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Somebody who has run `make run` in an empty folder, and pastes what the pages show.

    Only the three ports differ from what stands there: 8787, 8788 and 50051 are
    replaced by free ones. ``.venv`` is the environment of the tests.
    """

    folder: Path
    ports: Mapping[str, str]
    up: Process

    def paste(self, shown: list[Block]) -> None:
        """Run blocks one after another in one shell; compare the answer where the next block is json."""
        steps = [block for block in shown if block.language in {"sh", "python"}]
        done = subprocess.run(
            ["bash", "-eu", "-c", "".join(self._step(number, block) for number, block in enumerate(steps))],
            cwd=self.folder,
            env=clean_environment()
            | {
                "PATH": PATH,
                "HOME": str(self.folder),
                "SPENDGATE_POLICY_ADDRESS": f"127.0.0.1:{self.ports['50051']}",
                "SPENDGATE_SIDECAR_PORT": self.ports["8787"],
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        reached = [block for number, block in enumerate(steps) if (self.folder / f"{number}.out").exists()]
        assert done.returncode == 0, (reached[-1:], self._output(len(reached) - 1), done.stderr)
        for block, following in zip(shown, [*shown[1:], None], strict=True):
            if block.language == "sh" and following is not None and following.language == "json":
                printed = (self.folder / f"{steps.index(block)}.out").read_text()
                assert json.loads(_without_moments(printed)) == json.loads(_without_moments(following.text))

    def here(self, text: str) -> str:
        """The text with the ports of this reader."""
        return re.sub(r"\b(8787|8788|50051)\b", lambda match: self.ports[match[1]], text)

    def _step(self, number: int, block: Block) -> str:
        text = self.here(block.text)
        if block.language == "python":
            (self.folder / f"{number}.py").write_text(text)
            text = f".venv/bin/python {number}.py\n"
        return f"exec >{number}.out 2>{number}.err </dev/null\n{text}"

    def _output(self, number: int) -> str:
        return "".join((self.folder / f"{number}.{kind}").read_text() for kind in ("out", "err"))


def _without_moments(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "MOMENT", text)


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Process, dict[str, str]]]:
    """What `make run` starts, on free ports in a folder of its own."""
    ports: dict[str, str] = {}
    while len(set(ports.values())) < 3:
        ports = {shown: str(free_port()) for shown in ("8787", "8788", "50051")}
    with temporary_folder() as folder:
        (folder / ".venv").symlink_to(sys.prefix)
        up = Process(
            "up",
            [sys.executable, "-m", "spendgate.cli", "up"],
            folder=folder,
            env={
                "SPENDGATE_SIDECAR_PORT": ports["8787"],
                "SPENDGATE_SIDECAR_ROOT_PORT": ports["8788"],
                "SPENDGATE_POLICY_PORT": ports["50051"],
            },
            ready=lambda process: process.found(r"(curl .*)\n") is not None,
        )
        with up:
            yield up, ports


@pytest.fixture
def reader(started: tuple[Process, dict[str, str]]) -> Reader:
    """A reader in a folder without what other pages left."""
    up, ports = started
    for path in up.folder.glob("[0-9]*.*"):
        path.unlink()
    return Reader(up.folder, ports, up)


RUNNABLE = [page for page in PAGES if any(block.language in {"sh", "python"} for block in blocks(page))]
GRPCURL = shutil.which("grpcurl", path=PATH)


def needs_grpcurl(block: Block) -> bool:
    """Whether a block runs grpcurl."""
    return block.language == "sh" and "grpcurl" in block.text


@pytest.mark.skipif(
    not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash is not installed"
)
@pytest.mark.parametrize("page", RUNNABLE)
def test_what_a_page_shows_works_when_pasted(reader: Reader, page: str) -> None:
    """Every sh and python block in order; where json follows, it is the answer."""
    reader.paste([block for block in blocks(page) if not needs_grpcurl(block)])


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed; `make grpcurl` builds it where Go is")
def test_what_the_readme_shows_of_grpcurl_works(reader: Reader) -> None:
    """Each block by itself."""
    shown = [block for block in blocks("README.md") if needs_grpcurl(block)]
    assert shown
    reader.paste(shown)
    assert '"decision": "DECISION_ALLOW"' in (reader.folder / "0.out").read_text()


def test_the_first_line_to_paste_is_the_one_that_up_prints(reader: Reader) -> None:
    """The README's differs only by where it takes the key from."""
    first = next(block for block in blocks("README.md") if block.language == "sh")
    printed = reader.up.found(r"(curl .*)\n")
    assert printed is not None
    key = (reader.folder / ".spendgate" / "demo.key").read_text().strip()
    assert shlex.split(printed) == shlex.split(
        reader.here(joined(first.text)).replace("$(cat .spendgate/demo.key)", key)
    )


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_run_or_marked(page: str) -> None:
    """A block is run (sh, python), is data (json), or is marked as not to be run (text)."""
    for block in blocks(page):
        assert block.language in {"sh", "python", "json", "text"}, f"{page}:{block.line}"
        if block.language == "json":
            json.loads(block.text)
