"""Every call of every service on a Redis Cluster, and what is lost there with one node alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from spendgate.derived_keys import derive_key, derived_key_id
from spendgate.v1 import (
    account_service_pb2,
    audit_service_pb2,
    ledger_service_pb2,
    policy_service_pb2,
    vault_key_service_pb2,
)
from tests.processes import Process, policy_server_process, temporary_folder, wait_for
from tests.redis_cluster import Cluster, redis_cluster
from tests.rpc import Caller, calling, charge, day_cap, failure, usd

INDEX = "spendgate:accounts"
SERVICES: tuple[ModuleType, ...] = (
    account_service_pb2,
    audit_service_pb2,
    ledger_service_pb2,
    policy_service_pb2,
    vault_key_service_pb2,
)


class Site:
    """A cluster, a policy server, and an account on another node than the list of accounts."""

    def __init__(
        self, folder: Path, cluster: Cluster, server: Process, admin: Caller, sidecar: Caller
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.server = server
        self.admin = admin
        self.sidecar = sidecar
        listed_at = cluster.master_of(INDEX)
        self.account = next(
            name
            for name in map("tenant-{}".format, range(100))
            if cluster.master_of(f"spendgate:{{{name}}}:account") is not listed_at
        )
        self.key = ""
        self.key_id = ""

    def decide(self, minor_units: int, run_id: str, **more: Any) -> policy_service_pb2.AuthorizeResponse:
        """Ask about a charge with the site's key."""
        call = charge(self.key, minor_units, run_id, **more)
        answer: policy_service_pb2.AuthorizeResponse = self.sidecar.persist(
            self.sidecar.policy.Authorize, call
        )
        return answer

    def allowed(self, minor_units: int, run_id: str, **more: Any) -> str:
        """Have a charge allowed; return its authorization id."""
        answer = self.decide(minor_units, run_id, **more)
        assert answer.decision == policy_service_pb2.DECISION_ALLOW, answer
        return answer.authorization_id

    def make_key(self, name: str, repeated_refusals_max: int = 2) -> None:
        """Make a key, and use it from now on."""
        policy = day_cap(100_000)
        policy.repeated_refusals_max = repeated_refusals_max
        made = self.admin.persist(
            self.admin.keys.CreateVaultKey,
            vault_key_service_pb2.CreateVaultKeyRequest(name=name, account=self.account, policy=policy),
        )
        self.key, self.key_id = made.secret_vault_key, made.vault_key.vault_key_id

    def key_of(self, method: Any, request: type, **more: Any) -> Any:
        """Call a method about the site's key."""
        return self.admin.persist(method, request(vault_key_id=self.key_id, **more))

    def archived(self) -> None:
        """Wait until every event of the account is in the archive."""
        root = f"spendgate:{{{self.account}}}:"
        with self.cluster.client() as client:

            def is_so() -> bool:
                newest = client.get(f"{root}sequence").partition(" ")[0]
                return bool(client.hget(f"{root}archived", "sequence") == newest)

            wait_for(is_so, "every event is archived")


@contextmanager
def running() -> Iterator[Site]:
    """One policy server and a cluster."""
    with (
        temporary_folder() as folder,
        redis_cluster(folder / "nodes") as cluster,
        policy_server_process(folder, cluster.url) as server,
        calling(server, "admin") as admin,
        calling(server, "sidecar") as sidecar,
    ):
        yield Site(folder, cluster, server, admin, sidecar)


def outcome(authorization_id: str, minor_units: int, **more: Any) -> policy_service_pb2.SettleRequest:
    """That a charge went through."""
    return policy_service_pb2.SettleRequest(
        authorization_id=authorization_id,
        attempt=1,
        outcome=policy_service_pb2.OUTCOME_SUCCEEDED,
        amount=usd(minor_units),
        object_id=f"ch_{minor_units}",
        **more,
    )


def create_vault_key(site: Site) -> None:
    """Make the key that the other calls use."""
    site.make_key("agent")


def get_vault_key(site: Site) -> None:
    """Read it."""
    got = site.key_of(site.admin.keys.GetVaultKey, vault_key_service_pb2.GetVaultKeyRequest)
    assert got.vault_key.account == site.account


