"""The whole of Spendgate as real processes: Redis, policy servers, sidecars, and Stripe's simulator."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import stripe

from spendgate.v1 import (
    amount_pb2,
    audit_service_pb2,
    audit_service_pb2_grpc,
    policy_pb2,
    vault_key_service_pb2,
    vault_key_service_pb2_grpc,
)
from tests.processes import (
    REPOSITORY,
    Process,
    policy_server_address,
    policy_server_process,
    redis_process,
    redis_url,
    token,
    wait_for,
)

STRIPE_KEY = "rk_test_51StackSecretKeyOfTheTests"
_names = itertools.count(1)
_LISTENS = r"sidecar listens on (\S+) for /\S+.*\n.*sidecar listens on (\S+) for"


def simulator_process(folder: Path) -> Process:
    """Stripe's simulator on a free port."""
    return Process(
        "stripe",
        [sys.executable, "-m", "stripe_simulator", "--port", "0", "--secret-key", STRIPE_KEY],
        folder=folder,
        ready=lambda process: process.found(r"listening on (\S+)") is not None,
    )


def variable(setting: str) -> str:
    """The environment variable of a setting; the vendors' own have the names that their SDKs know."""
    own = setting in {"stripe_secret_key", "twilio_account_sid", "twilio_auth_token"}
    return setting.upper() if own else f"SPENDGATE_{setting.upper()}"


def sidecar_process(
    folder: Path,
    policy_address: str,
    stripe_base: str,
    *,
    name: str = "sidecar",
    program: Sequence[str] = ("sidecar",),
    **settings: str,
) -> Process:
    """A sidecar on free ports; ``settings`` by their names in lower case."""
    return Process(
        name,
        [sys.executable, "-m", *program],
        folder=folder,
        env={
            "STRIPE_SECRET_KEY": STRIPE_KEY,
            "PYTHONPATH": str(REPOSITORY),
            "SPENDGATE_STRIPE_API_BASE": stripe_base,
            "SPENDGATE_POLICY_ADDRESS": policy_address,
            "SPENDGATE_DATA_DIR": str(folder),
            "SPENDGATE_SIDECAR_PORT": "0",
            "SPENDGATE_SIDECAR_ROOT_PORT": "0",
            # What looks by itself could change what a test looks at.
            "SPENDGATE_RECONCILE_EVERY_S": "0",
            **{variable(setting): value for setting, value in settings.items()},
        },
        ready=lambda process: process.found(_LISTENS) is not None,
    )


def cap(amount: int, window: str = "DAY", currency: str = "USD", **more: Any) -> policy_pb2.Cap:
    """A cap on money."""
    money = amount_pb2.Amount(minor_units=amount, currency_code=currency)
    return policy_pb2.Cap(amount=money, window=f"WINDOW_{window}", **more)


