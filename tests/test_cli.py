"""The `spendgate` command, as operators run it."""

from __future__ import annotations

import contextlib
import csv
import http.server
import io
import itertools
import json
import os
import pty
import random
import signal
import socket
import stat
import subprocess
import sys
import termios
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis as redis_client

from spendgate.cli import export_table
from spendgate.cli.up_settings import UpSettings, bare_environment
from spendgate.derived_keys import derived_key_id
from spendgate.v1 import amount_pb2, policy_service_pb2, policy_service_pb2_grpc
from tests.command_server import CommandServer
from tests.processes import (
    Process,
    clean_environment,
    policy_server_address,
    policy_server_process,
    redis_process,
    redis_url,
    temporary_folder,
    token,
    wait_for,
)

COMMAND = [sys.executable, "-m", "spendgate.cli"]
_accounts = itertools.count(1)
SHOP = ("--allow", "POST /v1/charges", "--allow", "GET /v1/*", "--cap", "usd 500.00/day")


@dataclass(frozen=True)
class Answer:
    """What one command printed, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output of a command that did its work."""
        assert self.code == 0, self.error
        assert self.error == ""
        return json.loads(self.out)


class Operator:
    """Runs the command against one policy server: where there are ``commands``, as they do."""

    def __init__(self, folder: Path, settings: dict[str, str], commands: CommandServer | None = None) -> None:
        self.folder = folder
        self.environment = clean_environment() | settings
        self.account = settings.get("SPENDGATE_ACCOUNT", "default")
        self._commands = commands

    def __call__(self, *arguments: str, stdin: str = "", **settings: str) -> Answer:
        if self._commands is None:
            return self.anew(*arguments, stdin=stdin, **settings)
        return Answer(*self._commands.run(arguments, self.folder, self.environment | settings, stdin))

    def anew(self, *arguments: str, stdin: str = "", **settings: str) -> Answer:
        """Run the command in a Python that starts for it, as an operator's does."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment | settings,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start a command that goes on until it is stopped."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def commands() -> Iterator[CommandServer]:
    """Where commands come from that are not started anew."""
    with CommandServer() as server:
        yield server


@pytest.fixture(scope="module")
def policy_server() -> Iterator[Process]:
    """One policy server for all of these tests, each of which has an account of its own."""
    with (
        temporary_folder() as folder,
        redis_process(folder) as redis,
        policy_server_process(folder, redis_url(redis)) as server,
    ):
        yield server


@pytest.fixture
def spendgate(policy_server: Process, tmp_path: Path, commands: CommandServer) -> Operator:
    """The command with address and data directory of a running policy server, in a new account."""
    return Operator(
        tmp_path,
        {
            "SPENDGATE_POLICY_ADDRESS": policy_server_address(policy_server),
            "SPENDGATE_DATA_DIR": str(policy_server.folder),
            "SPENDGATE_ACCOUNT": f"shop-{next(_accounts)}",
        },
        commands,
    )


@pytest.fixture
def nowhere(tmp_path: Path, commands: CommandServer) -> Operator:
    """The command where no policy server is."""
    return Operator(tmp_path, {"SPENDGATE_POLICY_ADDRESS": f"127.0.0.1:{free_port()}"}, commands)


def free_port() -> int:
    """Return a port that is free, outside the range from which systems hand out ports by themselves."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def authorize(
    server: Process, vault_key: str, run: str, minor: int, endpoint: str = "POST /v1/charges"
) -> str:
    """Ask for a decision as the sidecar does, and return "allow" or "deny"."""
    with grpc.insecure_channel(policy_server_address(server)) as channel:
        response = policy_service_pb2_grpc.PolicyServiceStub(channel).Authorize(
            policy_service_pb2.AuthorizeRequest(
                vault_key=vault_key,
                endpoint=endpoint,
                amount=amount_pb2.Amount(minor_units=minor, currency_code="USD"),
                run_id=run,
            ),
            timeout=10,
            metadata=(("authorization", f"Bearer {token(server, 'sidecar')}"),),
        )
    return policy_service_pb2.Decision.Name(response.decision).removeprefix("DECISION_").lower()


# --- vault keys -------------------------------------------------------------


def test_a_key_is_made_shown_changed_and_revoked(spendgate: Operator, policy_server: Process) -> None:
    made = spendgate("keys", "create", "shop", *SHOP, "--cap", "usd 100/call", "--json").json
    secret, key = made["secretVaultKey"], made["vaultKey"]
    key_id = key["vaultKeyId"]
    assert secret.startswith(f"vk_{key_id}_")
    assert key["state"] == "VAULT_KEY_STATE_ACTIVE"
    assert key["policy"]["caps"][0]["amount"] == {"minorUnits": "50000", "currencyCode": "USD"}
    assert authorize(policy_server, secret, "run-1", 1_900) == "allow"
    assert authorize(policy_server, secret, "run-2", 10_001) == "deny"

    shown = spendgate("keys", "show", "shop", "--json")
    assert shown.json == key
    assert secret not in shown.out

    changed = spendgate(
        "keys", "update", "shop", "--allow", "GET /v1/*", "--if-version", key["policyVersion"], "--json"
    ).json
    assert changed["policy"]["allow"] == ["GET /v1/*"]
    assert changed["policy"]["caps"] == []
    assert authorize(policy_server, secret, "run-3", 1_900) == "deny"
    stale = spendgate("keys", "update", "shop", *SHOP, "--if-version", key["policyVersion"])
    assert stale.code == 1
    assert "version" in stale.error

    ended = spendgate("keys", "revoke", "shop", "--json").json
    assert ended["state"] == "VAULT_KEY_STATE_REVOKED"
    by_name = spendgate("keys", "show", "shop")
    assert by_name.code == 1
    assert by_name.error == f"spendgate: the vault key named 'shop' is revoked; name it by its id, {key_id}\n"
    assert spendgate("keys", "show", key_id, "--json").json == ended
    refused = spendgate("keys", "update", key_id, *SHOP)
    assert (refused.code, refused.error) == (
        1,
        f"spendgate: vault key {key_id} is revoked; create a new one\n",
    )


