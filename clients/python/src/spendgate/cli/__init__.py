"""The operator command `spendgate`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command with the arguments of this process."""
    try:
        from spendgate.cli.app import run  # noqa: PLC0415 - the libraries of the extra may be missing
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("spendgate"):
            raise
        sys.exit(f"the spendgate command needs the library {error.name}: pip install 'spendgate[cli]'")
    run()
