"""A flush is never a free refill: an emptied or older Redis is noticed, refused, and restored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import redis as redis_client

from policy_server.store.scripts import newest_event
from spendgate.v1 import audit_service_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from tests.processes import (
    Process,
    policy_server_address,
    policy_server_process,
    redis_process,
    redis_url,
    temporary_folder,
    token,
    wait_for,
)
from tests.stack import CHARGE, Stack, VaultKey, cap, sidecar_process, simulator_process


class Installation:
    """Everything running, with parts that can be stopped, emptied and set back."""

    def __init__(self, folder: Path, **server: str) -> None:
        self.folder = folder
        self.redis = redis_process(folder).start()
        self.simulator = simulator_process(folder).start()
        self.settings = {f"SPENDGATE_{name.upper()}": value for name, value in server.items()}
        self.server = self._server("policy-server").start()
        origin = self.simulator.found(r"listening on (\S+)")
        assert origin is not None
        self.sidecar = sidecar_process(
            folder, policy_server_address(self.server), origin, decision_timeout_ms="5000"
        ).start()
        self.stack = Stack(self.simulator, [self.server], [self.sidecar])
        self.settings["SPENDGATE_POLICY_PORT"] = policy_server_address(self.server).rpartition(":")[2]

    def _server(self, name: str) -> Process:
        return policy_server_process(self.folder, redis_url(self.redis), name=name, env=self.settings)

    def close(self) -> None:
        """Stop everything."""
        self.stack.close()
        for process in (self.sidecar, self.server, self.simulator, self.redis):
            if process.running:
                process.stop()

    def restart_server(self) -> None:
        """Another policy server takes the place of the one there was, and knows only what it is told."""
        self.server.stop()
        self.server = self._server("policy-server-again").start()
        ready = self.stack.origin(root=True) + "/readyz"

        def is_reached() -> bool:
            # The sidecar tries again only now and then to reach a policy server that was away.
            said = httpx.get(ready, timeout=30).text
            return "UNAVAILABLE: connections" not in said and "failed to connect" not in said.lower()

        wait_for(is_reached, "the sidecar reaches it")

    @property
    def client(self) -> redis_client.Redis:
        """A connection to its Redis."""
        return redis_client.Redis.from_url(redis_url(self.redis), decode_responses=True)

    def flush(self) -> None:
        """Empty Redis."""
        with self.client as client:
            client.flushall()

    def copy_redis(self, name: str) -> Path:
        """Copy what Redis has on disk."""
        copied = self.folder / name
        copied.mkdir()
        for path in self._files():
            shutil.copytree(path, copied / path.name) if path.is_dir() else shutil.copy(path, copied)
        return copied

    def set_redis_back(self, copied: Path) -> None:
        """Start Redis with what it had before."""
        self.redis.stop()
        for path in self._files():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in copied.iterdir():
            shutil.move(path, self.folder / path.name)
        self.redis = redis_process(self.folder).start()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name.startswith("appendonly")]

    def archived(self, account: str = "default") -> None:
        """Wait until every event is in the archive."""

        def is_so() -> bool:
            with self.client as client:
                newest = client.get(f"spendgate:{{{account}}}:sequence")
                mark = client.hget(f"spendgate:{{{account}}}:archived", "sequence")
                return int(mark or 0) == newest_event(newest or "0")[0]

        wait_for(is_so, "every event is archived")

    def charge(self, key: VaultKey, amount: int, run: str) -> httpx.Response:
        """Let an agent charge a card."""
        with self.stack.agent(key, run) as agent:
            return agent.post("/charges", data={**CHARGE, "amount": str(amount)})

    def ledgers(self) -> list[ledger_service_pb2.Ledger]:
        """How every ledger stands."""
        with grpc.insecure_channel(policy_server_address(self.server)) as channel:
            stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            return list(
                stub.ListLedgers(
                    ledger_service_pb2.ListLedgersRequest(), metadata=self._metadata, timeout=30
                ).ledgers
            )

    def rebuild(self, account: str = "") -> ledger_service_pb2.RebuildLedgerResponse:
        """Restore a ledger."""
        with grpc.insecure_channel(policy_server_address(self.server)) as channel:
            stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            request = ledger_service_pb2.RebuildLedgerRequest(account=account)
            return stub.RebuildLedger(request, metadata=self._metadata, timeout=60)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token(self.server, 'admin')}"),)


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A running Spendgate of its own."""
    with temporary_folder() as folder:
        made = Installation(folder)
        try:
            yield made
        finally:
            made.close()


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_flush_is_not_a_refill(installation: Installation, restarted: bool) -> None:
    """Failure 9: $90 of $100 are spent; after FLUSHALL nothing is, then $20 are refused and $10 are left."""
    key = installation.stack.key(caps=[cap(10_000)])
    first = installation.charge(key, 9_000, "run-1")
    assert first.status_code == 200
    installation.stack.settled(key, 9_000)
    installation.archived()
    installation.flush()
    if restarted:
        installation.restart_server()

    assert code(installation.charge(key, 2_000, "run-2")) == (503, "ledger_lost")
    stranger = VaultKey("vk_aaaaaaaaaaaa_" + 32 * "a", "aaaaaaaaaaaa")
    assert code(installation.charge(stranger, 100, "run-3")) == (503, "ledger_lost")
    assert [one.lost for one in installation.ledgers()] == [True]

    rebuilt = installation.rebuild()
    assert (rebuilt.vault_keys, rebuilt.holds, rebuilt.open_holds, rebuilt.lost_events) == (1, 1, 0, 0)
    assert [one.lost for one in installation.ledgers()] == [False]
    assert code(installation.charge(key, 2_000, "run-2")) == (429, "spend_cap_exceeded")
    again = installation.charge(key, 9_000, "run-1")
    assert (again.json()["id"], again.headers["Spendgate-Duplicate"]) == (first.json()["id"], "true")
    assert installation.charge(key, 1_000, "run-4").status_code == 200
    installation.stack.settled(key, 10_000)
    assert code(installation.charge(stranger, 100, "run-3")) == (401, "vault_key_invalid")
    administration = audit_service_pb2.AUDIT_EVENT_KIND_ADMINISTRATION
    details = [event.detail for event in installation.stack.events(VaultKey("", ""), kind=administration)]
    assert details[-1].startswith(f"rebuilt the ledger up to event {rebuilt.sequence}")


