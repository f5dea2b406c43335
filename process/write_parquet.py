"""Step six, as Parquet: one part for each batch, and beside them the small tables as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from process.decode import Decoder
from process.fd_history import Sheet
from process.lazy import lazy
from process.output import sync, unwritable
from process.plan import Plan
from process.pool import Failure, Workers
from process.schema import SCHEMA
from process.tables import Files, Tables, frame_of
from process.tally import Tally

PART_GLOB = "part-*.parquet"
ROW_GROUP = 1 << 17
"""Rows of a row group: what a reader can skip by a column's minimum and maximum."""
_LINES = 1 << 16
"""Rows of a small table that are made into text at a time."""
_PIECE = 1 << 20
"""Bytes of text that are copied at a time."""


def write_part(
    plan: Plan, folder: Path, columns: Sequence[str] = tuple(SCHEMA), events: int | None = None
) -> tuple[Tally, Path]:
    """Decode a batch into its part of a dataset, ``events`` at a time.

    Runs in a worker. Polars finds the dictionary of each string column by itself.

    Raises:
        SegmentError: A segment is not what it was when it was surveyed.
        OSError: It cannot be read.
        ProcessError: The part cannot be written.
    """
    decoder = Decoder(plan, columns, events=events)
    path = folder / f"part-{plan.label}.parquet"
    failed: list[Exception] = []

    def frames() -> Any:
        try:
            yield from decoder.frames()
        except Exception as error:  # Polars would wrap it in one of its own, with a traceback as text
            failed.append(error)
            raise

    try:
        made = lazy(lambda *_: frames(), {name: SCHEMA[name] for name in columns})
        group = min(events or ROW_GROUP, ROW_GROUP)
        made.sink_parquet(path, compression="zstd", compression_level=1, row_group_size=group)
        sync(path)
    except Exception as error:
        path.unlink(missing_ok=True)
        if failed:
            raise failed[0] from None
        raise unwritable(path, error) from None
    return decoder.tally, path


def write_tables(folder: Path, tables: Tables, workers: Workers) -> None:
    """Write each small table as NAME.json: a list of objects, one a line.

    Raises:
        OSError: The folder cannot be written.
        ProcessError: A worker failed.
    """
    for name, table in tables.items():
        path = folder / f"{name}.json"
        with path.open("wb") as file:
            between = b"[\n"
            for some in _written(table, folder, workers) if isinstance(table, Files) else _lines(table):
                file.write(between)
                if isinstance(some, Path):
                    with some.open("rb") as made:
                        shutil.copyfileobj(made, file, _PIECE)
                    some.unlink()
                else:
                    file.write(some)
                between = b",\n"
            file.write(b"\n]\n" if between != b"[\n" else b"[]\n")
        sync(path)


def _lines(table: pl.DataFrame) -> Iterator[bytes]:
    """The rows of a table as text, some at a time."""
    for some in table.iter_slices(_LINES):
        if len(some):
            yield some.write_ndjson().rstrip("\n").replace("\n", ",\n").encode()


def _written(table: Files, folder: Path, workers: Workers) -> Iterator[Path]:
    """Likewise of a table in pieces, which workers write."""
    for outcome in workers.anew(partial(_write_sheet, folder=folder), table.sheets):
        if isinstance(outcome.result, Failure):
            yield _write_sheet(outcome.item, folder)
        else:
            yield outcome.result


def _write_sheet(sheet: Sheet, folder: Path) -> Path:
    """Write a piece of the table `fd` as text, without what stands around it."""
    path = folder / f"fd-{sheet.first_id}.part"
    with path.open("wb") as file:
        for number, text in enumerate(_lines(frame_of(sheet))):
            file.write(b",\n" * bool(number) + text)
    return path
