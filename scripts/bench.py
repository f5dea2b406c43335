"""The speed and size of this project, measured on this machine in one run, and held against targets.

Figures are medians; ratios are taken of the inline logger's way (formatting each event in Python, inserting it with
SQLAlchemy), of mere writing, and of bare syscalls2, all measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import StepError
from benchmarks.part import Options, Target, say
from benchmarks.registry import PARTS
from capture.segment import SegmentError
from capture.version import VERSION
from lab.store import LabError

EPILOG = """parts:
{parts}
Without --only, those marked * run.

examples:
  scripts/bench                                       a million events, in some minutes
  scripts/bench --events 10000000 --json bench.json   what the targets were set for
  scripts/bench --only mix --events 50000000
  scripts/bench --only memory --events 10000000 --repeats 1     10 and 50 million events
  scripts/bench --only small --events 5000000         100,000 segments of 50 events
  scripts/bench --only sizes --segments segments/     of a capture of your own
  scripts/bench --only sizes-lab                      needs the lab: scripts/lab-panda
  scripts/bench --only record --repeats 3             likewise

Exit status: 0, also where a target was missed; 1 if a part could not be measured; 2 usage.
"""


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parts = "".join(f"  {part.name:12} {'*' if part.usual else ' '} {part.about}\n" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        epilog=EPILOG.format(parts=parts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=[part.name for part in PARTS], action="append", help="a part; repeatable")
    parser.add_argument("--events", type=_positive, default=1_000_000, help="of a generated capture (1000000)")
    parser.add_argument("--repeats", type=_positive, default=5, help="of each measurement; the median counts (5)")
    parser.add_argument("--count", type=_positive, default=10_000, help="loops of the guest's workload (10000)")
    parser.add_argument("--segments", type=Path, action="append", default=[], help="folder with a real capture")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--scratch", type=Path, help="folder for what is generated; some GB for many events")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The command line of scripts/bench."""
    asked = parse(words)
    result: dict[str, Any] = {
        "machine": machine(), "events": asked.events, "repeats": asked.repeats, "parts": {}, "targets": [],
        "failed": {},
    }  # fmt: skip
    targets: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="sysreel-bench-", dir=asked.scratch) as scratch:
        options = Options(asked.events, asked.repeats, asked.count, asked.segments, Path(scratch))
        for part in PARTS:
            if part.name not in asked.only if asked.only else not part.usual:
                continue
            try:
                report = part.run(options)
            except (StepError, LabError, SegmentError, OSError, subprocess.SubprocessError) as error:
                result["failed"][part.name] = str(error)
                say(f"{part.name}: failed: {error}")
                continue
            result["parts"][part.name] = report.figures
            targets += report.targets
            print(f"\n{part.name}: {part.about}")
            show(report.figures)
    result["targets"] = [{**asdict(target), "met": target.met} for target in targets]
    table(targets)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if result["failed"] else 0


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "processors": len(os.sched_getaffinity(0)), "system": platform.platform(),
        "python": platform.python_version(), "polars": pl.__version__, "numpy": np.__version__, "sysreel": VERSION,
    }  # fmt: skip


def show(figures: dict[str, Any], depth: int = 1) -> None:
    """Print figures: a table where all members have the same names, else a line each."""
    for name, value in figures.items():
        if isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values()):
            rows = [one for one in value.values() if not any(isinstance(cell, dict) for cell in one.values())]
            if len(rows) == len(value) and len({tuple(row) for row in rows}) == 1:
                print("  " * depth + f"{name:32}" + "".join(f"{column:>19}" for column in rows[0]))
                for label, row in value.items():
                    cells = "".join(f"{cell:>19,}" for cell in row.values())
                    print("  " * depth + f"{label:32}" + cells)
                continue
        if isinstance(value, dict):
            print("  " * depth + name)
            show(value, depth + 1)
        else:
            shown = f"{value:,}" if isinstance(value, int | float) else str(value)
            print("  " * depth + f"{name:32}{shown:>19}")


def table(targets: Sequence[Target]) -> None:
    """Print the targets, and which were met."""
    if targets:
        print(f"\n{'target':72}{'wanted':>9}{'got':>9}")
    for target in targets:
        wanted = f"{'≤' if target.at_most else '≥'} {target.limit:g}"
        got = "-" if target.got is None else f"{target.got:.3g}"
        note = f" ({target.note})" if target.note else ""
        print(f"{target.text[:71]:72}{wanted:>9}{got:>9}  {'met' if target.met else 'MISSED'}{note}")


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
