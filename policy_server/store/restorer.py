"""Writes a ledger that was lost back into Redis."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from itertools import batched
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from policy_server.core.continuity import Mark, is_other_ledger
from policy_server.core.errors import SpendgateError, StoreUnavailable
from policy_server.core.ports import ArchivedEvent, ArchiveHead
from policy_server.core.restoration import Restored
from policy_server.store.connection import store_unavailable
from policy_server.store.images import HOLD, KEY_IDS, Image, Ledger
from policy_server.store.keys import ACCOUNTS, AccountKeys, account_of_key
from policy_server.store.scripts import Run, command, run_all, script
