"""Captures of extreme shape: segments of a few events without number, with `ulimit -n 64`; or one huge segment.

Both are made by the real recorder, and decoded by two workers as a user does. Every event must be a row, once, and
nothing be told as lost. The limit of the huge one is an eighth of what its events are as recorded, 96 bytes each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import synthetic
from capture.chunk import Room

ROOT = Path(__file__).resolve().parent.parent
EACH, FILES, EVENT = 5, 64, 96
"""Events of a tiny segment; files that a process may have open; bytes of an event."""
TINY = Room(events=EACH, strings=64, string_bytes=1 << 20, sets=64, tasks=64, marks=64, files=64)
_CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
from process.cli import main
from process.memory import peak
try: main()
finally:
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("peak", max(peak() >> 20, children >> 10))
"""


@dataclass(frozen=True)
class Decoded:
    """What came of a capture.

    Attributes:
        status: Exit status.
        text: What was said to stderr.
        peak: MiB that the largest of its processes had resident.
        missing: Events that are no row, or that are several.
    """

    status: int
    text: str
    peak: int
    missing: int


def decode(folder: Path, out: Path, events: int, *options: str, files: int = 1024) -> Decoded:
    """Decode a capture.

    Args:
        folder: Of its segments.
        out: The dataset.
        events: That it has.
        options: Of the command.
        files: That a process may have open.
    """
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(files=files), folder, "-o", out, "-j", "2", *options],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    peak = int(done.stdout.rpartition("peak ")[2] or -1)
    if not out.exists():
        return Decoded(done.returncode, done.stderr, peak, events)
    rows = pl.scan_parquet(out / "part-*.parquet").select("seq")
    found = rows.select(rows=pl.len(), distinct=pl.col("seq").n_unique(), last=pl.col("seq").max()).collect()
    count, distinct, last = found.row(0)
    wrong = max(abs(events - count), events - distinct, abs(events - 1 - (last or 0)))
    return Decoded(done.returncode, done.stderr, peak, wrong)


def tiny(folder: Path, segments: int) -> bool:
    """Many tiny segments; whether all is well."""
    events = segments * EACH
    synthetic.generate(folder / "caps", events, processes=2, paths=50, segment_size=1, room=TINY)
    found = decode(folder / "caps", folder / "tiny.parquet", events, files=FILES)
    print(f"segments: {len(list((folder / 'caps').glob('*.seg')))}")
    print(f"events: {events}")
    print(f"status with ulimit -n {FILES}: {found.status}")
    print(f"events missing or twice: {found.missing}")
    print(f"peak RSS of a process, MiB: {found.peak}")
    return _is_well(found)


def huge(folder: Path, events: int) -> bool:
    """One huge segment; whether all is well."""
    synthetic.generate(folder / "caps", events, segment_size=1 << 40)
    (path,) = (folder / "caps").glob("*.seg")
    print(f"events: {events}")
    print(f"recorded, MiB: {events * EVENT >> 20}")
    print(f"file, MiB: {path.stat().st_size >> 20}")
    well, limit = True, max(events * EVENT >> 23, 300)
    for name, options in (("", ()), (f" with --max-memory {limit}M", ("--max-memory", f"{limit}M"))):
        found = decode(folder / "caps", folder / "huge.parquet", events, "--force", *options)
        print(f"status{name}: {found.status}")
        print(f"events missing or twice{name}: {found.missing}")
        print(f"peak RSS of a process, MiB{name}: {found.peak}")
        if options:
            print(f"said that the limit is not kept: {int('not kept' in found.text)}")
        well = _is_well(found) and well
    return well


def _is_well(found: Decoded) -> bool:
    if found.status or found.missing:
        print(found.text, file=sys.stderr)
    return found.status == 0 and found.missing == 0


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if every event is a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="examples: scripts/extremes.py --tiny 100000; scripts/extremes.py --huge 12000000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--tiny", type=int, metavar="SEGMENTS", help=f"segments of {EACH} events")
    shape.add_argument("--huge", type=int, metavar="EVENTS", help="of one segment")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="sysreel-extremes-") as folder:
        well = tiny(Path(folder), options.tiny) if options.tiny else huge(Path(folder), options.huge)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
