"""Every refusal tells a model whether repeating the call can help, and what else it may do."""

from __future__ import annotations

import ast
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from policy_server.core.policy import ParameterRule
from policy_server.core.types import Amount, DenyReason, Verdict
from policy_server.core.vault_key import parse
from policy_server.core.window import Window
from policy_server.rpc import convert
from sidecar import refusals
from sidecar.exchange import error_answer
from sidecar.refusals import Refused
from sidecar.stripe.vendor import Stripe
from sidecar.twilio.vendor import Twilio
from spendgate import derive_key
from spendgate.v1 import policy_service_pb2 as pb
from tests.processes import REPOSITORY
from tests.world import CHARGES, DAY, World, key_id, usd

IN_VAIN = "can't help"
CAN_HELP = "can help"


async def unknown(world: World) -> Verdict:
    key = parse(await world.key(usd(100)))
    assert key is not None
    return await world.ask(f"vk_{key.key_id}_{'a' * 32}", 1)


async def revoked(world: World) -> Verdict:
    key = await world.key(usd(100))
    await world.server.administration.revoke_key(key_id(key))
    return await world.ask(key, 1)


async def expired(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100), expires_at_ms=world.now_ms), 1)


async def account_frozen(world: World) -> Verdict:
    key = await world.key(usd(100), account="other")
    await world.server.administration.freeze("other", "an incident")
    return await world.ask(key, 1)


async def run_frozen(world: World) -> Verdict:
    key = await world.key(usd(100), repeated_refusals_max=1)
    await world.ask(key, 101)
    return await world.ask(key, 1)


async def run_not_allowed(world: World) -> Verdict:
    return await world.ask(derive_key(await world.key(usd(100)), run_id="mine"), 1, "another")


async def endpoint(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100), allow=(CHARGES, "GET /v1/*")), 1, endpoint="POST /v1/x")


async def vendor_account(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100)), 1, vendor_account="acct_9")


async def currency(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100)), Amount(1, "EUR"))


async def parameter(world: World) -> Verdict:
    key = await world.key(usd(100), parameter_rules=(ParameterRule("customer", ("cus_1", "cus_2")),))
    return await world.ask(key, 1, parameters={"customer": "cus_3"})


async def run_id(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100, Window.RUN)), 1, "", idempotency_key="k")


async def mismatch(world: World) -> Verdict:
    key = await world.key(usd(100))
    await world.ask(key, 1)
    return await world.ask(key, 2)


async def too_old(world: World) -> Verdict:
    key = await world.key(usd(100))
    await world.ask(key, 1)
    world.now_ms += DAY
    return await world.ask(key, 1)


async def amount_unknown(world: World) -> Verdict:
    return await world.ask(await world.key(usd(100)), moves_money=True)


async def cap(world: World) -> Verdict:
    key = await world.key(usd(100))
    await world.spend(key, 60)
    return await world.ask(key, 50, "next")


CASES: dict[DenyReason, tuple[Callable[[World], Awaitable[Verdict]], str]] = {
    # How a call comes to be refused so, and what its sentence must have beside the retry.
    DenyReason.VAULT_KEY_UNKNOWN: (unknown, "ask the operator"),
    DenyReason.VAULT_KEY_REVOKED: (revoked, "allows nothing any more"),
    DenyReason.VAULT_KEY_EXPIRED: (expired, "allows nothing any more"),
    DenyReason.ACCOUNT_FROZEN: (account_frozen, "an incident"),
    DenyReason.RUN_NOT_ALLOWED: (run_not_allowed, "derived for the run mine"),
    DenyReason.RUN_FROZEN: (run_frozen, "end the run"),
    DenyReason.ENDPOINT_NOT_ALLOWED: (endpoint, "it may call POST /v1/charges and GET /v1/*"),
    DenyReason.VENDOR_ACCOUNT_NOT_ALLOWED: (vendor_account, "acct_9"),
    DenyReason.CURRENCY_NOT_ALLOWED: (currency, "it may move USD"),
    DenyReason.PARAMETER_NOT_ALLOWED: (parameter, "it may be cus_1 or cus_2"),
    DenyReason.RUN_ID_REQUIRED: (run_id, "Spendgate-Run-Id"),
    DenyReason.IDEMPOTENCY_MISMATCH: (mismatch, "another step"),
    DenyReason.EFFECT_TOO_OLD: (too_old, "an operator must reconcile it"),
    DenyReason.AMOUNT_UNKNOWN: (amount_unknown, "names the amount"),
    DenyReason.CAP_EXCEEDED: (cap, "40 of 100 left until it resets at 2031-03-13T00:00:00Z"),
}


