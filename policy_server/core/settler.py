"""Closes holds, and marks those unknown that nobody closed in time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from policy_server.core.authorizer import DEFAULT_ACCOUNT
from policy_server.core.directory import Directory
from policy_server.core.effects import vault_key_id_of
from policy_server.core.errors import HoldNotFound, SpendgateError
from policy_server.core.ports import Ledger, Registry
from policy_server.core.strangers import Strangers
from policy_server.core.types import (
    LocalRefusal,
    Observation,
    Settlement,
    SettleResult,
    UnresolvedCursor,
    UnresolvedPage,
)

log = logging.getLogger(__name__)

_EXPIRE_AT_ONCE = 500


class Settler:
    """Records what became of authorized calls, many at once."""

    def __init__(
        self, ledger: Ledger, registry: Registry, directory: Directory, strangers: Strangers
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._directory = directory
        self._strangers = strangers

    async def settle(self, settlements: Sequence[Settlement]) -> list[SettleResult | SpendgateError]:
        """Close each hold by itself, in order; an error in the list changed nothing.

        That a repeat failed leaves its hold unknown, unless it tells of the first try.
        """
        results: list[SettleResult | SpendgateError] = []
        known: list[tuple[int, tuple[str, Settlement]]] = []
        for index, settlement in enumerate(settlements):
            try:
                account = await self._account(settlement.authorization_id)
                known.append((index, (account, settlement.as_far_as_known())))
                results.append(HoldNotFound(settlement.authorization_id))
            except SpendgateError as error:
                results.append(error)
        answers = await self._ledger.settle([one for _, one in known])
        for (index, _), answer in zip(known, answers, strict=True):
            results[index] = answer
        return results

    async def record_observations(self, observations: Sequence[Observation]) -> None:
        """Count what objects commit for good; one that its vault key has not counted is ignored."""
        owned = []
        for observation in observations:
            account = await self._directory.account_of(observation.vault_key_id)
            if account is not None:
                owned.append((account, observation))
        await self._ledger.observe(owned)

    async def record_refusals(self, refusals: Sequence[LocalRefusal]) -> None:
        """Record what the sidecar refused by itself, within the limits on strangers."""
        owned = []
        for refusal in refusals:
            claimed = refusal.vault_key_id
            account = await self._directory.account_of(claimed) if claimed else None
            if self._strangers.are_recorded(account or DEFAULT_ACCOUNT, claimed if account else ""):
                owned.append((account or DEFAULT_ACCOUNT, refusal))
        await self._ledger.record_refusals(owned)

    async def record_counted_strangers(self) -> None:
        """Record for each account how many refusals were not recorded singly since the last time."""
        counted = self._strangers.take_counted()
        events = [
            (account, LocalRefusal.of_strangers(how_many)) for account, how_many in sorted(counted.items())
        ]
        try:
            await self._ledger.record_refusals(events)
        except SpendgateError:
            self._strangers.put_back(counted)
            raise

    async def expire_holds(self) -> int:
        """Mark overdue holds of every account unknown; return how many there were.

        Accounts with trouble do not hold up the others: what was wrong is raised at
        the end, as one `SpendgateError`.
        """
        marked, wrong = 0, []
        for account in await self._registry.accounts():
            try:
                marked += await self._expire_holds_of(account)
            except SpendgateError as error:
                wrong.append(f"account {account}: {error.message}")
        if wrong:
            raise SpendgateError("; ".join(wrong))
        return marked

    async def _expire_holds_of(self, account: str) -> int:
        marked = 0
        while found := await self._ledger.expire_holds(account, _EXPIRE_AT_ONCE):
            log.warning(
                "%s holds of account %s passed their deadline and are unknown now; they keep counting",
                *(found, account),
            )
            marked += found
        return marked

    async def unresolved(self, account: str, after: UnresolvedCursor | None, limit: int) -> UnresolvedPage:
        """Return unknown holds, the oldest of an account first; of every account when it is empty."""
        accounts = [account] if account else await self._registry.accounts()
        if after is not None:
            accounts = [one for one in accounts if one >= after.account]
        page = UnresolvedPage((), 0)
        for index, one in enumerate(accounts):
            begin = after if after is not None and after.account == one else UnresolvedCursor(one)
            found = await self._ledger.unresolved(begin, limit - len(page.holds))
            page = UnresolvedPage(page.holds + found.holds, found.read_at_ms, found.next)
            if len(page.holds) == limit:
                if page.next is None and index + 1 < len(accounts):
                    return replace(page, next=UnresolvedCursor(accounts[index + 1]))
                return page
        return page

    async def _account(self, authorization_id: str) -> str:
        account = await self._directory.account_of(vault_key_id_of(authorization_id))
        if account is None:
            raise HoldNotFound(authorization_id)
        return account