def list_vault_keys(site: Site) -> None:
    """List it."""
    request = vault_key_service_pb2.ListVaultKeysRequest(account=site.account)
    listed = site.admin.persist(site.admin.keys.ListVaultKeys, request)
    assert [key.vault_key_id for key in listed.vault_keys] == [site.key_id]


def update_policy(site: Site) -> None:
    """Give it another policy."""
    policy = day_cap(90_000)
    policy.repeated_refusals_max = 2
    keys = site.admin.keys
    site.key_of(keys.UpdateVaultKeyPolicy, vault_key_service_pb2.UpdateVaultKeyPolicyRequest, policy=policy)


def authorize(site: Site) -> None:
    """Allow a charge, and refuse another until its run is frozen."""
    site.allowed(100, "run-1")
    for _ in range(3):
        refused = site.decide(900_000, "run-frozen")
    assert refused.deny_reason == policy_service_pb2.DENY_REASON_RUN_FROZEN


def batch_authorize(site: Site) -> None:
    """Decide on two charges at once."""
    request = policy_service_pb2.BatchAuthorizeRequest(
        requests=[charge(site.key, 100, "run-2"), charge(site.key, 100, "run-3")]
    )
    answer = site.sidecar.persist(site.sidecar.policy.BatchAuthorize, request)
    assert [one.response.decision for one in answer.results] == [policy_service_pb2.DECISION_ALLOW] * 2


def stream_authorize(site: Site) -> None:
    """Decide on a charge of a stream."""
    request = policy_service_pb2.StreamAuthorizeRequest(requests=[charge(site.key, 100, "run-4")])
    answer = next(site.sidecar(site.sidecar.policy.StreamAuthorize, iter([request])))
    assert answer.results[0].response.decision == policy_service_pb2.DECISION_ALLOW


def settle(site: Site) -> None:
    """Settle a charge."""
    site.sidecar.persist(site.sidecar.policy.Settle, outcome(site.allowed(201, "run-5"), 201))


def batch_settle(site: Site) -> None:
    """Settle two at once."""
    settlements = [outcome(site.allowed(amount, f"run-6-{amount}"), amount) for amount in (202, 203)]
    request = policy_service_pb2.BatchSettleRequest(requests=settlements)
    answer = site.sidecar.persist(site.sidecar.policy.BatchSettle, request)
    assert [one.WhichOneof("result") for one in answer.results] == ["response"] * 2


def record_observations(site: Site) -> None:
    """Count what a charge that was settled is seen to be."""
    seen = policy_service_pb2.Observation(vault_key_id=site.key_id, object_id="ch_203", amount=usd(150))
    request = policy_service_pb2.BatchRecordObservationsRequest(observations=[seen])
    site.sidecar.persist(site.sidecar.policy.BatchRecordObservations, request)


def record_refusals(site: Site) -> None:
    """Record what a sidecar refused."""
    refused = policy_service_pb2.Refusal(vault_key_id=site.key_id, endpoint="POST /v1/charges", code="x")
    request = policy_service_pb2.BatchRecordRefusalsRequest(refusals=[refused])
    site.sidecar.persist(site.sidecar.policy.BatchRecordRefusals, request)


def list_unresolved_holds(site: Site) -> None:
    """The sweep makes an overdue hold unknown, and every way to list it has it."""
    held = site.allowed(300, "run-7", hold_ttl=Duration(seconds=1))

    def listed(account: str) -> list[str]:
        request = policy_service_pb2.ListUnresolvedHoldsRequest(account=account)
        page = site.sidecar.persist(site.sidecar.policy.ListUnresolvedHolds, request)
        assert page.HasField("read_time")
        return [hold.authorization_id for hold in page.holds]

    wait_for(lambda: listed(site.account) == listed("") == [held], "it is listed")


def list_frozen_runs(site: Site) -> None:
    """List the frozen run."""
    request = account_service_pb2.ListFrozenRunsRequest(account=site.account)
    listed = site.admin.persist(site.admin.accounts.ListFrozenRuns, request)
    assert [run.run_id for run in listed.frozen_runs] == ["run-frozen"]


def unfreeze_run(site: Site) -> None:
    """Let it go on."""
    request = account_service_pb2.UnfreezeRunRequest
    site.key_of(site.admin.accounts.UnfreezeRun, request, run_id="run-frozen")