def test_a_whole_vault_key_is_taken_for_its_id(spendgate: Operator) -> None:
    made = spendgate("keys", "create", "leaked", *SHOP, "--json").json
    ended = spendgate("keys", "revoke", made["secretVaultKey"])
    assert ended.code == 0
    assert "is revoked since" in ended.out
    assert made["secretVaultKey"] not in ended.out


def test_every_policy_option_reaches_the_policy(spendgate: Operator, tmp_path: Path) -> None:
    spendgate("budgets", "set", "team", "--cap", "usd 2000/month in Europe/Berlin")
    options = (
        *("--allow", "POST /v1/charges", "--cap", "calls 20/run on POST /v1/charges"),
        *("--currency", "usd", "--parameter", "customer=cus_1,cus_2 required", "--parameter", "!destination"),
        *("--budget", "team", "--vendor-account", "acct_1", "--unpriced", "POST /v1/charges", "--shadow"),
        *(
            "--effects",
            "by-parameters",
            "--refunds",
            "own-cap",
            "--repeated-refusals",
            "0",
            "--expires",
            "2999-01-31T00:00:00Z",
        ),
    )
    key = spendgate("keys", "create", "all", *options, "--json").json["vaultKey"]
    policy = key["policy"]
    assert policy == {
        "allow": ["POST /v1/charges"],
        "caps": [
            {"calls": "20", "window": "WINDOW_RUN", "timeZone": "UTC", "endpoints": ["POST /v1/charges"]}
        ],
        "currencies": ["USD"],
        "parameterRules": [
            {"parameter": "customer", "oneOf": ["cus_1", "cus_2"], "required": True, "endpoints": []},
            {"parameter": "destination", "oneOf": [], "required": False, "endpoints": []},
        ],
        "mode": "POLICY_MODE_SHADOW",
        "effects": "EFFECT_NAMING_BY_PARAMETERS",
        "expireTime": "2999-01-31T00:00:00Z",
        "budgets": ["team"],
        "unpriced": ["POST /v1/charges"],
        "vendorAccounts": ["acct_1"],
        "refunds": "REFUND_RULE_OWN_CAP",
        "repeatedRefusalsMax": 0,
    }
    shown = spendgate("keys", "show", "all").out
    for part in (
        "calls 20/run on POST /v1/charges",
        "customer=cus_1,cus_2 required",
        "!destination",
        "shadow",
    ):
        assert part in shown

    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    copied = spendgate("keys", "create", "copy", "--policy-file", str(file), "--json").json
    assert copied["vaultKey"]["policy"] == policy
    file.write_text(json.dumps(copied["vaultKey"]))
    again = spendgate("keys", "create", "again", "--policy-file", str(file), "--json").json
    assert again["vaultKey"]["policy"] == policy, "the policy inside a key, as keys show prints it"

    lasting = spendgate(
        "keys", "create", "soon", "--allow", "GET /v1/*", "--expires-in", "30d", "--json"
    ).json
    assert "expireTime" in lasting["vaultKey"]["policy"]


