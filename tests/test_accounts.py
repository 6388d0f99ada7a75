"""What finds accounts and keys is derived: it may be lost, and nothing is taken for unknown by that."""

from __future__ import annotations

import pytest

from policy_server.core.errors import LedgerLost, StoreUnavailable
from policy_server.core.vault_key import mint
from policy_server.store.keys import ACCOUNTS, AccountKeys, account_of_key
from tests.world import Server, World, key_id, usd


async def test_a_key_is_found_without_what_tells_its_account(world: World) -> None:
    """It is looked for in every account, and the next one need not look."""
    key = await world.key(usd(1_000))
    await world.redis.delete(account_of_key(key_id(key)))
    fresh = Server(world)
    assert await fresh.directory.account_of(key_id(key)) == "default"
    assert await world.redis.get(account_of_key(key_id(key))) == "default"


async def test_no_key_is_unknown_while_an_account_may_be(world: World) -> None:
    """A server that knows of one account can't tell of which others the list has lost."""
    await world.key(usd(1_000))
    stranger = mint().key_id
    assert await world.server.registry.key(stranger) is None
    await world.redis.delete(ACCOUNTS)
    with pytest.raises(StoreUnavailable, match="list of accounts"):
        await world.server.registry.key(stranger)
    await world.server.accounts.keep_whole()
    assert await world.server.registry.key(stranger) is None


async def test_the_list_is_made_anew_from_all_ledgers(world: World) -> None:
    """Also with accounts of which this server has never heard, and with nothing that only looks like one."""
    await world.key(usd(1_000))
    other = Server(world)
    await other.administration.freeze("tenant-2", "test")
    await world.redis.hset(AccountKeys("default").refusals("key", "x}:account"), "a", "1")
    await world.redis.delete(ACCOUNTS)
    assert "tenant-2" not in await world.server.registry.accounts()
    await world.server.accounts.keep_whole()
    assert await world.server.registry.accounts() == ["default", "tenant-2"]


async def test_a_list_that_lacks_one_account_is_not_whole(world: World) -> None:
    """A replica that took over had all but the newest."""
    key = await world.key(usd(1_000))
    await world.redis.sadd(ACCOUNTS, "tenant-2")
    await world.redis.srem(ACCOUNTS, "default")
    with pytest.raises(StoreUnavailable):
        await world.server.accounts.check_whole()
    assert await world.server.registry.accounts() == ["default", "tenant-2"]
    assert await Server(world).directory.account_of(key_id(key)) == "default"


async def test_a_lost_ledger_is_told_before_a_lost_list(world: World) -> None:
    """With all gone, its keys are not unknown: the ledger must be rebuilt."""
    key = await world.key(usd(1_000))
    await world.redis.flushall()
    with pytest.raises(LedgerLost):
        await world.server.registry.key(key_id(key))
    await world.server.accounts.keep_whole()
    with pytest.raises(LedgerLost):
        await world.server.registry.key(key_id(key))
