"""Steps that need a process of their own: `python -m benchmarks.tasks NAME WORDS`. Each prints what it took.

What a step needs first, such as the frame that it writes, is read before its time begins. How many threads Polars
has is in the environment, since it reads that when it is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import adbc_driver_sqlite.dbapi as adbc
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from inline_logger import Way, log_inline
from process import scan
from process.decode import Decoder
from process.frames import SCHEMA, frames
from process.parquet import RISING, SOUGHT, WHOLE
from process.pool import Workers
from process.prepare import prepare
from process.schema import REPRS
from process.write_parquet import ROW_GROUP


class Spent(NamedTuple):
    """What a step took: seconds by the clock, and of processors."""

    seconds: float
    cpu: float


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began = perf_counter(), process_time()

    def spent(self) -> Spent:
        """Until now."""
        return Spent(perf_counter() - self._began[0], process_time() - self._began[1])


def decoded(segments: Path) -> Iterator[pl.DataFrame]:
    """All columns of a capture, a slice at a time."""
    with Workers(1) as workers:
        plans = prepare([segments], workers).plans
    for plan in plans:
        yield from frames(Decoder(plan))


def inline(segments: str, output: str, way: str) -> Spent:
    """The inline logger's way."""
    began = Clock()
    log_inline(Path(segments), Path(output), Way(way))
    return began.spent()


def keep(segments: str, output: str) -> Spent:
    """Decode, and keep the frame for the others."""
    began = Clock()
    frame = pl.concat(decoded(Path(segments)))
    spent = began.spent()
    frame.write_ipc(output, compression="uncompressed")
    return spent


def write_parquet(kept: str, output: str, texts: str) -> Spent:
    """A frame to Parquet by Polars: the texts as ``strings``, or as ``dictionaries`` that it had all along."""
    frame = pl.read_ipc(Path(kept).read_bytes())
    if texts == "dictionaries":
        frame = frame.with_columns(pl.col(*REPRS).cast(pl.Categorical))
    began = Clock()
    frame.write_parquet(output, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
    return began.spent()


def write_arrow(kept: str, output: str) -> Spent:
    """A frame to Parquet by pyarrow, which has its row groups with dictionaries; a file for each of Polars' threads."""
    frame = pl.read_ipc(Path(kept).read_bytes())
    batches = [_with_dictionaries(some) for some in frame.iter_slices(ROW_GROUP)]

    def write(first: int) -> None:
        with pa.OSFile(f"{output}.{first}", "wb") as file, _arrow_writer(file) as rows:
            for batch in batches[first :: pl.thread_pool_size()]:
                rows.write_batch(batch)

    began = Clock()
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        list(threads.map(write, range(pl.thread_pool_size())))
    return began.spent()


def _with_dictionaries(frame: pl.DataFrame) -> pa.RecordBatch:
    texts = frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = [one.combine_chunks() for one in texts.columns]
    arrays = [one if one.type == pa.int64() else one.dictionary_encode() for one in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=_arrow_schema())


def _arrow_schema() -> pa.Schema:
    """Of the columns, texts as dictionaries."""
    texts = pa.dictionary(pa.int32(), pa.large_string())
    return pa.schema(
        [
            (pa.field(name, pa.int64() if dtype == pl.Int64 else texts, name not in WHOLE))
            for name, dtype in SCHEMA.items()
        ]
    )


def _arrow_writer(file: pa.NativeFile) -> pq.ParquetWriter:
    """What stores as `process.parquet` does."""
    return pq.ParquetWriter(
        file,
        _arrow_schema(),
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in SCHEMA if name not in RISING],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in RISING},
        dictionary_pagesize_limit=1 << 26,
        write_statistics=[name for name in SCHEMA if name in SOUGHT],
        write_batch_size=1 << 14,  # a twentieth faster than with its default
        store_schema=False,
    )


def write_sqlite(kept: str, output: str) -> Spent:
    """A frame to SQLite by ADBC, in one call, with nothing that costs time."""
    frame = pl.read_ipc(Path(kept).read_bytes())
    Path(output).unlink(missing_ok=True)
    columns = ", ".join(
        f"{name} {'INTEGER' if dtype == pl.Int64 else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
        for name, dtype in SCHEMA.items()
    )
    began = Clock()
    with adbc.connect(output, autocommit=True) as connection, connection.cursor() as cursor:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.execute(f"CREATE TABLE rows ({columns})")
        cursor.adbc_ingest("rows", frame, mode="append")
    return began.spent()


def read_all(segments: str) -> Spent:
    """Decode every column, and keep nothing."""
    began = Clock()
    for _ in decoded(Path(segments)):
        pass
    return began.spent()


def read_some(segments: str) -> Spent:
    """What an analyst asks for: two columns of one call."""
    began = Clock()
    scan(segments).filter(pl.col("name") == "sys_openat").select("procname", "arg1_repr").collect()
    return began.spent()


TASKS: dict[str, Callable[..., Spent]] = {
    function.__name__: function
    for function in (inline, keep, write_parquet, write_arrow, write_sqlite, read_all, read_some)
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])._asdict()))
