"""What tests share: a private Redis, the core over it, and real policy servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio
import redis as redis_client

from tests.processes import (
    RUNNING,
    Process,
    clean_environment,
    policy_server_process,
    redis_process,
    redis_url,
    temporary_folder,
)
from tests.sdks import STYLES, NodeProcess, Sdk, sdk, why_no_node
from tests.simulator import Simulator, start_simulator, stop_simulator
from tests.stack import Stack, VaultKey, running_stack
from tests.world import World

Connect = Callable[..., Sdk]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each running program's log with a failed test."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {process.name}", process.log[-5000:]) for process in RUNNING]
    return report


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """No setting of the shell that runs the tests reaches them."""
    patch = pytest.MonkeyPatch()
    for name in os.environ.keys() - clean_environment().keys():
        patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Process]:
    """One private Redis for all tests."""
    with temporary_folder() as folder, redis_process(folder) as process:
        yield process


@pytest.fixture
def redis(redis_server: Process) -> str:
    """The address of a Redis without any key."""
    url = redis_url(redis_server)
    with redis_client.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest_asyncio.fixture
async def world(redis: str) -> AsyncIterator[World]:
    """The core over an empty Redis."""
    world = World(redis)
    yield world
    await world.close()


@pytest.fixture
def policy_server(redis: str) -> Iterator[Process]:
    """A policy server over an empty Redis, with an empty archive."""
    with temporary_folder() as folder, policy_server_process(folder, redis) as process:
        yield process


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    """Everything running, for all tests that do not harm it."""
    # A busy machine is not a policy server that hangs.
    with temporary_folder() as folder, running_stack(folder, decision_timeout_ms="5000") as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """A running Spendgate, and a Stripe that knows nothing yet."""
    shared_stack.simulator.reset()
    return shared_stack


@pytest.fixture(scope="session")
def node() -> Iterator[NodeProcess | None]:
    """One process with Stripe's SDK for Node, where that is installed."""
    process = None if why_no_node() else NodeProcess()
    yield process
    if process is not None:
        process.close()


@pytest.fixture(params=STYLES)
def connect(request: pytest.FixtureRequest, stack: Stack, node: NodeProcess | None) -> Iterator[Connect]:
    """Opens Stripe's SDKs, each in turn, with a vault key; at the sidecar unless an origin is given."""
    style = str(request.param)
    if style == "node" and node is None:
        pytest.skip(why_no_node())
    with ExitStack() as opened:

        def connect(key: VaultKey, origin: str = "") -> Sdk:
            made = sdk(style, key.text, origin or stack.origin(root=style == "node"), node)
            opened.callback(made.close)
            return made

        yield connect


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[Simulator]:
    """One Stripe simulator for the tests of the simulator itself."""
    process, url = start_simulator()
    simulator = Simulator(url)
    yield simulator
    simulator.raw.close()
    assert stop_simulator(process) == 0


@pytest.fixture
def simulator(running_simulator: Simulator) -> Simulator:
    """A Stripe simulator that knows nothing yet."""
    running_simulator.control("reset", {})
    return running_simulator


@pytest.fixture
def stack_redis(shared_stack: Stack) -> str:
    """Where the counters of the running Spendgate are."""
    return f"unix://{shared_stack.policy_servers[0].folder}/redis.sock"
