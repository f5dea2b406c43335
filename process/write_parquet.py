"""Step six, as Parquet: one part for each batch, and beside them the small tables as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from process.decode import Decoder
from process.lazy import lazy
from process.output import sync, unwritable
from process.plan import Plan
from process.schema import SCHEMA
from process.tally import Tally

PART_GLOB = "part-*.parquet"
ROW_GROUP = 1 << 17
"""Rows of a row group: what a reader can skip by a column's minimum and maximum."""
_LINES = 1 << 16
"""Rows of a small table that are made into text at a time."""


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


def write_tables(folder: Path, tables: dict[str, pl.DataFrame]) -> None:
    """Write each small table as NAME.json: a list of objects, one a line.

    Raises:
        OSError: The folder cannot be written.
    """
    for name, table in tables.items():
        path = folder / f"{name}.json"
        with path.open("w", encoding="utf-8") as file:
            between = "[\n"
            for some in table.iter_slices(_LINES):
                file.write(between + some.write_ndjson().rstrip("\n").replace("\n", ",\n"))
                between = ",\n"
            file.write("\n]\n" if len(table) else "[]\n")
        sync(path)