def get_usage(site: Site) -> None:
    """Read how full the cap is."""
    request = vault_key_service_pb2.GetVaultKeyUsageRequest
    (status,) = site.key_of(site.admin.keys.GetVaultKeyUsage, request).caps
    assert (status.settled, status.held) == (201 + 202 + 150, 4 * 100 + 300)


def explain(site: Site) -> None:
    """Explain a call."""
    request = vault_key_service_pb2.ExplainAuthorizationRequest(call=charge(site.key, 5, "run-8"))
    assert site.admin.persist(site.admin.keys.ExplainAuthorization, request).rules


def get_account(site: Site) -> None:
    """Read the account."""
    request = account_service_pb2.GetAccountRequest(account=site.account)
    assert not site.admin.persist(site.admin.accounts.GetAccount, request).account.freeze_reason


def freeze_account(site: Site) -> None:
    """Freeze it."""
    request = account_service_pb2.FreezeAccountRequest(account=site.account, reason="test")
    site.admin.persist(site.admin.accounts.FreezeAccount, request)
    assert site.decide(1, "run-9").deny_reason == policy_service_pb2.DENY_REASON_ACCOUNT_FROZEN


def unfreeze_account(site: Site) -> None:
    """End the freeze."""
    request = account_service_pb2.UnfreezeAccountRequest(account=site.account)
    site.admin.persist(site.admin.accounts.UnfreezeAccount, request)
    site.allowed(1, "run-9")


def set_budget(site: Site) -> None:
    """Set a budget."""
    budget = account_service_pb2.Budget(name="all", caps=day_cap(1_000).caps)
    request = account_service_pb2.SetBudgetRequest(account=site.account, budget=budget)
    site.admin.persist(site.admin.accounts.SetBudget, request)


def delete_budget(site: Site) -> None:
    """Take it away."""
    request = account_service_pb2.DeleteBudgetRequest(account=site.account, name="all")
    site.admin.persist(site.admin.accounts.DeleteBudget, request)


def list_audit_events(site: Site) -> None:
    """Read the newest events."""
    request = audit_service_pb2.ListAuditEventsRequest(account=site.account, page_size=5)
    assert len(site.admin.persist(site.admin.audit.ListAuditEvents, request).audit_events) == 5


def watch_audit_events(site: Site) -> None:
    """Follow the events from the first on."""
    request = audit_service_pb2.WatchAuditEventsRequest(account=site.account, after_sequence=0)
    stream = site.admin(site.admin.audit.WatchAuditEvents, request)
    assert next(stream).sequence == 1
    stream.cancel()


def export_audit_events(site: Site) -> None:
    """Export what is archived."""
    site.archived()
    request = audit_service_pb2.ExportAuditEventsRequest(account=site.account)
    assert list(site.admin(site.admin.audit.ExportAuditEvents, request))


def get_audit_archive(site: Site) -> None:
    """Ask how far the archive is."""
    request = audit_service_pb2.GetAuditArchiveRequest()
    archive = site.admin.persist(site.admin.audit.GetAuditArchive, request)
    assert not archive.problem
    assert site.account in {one.account for one in archive.accounts}


def create_checkpoint(site: Site) -> None:
    """Sign the newest archived event."""
    request = audit_service_pb2.CreateAuditCheckpointRequest(account=site.account)
    assert site.admin.persist(site.admin.audit.CreateAuditCheckpoint, request).audit_checkpoint.sequence


def accept_audit_loss(site: Site) -> None:
    """Nothing is lost, and that is found out."""
    request = audit_service_pb2.AcceptAuditLossRequest(account=site.account, reason="test")
    code, *_ = failure(site.admin.persist, site.admin.audit.AcceptAuditLoss, request)
    assert code is grpc.StatusCode.FAILED_PRECONDITION


def revoke_derived_key(site: Site) -> None:
    """End a key that was derived."""
    derived = derived_key_id(derive_key(site.key, allow=["* /v1/*"]))
    request = vault_key_service_pb2.RevokeDerivedKeyRequest
    site.key_of(site.admin.keys.RevokeDerivedKey, request, derived_key_id=derived)


def list_ledgers(site: Site) -> None:
    """No ledger is lost."""
    request = ledger_service_pb2.ListLedgersRequest()
    ledgers = site.admin.persist(site.admin.ledgers.ListLedgers, request).ledgers
    assert {one.account: one.lost for one in ledgers}[site.account] is False


