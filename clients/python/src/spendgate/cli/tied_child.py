"""`python -m spendgate.cli.tied_child PARENT MODULE ...`: becomes MODULE, tied to its parent's life.

A parent that is killed can't stop its children. On Linux the kernel then sends
them SIGTERM; elsewhere they go on and have to be stopped by hand. It is asked
for here, in the child, because code between fork and exec is not safe in a
parent with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by `python -m MODULE ...`."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        # A parent that died before the request above sends nothing.
        if os.getppid() != int(parent):
            sys.exit("the process that started this one is gone")
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - our own program


if __name__ == "__main__":
    main()
