"""Puts the policy server together, runs it and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from policy_server import tokens
from policy_server.archive.care import DatabaseCare
from policy_server.archive.database import Database
from policy_server.archive.reader import ThreadedArchive
from policy_server.archive.signing import SigningKey
from policy_server.composition import Core
from policy_server.core.errors import ArchiveUnavailable, SpendgateError
from policy_server.core.trail import Trail
from policy_server.drainer_process import DrainerProcess
from policy_server.listener import CALLS_MAX, CertificateUnusable, limits, listen
from policy_server.rpc.account_service import AccountServicer
from policy_server.rpc.audit_service import AuditServicer
from policy_server.rpc.interceptors import Guard
from policy_server.rpc.ledger_service import LedgerServicer
from policy_server.rpc.policy_service import PolicyServicer
from policy_server.rpc.vault_key_service import VaultKeyServicer
from policy_server.settings import PolicyServerSettings
from policy_server.store.archive_progress import RedisArchiveProgress
from policy_server.store.audit import RedisAuditTail
from policy_server.store.backlog import RedisBacklog
from policy_server.store.connection import StoreTrust, check_durable, connect, connect_watcher
from policy_server.store.exchange import answers
from spendgate.transport import PLAINTEXT_ALLOWED, PemFiles, TransportUnsafe, read_authorities
from spendgate.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    vault_key_service_pb2,
    vault_key_service_pb2_grpc,
)

log = logging.getLogger(__name__)

_EXPIRE_EVERY_S = 1.0
_CHECK_STORE_EVERY_S = 1.0
_ARCHIVE_START_S = 20.0
"""How long the archive may take before the server starts without it, and refuses every call."""

_RECORD_STRANGERS_EVERY_S = 60.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_AUDIT_SERVICE = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
"""Serves while the archive keeps up; the others do not need the archive."""

_SERVICES = (
    policy_service_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name,
    vault_key_service_pb2.DESCRIPTOR.services_by_name["VaultKeyService"].full_name,
    account_service_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name,
    ledger_service_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,
    _AUDIT_SERVICE,
)


def now_ms() -> int:
    """Return the time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class PolicyServer:
    """One policy server process."""

    def __init__(self, settings: PolicyServerSettings) -> None:
        self._settings = settings
        url = settings.redis_url.get_secret_value()
        trust = _store_trust(settings)
        timeout_ms = settings.redis_timeout_ms
        self._redis = connect(url, trust, timeout_ms=timeout_ms, server_changed=self._store_changed)
        self._watcher = connect_watcher(url, trust, timeout_ms=timeout_ms)
        self._database = Database(settings.archive_url, settings.data_dir)
        self._archive = ThreadedArchive(self._database)
        core = Core(
            *(self._redis, self._archive, now_ms),
            hold_ttl_ms=settings.hold_ttl_s * 1000,
            retention_ms=settings.retention_days * 86_400_000,
            backlog_max=settings.audit_backlog_max,
            replicas=settings.redis_wait_replicas,
        )
        self._core = core
        self._continuity = core.continuity
        self._policy = PolicyServicer(core.authorizer, core.settler, store_timeout_ms=timeout_ms)
        self._trail = Trail(RedisAuditTail(self._redis, self._watcher), self._archive)
        self._progress = RedisArchiveProgress(self._redis, core.accounts, settings.audit_backlog_max)
        self._backlog = RedisBacklog(url, trust)
        key = SigningKey.read_or_make(settings.data_dir)
        self._care = DatabaseCare(
            self._database, key, self._progress, core.registry, now_ms, backlog=self._backlog
        )
        self._drainer = DrainerProcess(settings)
        self._health = health.aio.HealthServicer()

    def _store_changed(self) -> None:
        self._continuity.store_changed()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then let calls under way finish.

        Raises `SpendgateError` when Redis, a token file or the port is not as it must be.
        """
        settings = self._settings
        wrong = await check_durable(self._redis, allow_volatile=settings.allow_volatile)
        for problem in wrong:
            log.warning("the count may be lost: Redis has %s", problem)
        await self._open_archive()
        if settings.allow_plaintext:
            log.warning(PLAINTEXT_ALLOWED)
        server = self._server()
        port = listen(server, settings)
        await self._look_for_ledgers()
        await server.start()
        await self._set_serving(self._continuity.is_usable)
        log.info("policy server listens on %s:%s", settings.policy_host, port)
        tasks = [
            asyncio.create_task(_keep_up(work, stop))
            for work in (
                self._expire_holds,
                self._watch_store,
                self._watch_ledgers,
                self._record_strangers,
                self._watch_archive,
                self._drainer.run,
            )
        ]
        try:
            await stop.wait()
        finally:
            log.info("policy server stops; calls under way have %s s", settings.drain_s)
            # Cancelling alone is not enough: redis-py may swallow it in the middle of a command.
            stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._health.enter_graceful_shutdown()
            self._policy.end_streams()
            await server.stop(settings.drain_s)
            await self._record_counted()
            await self._drainer.stop()
            self._archive.close()
            self._care.close()
            self._backlog.close()
            self._database.close()
            await self._redis.aclose()
            await self._watcher.aclose()

    async def _open_archive(self) -> None:
        try:
            await asyncio.to_thread(self._database.migrate)
        except ArchiveUnavailable as error:
            # Decisions may go on without it; the drainer keeps trying.
            log.error("%s", error.message)

    def _server(self) -> grpc.aio.Server:
        data_dir = self._settings.data_dir
        server = grpc.aio.server(
            interceptors=[
                Guard(
                    admin_token=self._settings.admin_token or tokens.read_or_make(data_dir / "admin.token"),
                    sidecar_token=self._settings.sidecar_token
                    or tokens.read_or_make(data_dir / "sidecar.token"),
                ),
            ],
            options=limits(self._settings),
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(self._policy, server)
        vault_key_service_pb2_grpc.add_VaultKeyServiceServicer_to_server(
            VaultKeyServicer(self._core.administration, self._core.explainer), server
        )
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountServicer(self._core.administration), server
        )
        ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(
            LedgerServicer(self._core.restoration), server
        )
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
            AuditServicer(self._trail, self._care), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        return server

    async def _expire_holds(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(_EXPIRE_EVERY_S)
            try:
                await self._core.settler.expire_holds()
            except SpendgateError as error:
                log.warning("overdue holds wait: %s", error.message)

    async def _record_strangers(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(_RECORD_STRANGERS_EVERY_S)
            await self._record_counted()

    async def _record_counted(self) -> None:
        try:
            await self._core.settler.record_counted_strangers()
        except SpendgateError as error:
            log.warning("how many strangers were refused can't be recorded now: %s", error.message)

    async def _watch_store(self, stop: asyncio.Event) -> None:
        answered, serving = True, self._continuity.is_usable
        while not stop.is_set():
            await asyncio.sleep(_CHECK_STORE_EVERY_S)
            now_answers = await answers(self._redis)
            if now_answers != answered:
                answered = now_answers
                log.warning("the counter store %s", "answers again" if answered else "does not answer")
            usable = answered and self._continuity.is_usable
            if usable != serving:
                serving = usable
                await self._set_serving(serving)

    async def _look_for_ledgers(self) -> None:
        """Learn from the archive which ledgers there were; without it, calls are refused until it answers."""
        try:
            async with asyncio.timeout(_ARCHIVE_START_S):
                await self._archive.migrate()
                await self._continuity.watch()
                await self._core.accounts.keep_whole()
        except (SpendgateError, TimeoutError) as error:
            log.warning(
                "every call is refused until the audit archive has told which ledgers there were: %s",
                error.message if isinstance(error, SpendgateError) else "it does not answer",
            )

    async def _watch_ledgers(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(_CHECK_STORE_EVERY_S)
            with contextlib.suppress(SpendgateError):  # said by those who watch store and archive
                await self._core.accounts.keep_whole()
                await self._continuity.watch()

    async def _watch_archive(self, stop: asyncio.Event) -> None:
        before = ""
        while not stop.is_set():
            try:
                problem = (await self._progress.look()).problem
            except SpendgateError as error:
                problem = error.message
            else:
                await self._health.set(_AUDIT_SERVICE, _NOT_SERVING if problem else _SERVING)
            if problem != before:
                log.warning("the audit archive: %s", problem or "all is well again")
                before = problem
            await asyncio.sleep(_CHECK_STORE_EVERY_S)

    async def _set_serving(self, serving: bool) -> None:
        status = _SERVING if serving else _NOT_SERVING
        for service in ("", *_SERVICES):
            if service != _AUDIT_SERVICE or not serving:
                await self._health.set(service, status)


def _store_trust(settings: PolicyServerSettings) -> StoreTrust:
    try:
        if settings.redis_ca is not None:
            read_authorities(settings.redis_ca)
        if settings.redis_cert is not None and settings.redis_key is not None:
            PemFiles(settings.redis_cert, settings.redis_key).read()
    except TransportUnsafe as error:
        raise CertificateUnusable(str(error)) from None
    return StoreTrust(settings.redis_ca, settings.redis_cert, settings.redis_key)


async def _keep_up(work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    """Begin work anew that failed in a way that nobody foresaw: without it holds are never swept."""
    while not stop.is_set():
        try:
            await work(stop)
        except Exception:
            log.exception("what goes on beside the calls failed, and begins anew")
            await asyncio.sleep(_CHECK_STORE_EVERY_S)
