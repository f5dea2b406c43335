"""What is in segments or in an output, gathered for people."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from process.decode import Decoder
from process.errors import ProcessError
from process.plan import Plan
from process.pool import Workers
from process.prepare import prepare
from process.rerun import succeeded
from process.schema import PROCESS_COLUMNS, SEGMENT_COLUMNS, STATS_COLUMNS
from process.tables import Table, account, tables
from process.tally import Tally
from process.write_parquet import PART_GLOB
from process.write_sqlite import TABLE

Row = dict[str, Any]
_SQLITE_MAGIC = b"SQLite format 3\0"
_TABLES = {"process": PROCESS_COLUMNS, "segment": SEGMENT_COLUMNS, "stats": STATS_COLUMNS}


@dataclass(frozen=True)
class Overview:
    """The small tables of an output, or those that an output of some segments would have.

    Attributes:
        rows: Syscalls.
        span: Unix time of the first and the last, ns; None without any.
        process: Rows of the table of that name, as `segment` and `stats`.
    """

    rows: int
    span: tuple[int, int] | None
    process: list[Row]
    segment: list[Row]
    stats: list[Row]


def overview(paths: Sequence[Path], jobs: int) -> Overview:
    """Look at one output, or at segments.

    Raises:
        ProcessError: It is neither, or cannot be read.
    """
    if len(paths) == 1 and is_sqlite(paths[0]):
        return _of_sqlite(paths[0])
    if len(paths) == 1 and is_dataset(paths[0]):
        return _of_dataset(paths[0])
    return _of_segments(paths, jobs)


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError:
        return False


def is_dataset(path: Path) -> bool:
    """Whether a folder is a Parquet output."""
    return path.is_dir() and (path / "stats.json").is_file() and any(path.glob(PART_GLOB))


def _of_sqlite(path: Path) -> Overview:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            found = {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in _TABLES}
            (count,) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
            has_times = any(row["name"] == "time_ns" for row in connection.execute(f"PRAGMA table_info({TABLE})"))
            times = f"SELECT min(time_ns), max(time_ns) FROM {TABLE}"
            span: tuple[Any, Any] = connection.execute(times).fetchone() if has_times else (None, None)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ProcessError(f"{path}: not an output of process: {error}") from None
    return Overview(count, None if span[0] is None else span, **found)


def _of_dataset(path: Path) -> Overview:
    try:
        found = {name: json.loads((path / f"{name}.json").read_text("utf-8")) for name in _TABLES}
        rows = pl.scan_parquet(path / PART_GLOB)
        has_times = "time_ns" in rows.collect_schema().names()
        time = pl.col("time_ns") if has_times else pl.lit(None)
        count, first, last = rows.select(pl.len(), first=time.min(), last=time.max()).collect().row(0)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ProcessError(f"{path}: not an output of process: {' '.join(str(error).split())}") from None
    return Overview(count, None if first is None else (first, last), **found)


def _of_segments(paths: Sequence[Path], jobs: int) -> Overview:
    """Decode segments without writing anything."""
    with Workers(jobs) as workers:
        prepared = prepare(paths, workers)
        decoded = sorted(succeeded(_count, prepared, workers), key=lambda one: one[0].first_id)
    account(decoded, prepared.ledger)
    made = tables(prepared, decoded, None)
    found = {
        name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for name, table in made.items()
        if isinstance(table, Table)
    }
    spans = [survey.span for survey in prepared.surveys if survey.span]
    span = (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None
    return Overview(sum(tally.rows for _, tally in decoded), span, **found)


def _count(plan: Plan) -> Tally:
    """Decode a batch for its tally alone. Runs in a worker."""
    decoder = Decoder(plan)
    deque(decoder.columns(), maxlen=0)
    return decoder.tally
