"""Keeps the memory of a program that holds secrets out of files and from other programs of the same user."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def keep_private() -> None:
    """Write no core dump of this process, and on Linux let no other program of its user read its memory.

    The environment with its secrets is then closed too (``/proc/<pid>/environ``).
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
