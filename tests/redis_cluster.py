"""A Redis Cluster of three masters and three replicas, each a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from policy_server.embedded_redis import redis_server
from tests.processes import Process, wait_for

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000


class Node:
    """One Redis of a cluster."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def client(self) -> Any:
        """A connection to this node alone."""
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=10)

    @property
    def id(self) -> str:
        """What the cluster calls it."""
        with self.client as client:
            return str(client.execute_command("CLUSTER MYID"))

    @property
    def is_master(self) -> bool:
        """Whether it is one now."""
        with self.client as client, suppress(redis.RedisError):
            return bool(client.role()[0] == "master")
        return False


class Cluster:
    """The nodes of a cluster."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """The address of one of its nodes."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def masters(self) -> list[Node]:
        """The nodes that run and are masters."""
        return [node for node in self.nodes if node.process.running and node.is_master]

    def master_of(self, key: str) -> Node:
        """The master that has a key."""
        slot = self.slot(key)
        for node in self.masters():
            with node.client as client:
                for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last and port == node.port:
                        return node
        raise AssertionError(f"nobody has slot {slot}")

    def master_has_moved(self, key: str, before: Node) -> bool:
        """Whether another node than ``before`` has a key now."""
        try:
            return self.master_of(key) is not before
        except (AssertionError, redis.RedisError):
            return False

    def replica_of(self, master: Node) -> Node:
        """The replica of a master."""
        for node in self.nodes:
            with node.client as client:
                role = client.role()
            if role[0] != "master" and int(role[2]) == master.port:
                return node
        raise AssertionError("it has none")

    def slot(self, key: str) -> int:
        """The slot of a key."""
        with self.nodes[-1].client as client:
            return int(client.execute_command("CLUSTER KEYSLOT", key))

    def client(self) -> Any:
        """A client that follows the cluster."""
        living = next(node for node in self.nodes if node.process.running)
        return redis.RedisCluster("127.0.0.1", living.port, decode_responses=True)

    def begin_to_move(self, slot: int, source: Node, target: Node) -> None:
        """Say that a slot moves, with all its keys still where they were."""
        with source.client as here, target.client as there:
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)

    def move(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys from one master to another, as redis-cli does."""
        self.begin_to_move(slot, source, target)
        with source.client as here, target.client as there:
            while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            for node in (there, here):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", target.id)


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Cluster]:
    """Start three masters and three replicas."""
    with ExitStack() as started:
        nodes = []
        for number in range(6):
            port = _free_port()
            process = _node(folder / f"node-{number}", port)
            nodes.append(Node(started.enter_context(process), port))
        masters, replicas = nodes[:3], nodes[3:]
        for number, node in enumerate(nodes):
            with node.client as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for number, node in enumerate(masters):
            with node.client as client:
                slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
                client.execute_command("CLUSTER ADDSLOTS", *slots)
        for node in nodes:
            wait_for(lambda node=node: _knows(node, 6), "the nodes know each other")
        for master, replica in zip(masters, replicas, strict=True):
            with replica.client as client:
                client.execute_command("CLUSTER REPLICATE", master.id)
        for node in nodes:
            wait_for(lambda node=node: _is_whole(node), "the cluster is whole")
        for master in masters:
            wait_for(lambda master=master: _replicas(master) == 1, "each master has its replica")
        yield Cluster(nodes)


def _node(folder: Path, port: int) -> Process:
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(NODE_TIMEOUT_MS),
        "cluster-require-full-coverage": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return Process(
        folder.name, [redis_server(), *options], folder=folder, ready=lambda process: _answers(port)
    )


def _free_port() -> int:
    # The bus of a node is 10,000 above its port.
    while True:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
        if port < 55_000:
            with suppress(OSError), socket.create_server(("127.0.0.1", port + 10_000)):
                return port


def _answers(port: int) -> bool:
    with redis.Redis(port=port) as client, suppress(redis.RedisError):
        return bool(client.ping())
    return False


def _knows(node: Node, count: int) -> bool:
    with node.client as client:
        return len(client.execute_command("CLUSTER NODES")) == count


def _is_whole(node: Node) -> bool:
    with node.client as client:
        info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_slots_assigned"] == str(SLOTS)


def _replicas(master: Node) -> int:
    with master.client as client:
        info = client.info("replication")
        return sum(info[f"slave{n}"]["state"] == "online" for n in range(info["connected_slaves"]))
