"""Keys derived from vault keys: what they are, who can make them, and that they never can do more."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server.core import derived_key
from policy_server.core.errors import FieldInvalid, SpendgateError, VaultKeyIsRevoked
from policy_server.core.policy import PolicyMode, RefundRule
from policy_server.core.types import Amount, DenyReason, Outcome, RuleVerdict, SpendCall, Verdict
from policy_server.core.window import Window
from spendgate import DerivationFailed, DerivedCap, derive_key
from spendgate.derived_keys import DEPTH_MAX, LENGTH_MAX, derived_key_id, run_of
from tests.processes import REPOSITORY
from tests.world import CHARGES, HOUR, MINUTE, RETENTION_MS, World, calls, usd

REFUNDS = "POST /v1/refunds"
READ = "GET /v1/charges"
VECTORS = json.loads((REPOSITORY / "tests/vectors/derived_keys.json").read_text("utf-8"))
ROOTS = {one["vault_key"]: one["root_public_key"] for one in VECTORS["vault_keys"]}
PARENT = next(iter(ROOTS))


def usd_cap(limit: int, window: str = "total") -> DerivedCap:
    """A cap on US dollars that a derived key brings."""
    return DerivedCap(window, limit, "USD")


def key_id_of(key: str) -> str:
    """The public id of the vault key, also of a derived key."""
    return key[3:15]


# --- what they are ---------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["derived_keys"], ids=lambda one: one["about"])
def test_the_vectors_are_derived_and_verified(vector: dict[str, Any]) -> None:
    """Derivation and verification are two implementations, and agree with what is published."""
    arguments = dict(vector["arguments"])
    caps = [DerivedCap(**cap) for cap in arguments.pop("caps", ())]
    key = derive_key(vector["parent"], caps=caps, **arguments)
    assert key == vector["derived_key"]
    assert derived_key_id(key) == vector["derived_key_id"]
    read = derived_key.parse(key)
    assert read is not None
    assert read.derived_key_id == vector["derived_key_id"]
    opened = [root for vault_key, root in ROOTS.items() if read.opens(root)]
    assert opened == [ROOTS[next(one for one in ROOTS if key_id_of(one) == read.key_id)]]
    assert run_of(key) == (read.run_ids or ("",))[0]
    assert len(key) <= LENGTH_MAX


def test_the_root_is_what_is_published() -> None:
    """The public half is made of the secret alone."""
    for vault_key, root in ROOTS.items():
        assert derived_key.root_public_key(vault_key[16:]) == root


@pytest.mark.parametrize("vector", VECTORS["not_derived_keys"], ids=lambda one: one["about"])
def test_what_is_no_derived_key_opens_nothing(vector: dict[str, Any]) -> None:
    """Also when it was signed with the right seed."""
    read = derived_key.parse(vector["key"])
    assert read is None or not any(read.opens(root) for root in ROOTS.values())


def test_a_text_nested_too_deep_is_no_key_and_no_failure() -> None:
    """A stranger's, to both who read it: the client and the server."""
    link = urlsafe_b64encode(b'{"run":' + b"[" * 1200 + b"0" * 96).decode().rstrip("=")
    begin, _, seal = VECTORS["derived_keys"][0]["derived_key"].split(".")
    key = ".".join((begin, link, seal))
    assert len(key) <= LENGTH_MAX
    assert derived_key_id(key)
    assert run_of(key) == ""
    assert derived_key.parse(key) is None


@settings(max_examples=300)
@given(st.sampled_from([one["derived_key"] for one in VECTORS["derived_keys"]]), st.data())
def test_no_bit_flip_verifies(key: str, data: st.DataObject) -> None:
    """Any other character, anywhere, makes it no key of that vault key."""
    place = data.draw(st.integers(0, len(key) - 1))
    other = chr(ord(key[place]) ^ (1 << data.draw(st.integers(0, 6))))
    read = derived_key.parse(key[:place] + other + key[place + 1 :])
    assert read is None or not any(read.opens(root) for root in ROOTS.values())


@settings(max_examples=300)
@given(st.text() | st.from_regex(r"vk_[a-z2-7]{12}_d1(\.[A-Za-z0-9_-]{1,200}){1,5}", fullmatch=True))
def test_the_reader_never_crashes(text: str) -> None:
    """Whatever is presented as a key."""
    for read in (derived_key.parse(text), derived_key.parse(f"vk_{'a' * 12}_d1.{text}")):
        assert read is None or not read.opens(ROOTS[PARENT])
    run_of(text)
    derived_key_id(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["allow", "caps", "expires", "label", "run", "other"])


