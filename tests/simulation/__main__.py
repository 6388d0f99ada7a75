"""``python -m tests.simulation``: tells histories, and shows the first that breaks a promise."""

from __future__ import annotations

import sys

from tests.simulation.command import main

sys.exit(main())
