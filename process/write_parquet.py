"""Step six, as Parquet: one part for each batch, and beside them the small tables as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from process.decode import Decoder
from process.lazy import lazy
from process.output import sync, unwritable
from process.plan import Plan
from process.schema import SCHEMA
from process.tables import Tables
from process.tally import Tally

_VALUES = json.JSONEncoder(ensure_ascii=False)
PART_GLOB = "part-*.parquet"
ROW_GROUP = 1 << 17
"""Rows of a row group: what a reader can skip by a column's minimum and maximum."""


def write_part(plan: Plan, folder: Path, columns: Sequence[str] = tuple(SCHEMA), events: int | None = None) -> Tally:
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
    return decoder.tally


def write_tables(folder: Path, tables: Tables) -> None:
    """Write each small table as NAME.json: a list of objects, a value on each line.

    Raises:
        OSError: The folder cannot be written.
    """
    for name, (columns, rows) in tables.items():
        path = folder / f"{name}.json"
        heads = [f"  {json.dumps(column)}: " for column in columns]
        empty, between, end = "[]\n", "[\n", ",\n"
        with path.open("w", encoding="utf-8") as file:  # row by row: `fd` may have millions
            for row in rows:
                values = end.join(head + _VALUES.encode(value) for head, value in zip(heads, row, strict=True))
                file.write(f"{between} {{\n{values}\n }}")
                between, empty = end, "\n]\n"
            file.write(empty)
        sync(path)