@settings(max_examples=300)
@given(
    st.dictionaries(
        NAMES, JSON | st.lists(st.dictionaries(st.sampled_from(["currency", "limit", "window"]), JSON))
    )
)
def test_no_caveat_that_is_not_understood_is_ignored(stated: dict[str, Any]) -> None:
    """A holder of the seed may sign anything; the reader takes all of it or none."""
    written = json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()
    caveats = derived_key._caveats(written, "a" * 16)
    if caveats is not None:
        assert stated.keys() <= {"allow", "caps", "expires", "label", "run"}
        assert [pattern.text for pattern in caveats.allow] == stated.get("allow", [])
        assert caveats.run_id == stated.get("run", "")
        assert (caveats.expires_at_ms or 0) == stated.get("expires", 0) * 1000
        assert [one.cap.limit for one in caveats.caps] == [one["limit"] for one in stated.get("caps", [])]


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {},
            {"run_id": "a" * 129},
            {"run_id": "ä"},
            {"label": "\n"},
            {"expires_at": 0},
            {"expires_at": 2**60},
        ),
        *(
            {"allow": ["POST charges"]},
            {"allow": [f"GET /v1/{n}" for n in range(21)]},
            {"allow": ["GET //x"]},
        ),
        *({"caps": [usd_cap(-1)]}, {"caps": [usd_cap(1, "day")]}, {"caps": [usd_cap(1), usd_cap(2)]}),
        *({"caps": [DerivedCap("call", 1)]}, {"caps": [DerivedCap("run", 0)]}),
        *({"caps": [DerivedCap("run", 1, "usd")]}, {"caps": [DerivedCap("run", 2**53)]}),
        {"allow": [f"GET /v1/{'a' * 100}{n}" for n in range(20)]},
    ],
)
def test_what_can_t_be_derived_is_told_without_the_key(arguments: dict[str, Any]) -> None:
    """The message says what to do."""
    with pytest.raises(DerivationFailed) as failed:
        derive_key(PARENT, **arguments)
    assert PARENT not in str(failed.value)
    with pytest.raises(DerivationFailed):
        derive_key("sk_test_1", run_id="run")


def test_it_can_be_derived_so_often_and_no_more() -> None:
    """And it stays within its length."""
    key = PARENT
    for depth in range(DEPTH_MAX):
        key = derive_key(key, label=str(depth))
        read = derived_key.parse(key)
        assert read is not None
        assert read.opens(ROOTS[PARENT])
    with pytest.raises(DerivationFailed):
        derive_key(key, label="once more")


ENDPOINTS = st.lists(st.sampled_from([CHARGES, REFUNDS, "GET /v1/*", "* /v1/*"]), max_size=2)
DERIVED_CAPS = st.lists(
    st.sampled_from(
        [*(usd_cap(n, w) for n in (0, 30, 70) for w in ("call", "run", "total")), DerivedCap("run", 2)]
    ),
    max_size=2,
    unique_by=lambda one: (one.currency, one.window),
)
CAVEATS = st.fixed_dictionaries(
    {
        "run_id": st.sampled_from(["", "", "a", "b"]),
        "allow": ENDPOINTS,
        "caps": DERIVED_CAPS,
        "label": st.just("one"),
    },
    optional={"expires_at": st.sampled_from([1_000, 4_000_000_000])},
)


# --- what they may do -----------------------------------------------------------


