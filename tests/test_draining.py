"""A sidecar that is told to stop: calls under way are answered and counted, new ones are refused."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.processes import temporary_folder, wait_for
from tests.stack import CHARGE, Stack, VaultKey, running_stack

AGENTS = 12
POST = {"method": "POST"}


def pay(stack: Stack, key: VaultKey, run: str) -> httpx.Response:
    """Make one charge in a run of its own."""
    form = {**CHARGE, "amount": "100"}
    return stack.agent(key, run).post("/charges", data=form)


def is_refused(stack: Stack, key: VaultKey) -> bool:
    """Tell whether a new call is turned away before anything is done."""
    try:
        httpx.post(f"{stack.origin()}/v1/charges", headers={"Authorization": f"Bearer {key.text}"}, timeout=5)
    except httpx.ConnectError:
        return True
    return False


def test_a_stopping_sidecar_answers_what_is_under_way_and_takes_nothing_new() -> None:
    """Every agent that was let in has its answer, each answer is true, and all of it is settled."""
    with temporary_folder() as folder, running_stack(folder, decision_timeout_ms="5000") as stack:
        key, sidecar = stack.key(), stack.sidecars[0]
        stack.simulator.fault("delay", seconds=120, times=None, match=POST)
        with ThreadPoolExecutor(AGENTS) as pool:
            paying = [pool.submit(pay, stack, key, f"run-{n}") for n in range(AGENTS)]
            wait_for(lambda: len(stack.simulator.posts()) == AGENTS, "Stripe has all charges")
            sidecar.signal(signal.SIGTERM)
            wait_for(lambda: is_refused(stack, key), "new calls are refused")
            assert sidecar.running
            stack.simulator.heal()
            assert {one.result().status_code for one in paying} == {200}
        assert sidecar.wait() == 0
        usage = stack.usage(key)
        assert (usage.held, usage.settled) == (0, 100 * AGENTS)
        assert stack.simulator.committed == 100 * AGENTS


def test_a_sidecar_stops_in_its_time_and_leaves_what_is_under_way_to_be_found_out() -> None:
    """Stripe does not answer: after drain_s it ends all the same, and says that nobody knows."""
    drain_s = 1.0
    with temporary_folder() as folder, running_stack(folder, drain_s=str(drain_s)) as stack:
        key, sidecar = stack.key(), stack.sidecars[0]
        stack.simulator.fault("delay", seconds=120, match=POST)
        with ThreadPoolExecutor(1) as pool:
            paying = pool.submit(pay, stack, key, "run-1")
            wait_for(stack.simulator.posts, "Stripe has the charge")
            begun = time.monotonic()
            sidecar.signal(signal.SIGTERM)
            assert sidecar.wait() == 0
            took_s = time.monotonic() - begun
            assert paying.exception() is not None or paying.result().status_code >= 500
        # Calls have drain_s, settlements at least one second more; the rest is a busy machine.
        assert took_s < drain_s + 1 + 10
        told = stack.events(key)[-1]
        assert told.state == "unknown"
        assert stack.usage(key).held == 100
        stack.simulator.heal()