class Simulator:
    """Stripe as the tests see it: what it was sent, and what goes wrong there."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.http = httpx.Client(base_url=f"{origin}/_simulator", timeout=10)

    def posts(self, path: str = "") -> list[dict[str, Any]]:
        """The POSTs it received, at paths that begin so."""
        requests = self.http.get("/requests", params={"method": "POST"}).json()
        return [request for request in requests if request["path"].startswith(path)]

    def executed(self, path: str = "") -> list[dict[str, Any]]:
        """The POSTs it carried out, repeats left out."""
        return [request for request in self.posts(path) if request["executed"]]

    def changes(self) -> list[dict[str, Any]]:
        """The POSTs and DELETEs that reached its API, except those that it refused to begin."""
        return list(self.http.get("/requests", params={"method": "POST,DELETE"}).json())

    @property
    def money(self) -> dict[str, Any]:
        """What was charged, captured and refunded in US dollars."""
        empty = {"charged": 0, "captured": 0, "refunded": 0}
        return dict(self.http.get("/summary").json()["money"].get("usd", empty))

    @property
    def committed(self) -> int:
        """What moved, in either direction, and what still may without another call, in US dollars."""
        movements = self.http.get("/money").json()["movements"]
        total = 0
        for one in movements:
            assert one["currency"] == "usd"
            total += one["new"] - (one["amount"] if one["step"] == "released" else 0)
        return total

    def act(self, action: str, object_id: str, **choices: Any) -> dict[str, Any]:
        """Let somebody outside act, such as ``pay``; return the object that they acted on."""
        answer = self.http.post(f"/{action}", json={"id": object_id, **choices}).raise_for_status().json()
        assert answer["error"] is None, answer
        return dict(answer["object"])

    def fault(self, fault: str, **more: Any) -> None:
        """Let something go wrong, once unless said otherwise."""
        self.http.post("/faults", json={"fault": fault, **more}).raise_for_status()

    def heal(self) -> None:
        """End all faults; delayed requests go on."""
        self.http.delete("/faults").raise_for_status()

    def advance(self, seconds: int) -> None:
        """Move its clock."""
        self.http.post("/clock", json={"advance_seconds": seconds}).raise_for_status()

    def resolve(self, object_id: str, outcome: str) -> None:
        """Let what waits come to its end: succeeded or failed."""
        self.http.post("/resolve", json={"id": object_id, "outcome": outcome}).raise_for_status()

    def reset(self) -> None:
        """Forget everything."""
        self.heal()
        self.http.post("/reset").raise_for_status()


@dataclass
class VaultKey:
    """A vault key and its public id."""

    text: str = field(repr=False)
    id: str
    account: str = ""


class Stack:
    """A running Spendgate."""

    def __init__(
        self,
        simulator: Process,
        policy_servers: Sequence[Process],
        sidecars: Sequence[Process],
        *,
        policy_address: str = "",
    ) -> None:
        """``policy_address`` is where operators find a policy server; the first one's own unless given."""
        self.policy_servers = list(policy_servers)
        self.sidecars = list(sidecars)
        origin = simulator.found(r"listening on (\S+)")
        assert origin is not None
        self.simulator = Simulator(origin)
        self._clients = [self.simulator.http]
        server = policy_servers[0]
        self._metadata = [("authorization", f"Bearer {token(server, 'admin')}")]
        self._channel = grpc.insecure_channel(
            policy_address or policy_server_address(server),
            options=[("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)],
        )
        self.keys = vault_key_service_pb2_grpc.VaultKeyServiceStub(self._channel)
        self._audit = audit_service_pb2_grpc.AuditServiceStub(self._channel)

    def close(self) -> None:
        """Let go of every connection."""
        for client in self._clients:
            client.close()
        self._channel.close()

    def origin(self, sidecar: int = 0, *, root: bool = False) -> str:
        """Where a sidecar is: with /stripe, or at the root."""
        found = re.search(_LISTENS, self.sidecars[sidecar].log)
        assert found is not None
        return found[2] if root else f"{found[1]}/stripe"

    def key(
        self, *allow: str, caps: Sequence[policy_pb2.Cap] | None = None, account: str = "", **policy: Any
    ) -> VaultKey:
        """Make a vault key; by default for every endpoint and 100 USD a day."""
        reply = self.keys.CreateVaultKey(
            vault_key_service_pb2.CreateVaultKeyRequest(
                name=f"key-{next(_names)}",
                account=account,
                policy=policy_pb2.Policy(
                    allow=allow or ("* /v1/*",), caps=[cap(10_000)] if caps is None else caps, **policy
                ),
            ),
            metadata=self._metadata,
            timeout=10,
        )
        return VaultKey(reply.secret_vault_key, reply.vault_key.vault_key_id, account)

    def revoke(self, key: VaultKey) -> None:
        """Revoke a vault key."""
        self.keys.RevokeVaultKey(
            vault_key_service_pb2.RevokeVaultKeyRequest(vault_key_id=key.id),
            metadata=self._metadata,
            timeout=10,
        )

    def usage(self, key: VaultKey) -> policy_pb2.CapStatus:
        """How full the first cap of a key is."""
        return self.usages(key)[0]

    def usages(self, key: VaultKey) -> list[policy_pb2.CapStatus]:
        """How full each cap of a key is."""
        reply = self.keys.GetVaultKeyUsage(
            vault_key_service_pb2.GetVaultKeyUsageRequest(vault_key_id=key.id),
            metadata=self._metadata,
            timeout=10,
        )
        return list(reply.caps)

    def settled(self, key: VaultKey, amount: int) -> None:
        """Wait until nothing of a key is held any more and so much is settled."""

        def is_so() -> bool:
            usage = self.usage(key)
            return (usage.held, usage.settled) == (0, amount)

        wait_for(is_so, f"{amount} is settled and nothing held")

    def events(self, key: VaultKey, **filters: Any) -> list[audit_service_pb2.AuditEvent]:
        """The audit events of a key, oldest first."""
        reply = self._audit.ListAuditEvents(
            audit_service_pb2.ListAuditEventsRequest(
                account=key.account,
                page_size=1000,
                filter=audit_service_pb2.AuditFilter(vault_key_id=key.id, **filters),
            ),
            metadata=self._metadata,
            timeout=10,
        )
        return list(reversed(reply.audit_events))

    def agent(self, key: VaultKey, run_id: str = "", *, sidecar: int = 0, **headers: str) -> httpx.Client:
        """An agent's HTTP client."""
        named = {"Authorization": f"Bearer {key.text}", **headers}
        if run_id:
            named["Spendgate-Run-Id"] = run_id
        client = httpx.Client(
            base_url=f"{self.origin(sidecar)}/v1",
            headers=named,
            timeout=30,
            event_hooks={"response": [show]},
        )
        self._clients.append(client)
        return client

    def sdk(self, key: VaultKey, http_client: stripe.HTTPClient | None = None) -> stripe.StripeClient:
        """The official SDK, with nothing but its addresses set, and the retries of its module style."""
        base = self.origin()
        addresses: Any = {"api": base, "files": base, "connect": base, "meter_events": base}
        return stripe.StripeClient(
            key.text, base_addresses=addresses, max_network_retries=2, http_client=http_client
        )


def show(response: httpx.Response) -> None:
    """Print an exchange, which pytest shows with a failed test."""
    request = response.request
    print(request.method, request.url.path, response.status_code, response.read()[:500])


@contextmanager
def running_stack(
    folder: Path,
    *,
    servers: int = 1,
    sidecars: int = 1,
    redis_at: str = "",
    server_settings: Mapping[str, str] | None = None,
    sidecar_program: Sequence[str] = ("sidecar",),
    **settings: str,
) -> Iterator[Stack]:
    """Start everything; several policy servers share one Redis and one set of tokens.

    With ``redis_at``, the address of a Redis, none is started. ``settings`` are
    the sidecars', by their names in lower case; ``server_settings`` have them in full.
    """
    with ExitStack() as started:

        def start(process: Process) -> Process:
            return started.enter_context(process)

        redis_at = redis_at or redis_url(start(redis_process(folder)))
        simulator = start(simulator_process(folder))
        origin = simulator.found(r"listening on (\S+)")
        assert origin is not None
        policy = [
            start(
                policy_server_process(folder, redis_at, name=f"policy-server-{number}", env=server_settings)
            )
            for number in range(servers)
        ]
        gates = [
            start(
                sidecar_process(
                    folder,
                    policy_server_address(policy[number % servers]),
                    origin,
                    name=f"sidecar-{number}",
                    program=sidecar_program,
                    **settings,
                )
            )
            for number in range(sidecars)
        ]
        stack = Stack(simulator, policy, gates)
        started.callback(stack.close)
        yield stack


CHARGE: Mapping[str, str] = {"amount": "1900", "currency": "usd", "source": "tok_visa"}
