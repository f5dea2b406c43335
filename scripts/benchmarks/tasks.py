"""Steps that need a process of their own: `python -m benchmarks.tasks NAME WORDS`. Each prints the seconds it took.

What a step needs first, such as the frame that it writes, is read before its time begins. How many threads Polars
has is in the environment, since it reads that when it is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import adbc_driver_sqlite.dbapi as adbc
import polars as pl

from inline_logger import Way, log_inline
from process import scan
from process.decode import Decoder
from process.pool import Workers
from process.prepare import prepare
from process.schema import REPRS, SCHEMA


def decoded(segments: Path) -> Iterator[pl.DataFrame]:
    """All columns of a capture, a slice at a time."""
    with Workers(1) as workers:
        plans = prepare([segments], workers).plans
    for plan in plans:
        yield from Decoder(plan).frames()


def inline(segments: str, output: str, way: str) -> float:
    """The inline logger's way."""
    began = perf_counter()
    log_inline(Path(segments), Path(output), Way(way))
    return perf_counter() - began


def keep(segments: str, output: str) -> float:
    """Decode, and keep the frame for the others."""
    began = perf_counter()
    frame = pl.concat(decoded(Path(segments)))
    seconds = perf_counter() - began
    frame.write_ipc(output, compression="uncompressed")
    return seconds


def write_parquet(kept: str, output: str, texts: str) -> float:
    """A frame to Parquet by Polars: the texts as ``strings``, or as ``dictionaries`` that it had all along."""
    frame = pl.read_ipc(Path(kept).read_bytes())
    if texts == "dictionaries":
        frame = frame.with_columns(pl.col(*REPRS).cast(pl.Categorical))
    began = perf_counter()
    frame.write_parquet(output, compression="zstd", compression_level=1, row_group_size=1 << 17)
    return perf_counter() - began


def write_sqlite(kept: str, output: str) -> float:
    """A frame to SQLite by ADBC, in one call, with nothing that costs time."""
    frame = pl.read_ipc(Path(kept).read_bytes())
    Path(output).unlink(missing_ok=True)
    columns = ", ".join(
        f"{name} {'INTEGER' if dtype == pl.Int64 else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
        for name, dtype in SCHEMA.items()
    )
    began = perf_counter()
    with adbc.connect(output, autocommit=True) as connection, connection.cursor() as cursor:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.execute(f"CREATE TABLE rows ({columns})")
        cursor.adbc_ingest("rows", frame, mode="append")
    return perf_counter() - began


def read_all(segments: str) -> float:
    """Decode every column, and keep nothing."""
    began = perf_counter()
    for _ in decoded(Path(segments)):
        pass
    return perf_counter() - began


def read_some(segments: str) -> float:
    """What an analyst asks for: two columns of one call."""
    began = perf_counter()
    scan(segments).filter(pl.col("name") == "sys_openat").select("procname", "arg1_repr").collect()
    return perf_counter() - began


TASKS: dict[str, Callable[..., float]] = {
    function.__name__: function for function in (inline, keep, write_parquet, write_sqlite, read_all, read_some)
}

if __name__ == "__main__":
    print(json.dumps({"seconds": TASKS[sys.argv[1]](*sys.argv[2:])}))
