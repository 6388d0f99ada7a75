"""Decides on calls, many at once: reads the records, and lets the store count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policy_server.core.directory import Directory, Standing
from policy_server.core.errors import SpendgateError, StoreUnavailable
from policy_server.core.judging import (
    Case,
    pose,
    present,
    question_of_stranger,
    refused_unrecorded,
    verdict_on,
)
from policy_server.core.ports import Ledger, OutOfSpan, Question, Registry, Stale
from policy_server.core.strangers import Strangers
from policy_server.core.types import DenyReason, SpendCall, Verdict
from policy_server.core.window import Calendar

DEFAULT_ACCOUNT = "default"

ROUNDS_MAX = 4
"""How often a call is judged anew when key, account or clock moved meanwhile."""

_OF_STRANGERS = frozenset({DenyReason.VAULT_KEY_UNKNOWN, DenyReason.VAULT_KEY_REVOKED})
"""Refusals that nothing which changes later could turn into another answer."""

Now = Callable[[], int]
"""The time in milliseconds since 1970 UTC."""


class Authorizer:
    """Answers calls, many at once."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        directory: Directory,
        now: Now,
        *,
        strangers: Strangers,
        hold_ttl_ms: int,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._directory = directory
        self._now = now
        self._strangers = strangers
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
                    question, standing = await self._question(calls[index])
                except SpendgateError as error:
                    results[index] = error
                    continue
                if self._is_recorded(question):
                    questions.append((index, question, standing))
                else:
                    results[index] = verdict_on(question, standing, refused_unrecorded(question))
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

    def _is_recorded(self, question: Question) -> bool:
        """Tell whether the decision goes on record by itself; strangers' refusals do within limits."""
        if question.refusal is None or question.refusal.reason not in _OF_STRANGERS:
            return True
        return question.call.validate_only or self._strangers.are_recorded(
            question.account, question.vault_key_id
        )

    def _catch_up(self, question: Question, answer: Stale | OutOfSpan) -> None:
        if isinstance(answer, OutOfSpan):
            self._store_ahead_ms = answer.now_ms - self._now()
        else:
            self._directory.forget(question.vault_key_id)

    async def _question(self, call: SpendCall) -> tuple[Question, Standing | None]:
        presented, call = present(call)
        standing = await self._directory.standing(presented.key_id) if presented else None
        if presented is None or standing is None:
            return question_of_stranger(call, await self._registry.account(DEFAULT_ACCOUNT)), None
        now_ms = self._now() + self._store_ahead_ms
        return pose(Case.of(call, presented, standing, now_ms, self._hold_ttl_ms), self._calendar), standing