def rebuild_ledger(site: Site) -> None:
    """The account's node loses everything, and the archive brings it back."""
    site.archived()
    with site.cluster.master_of(f"spendgate:{{{site.account}}}:account").client as node:
        node.flushall()
    request = ledger_service_pb2.RebuildLedgerRequest(account=site.account)
    assert site.admin.persist(site.admin.ledgers.RebuildLedger, request).lost_events == 0
    get_usage_after_rebuild = site.key_of(
        site.admin.keys.GetVaultKeyUsage, vault_key_service_pb2.GetVaultKeyUsageRequest
    )
    assert get_usage_after_rebuild.caps[0].settled == 201 + 202 + 150


def revoke_vault_key(site: Site) -> None:
    """End the key."""
    site.key_of(site.admin.keys.RevokeVaultKey, vault_key_service_pb2.RevokeVaultKeyRequest)
    assert site.decide(1, "run-10").deny_reason == policy_service_pb2.DENY_REASON_VAULT_KEY_REVOKED


CALLS: dict[str, Callable[[Site], None]] = {
    "VaultKeyService.CreateVaultKey": create_vault_key,
    "VaultKeyService.GetVaultKey": get_vault_key,
    "VaultKeyService.ListVaultKeys": list_vault_keys,
    "VaultKeyService.UpdateVaultKeyPolicy": update_policy,
    "PolicyService.Authorize": authorize,
    "PolicyService.BatchAuthorize": batch_authorize,
    "PolicyService.StreamAuthorize": stream_authorize,
    "PolicyService.Settle": settle,
    "PolicyService.BatchSettle": batch_settle,
    "PolicyService.BatchRecordObservations": record_observations,
    "PolicyService.BatchRecordRefusals": record_refusals,
    "PolicyService.ListUnresolvedHolds": list_unresolved_holds,
    "AccountService.ListFrozenRuns": list_frozen_runs,
    "AccountService.UnfreezeRun": unfreeze_run,
    "VaultKeyService.GetVaultKeyUsage": get_usage,
    "VaultKeyService.ExplainAuthorization": explain,
    "AccountService.GetAccount": get_account,
    "AccountService.FreezeAccount": freeze_account,
    "AccountService.UnfreezeAccount": unfreeze_account,
    "AccountService.SetBudget": set_budget,
    "AccountService.DeleteBudget": delete_budget,
    "AuditService.ListAuditEvents": list_audit_events,
    "AuditService.WatchAuditEvents": watch_audit_events,
    "AuditService.ExportAuditEvents": export_audit_events,
    "AuditService.GetAuditArchive": get_audit_archive,
    "AuditService.CreateAuditCheckpoint": create_checkpoint,
    "AuditService.AcceptAuditLoss": accept_audit_loss,
    "VaultKeyService.RevokeDerivedKey": revoke_derived_key,
    "LedgerService.ListLedgers": list_ledgers,
    "LedgerService.RebuildLedger": rebuild_ledger,
    "VaultKeyService.RevokeVaultKey": revoke_vault_key,
}
"""Every call, in an order in which each finds what it needs."""


