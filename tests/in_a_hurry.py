"""``python -m tests.in_a_hurry MODULE …``: a program of the sidecar that sends what it may at once, or never.

Its reconciler waits so much less. Nothing else is different.
"""

from __future__ import annotations

import runpy
import sys

from sidecar import gate

SEND_WITHIN_S = 0.5

if __name__ == "__main__":
    gate.SEND_WITHIN_S = SEND_WITHIN_S
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