@pytest.mark.parametrize("reason", DenyReason)
async def test_every_reason_has_one_sentence_that_says_whether_to_repeat(
    world: World, reason: DenyReason
) -> None:
    """What it says of repeating is what the sidecar's answer says."""
    refused_by, wanted = CASES[reason]
    verdict = await refused_by(world)
    assert verdict.reason is reason
    assert wanted in verdict.message
    assert verdict.message.endswith(".")
    assert ". " not in verdict.message
    assert (CAN_HELP in verdict.message) == (verdict.retry_at_ms is not None)
    assert (IN_VAIN in verdict.message) == (verdict.retry_at_ms is None)
    refused = refusals.denied(convert.authorize_response(verdict))
    assert refused.message == verdict.message
    for body in (
        json.loads(Stripe().refusal(refused, "req_1").body)["error"],
        json.loads(Twilio("AC0").refusal(refused, "req_1").body)["details"],
    ):
        assert body["spendgate"]["reason"] == reason
        assert body["spendgate"]["retryable"] == (verdict.retry_at_ms is not None)
        assert ("retry_after" in body["spendgate"]) == (verdict.retry_at_ms is not None)


async def test_a_call_that_no_reset_makes_room_for_is_not_worth_repeating(world: World) -> None:
    """More than the whole limit never fits; less than that fits after the reset, and the answer says when."""
    key = await world.key(usd(100))
    never = await world.ask(key, 101)
    assert never.retry_at_ms is None
    assert "never more than 100" in never.message
    await world.spend(key, 1)
    later = await world.ask(key, 100, "later")
    assert later.retry_at_ms is not None
    world.now_ms = later.retry_at_ms - 1
    assert not (await world.ask(key, 100, "later")).allowed
    world.now_ms = later.retry_at_ms
    assert (await world.ask(key, 100, "later")).allowed
    total = await world.key(usd(100, Window.TOTAL))
    await world.spend(total, 1)
    assert (await world.ask(total, 100, "later")).retry_at_ms is None


MADE_UP: list[Refused] = [
    refusals.malformed("amount", "It must be a number."),
    refusals.policy_unavailable("it is away"),
    refusals.in_flight_elsewhere("run-1"),
    refusals.never_repeated(pb.AuthorizeResponse()),
    refusals.not_sent(pb.AuthorizeResponse(), "no route"),
    *(refusals.outcome_unknown(pb.AuthorizeResponse(), "cut", repeatable=one) for one in (True, False)),
    Refused(403, "endpoint_not_allowed", "Nobody knows this endpoint."),
    Refused(503, "vendor_unavailable", "It is away.", retryable=True),
    refusals.denied(
        pb.AuthorizeResponse(deny_reason=pb.DENY_REASON_AMOUNT_UNKNOWN, message="This call can't help."),
        unpriced="metered",
    ),
]


@pytest.mark.parametrize("refused", MADE_UP, ids=lambda one: one.code)
def test_the_sidecar_s_own_refusals_say_whether_to_repeat(refused: Refused) -> None:
    """All are made by `Refused`, which adds what they don't say themselves."""
    assert (CAN_HELP in refused.message) == refused.retryable
    assert (IN_VAIN in refused.message) == (not refused.retryable)


def test_no_refusal_of_the_sidecar_leaves_the_closing_sentence_out() -> None:
    """Only those do that say it themselves; they are in the list above."""
    silent = []
    for path in (REPOSITORY / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "") if isinstance(node, ast.Call) else ""
            words = [word.arg for word in node.keywords] if isinstance(node, ast.Call) else []
            if name == "Refused" and "again" in words:
                silent.append(path.name)
    assert silent == ["refusals.py"] * 3


@pytest.mark.parametrize("retryable", [True, False])
def test_so_do_answers_before_the_vendor_is_known(retryable: bool) -> None:
    """Such as to a path of no vendor."""
    answer: dict[str, Any] = json.loads(error_answer(404, "path_unknown", "No.", retryable=retryable).body)
    assert (CAN_HELP if retryable else IN_VAIN) in answer["error"]["message"]
    assert answer["error"]["spendgate"] == {"reason": "path_unknown", "retryable": retryable}