def test_every_call_is_here() -> None:
    """A call that is added to a service must be made on a cluster too."""
    there_are = {
        f"{service.name}.{method.name}"
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(CALLS) == there_are


def test_every_call_works_on_a_cluster() -> None:
    """None needs that all keys are on one node."""
    with running() as site:
        for name, call in CALLS.items():
            try:
                call(site)
            except (AssertionError, grpc.RpcError) as error:
                raise AssertionError(f"{name} failed: {error}") from error
        assert "Traceback" not in site.server.log, site.server.log


def test_a_slot_that_moves_stops_no_decision_half_way() -> None:
    """A script that takes a key away and writes it anew would fail in between, with its counters changed."""
    with running() as site:
        site.make_key("agent", repeated_refusals_max=0)
        site.allowed(100, "run-1")
        failed = site.allowed(200, "run-2", object_id="pi_1")
        outcome_of = policy_service_pb2.SettleRequest(
            authorization_id=failed, attempt=1, outcome=policy_service_pb2.OUTCOME_FAILED
        )
        site.sidecar.persist(site.sidecar.policy.Settle, outcome_of)
        site.archived()
        cluster, root = site.cluster, f"spendgate:{{{site.account}}}:"
        source = cluster.master_of(f"{root}account")
        target = next(node for node in cluster.masters() if node is not source)
        cluster.begin_to_move(cluster.slot(f"{root}account"), source, target)
        repeat = charge(site.key, 200, "run-2", object_id="pi_1")
        code, *_ = failure(site.sidecar, site.sidecar.policy.Authorize, repeat)
        assert code is grpc.StatusCode.UNAVAILABLE
        cluster.move(cluster.slot(f"{root}account"), source, target)
        assert site.allowed(200, "run-2", object_id="pi_1") == failed
        usage = vault_key_service_pb2.GetVaultKeyUsageRequest
        (status,) = site.key_of(site.admin.keys.GetVaultKeyUsage, usage).caps
        assert (status.settled, status.held) == (0, 300)


def test_what_finds_accounts_and_keys_is_made_anew() -> None:
    """The node that has it loses its data alone: keys work, outcomes are counted and holds are swept."""
    with running() as site:
        site.make_key("agent")
        while site.cluster.master_of(f"spendgate:key-account:{site.key_id}") is not lost_node(site):
            site.make_key(f"agent-of-{site.key_id[:8]}")
        held = site.allowed(400, "run-1")
        overdue = site.allowed(500, "run-2", hold_ttl=Duration(seconds=1))
        site.archived()
        site.server.stop()
        with lost_node(site).client as node:
            node.flushall()
            assert not node.keys("*")
        with (
            policy_server_process(site.folder, site.cluster.url, name="fresh") as fresh,
            calling(fresh, "sidecar") as sidecar,
        ):
            site.sidecar = sidecar
            sidecar.persist(sidecar.policy.Settle, outcome(held, 400))
            site.allowed(1, "run-3")
            stranger = charge(f"{site.key[:-8]}{'0' * 8}", 1, "run-4")
            assert (
                sidecar.persist(sidecar.policy.Authorize, stranger).decision
                == policy_service_pb2.DECISION_DENY
            )

            def swept() -> list[str]:
                request = policy_service_pb2.ListUnresolvedHoldsRequest()
                page = sidecar.persist(sidecar.policy.ListUnresolvedHolds, request)
                return [hold.authorization_id for hold in page.holds]

            wait_for(lambda: swept() == [overdue], "the overdue hold is found")
            with site.cluster.client() as client:
                assert client.get(f"spendgate:key-account:{site.key_id}") == site.account
                assert site.account in client.smembers(INDEX)


def lost_node(site: Site) -> Any:
    """The node that has the list of accounts, and nothing of the site's account."""
    return site.cluster.master_of(INDEX)


def test_a_cluster_that_was_away_is_used_again() -> None:
    """Calls are refused as when Redis is away, and afterwards nothing has to be started anew."""
    with running() as site:
        site.make_key("agent")
        overdue = site.allowed(100, "run-1", hold_ttl=Duration(seconds=1))
        for node in site.cluster.nodes:
            node.process.kill()
        request = charge(site.key, 100, "run-2")
        wait_for(lambda: "the counter store does not answer" in site.server.log, "that is noticed")
        for _ in range(3):
            code, *_ = failure(site.sidecar, site.sidecar.policy.Authorize, request)
            assert code is grpc.StatusCode.UNAVAILABLE
            listing = policy_service_pb2.ListUnresolvedHoldsRequest(account=site.account)
            code, *_ = failure(site.sidecar, site.sidecar.policy.ListUnresolvedHolds, listing)
            assert code is grpc.StatusCode.UNAVAILABLE
        for node in site.cluster.nodes:
            node.process.start()
        site.allowed(100, "run-2")
        page = policy_service_pb2.ListUnresolvedHoldsRequest()

        def swept() -> list[str]:
            holds = site.sidecar.persist(site.sidecar.policy.ListUnresolvedHolds, page).holds
            return [hold.authorization_id for hold in holds]

        wait_for(lambda: swept() == [overdue], "the sweep goes on")
        wait_for(lambda: "the counter store answers again" in site.server.log, "that is noticed")
        site.archived()
        assert "Traceback" not in site.server.log, site.server.log
