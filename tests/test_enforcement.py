"""The enforcement suite, in sessions of pytest of its own: what passes, and what failures say."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, Process, clean_environment, wait_for

NAIVE = REPOSITORY / "examples" / "naive"
MISBEHAVING = REPOSITORY / "tests" / "agents_that_misbehave.py"
SETTINGS = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""


@dataclass(frozen=True)
class Outcome:
    """How one check ended, and what it said."""

    kind: str
    said: str


def outcomes(*arguments: str | Path, folder: Path) -> dict[str, Outcome]:
    """Run pytest as a team does; return the checks by class and name."""
    (folder / "pytest.ini").write_text(SETTINGS)
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = {}
    for case in xml.parse(report).iter("testcase"):
        ended = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        name = f"{case.attrib['classname'].rpartition('.')[2]}.{case.attrib['name']}"
        found[name] = (
            Outcome("passed", "")
            if ended is None
            else Outcome(ended.tag, f"{ended.attrib.get('message', '')}\n{ended.text or ''}")
        )
    return found


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The suite, pointed at the naive agents."""
    return _examples("test_naive.py", tmp_path_factory.mktemp("naive"))


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The suite, pointed at their governed twins."""
    return _examples("test_governed.py", tmp_path_factory.mktemp("governed"))


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The suite, pointed at agents that each do one thing wrong, and at some that do none."""
    folder = tmp_path_factory.mktemp("misbehaving")
    shutil.copy(MISBEHAVING, folder / "test_agents.py")
    failing = [f"test_agents.py::{name.replace('.', '::', 1)}" for name in FAILURES]
    passing = [f"test_agents.py::{name}" for name in PASSING]
    return outcomes(*failing, *passing, folder=folder)


def _examples(test: str, folder: Path) -> dict[str, Outcome]:
    for path in NAIVE.glob("*.py"):
        shutil.copy(path, folder)
    return outcomes(test, folder=folder)


PAID_TWICE = re.compile(
    r"2 payments were made .*, 38\.00 USD in all; 1 was meant\.\n"
    r"Send payments through the sidecar, and name the run: .*\n\n"
    r"What the agent did, call by call:\n"
    r"  time +run +call +amount +Spendgate +Stripe\n"
    r"  0\.00 s +- +POST /v1/charges +19\.00 USD +not asked +(?:200|reply lost) ch_\w+, paid 19\.00 USD .*\n"
    r"  \d\.\d\d s +- +POST /v1/charges +19\.00 USD +not asked +200 ch_\w+, paid 19\.00 USD \(key …eKey\)\n"
)


def test_a_retry_that_charges_again_is_explained(naive: Mapping[str, Outcome]) -> None:
    """The first of the three failures."""
    failed = naive["TestRetriedCharge.test_retries_in_one_run_make_one_charge[reply_lost]"]
    assert failed.kind == "failure"
    assert PAID_TWICE.search(failed.said), failed.said
    assert "2 payments were made in one run in which the reply of a payment was lost" in failed.said
    assert "reply lost ch_" in failed.said


def test_a_key_that_agents_share_is_explained(naive: Mapping[str, Outcome]) -> None:
    """The second: the agent that bills refunds, with a key that no policy is behind."""
    failed = naive["TestSharedKey.test_a_billing_key_can_not_refund"]
    assert failed.kind == "failure"
    assert "The agent refunded, and it is an agent that bills." in failed.said
    assert "Give each kind of agent a vault key of its own" in failed.said
    assert re.search(
        r"POST /v1/refunds +19\.00 USD +not asked +200 re_\w+, refunded 19\.00 USD \(key …eKey\)", failed.said
    )
    straight = naive["TestSharedKey.test_every_call_goes_through_spendgate"]
    assert "1 calls went to Stripe with a key of their own (…eKey)" in straight.said


def test_a_validation_loop_is_explained(naive: Mapping[str, Outcome]) -> None:
    """The third."""
    failed = naive["TestValidationLoop.test_a_validation_loop_makes_one_charge"]
    assert failed.kind == "failure"
    assert PAID_TWICE.search(failed.said), failed.said
    assert "2 payments were made in a run whose answer was rejected once" in failed.said


def test_the_governed_twins_pass(governed: Mapping[str, Outcome]) -> None:
    """Every check of each; what can't be asked of one is skipped, and says why."""
    assert not [name for name, one in governed.items() if one.kind in {"failure", "error"}], governed
    skipped = {name for name, one in governed.items() if one.kind == "skipped"}
    assert skipped == {
        "TestRetriedCharge.test_a_validation_loop_makes_one_charge",
        "TestRetriedCharge.test_cancelling_in_mid_call_loses_nothing",
        "TestSharedKey.test_a_validation_loop_makes_one_charge",
    }
    assert len(governed) == 3 * 13