def test_keys_are_listed_with_their_caps(spendgate: Operator) -> None:
    assert spendgate("keys", "list", "--json").json == {"vaultKeys": []}
    spendgate("keys", "create", "one", *SHOP)
    made = spendgate("keys", "create", "two", "--allow", "GET /v1/*", "--account", "other")
    assert made.code == 0
    assert "never shown again" in made.out
    listed = spendgate("keys", "list")
    assert listed.code == 0
    assert "one" in listed.out
    assert "usd 500.00/day" in listed.out
    assert "two" not in listed.out
    others = spendgate("keys", "list", "--json", SPENDGATE_ACCOUNT="other").json
    assert [key["name"] for key in others["vaultKeys"]] == ["two"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--allow", "GET /v1/*", "--cap", "usd 5/year"),
            "in the cap 'usd 5/year', the window 'year' is not",
        ),
        (("--allow", "GET /v1/*", "--parameter", "x"), "in the parameter rule 'x', a value is missing"),
        (("--allow", "GET /v1/*", "--currency", "xyz"), "'xyz' is not a currency that Stripe charges in"),
        (("--allow", "GET /v1/*", "--expires", "2001-01-01T00:00:00Z"), "is in the past"),
        (("--allow", "GET /v1/*", "--expires", "2999-01-01"), "is not a moment with its zone"),
        (("--allow", "GET /v1/*", "--expires-in", "soon"), "is not a stretch of time"),
        (("--allow", "GET /v1/*", "--expires-in", "1d", "--expires", "2999-01-01T00:00:00Z"), "say the same"),
        (("--cap", "usd 5/day"), "the policy allows nothing"),
        (("--policy-file", "p.json", "--shadow"), "--policy-file is the whole policy"),
        (("--policy-file", "none.json"), "the policy file none.json can't be read: No such file"),
        (("--policy-file", "p.json"), "is not the JSON of a policy"),
        (("--allow", "GET /v1/*", "--policy-address", "somewhere"), "must be a host and a port"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    nowhere: Operator, arguments: tuple[str, ...], sentence: str
) -> None:
    (nowhere.folder / "p.json").write_text('{"allow": ["GET /v1/*"], "allowEverything": true}')
    answer = nowhere("keys", "create", "shop", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.error.startswith("spendgate: ")
    assert answer.error.count("\n") == 1
    assert sentence in answer.error


def test_what_the_server_refuses_is_one_sentence(spendgate: Operator) -> None:
    spendgate("keys", "create", "shop", *SHOP)
    for arguments, sentence in (
        (("keys", "create", "shop", *SHOP), "a working vault key is already named 'shop'"),
        (("keys", "create", "sh op", *SHOP), "name must be 1 to 64 of"),
        (("keys", "create", "x", *SHOP, "--budget", "none"), "the account has no budget named 'none'"),
        (("keys", "create", "x", *SHOP, "--cap", "usd 5/day in No/Where"), "No/Where"),
        (
            ("keys", "show", "nobody"),
            f"the account '{spendgate.account}' has no vault key with the name or id 'nobody'",
        ),
        (("keys", "revoke", "aaaaaaaaaaaa"), "has no vault key with the name or id 'aaaaaaaaaaaa'"),
        (("usage", "nobody"), "has no vault key"),
        (("audit", "list", "--key", "nobody"), "has no vault key"),
        (("budgets", "delete", "none"), "the account has no budget named 'none'"),
        (("budgets", "set", "x", "--cap", "usd 5/call"), "can't limit one call"),
    ):
        answer = spendgate(*arguments, "--json")
        assert (answer.code, answer.out) == (1, ""), arguments
        assert sentence in answer.error
        assert answer.error.count("\n") == 1


# --- usage, audit, accounts ---------------------------------------------------


def test_usage_shows_what_is_held_and_left(spendgate: Operator, policy_server: Process) -> None:
    secret = spendgate("keys", "create", "shop", *SHOP, "--cap", "calls 3/run", "--json").json[
        "secretVaultKey"
    ]
    assert authorize(policy_server, secret, "run-1", 1_900) == "allow"
    shown = spendgate("usage", "shop", "--run", "run-1", "--json").json
    caps = {cap["cap"]: cap for cap in shown["caps"]}
    day = caps["usd/day"]
    assert {name: day[name] for name in ("limit", "settled", "held", "remaining", "currencyCode")} == {
        "limit": "50000",
        "settled": "0",
        "held": "1900",
        "remaining": "48100",
        "currencyCode": "USD",
    }
    assert "resetTime" in day
    assert (caps["calls/run"]["remaining"], "resetTime" in caps["calls/run"]) == ("2", False)
    table = spendgate("usage", "shop")
    assert "481.00 USD" in table.out
    assert "calls/run" not in table.out


@pytest.fixture
def busy_key(spendgate: Operator, policy_server: Process) -> str:
    """The id of a key with three decisions, the last of them a refusal."""
    made = spendgate("keys", "create", "busy", *SHOP, "--json").json
    for run, minor in (("run-1", 1_000), ("run-2", 2_000), ("run-3", 99_999)):
        authorize(policy_server, made["secretVaultKey"], run, minor)
    key_id: str = made["vaultKey"]["vaultKeyId"]
    return key_id


def test_an_export_is_written_once_and_can_be_verified_against_a_checkpoint(
    spendgate: Operator, busy_key: str
) -> None:
    def archived() -> bool:
        shown = spendgate("audit", "archive", "--json").json["accounts"]
        own = [one for one in shown if one["account"] == spendgate.account]
        return [one.get("archivedSequence") for one in own] == ["4"]

    wait_for(archived, "all is archived")
    assert "0 of 100000" in spendgate("audit", "archive").out
    signed = spendgate("audit", "checkpoint").out.splitlines()
    assert signed[0].startswith("4:")
    assert "-----BEGIN PUBLIC KEY-----" in signed
    assert spendgate("audit", "export", "--output", "trail.jsonl").out == ""
    again = spendgate("audit", "export", "--output", "trail.jsonl")
    assert (again.code, again.error) == (1, "spendgate: trail.jsonl can't be written: File exists\n")
    (spendgate.folder / "key.pem").write_text("\n".join(signed[2:]) + "\n")
    verified = spendgate(
        *("audit", "verify", "trail.jsonl", "--public-key", "key.pem", "--expect", signed[0])
    )
    assert "4 events are complete and unchanged" in verified.out
    assert "1 checkpoint" in verified.out
    assert spendgate("audit", "verify", "--account", spendgate.account).code == 0
    rows = list(csv.DictReader(spendgate("audit", "export", "--format", "csv").out.splitlines()))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["decision"] for row in rows] == ["", "allow", "allow", "deny"]
    assert {row["vault_key_id"] for row in rows} == {busy_key}
    part = spendgate("audit", "export", "--after", "3").out.splitlines()
    assert sum('"body"' in line for line in part) == 1
    unknown = spendgate("audit", "export", "--after", "9")
    assert unknown.code == 1
    assert "after_sequence must be the number of an archived event" in unknown.error
    refused = spendgate("audit", "accept-loss", "--reason", "none")
    assert refused.code == 1
    assert "has all that was ever archived" in refused.error


def test_no_cell_of_a_table_is_a_formula() -> None:
    body = ["time", "0", "kind", "decision", "call", '{"run_id": "=HYPERLINK(1)"}']
    written = io.StringIO()
    export_table.write([json.dumps({"sequence": 1, "hash": "00", "body": body})], written)
    (row,) = csv.DictReader(written.getvalue().splitlines())
    assert (row["run_id"], row["time"]) == ("'=HYPERLINK(1)", "1970-01-01T00:00:00.000+00:00")


def test_audit_events_are_listed_newest_first(spendgate: Operator, busy_key: str) -> None:
    def sequences(*arguments: str) -> list[str]:
        listed = spendgate("audit", "list", *arguments, "--json").json
        return [event["sequence"] for event in listed["auditEvents"]]

    assert sequences() == ["4", "3", "2", "1"]
    assert sequences("--limit", "3") == ["4", "3", "2"]
    assert sequences("--decision", "deny") == ["4"]
    assert sequences("--kind", "administration") == ["1"]
    assert sequences("--run", "run-2") == ["3"]
    assert sequences("--key", "busy", "--kind", "decision") == ["4", "3", "2"]
    assert sequences(
        "--key", busy_key, "--since", "1h", "--until", "2999-01-01T00:00:00Z", "--limit", "1"
    ) == ["4"]
    assert sequences("--until", "1h") == []
    assert sequences("--idempotency-key", "run-1:") == ["2"]
    assert sequences("--object", "ch_1") == []
    table = spendgate("audit", "list").out
    assert "cap_exceeded" in table
    assert "999.99 USD" in table
    wrong = spendgate("audit", "list", "--since", "yesterday")
    assert wrong.code == 2
    assert "or how long ago, such as 2h" in wrong.error


def test_audit_tail_prints_a_document_on_each_line_until_it_is_interrupted(
    spendgate: Operator, policy_server: Process, busy_key: str
) -> None:
    with spendgate.start("audit", "tail", "--after", "1", "--json") as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        seen = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert [event["sequence"] for event in seen] == ["2", "3", "4"]
        spendgate("keys", "revoke", busy_key)
        revoked = json.loads(tail.stdout.readline())
        assert (revoked["sequence"], revoked["kind"]) == ("5", "AUDIT_EVENT_KIND_ADMINISTRATION")
        tail.send_signal(signal.SIGINT)
        assert tail.wait() == 0
        assert tail.stdout.read() == ""
        assert tail.stderr.read() == ""
    with spendgate.start("audit", "tail", "--from-start", "--decision", "deny") as tail:
        assert tail.stdout is not None
        assert "POST /v1/charges" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        assert tail.wait() == 0
    both = spendgate("audit", "tail", "--from-start", "--after", "1")
    assert both.code == 2
    assert "give one of them" in both.error


def test_an_account_is_frozen_and_unfrozen(spendgate: Operator, policy_server: Process) -> None:
    secret = spendgate("keys", "create", "shop", *SHOP, "--json").json["secretVaultKey"]
    shown = spendgate("account", "show", "--json").json
    assert shown == {"account": spendgate.account, "frozen": False, "freezeReason": "", "budgets": []}
    frozen = spendgate("account", "freeze", "--reason", "odd [charges]", "--json").json
    assert (frozen["frozen"], frozen["freezeReason"]) == (True, "odd [charges]")
    assert authorize(policy_server, secret, "run-1", 100) == "deny"
    assert "yes: odd [charges]" in spendgate("account", "show").out
    assert spendgate("account", "unfreeze", "--json").json["frozen"] is False
    assert authorize(policy_server, secret, "run-1", 100) == "allow"
    assert spendgate("account", "freeze").code == 2


def test_budgets_are_set_listed_and_deleted(spendgate: Operator) -> None:
    caps = ("--cap", "usd 2000.00/month in Europe/Berlin", "--cap", "calls 100/day")
    made = spendgate("budgets", "set", "team", *caps, "--json").json
    assert [budget["name"] for budget in made["budgets"]] == ["team"]
    assert made["budgets"][0]["caps"][0]["timeZone"] == "Europe/Berlin"
    assert spendgate("budgets", "list", "--json").json == made
    listed = spendgate("budgets", "list").out
    assert "usd 2000.00/month in Europe/Berlin" in listed
    assert "calls 100/day" in listed
    assert spendgate("budgets", "delete", "team", "--json").json == {"budgets": []}
    assert spendgate("budgets", "set", "team", "--cap", "usd").code == 2


# --- connection ----------------------------------------------------------------


def test_a_server_that_is_away_is_named_with_what_to_do(nowhere: Operator) -> None:
    answer = nowhere("keys", "list", SPENDGATE_ADMIN_TOKEN="sgt_x")
    address = nowhere.environment["SPENDGATE_POLICY_ADDRESS"]
    assert (answer.code, answer.out) == (1, "")
    assert answer.error.startswith(f"spendgate: no policy server answers at {address}; ")
    assert "spendgate up" in answer.error


def test_a_missing_or_wrong_token_is_named_with_what_to_do(spendgate: Operator, tmp_path: Path) -> None:
    missing = spendgate("keys", "list", "--data-dir", "elsewhere")
    assert missing.code == 1
    assert "elsewhere/admin.token does not exist" in missing.error
    (tmp_path / "admin.token").write_text("")
    assert "is empty" in spendgate("keys", "list", "--data-dir", str(tmp_path)).error
    wrong = spendgate("keys", "list", SPENDGATE_ADMIN_TOKEN="sgt_x")
    assert wrong.code == 1
    assert "does not accept the admin token of SPENDGATE_ADMIN_TOKEN" in wrong.error
    assert "sgt_x" not in wrong.error


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("keys", "list"), "POLICY_CA"),
        (("doctor",), "SIDECAR_CA"),
        (("up",), "SIDECAR_CERT"),
        (("sidecar",), "SIDECAR_CLIENT_CA"),
        (("policy-server",), "POLICY_CLIENT_CA"),
        (("policy-server",), "DATA_DIR"),
    ],
)
def test_an_empty_path_is_refused(nowhere: Operator, command: tuple[str, ...], name: str) -> None:
    """It is not the working directory, and no certificate that somebody wanted asked for is left out."""
    answer = nowhere(*command, **{f"SPENDGATE_{name}": ""})
    assert answer.code != 0
    assert "is empty; leave it unset, or name a file" in answer.error
    assert f"SPENDGATE_{name}" in answer.error


def test_the_command_alone_shows_its_help(nowhere: Operator) -> None:
    answer = nowhere.anew()
    assert answer.code == 0
    for command in (
        "keys",
        "usage",
        "audit",
        "account",
        "budgets",
        "up",
        "doctor",
        "policy-server",
        "sidecar",
    ):
        assert f" {command} " in answer.out
    assert nowhere.anew("--version").out.startswith("spendgate ")


@pytest.mark.parametrize(
    "command",
    [("keys", "create"), ("keys", "update"), ("audit", "list"), ("up",), ("doctor",), ("budgets", "set")],
)
def test_every_command_has_help(nowhere: Operator, command: tuple[str, ...]) -> None:
    answer = nowhere(*command, "--help", COLUMNS="200")
    assert answer.code == 0
    assert "--json" in answer.out
    assert "SPENDGATE_ " not in answer.out


def test_servers_get_their_arguments_unchanged(nowhere: Operator) -> None:
    answer = nowhere("policy-server", "--help")
    assert answer.code == 0
    assert "--allow-volatile" in answer.out
    wrong = nowhere("policy-server", "--policy-port", "x", SPENDGATE_REDIS_URL="unix:///none")
    assert wrong.code != 0
    assert "--policy-port" in wrong.error


# --- doctor ------------------------------------------------------------------------


@contextmanager
def stand_in_sidecar(*, ready: bool) -> Iterator[int]:
    """Answer the two questions about health as a sidecar does, and give the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            unready = self.path == "/readyz" and not ready
            self.send_response(503 if unready else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"reasons": ["outbox full"]} if unready else {}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_doctor_finds_everything_in_order(spendgate: Operator) -> None:
    with stand_in_sidecar(ready=True) as port:
        found = spendgate("doctor", "--json", SPENDGATE_SIDECAR_PORT=str(port)).json
        shown = spendgate.anew("doctor", SPENDGATE_SIDECAR_PORT=str(port), PYTHONIOENCODING="utf-8")
    assert found["healthy"] is True
    assert {check["result"] for check in found["checks"]} == {"ok"}
    assert shown.code == 0
    assert shown.out.count("✓") == len(found["checks"])


def test_doctor_says_what_to_do(nowhere: Operator) -> None:
    data_dir = nowhere.folder / ".spendgate"
    data_dir.mkdir(mode=0o700)
    (data_dir / "admin.token").write_text("sgt_x")
    (data_dir / "admin.token").chmod(0o644)
    with stand_in_sidecar(ready=False) as port:
        answer = nowhere("doctor", "--json", SPENDGATE_SIDECAR_PORT=str(port))
        shown = nowhere.anew("doctor", SPENDGATE_SIDECAR_PORT=str(port), PYTHONIOENCODING="ascii")
    assert (answer.code, shown.code) == (1, 1)
    checks = {check["name"]: check for check in json.loads(answer.out)["checks"]}
    assert {name: check["result"] for name, check in checks.items()} == {
        "data directory": "ok",
        "admin token": "wrong",
        "sidecar token": "wrong",
        "redis": "ok",
        "policy server": "wrong",
        "administration": "skipped",
        "audit archive": "skipped",
        "sidecar": "ok",
        "sidecar readiness": "wrong",
    }
    assert "chmod 600" in checks["admin token"]["remedy"]
    assert "outbox full" in checks["sidecar readiness"]["detail"]
    assert "!! admin token" in shown.out
    assert "spendgate up" in shown.out


# --- up ----------------------------------------------------------------------------


@pytest.fixture
def up(commands: CommandServer) -> Iterator[Operator]:
    """The command in an empty folder, with ports of its own."""
    with temporary_folder() as folder:
        ports = set[int]()
        while len(ports) < 3:
            ports.add(free_port())
        policy, sidecar, root = ports
        yield Operator(
            folder,
            {
                "SPENDGATE_POLICY_PORT": str(policy),
                "SPENDGATE_SIDECAR_PORT": str(sidecar),
                "SPENDGATE_SIDECAR_ROOT_PORT": str(root),
                "SPENDGATE_POLICY_ADDRESS": f"127.0.0.1:{policy}",
            },
            commands,
        )


@contextmanager
def running(operator: Operator, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run `spendgate up` and give its summary; it is stopped at the end if it has not ended."""
    log = operator.folder / "up.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "up", "--json", *arguments],
            cwd=operator.folder,
            env=operator.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    with process:
        try:
            document = ""
            for line in process.stdout:
                document += line
                if line == "}\n":
                    break
            assert document, log.read_text()
            yield process, json.loads(document)
        finally:
            process.terminate()


def charge(summary: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Do what the line that `up` prints does, and tell whether it was a duplicate."""
    request = urllib.request.Request(
        f"{summary['sidecar']}/v1/charges",
        data=b"amount=1900&currency=usd&source=tok_visa",
        headers={
            "Authorization": f"Bearer {Path(summary['demoKeyFile']).read_text().strip()}",
            "Spendgate-Run-Id": "demo-1",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), answer.headers.get("Spendgate-Duplicate", "")


def test_up_starts_everything_and_stops_it_in_order(up: Operator) -> None:
    with running(up) as (process, summary):
        charged, _ = charge(summary)
        assert (charged["object"], charged["amount"]) == ("charge", 1900)
        assert charge(summary) == (charged, "true")
        assert spend(up) == "1900"
        key_file = Path(summary["demoKeyFile"])
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        first_key = key_file.read_text()

        second = up("up")
        assert second.code == 1
        assert f"another 'spendgate up' (process {process.pid}) uses " in second.error
        other = up("up", "--data-dir", "other")
        assert other.code == 1
        assert "--policy-port" in other.error

        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        log = (up.folder / "up.log").read_text()
        assert log.index("sidecar stops") < log.index("policy server stops") < log.index("ready to exit")

    with running(up) as (_, summary):
        assert Path(summary["demoKeyFile"]).read_text() == first_key
        assert spend(up) == "1900"


def spend(operator: Operator) -> str:
    """Return what the demo key has spent and holds today, in minor units."""
    (day,) = operator("usage", "demo", "--json").json["caps"]
    return str(int(day["settled"]) + int(day["held"]))


def test_up_told_to_stop_loses_no_call_under_way(up: Operator) -> None:
    """SIGTERM while Stripe works: the agent gets its answer, and what it paid is counted, not only held."""
    with running(up) as (process, summary):
        stripe = Path(summary["dataDir"], "simulator.url").read_text().strip()

        def control(method: str, what: str, body: dict[str, Any] | None = None) -> Any:
            request = urllib.request.Request(
                f"{stripe}/_simulator/{what}", method=method, data=json.dumps(body).encode() if body else None
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)

        control("POST", "faults", {"fault": "delay", "seconds": 60, "match": {"method": "POST"}})
        with ThreadPoolExecutor(1) as agents:
            paying = agents.submit(charge, summary)
            wait_for(lambda: control("GET", "requests?method=POST"), "Stripe has the charge")
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: "sidecar stops" in (up.folder / "up.log").read_text(), "it stops")
            control("DELETE", "faults")
            assert paying.result()[0]["amount"] == 1900
        assert process.wait() == 0
    with running(up):
        (day,) = up("usage", "demo", "--json").json["caps"]
        assert (day["settled"], day["held"]) == ("1900", "0")


@pytest.mark.parametrize("drain_s", [0, 20, 600])
def test_up_kills_no_part_in_the_time_that_it_has_to_stop(drain_s: float) -> None:
    """A sidecar gives calls so long, and settlements as long again."""
    assert UpSettings(drain_s=drain_s).stop_limit_s > 2 * drain_s


def test_up_ends_when_a_part_ends(up: Operator) -> None:
    with running(up, "--no-demo-key") as (process, summary):
        assert summary["demoKeyFile"] == ""
        with redis_client.Redis.from_url(f"unix://{summary['dataDir']}/redis.sock") as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        assert process.wait() == 1
        assert "spendgate: Redis ended with signal SIGKILL" in (up.folder / "up.log").read_text()


def test_up_names_every_port_that_is_taken(up: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [str(listener.getsockname()[1]) for listener in (first, second)]
        answer = up("up", "--policy-port", taken[0], "--sidecar-root-port", taken[1])
        assert answer.code == 1
        assert all(port in answer.error for port in taken)
        assert "(--sidecar-root-port). Stop" in answer.error
        served = up("mcp", "--port", taken[0])
    assert (served.code, served.out) == (1, "")
    assert f"127.0.0.1:{taken[0]} can't be listened on" in served.error


@pytest.mark.parametrize("columns", [80, 300])
def test_a_table_never_breaks_a_cell(spendgate: Operator, busy_key: str, columns: int) -> None:
    """In a terminal that is too narrow every row is a record, so that ids can be copied."""
    shown = in_terminal(spendgate, columns, "audit", "list", "--key", busy_key)
    ids = {event["vaultKeyId"] for event in spendgate("audit", "list", "--json").json["auditEvents"]}
    assert ids
    assert all(key_id in shown for key_id in ids)
    assert ("┃" in shown) == (columns == 300)
    assert "No event matches." in spendgate("audit", "list", "--run", "nobody").out
    assert "No run is frozen." in spendgate("runs", "frozen").out


def in_terminal(operator: Operator, columns: int, *arguments: str) -> str:
    """Run the command in a terminal of so many columns; return what it shows."""
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (50, columns))
    # Who runs the tests may have sizes in the environment, which would overrule the terminal's own.
    sizes = {"COLUMNS", "LINES"}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=operator.folder,
        env={name: value for name, value in operator.environment.items() if name not in sizes},
        stdin=there,
        stdout=there,
        stderr=there,
    )
    os.close(there)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while part := os.read(here, 65536):
            shown += part
    os.close(here)
    assert process.wait() == 0
    return shown.decode()


def test_up_tells_which_ports_the_system_chose(up: Operator) -> None:
    zero = [f"--{name}-port=0" for name in ("policy", "sidecar", "sidecar-root")]
    with running(up, *zero) as (_, summary):
        charged, _ = charge(summary)
        with urllib.request.urlopen(f"{summary['simulator']}/_simulator/requests", timeout=30) as answer:
            (request,) = [one for one in json.load(answer) if one["method"] == "POST"]
        assert request["object_id"] == charged["id"]
        shown = up("keys", "show", "demo", SPENDGATE_POLICY_ADDRESS=summary["policyServer"])
        assert shown.code == 0, shown.error


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "sentence"),
    [
        ((), {"SPENDGATE_STRIPE_API_BASE": "http://127.0.0.1:9"}, 2, "but STRIPE_SECRET_KEY is not"),
        ((), {"TWILIO_AUTH_TOKEN": "secret@"}, 2, "set both TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        (("--sidecar-port", "-1"), {}, 2, "--sidecar-port: Input should be greater than"),
        (("--policy-port", "8787", "--sidecar-port", "8787"), {}, 2, "must be three different ports"),
        (("--data-dir", "x" * 120), {}, 1, "choose a shorter --data-dir"),
        (("--redis-url", "redis://:secret@127.0.0.1:1"), {}, 1, "Redis does not answer"),
    ],
)
def test_up_says_why_it_does_not_start(
    up: Operator, arguments: tuple[str, ...], settings: dict[str, str], code: int, sentence: str
) -> None:
    answer = up("up", *arguments, **settings)
    assert (answer.code, answer.out) == (code, "")
    assert sentence in answer.error.rpartition("spendgate: ")[2]
    assert "secret@" not in answer.error


def test_up_hands_twilio_to_the_sidecar_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"TWILIO_ACCOUNT_SID": f"AC{1:032x}", "TWILIO_AUTH_TOKEN": "secret"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = UpSettings()
    assert settings.sidecar_environment(None).items() >= given.items()
    assert not (settings.policy_environment().keys() | bare_environment().keys()) & given.keys()
    assert settings.upstream_text().endswith(f"; Twilio, account {given['TWILIO_ACCOUNT_SID']}")


def test_a_frozen_run_is_shown_and_lifted(spendgate: Operator, policy_server: Process) -> None:
    """By the key's name and the run."""
    made = spendgate(
        *("keys", "create", "circling", *SHOP, "--repeated-refusals", "1", "--json"),
    ).json
    secret, key_id = made["secretVaultKey"], made["vaultKey"]["vaultKeyId"]
    assert authorize(policy_server, secret, "run-1", 1, "POST /v1/payouts") == "deny"
    assert authorize(policy_server, secret, "run-1", 1) == "deny"
    (run,) = [
        run for run in spendgate("runs", "frozen", "--json").json["frozenRuns"] if run["vaultKeyId"] == key_id
    ]
    assert (run["runId"], run["reason"], run["endpoint"]) == (
        "run-1",
        "endpoint_not_allowed",
        "POST /v1/payouts",
    )
    assert "endpoint_not_allowed" in spendgate("runs", "frozen").out
    assert spendgate("runs", "unfreeze", "circling", "run-1").code == 0
    assert authorize(policy_server, secret, "run-1", 1) == "allow"
    again = spendgate("runs", "unfreeze", "circling", "run-1")
    assert (again.code, again.error) == (
        1,
        f"spendgate: the run 'run-1' is not frozen for the vault key {key_id}\n",
    )


def test_an_entry_that_matches_no_endpoint_is_warned_of(spendgate: Operator) -> None:
    """It is a slip most often; a pattern, and an endpoint of another vendor, are none."""
    slips = ("POST /v1/charge", "POST /v1/charges/ch_1/capture", "POST /v1/sth")
    entries = (*slips, "* /v1/refunds", "GET /v1/*", "* /twilio/*")
    options = [part for entry in entries for part in ("--allow", entry)]
    made = spendgate("keys", "create", "slips", *options)
    assert made.code == 0
    asks = ("; did you mean 'POST /v1/charges'?", "; did you mean 'POST /v1/charges/{charge}/capture'?", "")
    assert made.error.splitlines() == [
        f"Warning: no endpoint that Spendgate knows matches {slip!r}{ask}"
        for slip, ask in zip(slips, asks, strict=True)
    ]
    right = spendgate("keys", "update", "slips", "--allow", "POST /v1/payment_intents/*/confirm")
    assert (right.code, right.error) == (0, "")


def test_explain_shows_the_rule_that_decides(spendgate: Operator) -> None:
    """Nothing is counted by asking."""
    spendgate("keys", "create", "asked", *SHOP)
    call = ("explain", "asked", "POST /v1/charges", "--run", "run-1", "--parameter", "customer=cus_1")
    told = spendgate(*call, "--amount", "usd 19.00")
    assert told.code == 0
    assert told.out.startswith("It would be allowed.")
    refused = spendgate(*call, "--amount", "usd 1000000.00", "--json").json
    assert refused["answer"]["denyReason"] == "DENY_REASON_CAP_EXCEEDED"
    broken = [rule["rule"] for rule in refused["rules"] if rule["verdict"] == "RULE_VERDICT_BROKEN"]
    assert broken == [refused["answer"]["rule"]]
    assert spendgate(*call, "--amount", "usd 1000000.00").out.startswith("It would be refused: 100000000 (in")
    for wrong in (("--amount", "19 usd"), ("--parameter", "customer"), ()):
        assert spendgate(*call[:3], *wrong).code == 2
    assert "--amount" in spendgate(*call).out.splitlines()[1]
    usage = spendgate("usage", "asked", "--json").json["caps"]
    assert {cap["settled"] for cap in usage} | {cap["held"] for cap in usage} == {"0"}


def test_a_chain_of_derived_keys_is_taken_as_the_trail_shows_it(
    spendgate: Operator, policy_server: Process
) -> None:
    """The last of it is meant, with all that come from it: looked for by its id, and revoked."""
    parent = spendgate("keys", "create", "parent", *SHOP, "--json").json["secretVaultKey"]
    first = spendgate("keys", "derive", "--label", "first", stdin=parent).out.strip()
    second = spendgate("keys", "derive", "--label", "second", stdin=first).out.strip()
    third = spendgate("keys", "derive", "--label", "third", stdin=second).out.strip()
    for run, key in enumerate((first, second, third)):
        assert authorize(policy_server, key, f"run-{run}", 100) == "allow"
    events = spendgate("audit", "list", "--key", "parent", "--json").json["auditEvents"]
    chains = [event["derivedKeyId"] for event in events if event["derivedKeyId"]]
    ids = [derived_key_id(key) for key in (first, second, third)]
    assert chains == ["/".join(ids[:length]) for length in (3, 2, 1)]
    for named in (("--derived", ids[1]), ("--derived", chains[1]), ("--key", second)):
        found = spendgate("audit", "list", *named, "--json").json["auditEvents"]
        assert [event["runId"] for event in found] == ["run-2", "run-1"], named
    ended = spendgate("keys", "revoke", "parent", "--derived", chains[1])
    assert ended.code == 0, ended.error
    assert f"The key {ids[1]} derived from parent" in ended.out
    for key, verdict in ((first, "allow"), (second, "deny"), (third, "deny")):
        assert authorize(policy_server, key, "run-9", 100) == verdict
    for wrong in ("/", f"{ids[0]}/", f"{ids[0]}//{ids[1]}", "parent", "/".join(ids[:1] * 5)):
        refused = spendgate("keys", "revoke", "parent", "--derived", wrong)
        assert refused.code != 0
        assert "16 characters" in refused.error


def test_a_key_is_derived_and_revoked_alone(spendgate: Operator, policy_server: Process) -> None:
    """From standard input, without asking the server; found in a leak, it ends and its parent does not."""
    secret = spendgate("keys", "create", "parent", *SHOP, "--json").json["secretVaultKey"]
    options = (
        "--run",
        "run-1",
        "--allow",
        "POST /v1/charges",
        "--cap",
        "usd 20.00/total",
        "--cap",
        "calls 5/run",
    )
    derived = spendgate("keys", "derive", *options, "--expires-in", "1h", stdin=secret).out.strip()
    assert derived_key_id(derived)
    assert authorize(policy_server, derived, "run-2", 1) == "deny"
    assert authorize(policy_server, derived, "run-1", 2_001) == "deny"
    assert authorize(policy_server, derived, "run-1", 2_000) == "allow"
    by_key = spendgate("audit", "list", "--key", derived, "--json").json["auditEvents"]
    by_id = spendgate("audit", "list", "--derived", derived_key_id(derived), "--json").json["auditEvents"]
    assert [event["amount"]["minorUnits"] for event in by_key] == ["2000", "2001", "1"]
    assert by_id == by_key
    told = spendgate("explain", derived, "POST /v1/charges", "--amount", "usd 0.01", "--step", "two").out
    assert told.startswith("It would be refused: 1 (in the smallest unit of USD) would exceed the cap")
    caps = spendgate("usage", derived, "--json").json["caps"]
    assert [(one["cap"], one.get("derivedKeyId", ""), one["remaining"]) for one in caps] == [
        ("calls/run", derived_key_id(derived), "4"),
        ("usd/total", derived_key_id(derived), "0"),
        ("usd/day", "", "48000"),
    ]
    assert derived_key_id(derived) in spendgate("usage", derived).out
    assert "'spendgate explain' tells" in spendgate("keys", "show", derived).error
    assert spendgate("keys", "update", derived, "--allow", "GET /v1/*").code == 2
    ended = spendgate("keys", "revoke", derived)
    assert ended.code == 0
    assert derived_key_id(derived) in ended.out
    assert derived not in ended.out
    assert authorize(policy_server, derived, "run-1", 2_000) == "deny"
    assert authorize(policy_server, secret, "run-1", 2_000) == "allow"
    other = spendgate("keys", "derive", "--label", "other", stdin=secret).out.strip()
    by_id = spendgate("keys", "revoke", "parent", "--derived", derived_key_id(other), "--json").json
    assert by_id["revokedDerivedKeyIds"] == [derived_key_id(derived), derived_key_id(other)]
    assert by_id["state"] == "VAULT_KEY_STATE_ACTIVE"
    for wrong in ((), ("--run", "ü"), ("--cap", "usd 1/day"), ("--cap", "usd 1/call on POST /v1/charges")):
        failed = spendgate("keys", "derive", *wrong, stdin=secret)
        assert (failed.code, secret in failed.error) == (2, False)
