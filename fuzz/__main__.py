"""Runs every target for a while, and says what failed: ``python -m fuzz --seconds 60``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from fuzz.seeds import SEEDS

_FOLDER = Path(".fuzz")


def run(target: str, seconds: int) -> bool:
    """Run one target on what earlier runs have found; tell whether it found no failure."""
    corpus = _FOLDER / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=5", "-rss_limit_mb=1024"]
    options += ["-print_final_stats=1", f"-artifact_prefix={_FOLDER}/{target}-"]
    argv = [sys.executable, "-m", "fuzz.targets", target, *options, str(corpus)]
    with (_FOLDER / f"{target}.log").open("wb") as log:
        failed = subprocess.run(argv, check=False, stdout=log, stderr=log).returncode != 0
    text = Path(log.name).read_text(errors="replace").strip().split("\n")
    if failed:
        print(*text[-40:], sep="\n")
    done = next((line.split()[-1] for line in text if "number_of_executed_units" in line), "?")
    print(
        f"{target}: {'FAILED' if failed else 'nothing found'}, {done} inputs, log in {log.name}", flush=True
    )
    return not failed


def main() -> None:
    """Run the targets that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(SEEDS)}; all by default")
    options = parser.parse_args()
    results = [run(target, options.seconds) for target in options.targets or SEEDS]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