POLICIES = st.fixed_dictionaries(
    {
        "allow": st.sampled_from([("* /v1/*",), (CHARGES, "GET /v1/*")]),
        "mode": st.sampled_from([PolicyMode.ENFORCE, PolicyMode.ENFORCE, PolicyMode.SHADOW]),
        "unpriced": st.sampled_from([(), (CHARGES,)]),
        "refunds": st.sampled_from(RefundRule),
        "repeated_refusals_max": st.sampled_from([0, 2, 10]),
    }
)
CAPS = st.lists(
    st.sampled_from([usd(60, Window.CALL), usd(90, Window.RUN), usd(100), calls(4, Window.RUN)]),
    unique=True,
    max_size=3,
)
CALLS = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from([CHARGES, CHARGES, REFUNDS, READ]),
        "amount": st.sampled_from([None, *(Amount(n, "USD") for n in (1, 40, 61)), Amount(5, "EUR")]),
        "run_id": st.sampled_from(["a", "a", "b", ""]),
        "step": st.sampled_from(["", "1", "2"]),
        "refunded_object_id": st.sampled_from(["", "", "ch_1"]),
        "unpriced": st.sampled_from([False, False, True]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=POLICIES,
    caps=CAPS,
    chain=st.lists(CAVEATS, min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 3), CALLS), min_size=1, max_size=8),
)
async def test_no_derived_key_can_do_what_its_parent_could_not(
    world: World,
    policy: dict[str, Any],
    caps: list[Any],
    chain: list[dict[str, Any]],
    steps: list[tuple[int, dict[str, Any]]],
) -> None:
    """At any time, whatever was counted: what a key may do, every key that it was derived from may do too."""
    await world.begin_anew()
    keys = [await world.key(*caps, **policy)]
    for caveats in chain:
        keys.append(derive_key(keys[-1], **caveats))
    for which, asked in steps:
        named = dict(asked)
        verdicts: list[Verdict | None] = []
        for key in keys:
            named["run_id"] = asked["run_id"] or run_of(keys[-1])
            try:
                explained = await world.server.explainer.explain(SpendCall(key, **named), "")
            except SpendgateError:
                verdicts.append(None)
                continue
            verdicts.append(explained.verdict)
        may = [verdict is not None and verdict.allowed for verdict in verdicts]
        assert may == sorted(may, reverse=True), may
        actor = keys[min(which, len(keys) - 1)]
        try:
            done = await world.server.decide(SpendCall(actor, **asked))
        except SpendgateError:
            continue
        if actor != keys[0] and done.allowed and done.asked is None:
            assert_within(done, derived_key.parse(actor))
    await check_counters(world, keys)


def assert_within(done: Verdict, key: derived_key.DerivedKey | None) -> None:
    """Every cap of every link counts what was held, unless nobody could tell it before."""
    assert key is not None
    for status in done.caps:
        if status.derived_key_id:
            assert status.derived_key_id in key.derived_key_ids


async def check_counters(world: World, keys: Iterable[str]) -> None:
    """No counter of a derived key is above its cap, but by calls without a price."""
    for key in keys:
        read = derived_key.parse(key)
        for owned in read.caps if read else ():
            for name in await world.redis.keys(f"*:{owned.derived_key_id}:{owned.id}:*"):
                counted = await world.redis.hgetall(name)
                assert int(counted.get("held", 0)) + int(counted.get("settled", 0)) <= owned.cap.limit


@pytest.fixture
async def parent(world: World) -> str:
    """A vault key that may charge, refund and read."""
    return await world.key(usd(100), allow=(CHARGES, REFUNDS, "GET /v1/*"))


