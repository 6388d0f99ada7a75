"""How a program that runs for long and holds secrets treats its memory."""

from __future__ import annotations

import ctypes
import gc
import sys

_PR_SET_DUMPABLE = 4

_ALLOCATIONS_BEFORE_COLLECTING = 20_000
"""Python's own 700 are made by three requests, which leave no cycles behind."""


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


def collect_seldom() -> None:
    """Look for cyclic garbage seldom, and never in what is there by now, which a server keeps."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BEFORE_COLLECTING)
