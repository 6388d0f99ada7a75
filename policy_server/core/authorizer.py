"""Decides on calls, many at once: reads the records, and lets the store count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policy_server.core import vault_key
from policy_server.core.directory import Directory, Standing
from policy_server.core.errors import SpendgateError, StoreUnavailable
from policy_server.core.judging import Case, pose, question_of_stranger, verdict_on
from policy_server.core.ports import Ledger, OutOfSpan, Question, Registry, Stale
from policy_server.core.types import SpendCall, Verdict
from policy_server.core.window import Calendar

DEFAULT_ACCOUNT = "default"

ROUNDS_MAX = 4
"""How often a call is judged anew when key, account or clock moved meanwhile."""

Now = Callable[[], int]
"""The time in milliseconds since 1970 UTC."""


class Authorizer:
    """Answers calls, many at once."""

    def __init__(
        self, ledger: Ledger, registry: Registry, directory: Directory, now: Now, *, hold_ttl_ms: int
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._directory = directory
        self._now = now
        self._hold_ttl_ms = hold_ttl_ms
        self._calendar = Calendar()
        self._store_ahead_ms = 0

    async def authorize(self, calls: Sequence[SpendCall]) -> list[Verdict | SpendgateError]:
        """Decide on each call by itself, in order.

        An error in the list means that no decision was made on that call.
        """
        results: list[Verdict | SpendgateError] = [
            StoreUnavailable("policy and clock kept changing while the call was decided; repeat it")
        ] * len(calls)
        waiting = list(range(len(calls)))
        for _ in range(ROUNDS_MAX):
            questions: list[tuple[int, Question, Standing | None]] = []
            for index in waiting:
                try:
                    questions.append((index, *await self._question(calls[index])))
                except SpendgateError as error:
                    results[index] = error
            waiting = []
            answers = await self._ledger.decide([question for _, question, _ in questions])
            for (index, question, standing), answer in zip(questions, answers, strict=True):
                if isinstance(answer, Stale | OutOfSpan):
                    self._catch_up(question, answer)
                    waiting.append(index)
                elif isinstance(answer, SpendgateError):
                    results[index] = answer
                else:
                    results[index] = verdict_on(question, standing, answer)
            if not waiting:
                break
        return results

    def _catch_up(self, question: Question, answer: Stale | OutOfSpan) -> None:
        if isinstance(answer, OutOfSpan):
            self._store_ahead_ms = answer.now_ms - self._now()
        else:
            presented = vault_key.parse(question.call.vault_key)
            if presented:
                self._directory.forget(presented.key_id)

    async def _question(self, call: SpendCall) -> tuple[Question, Standing | None]:
        presented = vault_key.parse(call.vault_key)
        standing = await self._directory.standing(presented.key_id) if presented else None
        if presented is None or standing is None:
            return question_of_stranger(call, await self._registry.account(DEFAULT_ACCOUNT)), None
        now_ms = self._now() + self._store_ahead_ms
        return pose(Case(call, presented, standing, now_ms, self._hold_ttl_ms), self._calendar), standing