async def test_each_caveat_flips_a_decision(world: World, parent: str) -> None:
    """None is accepted and then ignored; the parent may still do it."""
    cases: list[tuple[dict[str, Any], dict[str, Any], DenyReason]] = [
        ({"run_id": "other"}, {}, DenyReason.RUN_NOT_ALLOWED),
        ({"expires_at": world.now_ms // 1000}, {}, DenyReason.VAULT_KEY_EXPIRED),
        ({"allow": [REFUNDS]}, {}, DenyReason.ENDPOINT_NOT_ALLOWED),
        ({"caps": [usd_cap(4, "call")]}, {}, DenyReason.CAP_EXCEEDED),
        ({"caps": [usd_cap(4, "run")]}, {}, DenyReason.CAP_EXCEEDED),
        ({"caps": [usd_cap(4)]}, {}, DenyReason.CAP_EXCEEDED),
    ]
    for caveats, call, reason in cases:
        key = derive_key(parent, **caveats)
        verdict = await world.ask(key, 5, validate_only=True, **call)
        assert (verdict.allowed, verdict.reason) == (False, reason)
        assert verdict.message.endswith(".")
        assert (await world.ask(derive_key(parent, label="x"), 5, validate_only=True, **call)).allowed
        assert (await world.ask(parent, 5, validate_only=True, **call)).allowed
        shadow = await world.key(usd(100), mode=PolicyMode.SHADOW)
        assert (await world.ask(derive_key(shadow, **caveats), 5)).reason is reason
    counting = derive_key(parent, caps=[DerivedCap("run", 1)])
    assert (await world.ask(counting, 5, step="1")).allowed
    refused = await world.ask(counting, 5, step="2")
    assert (refused.reason, refused.rule) == (
        DenyReason.CAP_EXCEEDED,
        f"{derived_key_id(counting)}: calls/run",
    )


async def test_parent_run_and_derived_key_are_held_in_one_step(world: World, parent: str) -> None:
    """What one of them refuses leaves nothing in the others; what all allow counts in all."""
    child = derive_key(parent, run_id="run", caps=[usd_cap(50)])
    grandchild = derive_key(child, caps=[usd_cap(30, "run")])
    assert (await world.ask(grandchild, 30, "", step="1")).allowed
    assert await world.count(parent) == (0, 30)
    over = await world.ask(child, 21, "", step="2")
    assert (over.reason, over.rule) == (DenyReason.CAP_EXCEEDED, f"{derived_key_id(child)}: usd/total")
    assert await world.count(parent) == (0, 30)
    assert (await world.ask(child, 20, "", step="3")).allowed
    assert (await world.ask(parent, 50, step="4")).allowed
    assert (await world.ask(parent, 1, step="5")).rule == "usd/day"
    settled = await world.ask(grandchild, 30, step="1")
    assert settled.duplicate
    await world.settle(settled, 10)
    assert await world.count(parent) == (10, 70)
    assert (await world.ask(grandchild, 20, step="6")).allowed


async def test_a_retry_with_the_parent_is_the_same_effect(world: World, parent: str) -> None:
    """Effects are the vault key's: whoever repeats one, it is done once."""
    child = derive_key(parent, run_id="run")
    first = await world.ask(child, 5)
    again = await world.ask(parent, 5)
    assert (again.duplicate, again.authorization_id) == (True, first.authorization_id)
    assert await world.count(parent) == (0, 5)


async def test_a_key_of_one_run_names_no_effect_of_another(world: World, parent: str) -> None:
    """An idempotency key is shared by all runs: it would block, or read, what another run does."""
    mine, other = derive_key(parent, run_id="run"), derive_key(parent, label="any run")
    for effect, holder in (("to-come", None), ("done", other), ("mine", parent)):
        if holder:
            assert (await world.ask(holder, 5, "other", idempotency_key=effect)).allowed
        call = SpendCall(mine, CHARGES, Amount(5, "USD"), "run", idempotency_key=effect)
        refused = await world.server.decide(call)
        assert (refused.reason, refused.rule) == (DenyReason.RUN_NOT_ALLOWED, "idempotency_key")
        assert (refused.allowed, refused.object_id) == (False, "")
        assert "leave the idempotency_key out" in refused.message
        explained = await world.server.explainer.explain(call, "")
        assert (explained.verdict.reason, explained.verdict.rule) == (refused.reason, refused.rule)
    assert (await world.ask(other, 5, "other", idempotency_key="to-come")).attempt == 1
    again = await world.ask(parent, 5, "third", idempotency_key="done")
    assert again.duplicate
    assert (await world.ask(mine, endpoint=READ, idempotency_key="read")).allowed


async def test_every_link_is_on_record_so_that_a_leaked_one_can_be_revoked(world: World, parent: str) -> None:
    """Also when its holder derives a new key for each call."""
    leaked = derive_key(parent, run_id="run")
    for label in "ab":
        child = derive_key(leaked, label=label)
        assert (await world.ask(child, 1, step=label)).allowed
        event = (await world.events())[-1]
        assert event.fields["derived_key_id"] == f"{derived_key_id(leaked)}/{derived_key_id(child)}"
    await world.server.administration.revoke_derived_key(key_id_of(parent), derived_key_id(leaked))
    fresh = await world.ask(derive_key(leaked, label="c"), 1, step="c")
    assert fresh.reason is DenyReason.VAULT_KEY_REVOKED


@pytest.mark.parametrize("skew_ms", [-HOUR, -1, 1, HOUR])
async def test_the_store_s_clock_says_when_a_key_has_expired(world: World, skew_ms: int) -> None:
    """A server whose clock is wrong neither honours a key too long nor ends it too soon."""
    at_ms = world.now_ms + 10 * MINUTE
    own = await world.key(usd(100), expires_at_ms=at_ms)
    derived = derive_key(await world.key(usd(100)), expires_at=at_ms // 1000)
    for key in (own, derived):
        for now_ms, reason in ((at_ms - 1, None), (at_ms, DenyReason.VAULT_KEY_EXPIRED)):
            world.now_ms = now_ms
            server = world.second_server(skew_ms=skew_ms)
            assert (await world.ask(key, 5, server=server, step=str(now_ms))).reason is reason
            call = SpendCall(key, CHARGES, Amount(5, "USD"), "run", step=f"{now_ms} again")
            assert (await server.explainer.explain(call, "")).verdict.reason is reason


async def test_it_ends_with_its_parent_or_alone(world: World, parent: str) -> None:
    """From the next call on, at every server; what was derived from it too, its siblings not."""
    administration = world.server.administration
    other = world.second_server()
    child, sibling = derive_key(parent, label="a"), derive_key(parent, label="b")
    grandchild = derive_key(child, label="c")
    for key in (child, sibling, grandchild):
        assert (await world.ask(key, 1, endpoint=CHARGES, server=other)).allowed
    record = await administration.revoke_derived_key(key_id_of(parent), derived_key_id(child))
    assert record.revoked_derived == (derived_key_id(child),)
    assert await administration.revoke_derived_key(key_id_of(parent), derived_key_id(child)) == record
    for key in (child, grandchild):
        assert (await world.ask(key, 1, server=other)).reason is DenyReason.VAULT_KEY_REVOKED
    for key in (parent, sibling):
        assert (await world.ask(key, 1, server=other)).allowed
    (event,) = (await world.events(kind="administration"))[-1:]
    assert derived_key_id(child) in event.fields["detail"]
    with pytest.raises(FieldInvalid):
        await administration.revoke_derived_key(key_id_of(parent), child)
    await administration.revoke_key(key_id_of(parent))
    assert (await world.ask(sibling, 1, server=other)).reason is DenyReason.VAULT_KEY_REVOKED
    with pytest.raises(VaultKeyIsRevoked):
        await administration.revoke_derived_key(key_id_of(parent), derived_key_id(sibling))


async def test_usage_shows_the_caps_of_a_whole_chain(world: World, parent: str) -> None:
    """Each link's own, with what it has left; of no key that is another's, badly signed, or not whole."""
    child = derive_key(parent, run_id="run", caps=[DerivedCap("total", 50, "USD"), DerivedCap("run", 3)])
    grandchild = derive_key(child, caps=[DerivedCap("total", 20, "USD")])
    for key, amount in ((child, 10), (grandchild, 5)):
        assert (await world.ask(key, amount, step=str(amount))).allowed
    usage = world.server.administration.usage
    _, shown = await usage(key_id_of(parent), "", grandchild)
    of = {derived_key_id(child): "child", derived_key_id(grandchild): "grandchild", "": "parent"}
    assert [(of[one.derived_key_id], one.cap, one.limit - one.settled - one.held) for one in shown][:3] == [
        ("child", "calls/run", 1),
        ("child", "usd/total", 35),
        ("grandchild", "usd/total", 15),
    ]
    assert {of[one.derived_key_id] for one in shown[3:]} == {"parent"}
    stranger = derive_key(await world.key(usd(100)), run_id="run")
    forged = f"{child[:-1]}{'A' if child[-1] != 'A' else 'Q'}"
    for wrong in (stranger, forged, derived_key_id(child), parent):
        with pytest.raises(FieldInvalid, match="derived_key") as refused:
            await usage(key_id_of(parent), "", wrong)
        assert wrong not in str(refused.value)


async def test_who_reads_the_store_can_derive_nothing(world: World, parent: str) -> None:
    """What is stored of a key is taken for its secret in every way there is; and no seal is stored."""
    child = derive_key(parent, run_id="run")
    assert (await world.ask(child, 5)).allowed
    stored = await world.redis.hgetall(f"spendgate:{{default}}:key:{key_id_of(parent)}")
    dump = str(await world.dump())
    for secret in (parent[16:], child, child[-43:], child.split(".")[1]):
        assert secret not in dump
    assert derived_key_id(child) in dump
    for material in (stored["secret_hash"], stored["root_public_key"]):
        guess = f"vk_{key_id_of(parent)}_{material[:32].translate(str.maketrans('0189', 'aaaa'))}"
        forged = derive_key(guess, run_id="run")
        assert (await world.ask(forged, 5)).reason is DenyReason.VAULT_KEY_UNKNOWN


async def test_it_is_on_record_by_its_public_id(world: World, parent: str) -> None:
    """Beside its parent's; one that does not verify is not named."""
    child = derive_key(parent, run_id="run")
    await world.spend(child, 5, "")
    await world.ask(child[:-2] + ("A" if child[-2] != "A" else "B") + child[-1], 5)
    told = [
        (event.fields["vault_key_id"], event.fields.get("derived_key_id"), event.fields.get("run_id"))
        for event in await world.events(vault_key_id=key_id_of(parent))
        if event.fields["kind"] != "administration"
    ]
    ours = (key_id_of(parent), derived_key_id(child), "run")
    assert told == [ours, ours, (key_id_of(parent), None, "run")]


async def test_a_refusal_in_another_run_freezes_neither(world: World) -> None:
    """A holder of a derived key can't stop runs that it may not work in."""
    parent = await world.key(usd(100), repeated_refusals_max=2, allow=(CHARGES, REFUNDS))
    child = derive_key(parent, run_id="run", allow=[CHARGES])
    for _ in range(3):
        assert (await world.ask(child, 5, "other")).reason is DenyReason.RUN_NOT_ALLOWED
    assert (await world.ask(parent, 5, "other")).allowed
    for _ in range(2):
        refused = await world.ask(child, 5, endpoint=REFUNDS)
        assert (refused.reason, refused.allowed_endpoints) == (DenyReason.ENDPOINT_NOT_ALLOWED, (CHARGES,))
    assert (await world.ask(child, 5)).reason is DenyReason.RUN_FROZEN


async def test_the_counters_of_a_derived_key_are_forgotten(world: World, parent: str) -> None:
    """There may be one for every run; a total of a vault key is kept for ever."""
    child = derive_key(parent, caps=[usd_cap(50)])
    assert (await world.ask(child, 5)).allowed
    (name,) = await world.redis.keys(f"*{derived_key_id(child)}*")
    assert await world.redis.pttl(name) > RETENTION_MS


# --- what their caps count of objects that others have counted -----------------------

CONFIRM = "POST /v1/payment_intents/{intent}/confirm"
CANCEL = "POST /v1/payment_intents/{intent}/cancel"


async def sealed_counts(world: World, key: str) -> tuple[int, int]:
    """Settled and held of the only cap of a derived key."""
    names = await world.redis.keys(f"*:{derived_key_id(key)}:*")
    counted = [await world.redis.hgetall(name) for name in names]
    return (
        sum(int(one.get("settled", 0)) for one in counted),
        sum(int(one.get("held", 0)) for one in counted),
    )


async def make(world: World, key: str, object_id: str, amount: int) -> None:
    """Make an intent."""
    made = await world.ask(key, amount, step=object_id, endpoint="POST /v1/payment_intents")
    assert made.allowed, made
    await world.settle(made, amount, object_id=object_id)


async def confirm(world: World, key: str, object_id: str, amount: int, step: str = "c") -> Verdict:
    """Ask for a step on an intent, and let it succeed when it is allowed."""
    verdict = await world.ask(key, amount, step=step, endpoint=CONFIRM, object_id=object_id)
    if verdict.allowed:
        await world.settle(verdict, amount, object_id=object_id)
    return verdict


@pytest.fixture
async def holder(world: World) -> str:
    """A vault key with room for 200 USD a day, whose refunds give back."""
    return await world.key(usd(200), refunds=RefundRule.RESTORE)


@pytest.mark.parametrize("window", ["call", "run", "total"])
async def test_a_small_cap_does_not_move_what_another_key_has_counted(
    world: World, holder: str, window: str
) -> None:
    """Neither the parent's intent, nor a sibling's; with room it may, and the vault key counts it once."""
    sibling = derive_key(holder, label="sibling")
    child = derive_key(holder, caps=[usd_cap(10, window)])
    large = derive_key(holder, caps=[usd_cap(90, window)])
    for maker, name in ((holder, "pi_1"), (sibling, "pi_2")):
        await make(world, maker, name, 90)
        refused = await confirm(world, child, name, 90, f"small {name}")
        assert (refused.reason, refused.rule) == (
            DenyReason.CAP_EXCEEDED,
            f"{derived_key_id(child)}: usd/{window}",
        )
    assert await world.count(holder) == (180, 0)
    assert (await confirm(world, large, "pi_1", 90)).allowed
    assert await world.count(holder) == (180, 0)
    if window != "call":
        assert await sealed_counts(world, large) == (90, 0)
        assert await sealed_counts(world, child) == (0, 0)
        # What it has counted itself it need not count again; of another object it does.
        assert (await confirm(world, large, "pi_1", 90, "again")).allowed
        assert not (await confirm(world, large, "pi_2", 90, "other")).allowed


async def test_what_an_object_gives_back_every_cap_that_counted_it_gets(world: World, holder: str) -> None:
    """Also when the parent makes it commit less; never more than the cap has counted."""
    child = derive_key(holder, caps=[usd_cap(90)])
    await make(world, holder, "pi_1", 90)
    step = await world.ask(child, 90, step="held", endpoint=CONFIRM, object_id="pi_1")
    assert await sealed_counts(world, child) == (0, 90)
    await world.settle(step, outcome=Outcome.FAILED)
    assert await sealed_counts(world, child) == (0, 0)
    assert (await confirm(world, child, "pi_1", 90)).allowed
    lowered = await world.ask(holder, step="cancel", endpoint=CANCEL, object_id="pi_1")
    await world.settle(lowered, 40, object_id="pi_1")
    assert await sealed_counts(world, child) == (40, 0)
    assert await world.count(holder) == (40, 0)
    # Money that is seen later counts where all of it had counted.
    await world.observe(holder, "pi_1", 60)
    assert await sealed_counts(world, child) == (60, 0)
    assert await world.count(holder) == (60, 0)


async def test_a_refund_gives_a_cap_back_what_that_cap_has_counted(world: World, holder: str) -> None:
    """A charge of the parent's takes room of the child's to refund, its own does not."""
    child = derive_key(holder, caps=[usd_cap(50)])
    for key, name, amount in ((holder, "ch_1", 90), (child, "ch_2", 40)):
        made = await world.ask(key, amount, step=name)
        await world.settle(made, amount, object_id=name)
    more: dict[str, Any] = {"endpoint": REFUNDS, "refunded_object_id": "ch_1"}
    assert (await world.ask(child, 11, step="r1", **more)).rule == f"{derived_key_id(child)}: usd/total"
    foreign = await world.ask(child, 10, step="r2", **more)
    assert await sealed_counts(world, child) == (40, 10)
    await world.settle(foreign, 10, object_id="re_1")
    assert await sealed_counts(world, child) == (50, 0)
    assert await world.count(holder) == (120, 0)
    more["refunded_object_id"] = "ch_2"
    own = await world.ask(child, 30, step="r3", **more)
    assert await sealed_counts(world, child) == (50, 0)
    await world.settle(own, 30, object_id="re_2")
    # Of its own charge 30 came back. Of 40 more it has counted 10.
    assert await sealed_counts(world, child) == (20, 0)
    assert await world.count(holder) == (90, 0)
    assert not (await world.ask(child, 41, step="r4", **more)).allowed
    assert (await world.ask(child, 40, step="r5", **more)).allowed
    assert await sealed_counts(world, child) == (20, 30)


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 5, 20, 45, 70]), st.booleans()),
    min_size=1,
    max_size=14,
)


