"""Bytes of an event in segments, by what they are spent on, and of a row in the outputs."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.measure import run, tool
from benchmarks.part import Options, Part, Report, Target, say
from benchmarks.rates import size
from benchmarks.record import capturing
from capture.reader import read_segment
from capture.segment import BLOCK_HEADER_SIZE, BlockType, SegmentError
from lab import panda
from lab.guest import guest
from process.write_parquet import PART_GLOB
from process.write_sqlite import TABLE

RECORDED = Path(__file__).resolve().parents[2] / "tests" / "data" / "recorded"
SEGMENT, PARQUET, SQLITE = 14, (20, 28), (130, 175)
"""Targets: bytes of an event; of a row with the old logger's columns, and with all."""
OLD_COLUMNS = (
    "id", "name", "procname", "proc_id", "retno", "retno_repr",
    *(f"arg{k}" for k in range(6)), *(f"arg{k}_repr" for k in range(6)),
)  # fmt: skip
ARCH = "x86_64"
GUESTS = {
    "demo": ("demo", "rounds=10"),
    "demo, no buffers": ("demo", "rounds=10", "--buffers", "0"),
    "busy": ("busy", "", "--timeout", "30"),
    "bench": ("bench", "count=10000"),
}
"""Workloads of the lab, what they are told, and options of capture."""
_MANY = 50_000
"""Rows from which on a database's own pages and a dataset's small tables are little beside the rest."""


def segments(folder: Path) -> dict[str, Any]:
    """Bytes of an event in a folder's segments, headers included, by type of block."""
    stored: Counter[str] = Counter()
    events = total = 0
    for path in sorted(folder.glob("*.seg")):
        try:
            segment = read_segment(path)
        except SegmentError:
            continue
        total += segment.size
        for block in segment.blocks:
            stored[BlockType(block.type).name] += BLOCK_HEADER_SIZE + len(block.stored)
            events += block.count * (block.type == BlockType.EVENTS)
    stored["OTHERS"] = total - sum(stored.values())
    if not events:
        raise SegmentError(f"{folder}: no events in sealed segments")
    blocks = {name: round(count / events, 2) for name, count in stored.most_common()}
    return {"events": events, "all": round(total / events, 2), "blocks": blocks}


def outputs(folder: Path, scratch: Path) -> dict[str, Any]:
    """Bytes of a row in the outputs: with all columns, and with the old logger's alone; and small tables besides."""
    found: dict[str, dict[str, int]] = {}
    for kind, measured in (("parquet", _parts), ("sqlite", _table)):
        whole, few = (scratch / f"{name}.{kind}" for name in ("whole", "few"))
        command = [tool("process"), f"{folder}/", "--force", "--quiet"]
        run([*command, "-o", whole])
        run([*command, "-o", few, "--columns", ",".join(OLD_COLUMNS)])
        rows = {"old_columns": measured(few), "all": measured(whole)}
        found[kind] = {**rows, "small_tables": size(whole) - rows["all"]}
    count = int(pl.scan_parquet(scratch / "whole.parquet" / PART_GLOB).select(pl.len()).collect().item())
    per_row = {kind: {name: round(total / count, 1) for name, total in one.items()} for kind, one in found.items()}
    return {"rows": count, **per_row}


def _parts(dataset: Path) -> int:
    """Bytes of a dataset without its small tables."""
    return sum(part.stat().st_size for part in dataset.glob(PART_GLOB))


def _table(database: Path) -> int:
    """Bytes of a database with nothing but the wide table, its rows as they are stored."""
    alone = database.with_suffix(".alone")
    alone.unlink(missing_ok=True)
    with closing(sqlite3.connect(alone, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("ATTACH ? AS whole", [str(database)])
        query = f"SELECT sql FROM whole.sqlite_master WHERE name = '{TABLE}'"
        connection.execute(connection.execute(query).fetchone()[0])
        connection.execute(f"INSERT INTO {TABLE} SELECT * FROM whole.{TABLE}")
    return alone.stat().st_size


def _sizes(options: Options) -> Report:
    """Every real capture, and a generated one."""
    real = {str(folder): folder for folder in options.segments} or {"recorded": RECORDED}
    return _report(real, {"generated": options.capture(options.events)}, options)


def _lab_sizes(options: Options) -> Report:
    """Captures of the lab's guests, made now."""
    panda.prepare(ARCH)
    real, environment = {}, {**os.environ, **panda.environment(ARCH)}
    for name, (workload, append, *more) in GUESTS.items():
        job, output = guest(ARCH, workload, append), options.scratch / name.replace(", ", "-")
        say(f"capturing {name}")
        run([*capturing(job, options.scratch / "console", output), *more], environment)
        real[name] = output
    return _report(real, {}, options)


def _report(real: dict[str, Path], others: dict[str, Path], options: Options) -> Report:
    """Figures of all, and what is wanted of real captures."""
    figures: dict[str, Any] = {}
    targets = []
    for name, folder in {**real, **others}.items():
        figures[name] = {"segments": segments(folder), "outputs": outputs(folder, options.scratch)}
        if name in real:
            few = "" if figures[name]["outputs"]["rows"] >= _MANY else f"set for {_MANY:,} events and more: --segments"
            targets.append(Target(f"{name}: bytes of an event", SEGMENT, figures[name]["segments"]["all"], True, few))
            for kind, limits in (("parquet", PARQUET), ("sqlite", SQLITE)):
                for columns, limit in zip(("old_columns", "all"), limits, strict=True):
                    got = figures[name]["outputs"][kind][columns]
                    text = f"{name}: bytes of a row in {kind}, {columns.replace('_', ' ')}"
                    targets.append(Target(text, limit, got, True, few))
    return Report(figures, targets)


PARTS = (
    Part("sizes", "bytes of an event and of a row, of real captures (--segments) and of a generated one", _sizes),
    Part("sizes-lab", "the same of captures of the lab's guests, made now", _lab_sizes, usual=False),
)
