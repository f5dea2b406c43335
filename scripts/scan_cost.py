"""What following processes and descriptors costs, as a share of decoding a generated capture.

Measured in one process, in CPU time. The scan is all that would not be done if nobody asked for names of descriptors
or for names of processes that the kernel did not tell (docs/ARCHITECTURE.md, Descriptors: a scan): its part of the
survey, what is put together of all segments, and in the decoder the lookups of every use of a descriptor. Decoding is
the survey, the plan and the making of all columns of all rows; nothing is written but what the survey keeps.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import synthetic
from process import columns, decode, fd_state, lives, plan, survey
from process.fd_scan import Scanner
from process.pool import Workers
from process.prepare import prepare

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
    ("decode: lookups", decode.Decoder, "_clock"),
)
"""What the scan consists of: a name to show, and the function."""


class Meter:
    """CPU time of the parts; one that another calls counts for that other."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.seconds: dict[str, float] = {}
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
                self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - began
                self._is_open = False

        return timed


def scan_cost(segments: Path) -> dict[str, float]:
    """CPU seconds of each part of the scan, and of all of decoding as ``total``."""
    meter = Meter()
    for part, owner, name in PARTS:
        meter.measure(part, owner, name)
    began = time.process_time()
    prepared = prepare([segments], Workers(1))
    for one in prepared.plans:
        for _ in decode.Decoder(one).frames():
            pass
    return {**meter.seconds, "total": time.process_time() - began}


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
        seconds = scan_cost(options.segments or Path(scratch) / "segments")
    total = seconds.pop("total")
    for part, taken in (*seconds.items(), ("the scan", sum(seconds.values())), ("decoding", total)):
        print(f"{part:<24}{taken:8.2f} s{100 * taken / total:7.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