class Counted:
    """What the caps of a vault key and of those derived from it count, told in plain Python."""

    def __init__(self, parent_limit: int, chains: Mapping[int, Mapping[str, int]]) -> None:
        """``chains`` has for each actor the caps that bind it beside the parent's, with their limits."""
        self._parent_limit = parent_limit
        self._chains = chains
        self.total: dict[str, int] = {}
        self.own: dict[str, dict[str, int]] = {cap: {} for caps in chains.values() for cap in caps}

    def allows(self, actor: int, object_id: str, amount: int) -> bool:
        """Whether every cap has room for what it has not counted of the object."""
        room = self._parent_limit - sum(self.total.values())
        if max(0, amount - self.total.get(object_id, 0)) > max(0, room):
            return False
        return all(
            max(0, amount - self.own[cap].get(object_id, 0)) <= limit - sum(self.own[cap].values())
            for cap, limit in self._chains[actor].items()
        )

    def succeeds(self, actor: int, object_id: str, amount: int) -> None:
        """The object commits this much now, and all of it counts for whoever did so."""
        self.total[object_id] = amount
        for cap, counted in self.own.items():
            counted[object_id] = (
                amount if cap in self._chains[actor] else min(counted.get(object_id, 0), amount)
            )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=st.tuples(*[st.sampled_from([10, 50, 70, 100])] * 3), steps=STEPS)
