"""The API without HTTP: admits a request, executes it, and gives the answer to send.

A request passes in two steps, `admit` and `execute`, so that the server can hold it in between while its
idempotency key is taken, as a slow request at Stripe would be.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator import idempotency
from stripe_simulator.authentication import PLATFORM_ACCOUNT
from stripe_simulator.call import Call
from stripe_simulator.clock import Clock
from stripe_simulator.downloads import Download
from stripe_simulator.endpoints import ROUTES
from stripe_simulator.errors import StripeError, server_error
from stripe_simulator.events import API_VERSION
from stripe_simulator.expansion import check_expansions, expand
from stripe_simulator.faults import Faults
from stripe_simulator.idempotency import IdempotencyStore, KeptAnswer, Outcome
from stripe_simulator.identifiers import Identifiers
from stripe_simulator.incoming import Incoming, authenticated_form
from stripe_simulator.json_bodies import JsonParameters
from stripe_simulator.json_text import compact_json
from stripe_simulator.ledger import Ledger
from stripe_simulator.money import Movement
from stripe_simulator.parameters import Parameters
from stripe_simulator.request_log import RequestLog
from stripe_simulator.routing import Endpoint, Route
from stripe_simulator.settings import Settings


@dataclass(slots=True)
class Answer:
    """What goes back on the wire."""

    status: int
    body: bytes
    headers: dict[str, str]
    download: Download | None = None


@dataclass(slots=True)
class Admitted:
    """A request that may execute; when it has an idempotency key, the key is held for it."""

    incoming: Incoming
    route: Route
    call: Call
    kept: KeptAnswer | None


class StripeApi:
    """All state of the simulator: accounts, kept answers, the request log, the faults and the clock."""

    def __init__(
        self,
        secret_keys: frozenset[str] = frozenset(),
        *,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        """With a clock of its own and a `seed` it does the same every time."""
        self._secret_keys = secret_keys
        self._seed = seed
        self.clock = clock or Clock()
        self.faults = Faults()
        self._forget()

    def _forget(self) -> None:
        self.identifiers = Identifiers(self._seed)
        self.ledgers: dict[str, Ledger] = {}
        self.log = RequestLog()
        self.settings = Settings()
        self.outside: list[tuple[str, Movement]] = []
        self._kept = {
            "v1": IdempotencyStore(),
            "v2": IdempotencyStore(idempotency.KEPT_SECONDS_V2),
        }

    def reset(self) -> None:
        """Forget everything: objects, keys, log, faults and the moved clock."""
        self.faults.clear()
        self.clock.reset()
        self._forget()

    def receive(self, method: str, target: str, headers: Mapping[str, str]) -> Incoming:
        """Log a request as soon as its head was read."""
        path, _, query = target.partition("?")
        entry = self.log.open(
            method,
            path,
            query,
            request_id=self.identifiers.new("req"),
            idempotency_key=headers.get("Idempotency-Key"),
            time=self.clock.now(),
            headers=headers,
        )
        return Incoming(method, path, query, headers, entry)

    def admit(self, incoming: Incoming) -> Admitted | Answer:
        """Decide everything that comes before the endpoint, or answer with a refusal or a kept answer."""
        try:
            return self._admit(incoming)
        except StripeError as refusal:
            return self.refuse(incoming, refusal)

    def _admit(self, incoming: Incoming) -> Admitted | Answer:
        entry = incoming.entry
        form = authenticated_form(incoming, self._secret_keys)
        account = entry.stripe_account or PLATFORM_ACCOUNT
        route = ROUTES.find(incoming.method, incoming.path)
        version = route.endpoint.version
        if version == "v2" and "Stripe-Version" not in incoming.headers:
            raise StripeError(400, "A Stripe-Version header is required in v2 of the API.")
        if incoming.method == "POST":
            self.log.at_endpoint(route.endpoint.name).received += 1
        key = incoming.idempotency_key
        first = None
        if key is not None:
            idempotency.check_key(key)
            where = route.path if incoming.method == "POST" else f"{incoming.method} {route.path}"
            first = KeptAnswer(where, idempotency.fingerprint(form), self.clock.now())
            outcome = self._kept[version].claim(account, key, first)
            if outcome is not None:
                return self._replay(incoming, route.endpoint, outcome)
        call = Call(
            ledger=self.ledger(account),
            parameters=JsonParameters(form) if version == "v2" else Parameters(form),
            path=route.path,
            path_ids=route.ids,
            request_id=entry.request_id,
            idempotency_key=key,
            now=self.clock.now(),
            settings=self.settings,
            uploads=incoming.uploads,
        )
        return Admitted(incoming, route, call, first)

    def ledger(self, account: str = PLATFORM_ACCOUNT) -> Ledger:
        """Everything an account holds; it begins empty."""
        ledger = self.ledgers.get(account)
        if ledger is None:
            ledger = self.ledgers[account] = Ledger(account, self.identifiers)
        return ledger

    def outside_call(self, account: str) -> Call:
        """For what happens without a request, such as a customer who pays."""
        ledger, now = self.ledger(account), self.clock.now()
        return Call(ledger, Parameters({}), "", (), None, None, now, self.settings)

    def note_outside(self, call: Call) -> None:
        """Keep what moved outside any request, with the account it moved in."""
        self.outside += [(call.ledger.account, movement) for movement in call.movements]

    def execute(self, admitted: Admitted, fail_with: int | None = None) -> Answer:
        """Run the endpoint. With `fail_with`, its effect stands but the outcome, also kept, is an error."""
        call = admitted.call
        try:
            outcome = self._run(admitted)
        except StripeError as refusal:
            outcome = _refused(refusal, admitted.incoming.entry.request_id)
        truth = outcome
        if fail_with is not None and call.began:
            outcome = _refused(server_error(fail_with), admitted.incoming.entry.request_id)
        # A repeat gets a stored error in v1; v2 finds out what became of the first request.
        self._settle_key(admitted, truth if admitted.route.endpoint.version == "v2" else outcome)
        self._count(admitted)
        return _answer(admitted.incoming, outcome)

    def _run(self, admitted: Admitted) -> Outcome:
        call, endpoint = admitted.call, admitted.route.endpoint
        # The clock may have moved while the request was held.
        call.now = self.clock.now()
        try:
            call.parameters.refuse_unknown(endpoint.known)
            expansions = call.parameters.texts("expand")
            check_expansions(expansions, endpoint.kind, endpoint.in_list)
            if endpoint.method != "POST":
                call.begin()
            result = endpoint.run(call)
            if isinstance(result, Download):
                return Outcome(200, b"", {"Content-Type": result.content_type}, download=result)
            object_id = result.get("id")
            expand(call.ledger, result, expansions)
        except StripeError:
            raise
        except Exception:
            traceback.print_exc()
            raise server_error(500) from None
        return Outcome(200, _encoded(result), {}, object_id)

    def _settle_key(self, admitted: Admitted, outcome: Outcome) -> None:
        """Keep the outcome once the endpoint began; otherwise the key is as if it was never sent."""
        call, version = admitted.call, admitted.route.endpoint.version
        if call.idempotency_key is None or admitted.kept is None:
            return
        outcome.headers["Idempotency-Key"] = call.idempotency_key
        outcome.headers["Original-Request"] = admitted.incoming.entry.request_id
        if call.began and (version == "v1" or outcome.status < 400):
            # A repeat would get this very answer, so Stripe tells its libraries not to try.
            outcome.headers["Stripe-Should-Retry"] = "false"
            admitted.kept.outcome = outcome
        else:
            self._kept[version].release(call.ledger.account, call.idempotency_key, admitted.kept)

    def _count(self, admitted: Admitted) -> None:
        entry = admitted.incoming.entry
        entry.executed = admitted.call.began
        entry.money = admitted.call.movements
        if entry.executed and entry.method == "POST":
            self.log.posts.executed += 1
            self.log.at_endpoint(admitted.route.endpoint.name).executed += 1

    def _replay(self, incoming: Incoming, endpoint: Endpoint, outcome: Outcome) -> Answer:
        incoming.entry.replayed = True
        self.log.posts.replayed += 1
        self.log.at_endpoint(endpoint.name).replayed += 1
        answer = _answer(incoming, outcome)
        answer.headers["Idempotent-Replayed"] = "true"
        return answer

    def refuse(self, incoming: Incoming, refusal: StripeError) -> Answer:
        """An answer that is kept under no key."""
        outcome = _refused(refusal, incoming.entry.request_id)
        if (key := incoming.idempotency_key) is not None:
            outcome.headers["Idempotency-Key"] = key
        return _answer(incoming, outcome)


def _refused(refusal: StripeError, request_id: str) -> Outcome:
    return Outcome(refusal.status, _encoded(refusal.body(request_id)), dict(refusal.headers))


def _answer(incoming: Incoming, outcome: Outcome) -> Answer:
    """The outcome with the headers of this very request, which is also noted in the log."""
    entry = incoming.entry
    entry.status, entry.object_id = outcome.status, outcome.object_id
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache, no-store",
        "Request-Id": entry.request_id,
        "Stripe-Version": incoming.headers.get("Stripe-Version") or API_VERSION,
        **outcome.headers,
    }
    if entry.stripe_account is not None:
        headers["Stripe-Account"] = entry.stripe_account
    return Answer(outcome.status, outcome.body, headers, outcome.download)


def _encoded(document: object) -> bytes:
    return compact_json(document).encode()