def test_an_older_redis_is_not_a_refill(installation: Installation) -> None:
    """A backup from before the spending is noticed by a running server, and the archive has the rest."""
    key = installation.stack.key(caps=[cap(10_000)])
    installation.charge(key, 4_000, "run-1")
    installation.stack.settled(key, 4_000)
    copied = installation.copy_redis("backup")
    installation.charge(key, 5_000, "run-2")
    installation.stack.settled(key, 9_000)
    installation.archived()
    installation.set_redis_back(copied)

    assert code(installation.charge(key, 2_000, "run-3")) == (503, "ledger_lost")
    installation.rebuild()
    # Nothing is decided until every server has had time to look what the other Redis lacks.
    wait_for(
        lambda: code(installation.charge(key, 2_000, "run-3")) == (429, "spend_cap_exceeded"),
        "calls are decided again",
    )
    assert installation.charge(key, 1_000, "run-4").status_code == 200


def test_what_was_never_archived_is_told(installation: Installation) -> None:
    """Events that were only in Redis are lost with it; the rebuild says how many, and the rest comes back."""
    key = installation.stack.key(caps=[cap(10_000)])
    installation.charge(key, 4_000, "run-1")
    installation.stack.settled(key, 4_000)
    installation.archived()
    archive = installation.folder / "audit.sqlite"
    archive.rename(archive.with_suffix(".away"))
    installation.charge(key, 1_000, "run-2")
    installation.stack.settled(key, 5_000)
    installation.flush()
    archive.with_suffix(".away").rename(archive)

    rebuilt = installation.rebuild()
    assert rebuilt.lost_events == 2  # the decision and the settlement of run-2
    assert installation.stack.usage(key).settled == 4_000


def test_a_first_start_needs_nothing(installation: Installation) -> None:
    """With nothing in Redis and nothing archived, the first call is decided."""
    key = installation.stack.key(caps=[cap(10_000)])
    assert installation.charge(key, 4_000, "run-1").status_code == 200
    with pytest.raises(grpc.RpcError) as refused:
        installation.rebuild()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