SECRET = re.compile(r"[sr]k_(?:live|test)_51|vk_[a-z2-7]{12}_[a-z2-7]{8,}")
FAILURES = {
    "TestHammers.test_a_reached_cap_ends_the_run_without_hammering": [
        "the agent asked 8 times for the same call in one run; at most 3 are tolerable",
        "refused: cap_exceeded (usd/day)",
    ],
    "TestNeverEnds.test_a_reached_cap_ends_the_run_without_hammering": [
        "The run did not end within 3 s.",
        " did not end",
    ],
    "TestRaises.test_a_reached_cap_ends_the_run_without_hammering": [
        "did not end the run gracefully: it raised an exception",
        "raised CapExceeded: 1900",
    ],
    "TestOneNameForAll.test_concurrent_runs_have_distinct_run_ids": [
        "3 runs at the same time named 1 runs",
        "the same again",
    ],
    "TestNewStepForEachTry.test_a_validation_loop_makes_one_charge": [
        "2 payments were made in a run whose answer was rejected once, 38.00 USD in all; 1 was meant.",
        "first   POST /v1/charges  19.00 USD  allowed",
        "second  POST /v1/charges  19.00 USD  allowed",
    ],
    "TestTalks.test_no_raw_key_is_anywhere": [
        "log of agent: rk_live_…eLog",
        "output: sk_test_…tput",
        "traceback of run-",
        "sk_live_…able",
        ": the vault key",
    ],
    "TestTalks.test_message_history_has_no_customers": [
        "The message history has ids of customers in it: cus_"
    ],
    "TestMayRefund.test_a_billing_key_can_not_refund": ["The agent's key may refund", "or set may_refund"],
    "TestPaysNothing.test_retries_in_one_run_make_one_charge[nothing_breaks]": [
        "The agent paid 0 times, and its suite says payments = 1",
        "the agent made no call",
    ],
    "TestIsNotWritten.test_every_call_goes_through_spendgate": ["write run_agent(self, seat)"],
}


PASSING = ("TestLangGraph", "TestProgram", "TestStream", "TestRaisesAsItSays")


@pytest.mark.parametrize("name", FAILURES)
def test_what_an_agent_does_wrong_is_said(misbehaving: Mapping[str, Outcome], name: str) -> None:
    """Each check fails for an agent that does just that wrong."""
    outcome = misbehaving[name]
    assert outcome.kind == "failure", outcome
    for part in FAILURES[name]:
        assert part in outcome.said
    assert not SECRET.search(outcome.said), "what fails is shown to everybody who reads the log"


@pytest.mark.parametrize("name", PASSING)
def test_agents_of_other_kinds_pass(misbehaving: Mapping[str, Outcome], name: str) -> None:
    """LangGraph, a program of its own, a stream, and one that says with what it ends."""
    its = {check: one for check, one in misbehaving.items() if check.startswith(f"{name}.")}
    assert len(its) == 13
    assert not [check for check, one in its.items() if one.kind in {"failure", "error"}], its
    assert its[f"{name}.test_a_billing_key_can_not_refund"].kind == "passed"


def test_the_plugin_costs_a_session_nothing_that_does_not_use_it(tmp_path: Path) -> None:
    """Neither gRPC nor a framework is loaded, and nothing is started."""
    (tmp_path / "test_other.py").write_text("""
import os, sys

def test_other(request):
    assert request.config.pluginmanager.has_plugin("spendgate")
    heavy = {"grpc", "google", "httpx", "pydantic", "spendgate.testing", "spendgate.client"}
    assert not heavy & set(sys.modules), heavy & set(sys.modules)
    assert not [name for name in os.environ if name.startswith("SPENDGATE_")]
""")
    # The framework's own plugins, which other packages bring along, do load things.
    found = outcomes("-p", "no:langsmith_plugin", "-p", "no:anyio", "test_other.py", folder=tmp_path)
    assert [one.kind for one in found.values()] == ["passed"], found


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Process]:
    """A session of pytest in the middle of a test, with a Spendgate of its own."""
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_waits.py").write_text("""
import os, pathlib, time

def test_waits(spendgate, spendgate_key):
    key = spendgate_key(allow=["POST /v1/charges"], caps=["usd 10.00/day"])
    assert key.key_id not in repr(spendgate.seat(key).headers.keys())
    assert not [name for name in os.environ if name.startswith(("SPENDGATE_", "STRIPE_"))]
    pathlib.Path("reached").write_text(spendgate.sidecar)
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
""")
    process = Process(
        "pytest",
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_waits.py"],
        folder=tmp_path,
        env={"TMPDIR": str(tmp_path)} if len(str(tmp_path)) < 60 else {},
        ready=lambda process: (tmp_path / "reached").exists(),
    )
    with process:
        yield process


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and they, by id."""
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    found, new = set[int](), {pid}
    while new:
        new = set().union(*(children.get(one, set()) for one in new)) - found
        found |= new
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
@pytest.mark.parametrize("killed", [False, True])
def test_spendgate_ends_with_the_session(session: Process, tmp_path: Path, killed: bool) -> None:
    """Also when pytest is killed."""
    started = descendants(session.pid)
    assert len(started) >= 5, "up, Redis, simulator, policy server and sidecar"
    if killed:
        os.kill(session.pid, signal.SIGKILL)
        session.wait()
    else:
        (tmp_path / "go").touch()
        assert session.wait(60) == 0, session.log
    wait_for(lambda: not alive(started), "all that pytest started has ended")
