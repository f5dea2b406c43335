"""The rows of segments or of an output, a frame at a time, for commands that read them through once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from process.decode import Decoder
from process.errors import ProcessError
from process.frames import frames, size
from process.ledger import Ledger
from process.overview import is_dataset, is_sqlite
from process.plan import Plan
from process.pool import Workers
from process.predicates import Conditions
from process.prepare import Prepared, prepare
from process.schema import SCHEMA, Kind
from process.selection import Selection
from process.side_by_side import side_by_side
from process.write_parquet import PART_GLOB, ROW_GROUP
from process.write_sqlite import TABLE

_BATCH = 1 << 14
"""Rows read from SQLite at a time."""


@dataclass(frozen=True)
class Source:
    """Where rows come from: an SQLite output, a Parquet output, or segments.

    Attributes:
        path: The output; None for segments.
        prepared: The segments; None for an output.
        first_ns: Unix time of the first entry, 0 without any.
        ledger: What is known to be missing or damaged; of an output, nothing.
    """

    path: Path | None
    prepared: Prepared | None
    first_ns: int
    ledger: Ledger

    def frames(self, selection: Selection, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The rows that are selected, in their order.

        Raises:
            ProcessError: The output cannot be read.
            SegmentError: A segment changed since it was surveyed.
        """
        if self.prepared is not None:
            conditions = Conditions(selection.expression())

            def of(plan: Plan) -> Iterator[pl.DataFrame]:
                return frames(Decoder(plan, columns, conditions))

            for frame in side_by_side(of, self.prepared.plans, size):
                yield frame.select(columns)
        elif self.path is not None and self.path.is_dir():
            yield from _of_dataset(self.path, selection, columns)
        elif self.path is not None:
            yield from _of_sqlite(self.path, selection, columns)


def open_rows(paths: Sequence[Path], jobs: int) -> Source:
    """Find out what ``paths`` are.

    Args:
        paths: Segments and folders of them, or one output.
        jobs: Worker processes for the survey of segments.

    Raises:
        ProcessError: Nothing in them can be read.
    """
    path = paths[0]
    if len(paths) == 1 and is_sqlite(path):
        first = next(_query(path, f"SELECT min(time_ns) FROM {TABLE}", [], ["time_ns"]))["time_ns"][0]
        return Source(path, None, first or 0, Ledger())
    if len(paths) == 1 and is_dataset(path):
        with _polars_errors(path):
            first = pl.scan_parquet(path / PART_GLOB).select(pl.col("time_ns").min()).collect().item()
        return Source(path, None, first or 0, Ledger())
    with Workers(jobs) as workers:
        prepared = prepare(paths, workers)
    spans = [survey.span[0] for survey in prepared.surveys if survey.span]
    return Source(None, prepared, min(spans, default=0), prepared.ledger)


def _of_dataset(path: Path, selection: Selection, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Row group by row group: those whose statistics exclude them are not read."""
    with _polars_errors(path):
        for part in sorted(path.glob(PART_GLOB)):
            rows = pl.scan_parquet(part)
            for start in range(0, rows.select(pl.len()).collect().item(), ROW_GROUP):
                yield rows.slice(start, ROW_GROUP).filter(selection.expression()).select(columns).collect()


def _of_sqlite(path: Path, selection: Selection, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    where, values = selection.where()
    return _query(path, f"SELECT {', '.join(columns)} FROM {TABLE} WHERE {where} ORDER BY id", values, columns)


def _query(path: Path, sql: str, values: list[int | str], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    schema = {name: pl.Int64 if SCHEMA[name] is Kind.INTEGER else pl.String for name in columns}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(sql, values)
            while rows := cursor.fetchmany(_BATCH):
                yield pl.DataFrame(rows, schema=schema, orient="row")
    except (sqlite3.Error, pl.exceptions.PolarsError, TypeError) as error:
        raise _not_an_output(path, error) from None


@contextmanager
def _polars_errors(path: Path) -> Iterator[None]:
    """Turn what Polars says of a damaged dataset into one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _not_an_output(path, error) from None


def _not_an_output(path: Path, error: Exception) -> ProcessError:
    text = " ".join(str(error).split())
    missing = re.match(r"(?:no such column: |unable to find column )\"?(\w+)", text)
    if missing:
        return ProcessError(f"{path}: has no column {missing[1]}: decode again without --columns and --no-repr")
    return ProcessError(f"{path}: not an output of process: {text}")
