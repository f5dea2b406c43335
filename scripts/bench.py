"""The speed figures, measured on this machine in one run and given as ratios.

decode: a generated capture (scripts/synthetic.py) to Parquet and SQLite by the ``process`` command, start-up included,
against formatting the same events one by one in Python with SQLAlchemy inserts: the inline logger's way.
record: a guest's run with ``capture`` against the same run with bare syscalls2 (needs the lab: scripts/lab-guest).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import synthetic
from inline_logger import log_inline

EPILOG = """examples:
  scripts/bench                       both parts, five repeats
  scripts/bench --only decode --events 10000000 --json bench.json
  scripts/bench --only record --repeats 3
"""


def measured(repeats: int, *steps: Callable[[], object]) -> list[float]:
    """Median wall seconds of each step; the steps take turns, so that a slow minute hits all alike."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for kept, step in zip(seconds, steps, strict=True):
            began = time.perf_counter()
            step()
            kept.append(time.perf_counter() - began)
    return [statistics.median(kept) for kept in seconds]


def tool(name: str) -> str:
    """A console script of this environment."""
    return str(Path(sys.executable).parent / name)


def process(segments: Path, output: Path, jobs: int) -> None:
    """Run the command; one thread a process, so that ``-j 1`` is a figure per core."""
    command = [tool("process"), f"{segments}/", "-j", str(jobs), "-o", str(output), "--force", "--quiet"]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def bench_decode(events: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Rates of every way to decode one capture."""
    segments = folder / "segments"
    synthetic.generate(segments, events)
    inline_events = min(events, 100_000)
    few = folder / "few"
    synthetic.generate(few, inline_events)
    names = ["parquet -j 1", "parquet -j 2", "sqlite -j 1", "sqlite -j 2", "inline"]
    seconds = measured(
        repeats,
        lambda: process(segments, folder / "a.parquet", 1),
        lambda: process(segments, folder / "b.parquet", 2),
        lambda: process(segments, folder / "a.sqlite", 1),
        lambda: process(segments, folder / "b.sqlite", 2),
        lambda: log_inline(few, folder / "inline.sqlite"),
    )
    rates = {
        name: (inline_events if name == "inline" else events) / taken
        for name, taken in zip(names, seconds, strict=True)
    }
    size = sum(path.stat().st_size for path in segments.iterdir())
    return {
        "events": events,
        "bytes_per_event": size / events,
        "events_per_second": {name: round(rate) for name, rate in rates.items()},
        "times_inline": {name: round(rate / rates["inline"], 1) for name, rate in rates.items()},
    }


def bench_record(count: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Wall time of one guest run: bare, under bare syscalls2, and captured."""
    from lab import boot, panda
    from lab.guest import guest

    panda.prepare("x86_64")
    job = guest("x86_64", "bench", f"count={count}")
    ports = [folder / "console", folder / "port2"]
    environment = {**os.environ, **panda.environment("x86_64")}

    def capture() -> None:
        shutil.rmtree(folder / "captured", ignore_errors=True)
        command = [
            tool("capture"),
            "-o",
            str(folder / "captured"),
            "--kernel",
            str(job.kernel),
            "--append",
            job.append,
        ]
        command += ["--initrd", str(job.initrd), "--serial", str(ports[0]), "--serial", str(ports[1])]
        subprocess.run(command, check=True, env=environment, capture_output=True)

    plain, bare, captured = measured(
        repeats,
        lambda: boot.boot(job, ports),
        lambda: boot.boot(job, ports, syscalls2=True),
        capture,
    )
    return {
        "seconds": {"plain": round(plain, 2), "syscalls2": round(bare, 2), "capture": round(captured, 2)},
        "times_syscalls2": round(captured / bare, 3),
        "times_plain": round(captured / plain, 3),
    }


def main(words: Sequence[str] | None = None) -> int:
    """The command line of scripts/bench."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["decode", "record"], help="one part alone")
    parser.add_argument("--events", type=int, default=2_000_000, help="of the generated capture (2,000,000)")
    parser.add_argument("--count", type=int, default=20_000, help="loops of the guest's workload (20,000)")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement; the median counts (5)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(words)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sysreel-bench-") as scratch:
        if options.only != "record":
            result["decode"] = bench_decode(options.events, options.repeats, Path(scratch))
        if options.only != "decode":
            result["record"] = bench_record(options.count, options.repeats, Path(scratch))
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
