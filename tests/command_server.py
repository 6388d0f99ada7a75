"""Runs the `spendgate` command in processes that need not load it anew: each is forked from one that has it.

What a command is given and gives is its own: arguments, environment, folder, the three streams, exit code. It
saves the second that Python takes for the libraries, of which an operator's command takes one each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.processes import REPOSITORY, clean_environment

_MESSAGE_BYTES_MAX = 1024 * 1024


class CommandServer:
    """Where commands are forked from; started when entered."""

    def __enter__(self) -> Self:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.command_server", str(there.fileno())],
                cwd=REPOSITORY,
                env=clean_environment(),
                pass_fds=[there.fileno()],
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.close()  # it ends with this
        self._process.wait()

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str
    ) -> tuple[int, str, str]:
        """Run one command to its end; return its exit code and what it wrote to both streams."""
        with contextlib.ExitStack() as opened:
            streams = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            streams[0].write(stdin.encode())
            streams[0].seek(0)
            asked = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
            socket.send_fds(self._here, [json.dumps(asked).encode()], [stream.fileno() for stream in streams])
            code = int(self._here.recv(16))
            written = []
            for stream in streams[1:]:
                stream.seek(0)
                written.append(stream.read().decode())
        return code, written[0], written[1]


def _requests(link: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    while True:
        message, streams, _, _ = socket.recv_fds(link, _MESSAGE_BYTES_MAX, 3)
        if not message:
            return
        yield json.loads(message), streams


def _serve(link: socket.socket) -> None:
    import spendgate.cli.app  # noqa: F401, PLC0415 - what is loaded once for all

    for asked, streams in _requests(link):
        child = os.fork()
        if child == 0:
            link.close()
            _become(asked, streams)
        _, status = os.waitpid(child, 0)
        for stream in streams:
            os.close(stream)
        link.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Be the command from here on."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["spendgate", *asked["arguments"]]
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", errors="backslashreplace")  # noqa: SIM115 - for good
    code = 1
    try:
        from spendgate.cli import main  # noqa: PLC0415 - as the command does

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
