"""Faults that a tired programmer might make, to see that the simulation would notice them.

Each is put into the running code, not into the files. Lua is changed as text; a text that is not found any
more is an error, so that no mutation goes stale unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from policy_server.core import judging
from policy_server.core.continuity import Continuity
from policy_server.core.derived_key import DerivedKey
from policy_server.store import restorer, scripts
from policy_server.store.images import Ledger
from policy_server.store.scripts import Script, script
from sidecar import reconciler
from sidecar.outbox import Outbox
from sidecar.reconciler import Reconciler
from sidecar.stripe import evidence
from sidecar.upstream import NoAnswer, NotSent
from tests.simulation import stripe_link

Mutation = Callable[[], AbstractContextManager[Any]]


def _lua(name: str, *changes: tuple[str, str]) -> Mutation:
    """Change a script in these places, each from what is right to what is wrong."""

    @contextlib.contextmanager
    def mutated() -> Iterator[None]:
        changed = script(name).source
        for right, wrong in changes:
            if changed.count(right) != 1:
                raise AssertionError(
                    f"{name}.lua has {right!r} {changed.count(right)} times; mend the mutation"
                )
            changed = changed.replace(right, wrong)
        other = Script(changed, hashlib.sha1(changed.encode(), usedforsecurity=False).hexdigest())

        def chosen(asked: str) -> Script:
            return other if asked == name else script(asked)

        with mock.patch.object(scripts, "script", chosen):
            yield

    return mutated


@contextlib.contextmanager
def _timeout_is_not_sent() -> Iterator[None]:
    right = stripe_link._UpstreamLink.send

    async def send(self: Any, forward: Any, **more: Any) -> Any:
        try:
            return await right(self, forward, **more)
        except NoAnswer as error:
            raise NotSent(str(error)) from None

    with mock.patch.object(stripe_link._UpstreamLink, "send", send):
        yield


@contextlib.contextmanager
def _new_key_on_each_try() -> Iterator[None]:
    tries = itertools.count()
    right = judging.upstream_key

    def upstream_key(effect: Any, attempt: int) -> str:
        return f"{next(tries)}-{right(effect, attempt)}"

    with mock.patch.object(judging, "upstream_key", upstream_key):
        yield


@contextlib.contextmanager
def _only_the_store_s_clock() -> Iterator[None]:
    right = Reconciler._quiet_in_s

    def quiet_in_s(self: Reconciler, hold: Any, now: Any) -> float:
        self._seen_since[reconciler._name(hold)] = -math.inf
        return right(self, hold, now)

    with mock.patch.object(Reconciler, "_quiet_in_s", quiet_in_s):
        yield


def _narrow_search() -> AbstractContextManager[Any]:
    return mock.patch.object(evidence, "_CLOCKS_APART_MAX_S", evidence._CLOCKS_APART_S)


@contextlib.contextmanager
def _rebuild_leaves_out(what: Callable[[str, str], bool]) -> Iterator[None]:
    """A rebuild that writes no field of which ``what`` tells, by its key and its name."""
    right = Ledger.forget_gone

    def forget_gone(self: Ledger, now_ms: int) -> None:
        right(self, now_ms)
        for name, image in self.keys.items():
            image.fields = {field: value for field, value in image.fields.items() if not what(name, field)}
        right(self, now_ms)

    with mock.patch.object(Ledger, "forget_gone", forget_gone):
        yield


def _rebuild_forgets_deadlines() -> AbstractContextManager[Any]:
    return mock.patch.object(Ledger, "deadlines", property(lambda self: {}))


def _rebuild_reads_the_archive_only() -> AbstractContextManager[Any]:
    return mock.patch.object(restorer, "_following", lambda end, known, entries: [])


def _trusts_another_redis() -> AbstractContextManager[Any]:
    return mock.patch.object(Continuity, "store_changed", lambda self: None)


def _derived_keys_forget(name: str, nothing: Any) -> Mutation:
    return lambda: mock.patch.object(DerivedKey, name, property(lambda self: nothing))


def _stops_with_outcomes_in_hand() -> AbstractContextManager[Any]:
    async def flush(self: Outbox, timeout_s: float) -> bool:
        return True

    return mock.patch.object(Outbox, "flush", flush)


MUTATIONS: dict[str, Mutation] = {
    "forgets to hold in one cap": _lua(
        "authorize",
        ("local counter = counters[i]\n  if", "local counter = counters[i]\n  if i > 1 then break end\n  if"),
    ),
    "tests one cap only": _lua(
        "authorize",
        ("if need > 0 and need > tonumber", "if i == 1 and need > 0 and need > tonumber"),
    ),
    "counts only what is settled": _lua("authorize", ("- counts[i][1] - counts[i][2]", "- counts[i][1]")),
    "takes a time-out for not sent": _timeout_is_not_sent,
    "makes a new upstream key on each try": _new_key_on_each_try,
    "skips the event of a decision": _lua("authorize", ("record('decision', call, {", "local skipped = ({")),
    "takes a repeat for a first call": _lua(
        "authorize",
        ("return decided(true, nil, nil, true, 'join'", "return decided(true, nil, nil, false, 'join'"),
    ),
    "settles as often as it is told": _lua(
        "settle",
        ("if h.state == after or (h.state == 'settled' and after == 'unknown') then", "if false then"),
        ("if h.state == 'settled' or (was_released and after ~= 'settled') then", "if false then"),
    ),
    "releases what passed its deadline": _lua(
        "expire",
        (
            "h, deadlines)\n  else",
            "h, deadlines)\n    redis.call('HSET', hold, 'state', 'released')\n  else",
        ),
    ),
    "keeps no deadline": _lua(
        "authorize", ("redis.call('ZADD', deadlines, text(deadline), q.authorization_id)", "")
    ),
    "judges by an old policy": _lua(
        "authorize", ("redis.call('HGET', key_record, 'version') or 0) ~=", "q.key_version) ~=")
    ),
    "counts in the window that the server's clock says": _lua(
        "authorize", ("if now < cap.start_ms or (cap.end_ms > 0 and now >= cap.end_ms) then", "if false then")
    ),
    "repeats at Stripe what Stripe has forgotten": _lua("authorize", ("< q.replay_ms", "< 40 * q.replay_ms")),
    "believes a clock that was set forward": _only_the_store_s_clock,
    "takes what stands outside its search for absent": _narrow_search,
    "gives a hold back twice": _lua(
        "settle", ("add(counters, 'held', -held)", "add(counters, 'held', -2 * held)")
    ),
    "decides in another ledger": _lua(
        "authorize", ("if epoch ~= '' and account[1] ~= epoch then", "if false then")
    ),
    "decides in an older ledger": _lua("authorize", ("if known_is_here == false then", "if false then")),
    "takes another event for the one it knows": _lua(
        "authorize",
        ("return tip == known_tip", "return true"),
        ("return fields[i + 1] == known_tip", "return true"),
    ),
    "trusts another Redis": _trusts_another_redis,
    "forgets effects in a rebuild": lambda: _rebuild_leaves_out(lambda name, field: name.startswith("hold:")),
    "forgets what is held in a rebuild": lambda: _rebuild_leaves_out(
        lambda name, field: name.startswith("count:") and field == "held"
    ),
    "forgets objects in a rebuild": lambda: _rebuild_leaves_out(
        lambda name, field: name.startswith("exposure:")
    ),
    "forgets deadlines in a rebuild": _rebuild_forgets_deadlines,
    "drops what only Redis still has in a rebuild": _rebuild_reads_the_archive_only,
    "lets two rebuilds mix": _lua(
        "write", ("if redis.call('GET', KEYS[5]) ~= ARGV[6] then", "if false then")
    ),
    "never freezes a run": _lua("authorize", ("if times < q.repeated_refusals_max then", "if true then")),
    "lets calls pass in a frozen run": _lua(
        "authorize", ("return decided(false, 'run_frozen', frozen)", "frozen = nil")
    ),
    "forgets the caps of derived keys": _derived_keys_forget("caps", ()),
    "forgets when derived keys expire": _derived_keys_forget("expires_at_ms", None),
    "forgets the run of derived keys": _derived_keys_forget("run_ids", ()),
    "forgets the endpoints of derived keys": lambda: mock.patch.object(
        DerivedKey, "allows", lambda self, endpoint: True
    ),
    "stops with outcomes in its hands": _stops_with_outcomes_in_hand,
}