async def test_no_derived_key_moves_more_than_its_own_caps_whoever_counted_the_object(
    world: World, limits: tuple[int, int, int], steps: list[tuple[int, int, int, bool]]
) -> None:
    """Each decision and each count is the model's; and the vault key counts as if it had made every step."""
    await world.begin_anew()
    parent, alone = await world.key(usd(150)), await world.key(usd(150))
    child = derive_key(parent, caps=[usd_cap(limits[0])], label="child")
    sibling = derive_key(parent, caps=[usd_cap(limits[1])], label="sibling")
    grandchild = derive_key(child, caps=[usd_cap(limits[2])])
    actors = [parent, child, sibling, grandchild]
    bound = [(), (1,), (2,), (1, 3)]
    limit = {1: limits[0], 2: limits[1], 3: limits[2]}
    model = Counted(150, {n: {str(cap): limit[cap] for cap in bound[n]} for n in range(4)})
    for number, (actor, which, amount, succeeds) in enumerate(steps):
        name, made = f"pi_{which}", f"pi_{which}" in model.total
        if not made and not amount:
            continue
        asked: dict[str, Any] = {"step": str(number), "object_id": name if made else ""}
        endpoint = CONFIRM if made else "POST /v1/payment_intents"
        verdict = await world.ask(actors[actor], amount, endpoint=endpoint, **asked)
        assert verdict.allowed is (amount == 0 or model.allows(actor, name, amount))
        if not verdict.allowed:
            continue
        twin = await world.ask(alone, amount, endpoint=endpoint, **asked)
        assert twin.allowed
        for one in (verdict, twin):
            if succeeds:
                await world.settle(one, amount, object_id=name)
            else:
                await world.settle(one, outcome=Outcome.FAILED)
        if succeeds:
            # A step of nothing is counted by no cap; it gives back.
            model.succeeds(actor if amount else 0, name, amount)
        assert await world.count(parent) == await world.count(alone) == (sum(model.total.values()), 0)
        for cap, key in ((1, child), (2, sibling), (3, grandchild)):
            assert await sealed_counts(world, key) == (sum(model.own[str(cap)].values()), 0)
            assert (await sealed_counts(world, key))[0] <= limit[cap]


