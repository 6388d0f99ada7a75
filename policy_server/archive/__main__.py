"""``python -m policy_server.archive``: what is done with an archive or an export without a server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import SecretStr

from policy_server.archive.chain import HASH_BYTES
from policy_server.archive.database import Database
from policy_server.archive.export import Export
from policy_server.archive.signing import KEY_FILE, PublicKey, SigningKey
from policy_server.archive.stored import orphans, own_keys, stored_trails
from policy_server.archive.verify import Known, Report, StoredTrail, verify_trails
from policy_server.core.errors import SpendgateError

_SQLITE = b"SQLite format 3\0"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="spendgate audit verify")
    parser.add_argument("target", nargs="?", default="", metavar="TARGET")
    parser.add_argument("--account", default="")
    parser.add_argument("--public-key", action="append", type=Path, default=[], metavar="FILE")
    parser.add_argument("--expect", default="", metavar="SEQUENCE:HASH")
    parser.add_argument("--after", default="0", metavar="SEQUENCE[:HASH]")
    parser.add_argument("--data-dir", type=Path, default=Path(".spendgate"))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@dataclass(frozen=True)
class _Opened:
    """An archive or an export."""

    trails: Iterator[StoredTrail]
    keys: Mapping[str, PublicKey]
    """The keys that it brings along; those of an export are known when its first event is read."""
    findings: Sequence[str] = ()
    """What is wrong with it beside its trails."""


@contextmanager
def _opened(target: str, data_dir: Path, account: str) -> Iterator[_Opened]:
    path = Path(target) if target and "://" not in target else None
    if path is not None and not path.is_file():
        raise SpendgateError(f"there is no file {path}")
    if path is not None and path.open("rb").read(len(_SQLITE)) != _SQLITE:
        with path.open("rb") as file:
            export = Export(file)
            if account not in {"", export.trail.account}:
                raise SpendgateError(f"the export is of the account {export.trail.account}, not of {account}")
            yield _Opened(iter([export.trail]), export.keys)
        return
    url = f"sqlite:///{path.absolute()}" if path else target or os.environ.get("SPENDGATE_ARCHIVE_URL", "")
    database = Database(SecretStr(url) if url else None, data_dir, read_only=True)
    if database.is_sqlite and not database.path.exists():
        raise SpendgateError(f"there is no archive {database.path}; name a file, or give --data-dir")
    try:
        with stored_trails(database, account) as trails:
            yield _Opened(trails, own_keys(database), orphans(database))
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


def _known(arguments: argparse.Namespace) -> Known:
    after, _, after_hash = arguments.after.partition(":")
    try:
        sequence = int(after)
    except ValueError:
        sequence = -1
    if sequence < 0:
        raise SpendgateError("--after must be a sequence, or a sequence and its hash: 1204 or 1204:9f…")
    return Known(
        after=sequence,
        after_hash=_hash("--after", after_hash) if after_hash else None,
        expected=_expected(arguments.expect),
    )


def _expected(text: str) -> tuple[int, bytes] | None:
    if not text:
        return None
    sequence, _, hash_hex = text.partition(":")
    try:
        return int(sequence), _hash("--expect", hash_hex)
    except ValueError:
        raise _not_a_point("--expect") from None


def _hash(option: str, text: str) -> bytes:
    try:
        hash_ = bytes.fromhex(text)
    except ValueError:
        hash_ = b""
    if len(hash_) != HASH_BYTES:
        raise _not_a_point(option)
    return hash_


def _not_a_point(option: str) -> SpendgateError:
    return SpendgateError(f"{option} must be a sequence and a hash, as a checkpoint has them: 1204:9f…")


def _verify(arguments: argparse.Namespace) -> bool:
    known = _known(arguments)
    trusted = _trusted(arguments.public_key, arguments.data_dir)
    with _opened(arguments.target, arguments.data_dir, arguments.account) as opened:
        reports = verify_trails(opened.trails, trusted or opened.keys, known)
        findings = list(opened.findings)
    if not reports:
        findings.append(
            f"there is no trail of the account {arguments.account}"
            if arguments.account
            else "there is no trail at all: nothing was archived yet, or all were removed"
        )
    intact = not findings and not any(report.findings for report in reports)
    if arguments.json:
        shown = [asdict(report) | {"last_hash": report.last_hash.hex()} for report in reports]
        sys.stdout.write(json.dumps({"intact": intact, "findings": findings, "accounts": shown}) + "\n")
        return intact
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    for report in reports:
        sys.stdout.writelines(f"account {report.account}: {finding}\n" for finding in report.findings)
        if not report.findings:
            sys.stdout.write(f"account {report.account}: {_summary(report, own=not trusted)}\n")
    return intact


def _summary(report: Report, *, own: bool) -> str:
    """Return what was verified, in one line; ``own`` when by the keys that the trail brings."""
    after = f" after event {report.after}" if report.after else ""
    lost = f", {report.lost} accepted as lost" if report.lost else ""
    signed = f"{report.checkpoints} checkpoint{'' if report.checkpoints == 1 else 's'}"
    if own and report.checkpoints:
        signed += " by keys that it brings itself: give --public-key to be sure whose they are"
    if not report.begins_with_known_hash:
        signed += f"; nothing vouches for what it goes on from: give --after {report.after}:HASH to be sure"
    return (
        f"{report.events} events{after} are complete and unchanged{lost}, up to "
        f"{report.last}:{report.last_hash.hex()}; {signed}"
    )


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
