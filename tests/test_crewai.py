"""CrewAI's crews with the payment tools, under the enforcement suite and in a run that is frozen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from spendgate.testing import EnforcementSuite, Seat
from tests.processes import REPOSITORY, clean_environment
from tests.stack import Stack, cap
from tests.test_examples import CREWAI, SOURCE

pytestmark = pytest.mark.skipif(
    not CREWAI.exists(), reason="CrewAI is not installed; `make crewai` installs it"
)

CARD: dict[str, Any] = {"amount": 1900, "currency": "usd", "source": "tok_visa"}


async def kick_off(
    key: str, sidecar: str, run_id: str, *calls: tuple[str, dict[str, Any]], **more: str
) -> list[str]:
    """Run the crew in CrewAI's own environment; return what its model was told."""
    environment = {
        "SPENDGATE_VAULT_KEY": key,
        "SPENDGATE_SIDECAR_URL": sidecar,
        "RUN": run_id,
        "CALLS": json.dumps(calls),
        "PYTHONPATH": str(SOURCE),
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        CREWAI,
        Path(__file__).with_name("crewai_agent.py"),
        cwd=REPOSITORY / "tests",
        env=clean_environment() | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, complaint.decode()[-2000:]
    heard: list[str] = json.loads(said.decode().splitlines()[-1])
    return heard


@pytest.mark.timeout(600)
class TestCrew(EnforcementSuite):
    """Every check that a team would point at its own crew."""

    run_limit_s = 150.0

    async def run_agent(self, seat: Seat) -> list[str]:
        """Bill the customer, whom the model does not see; or try to refund."""
        call = (
            ("refund", {"charge": seat.charge})
            if seat.task == "refund"
            else ("charge", {"amount": 1900, "currency": "usd"})
        )
        return await kick_off(
            seat.vault_key.get_secret_value(),
            seat.sidecar,
            seat.run_id,
            call,
            FIXED=json.dumps({"customer": seat.customer}),
            REJECTIONS=str(int(seat.sends_back())),
        )


async def test_a_frozen_run_is_told_as_such(stack: Stack) -> None:
    """A failure is a text in CrewAI; the one that freezes the run no longer asks for less."""
    key = stack.key(caps=[cap(1000)], repeated_refusals_max=1)
    sidecar = stack.origin().removesuffix("/stripe")
    # CrewAI itself stops equal calls, so that the words differ.
    asked = [("charge", {**CARD, "description": f"try {number}"}) for number in range(2)]
    froze, after = await kick_off(key.text, sidecar, "order-42", *asked)
    for said in (froze, after):
        assert "try again: no, this run is frozen; tell the user" in said
    assert stack.simulator.posts() == []
