"""Others at the same work: babeltrace2 on an equivalent trace, DuckDB formatting and writing the same columns."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import ctf
from benchmarks.measure import Cost, run, take_turns, task
from benchmarks.part import Options, Part, Report, say
from benchmarks.rates import process, rates
from lab import debian, store
from lab.store import LabError

MOST = 1_000_000
"""Events of the trace at the most."""


def _peers(options: Options) -> Report:
    events = min(options.events, MOST)
    segments, scratch = options.capture(events), options.scratch
    absent: dict[str, str] = {}
    steps = {f"parquet -j {jobs}": partial(process, segments, scratch / f"{jobs}.parquet", jobs) for jobs in (1, 2)}
    kept = scratch / "peers.arrow"
    task("keep", segments, kept)
    frame = _with_paths(pl.read_ipc(kept))
    try:
        trace = scratch / "ctf"
        if not trace.exists():
            ctf.write(frame, trace)
        babeltrace = _babeltrace()
        steps["babeltrace2, text"] = partial(run, [babeltrace, trace])
        steps["babeltrace2, no output"] = partial(run, [babeltrace, trace, "--component=sink.utils.dummy"])
    except LabError as error:
        absent["babeltrace2"] = str(error)
    raw = scratch / "raw.parquet"
    frame.select(RAW).write_parquet(raw, compression="uncompressed")
    for threads in (1, 2):
        steps[f"duckdb, {threads} threads"] = partial(_format, raw, scratch / "duckdb.parquet", threads)
    for name, reason in absent.items():
        say(f"{name}: not measured: {reason}")
    costs = take_turns(options.repeats, steps)
    found = rates(costs, dict.fromkeys(costs, events))
    base = found["parquet -j 1"]["events_per_second"]
    figures: dict[str, Any] = {"events": events, "absent": absent, "steps": found}
    for one in found.values():
        one["times_ours_at_j1"] = round(one["events_per_second"] / base, 2)
    return Report(figures)


RAW = (*ctf.COLUMNS, "id", "procname", "mark")
"""What DuckDB is given: registers and numbers as they are, names and paths already found."""


def _with_paths(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with the path of each row as a column, out of its reprs."""
    paths = [pl.col(f"arg{k}_repr").str.extract(r'\("(.*)"\)$') for k in (0, 1)]
    return frame.with_columns(path=pl.coalesce(paths), procname=pl.col("procname").cast(pl.String))


def _format(raw: Path, output: Path, threads: int) -> Cost:
    """DuckDB makes the texts and writes Parquet; measured from outside, as the command is."""
    script = Path(__file__).with_name("duckdb_format.py")
    root = str(store.ROOT)
    return run([sys.executable, script, raw, output, str(threads)], {"PYTHONPATH": f"{root}/scripts:{root}"})


def _babeltrace() -> str:
    """The program; Debian's package is installed if it is missing.

    Raises:
        LabError: It cannot be had.
    """
    if shutil.which("babeltrace2") is None:
        debian.install([("babeltrace2",)])
    found = shutil.which("babeltrace2")
    if found is None:
        raise LabError("apt knows no package babeltrace2")
    return found


PART = Part("peers", "babeltrace2 and DuckDB at the same work, if they can be had", _peers, usual=False)
