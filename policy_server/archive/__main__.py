"""``python -m policy_server.archive``: what is done with an archive or an export without a server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import SecretStr

from policy_server.archive.chain import HASH_BYTES
from policy_server.archive.database import Database
from policy_server.archive.export import Export
from policy_server.archive.signing import KEY_FILE, PublicKey, SigningKey
from policy_server.archive.stored import own_keys, stored_trails
from policy_server.archive.verify import Report, StoredTrail, Verification
from policy_server.core.errors import SpendgateError

_SQLITE = b"SQLite format 3\0"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="spendgate audit verify")
    parser.add_argument("target", nargs="?", default="", metavar="TARGET")
    parser.add_argument("--account", default="")
    parser.add_argument("--public-key", action="append", type=Path, default=[], metavar="FILE")
    parser.add_argument("--expect", default="", metavar="SEQUENCE:HASH")
    parser.add_argument("--data-dir", type=Path, default=Path(".spendgate"))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextmanager
def _opened(
    target: str, data_dir: Path, account: str
) -> Iterator[tuple[Iterator[StoredTrail], Mapping[str, PublicKey]]]:
    """Open an archive or an export: its trails, and the keys that it brings along."""
    path = Path(target) if target and "://" not in target else None
    if path is not None and not path.is_file():
        raise SpendgateError(f"there is no file {path}")
    if path is not None and path.open("rb").read(len(_SQLITE)) != _SQLITE:
        with path.open("rb") as file:
            export = Export(file)
            if account not in {"", export.trail.account}:
                raise SpendgateError(f"the export is of the account {export.trail.account}, not of {account}")
            yield iter([export.trail]), export.keys
        return
    url = f"sqlite:///{path.absolute()}" if path else target or os.environ.get("SPENDGATE_ARCHIVE_URL", "")
    database = Database(SecretStr(url) if url else None, data_dir, read_only=True)
    if database.is_sqlite and not database.path.exists():
        raise SpendgateError(f"there is no archive {database.path}; name a file, or give --data-dir")
    try:
        with stored_trails(database, account) as trails:
            yield trails, own_keys(database)
    finally:
        database.close()


def _trusted(files: list[Path], data_dir: Path) -> dict[str, PublicKey]:
    """Return the keys of these files, or else the one of the data directory, if it is there."""
    try:
        keys = [PublicKey.from_pem(file.read_bytes()) for file in files]
    except (OSError, ValueError) as error:
        raise SpendgateError(f"a public key can't be read: {error}") from None
    if not files and (data_dir / KEY_FILE).exists():
        keys = [SigningKey.read_or_make(data_dir).public]
    return {key.id: key for key in keys}


def _expected(text: str) -> tuple[int, bytes] | None:
    if not text:
        return None
    sequence, _, hash_hex = text.partition(":")
    try:
        expected = (int(sequence), bytes.fromhex(hash_hex))
    except ValueError:
        expected = (0, b"")
    if len(expected[1]) != HASH_BYTES:
        raise SpendgateError("--expect must be a sequence and a hash, as a checkpoint has them: 1204:9f…")
    return expected


def _verify(arguments: argparse.Namespace) -> bool:
    trusted = _trusted(arguments.public_key, arguments.data_dir)
    expected = _expected(arguments.expect)
    reports = []
    with _opened(arguments.target, arguments.data_dir, arguments.account) as (trails, brought):
        for trail in trails:
            # Which keys an export brings along is known when its first event is read.
            report = Verification(trail).run(trusted or brought, expected)
            reports.append(report)
            if not arguments.json:
                _print(report, own=not trusted)
    if arguments.account and not reports:
        raise SpendgateError(f"the archive has no account {arguments.account}")
    if expected is not None and not reports:
        raise SpendgateError("the archive has no events at all, and not the one that --expect names")
    intact = not any(report.findings for report in reports)
    if arguments.json:
        shown = [asdict(report) | {"last_hash": report.last_hash.hex()} for report in reports]
        sys.stdout.write(json.dumps({"intact": intact, "accounts": shown}) + "\n")
    return intact


def _print(report: Report, *, own: bool) -> None:
    lines = [f"account {report.account}: {finding}" for finding in report.findings]
    if not lines:
        lost = f", {report.lost} accepted as lost" if report.lost else ""
        signed = f"{report.checkpoints} checkpoint{'' if report.checkpoints == 1 else 's'}"
        if own and report.checkpoints:
            signed += " by keys that it brings itself: give --public-key to be sure whose they are"
        lines = [
            f"account {report.account}: {report.events} events are complete and unchanged{lost}, up to "
            f"{report.last}:{report.last_hash.hex()}; {signed}"
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    """Verify; the exit code is 1 when something is wrong with the trail, and 2 when it can't be read."""
    try:
        intact = _verify(_arguments())
    except SpendgateError as error:
        sys.stderr.write(f"spendgate: {error.message}\n")
        sys.exit(2)
    sys.exit(0 if intact else 1)


if __name__ == "__main__":
    main()
