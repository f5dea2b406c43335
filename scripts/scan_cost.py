"""What following processes and descriptors costs, as a share of decoding a generated capture to Parquet.

Measured in one process, in CPU time, over the whole of `process SEGMENTS -f parquet`: survey, plan, decode, writing.
Two shares (docs/ARCHITECTURE.md, Descriptors: a scan). *The state scan* is what must be done before segments can be
decoded in parallel: each is reduced to its net effect on state, and these effects are composed in order. *With lookups
and tables* is all that would not be done if nobody asked for names of descriptors, or for names of processes that the
kernel did not tell: the scan, in the decoder a segment's own changes and the lookup of every use, and the table `fd`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import synthetic
from process import columns, decode, fd_state, lives, plan, survey, tables
from process.fd_scan import Scanner
from process.output import Format
from process.pipeline import decode as run

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("survey: descriptors", Scanner, "__init__"),
    ("survey: descriptors", Scanner, "add"),
    ("survey: net effect", survey, "_effect"),
    ("survey: processes", lives.Lives, "add"),
    ("survey: processes", lives.Lives, "steps"),
    ("plan: descriptors", fd_state, "crosses"),
    ("plan: descriptors", fd_state, "unpruned"),
    ("plan: descriptors", fd_state, "compose"),
    ("plan: processes", plan, "states"),
    ("decode: changes", columns.Segment, "descriptors"),
    ("decode: lookups", columns.Rows, "_files"),
    ("table: fd", decode, "make"),
    ("table: fd", tables, "_files"),
)
"""What following state consists of: a name to show, and the function; those of survey and plan are the scan."""


class Meter:
    """CPU time of the parts; one that another calls counts for that other."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.seconds = dict.fromkeys((part for part, _, _ in PARTS), 0.0)
        self._is_open = False

    def measure(self, part: str, owner: Any, name: str) -> None:
        """Count a function's time from now on."""
        found = vars(owner)[name]
        if isinstance(found, cached_property):
            made: Any = cached_property(self._timed(part, found.func))
            made.__set_name__(owner, name)
        else:
            made = self._timed(part, found)
        setattr(owner, name, made)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*values: Any, **named: Any) -> Any:
            if self._is_open:
                return function(*values, **named)
            self._is_open, began = True, time.process_time()
            try:
                return function(*values, **named)
            finally:
                self.seconds[part] += time.process_time() - began
                self._is_open = False

        return timed


def scan_cost(segments: Path, out: Path) -> dict[str, float]:
    """CPU seconds of each part, and of the whole run as ``total``.

    Args:
        segments: The capture.
        out: The output to make.
    """
    meter = Meter()
    for part, owner, name in PARTS:
        meter.measure(part, owner, name)
    began = time.process_time()
    run([segments], out, Format.PARQUET)
    return {**meter.seconds, "total": time.process_time() - began}


def is_scan(part: str) -> bool:
    """Whether it is done before segments can be decoded in parallel."""
    return part.startswith(("survey", "plan"))


def shown(seconds: dict[str, float]) -> Iterable[tuple[str, float, float]]:
    """Lines: a name, its seconds, and their share of the run."""
    parts = {part: taken for part, taken in seconds.items() if part != "total"}
    sums = {
        "the state scan": sum(taken for part, taken in parts.items() if is_scan(part)),
        "with lookups and tables": sum(parts.values()),
        "the whole run": seconds["total"],
    }
    return [(name, taken, taken / seconds["total"]) for name, taken in {**parts, **sums}.items()]


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scan_cost.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="of the generated capture (1,000,000)")
    parser.add_argument("--segments", type=Path, help="measure with this capture instead")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="sysreel-scan-") as scratch:
        if options.segments is None:
            synthetic.generate(Path(scratch) / "segments", options.events)
        seconds = scan_cost(options.segments or Path(scratch) / "segments", Path(scratch) / "run.parquet")
    for name, taken, share in shown(seconds):
        print(f"{name:<26}{taken:8.2f} s{100 * share:7.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