async def test_an_invoice_takes_over_what_each_cap_has_counted_for_its_items(
    world: World, holder: str
) -> None:
    """Items of the parent's take room of the child's that bills them; its own item does not."""
    child = derive_key(holder, caps=[usd_cap(50)])
    for key, name, amount in ((holder, "ii_1", 30), (child, "ii_2", 20)):
        made = await world.ask(key, amount, step=name, endpoint="POST /v1/invoiceitems")
        await world.settle(made, amount, object_id=name)
    absorbed = {"absorbed_object_ids": ("ii_1", "ii_2")}
    billed = await world.ask(child, 50, step="in", endpoint="POST /v1/invoices", **absorbed)
    assert billed.allowed
    assert await sealed_counts(world, child) == (20, 30)
    await world.settle(billed, 50, object_id="in_1")
    assert await sealed_counts(world, child) == (50, 0)
    assert await world.count(holder) == (50, 0)
    assert (await confirm(world, child, "in_1", 50, "finalize")).allowed
    assert await sealed_counts(world, child) == (50, 0)
    assert not (await world.ask(child, 1, step="more")).allowed


async def test_a_step_whose_amount_nobody_said_counts_what_it_asked_for(world: World, holder: str) -> None:
    """In the child's cap all of it; in the vault key's only what is new."""
    child = derive_key(holder, caps=[usd_cap(90)])
    await make(world, holder, "pi_1", 60)
    step = await world.ask(child, 80, step="up", endpoint=CONFIRM, object_id="pi_1")
    assert await sealed_counts(world, child) == (0, 80)
    assert await world.count(holder) == (60, 20)
    await world.settle(step, object_id="pi_1")
    assert await sealed_counts(world, child) == (80, 0)
    assert await world.count(holder) == (80, 0)


async def test_two_steps_of_a_derived_key_at_once_hold_twice_and_count_once(
    world: World, holder: str
) -> None:
    """Neither knows of the other's end, so there must be room for both."""
    child = derive_key(holder, caps=[usd_cap(100)])
    await make(world, holder, "pi_1", 40)
    steps = [await world.ask(child, 40, step=name, endpoint=CONFIRM, object_id="pi_1") for name in ("a", "b")]
    assert await sealed_counts(world, child) == (0, 80)
    assert not (await world.ask(child, 40, step="c", endpoint=CONFIRM, object_id="pi_1")).allowed
    for step in steps:
        await world.settle(step, 40, object_id="pi_1")
    assert await sealed_counts(world, child) == (40, 0)
    assert await world.count(holder) == (40, 0)


async def test_what_is_explained_of_a_step_is_what_each_cap_has_to_take(world: World, holder: str) -> None:
    """The vault key's cap takes nothing more, the derived key's all of it."""
    child = derive_key(holder, caps=[usd_cap(10)])
    await make(world, holder, "pi_1", 90)
    asked = SpendCall(child, CONFIRM, Amount(90, "USD"), "run", step="x", object_id="pi_1")
    explained = await world.server.explainer.explain(asked, "")
    rules = {one.rule: (one.needed, one.verdict) for one in explained.rules if one.cap}
    assert rules[f"{derived_key_id(child)}: usd/total"] == (90, RuleVerdict.BROKEN)
    assert rules["usd/day"] == (0, RuleVerdict.NOT_REACHED)
