"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made.

Imports pyarrow (see `arrow`): only for workers that write.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from process.arrow import longest, record_batch, schema
from process.output import sync, unwritable
from process.schema import SCHEMA
from process.values import Made, split

RISING: Final = frozenset({"id", "seq", "time_ns", "duration_ns"})
"""Columns that hardly have a value twice, stored as differences; all others are smaller as dictionaries."""
SOUGHT: Final = frozenset({
    "id", "name", "procname", "proc_id", "retno", "seq", "nr", "pid", "tid", "time_ns", "errno", "mark", "capture",
})  # fmt: skip
"""Columns with statistics, by which readers skip row groups: those of the others would cost, and exclude nothing."""
_SHOWN: Final = {
    pl.Int64(): pa.int64(),
    pl.String(): pa.large_string(),
    pl.Categorical(): pa.dictionary(pa.uint32(), pa.string()),
}
"""As what readers that know Arrow are to take a column, by its dtype in `SCHEMA`: as if Polars had written it."""
_ROWS: Final = 1 << 14
"""Rows that pyarrow encodes at a time; its default, 1024, takes a twentieth longer."""
MOST: Final = 1 << 25
"""Bytes of the texts of a dictionary; rows with more are several row groups (a page must be smaller than 2 GiB)."""


@contextmanager
def new_part(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Made], None]]:
    """A file with some of the output's columns, in order, for as long as it is written; gone if anything is raised.

    Returns:
        A function that takes rows and writes them as a row group, or as several if their texts are long.

    Raises:
        ProcessError: It cannot be written.
    """

    def write(made: Made) -> None:
        with _told(path):
            batch = record_batch(made)
            count = len(batch)
            pieces = min(count, longest(batch) // MOST + 1)
            if pieces == 1:
                rows.write_batch(batch)
                return
            del batch  # before others are made
        for stretch in split(made, count, pieces):
            write(stretch)

    with _told(path):
        file = pa.OSFile(str(path), "wb")
    try:
        with _told(path):
            rows = writer(file, columns)
        try:
            yield write
            with _told(path):
                rows.add_key_value_metadata({"ARROW:schema": _shown(columns)})
                rows.close()
                file.close()
                sync(path)
        finally:
            rows.is_open = False  # else it would write the rest when Python forgets it
    except BaseException:
        with suppress(OSError):
            file.close()
        path.unlink(missing_ok=True)
        raise


def writer(file: pa.NativeFile, columns: Sequence[str]) -> pq.ParquetWriter:
    """What takes record batches of ``arrow.schema`` and writes each as a row group."""
    return pq.ParquetWriter(
        file,
        schema(columns),
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in columns if name not in RISING],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in columns if name in RISING},
        dictionary_pagesize_limit=2 * MOST,
        write_statistics=[name for name in columns if name in SOUGHT],
        write_batch_size=_ROWS,
        store_schema=False,
    )


def _shown(columns: Sequence[str]) -> bytes:
    """What Parquet files have under ``ARROW:schema``: without it all texts would be read as dictionaries, or none."""
    shown = pa.schema([(name, _SHOWN[SCHEMA[name]]) for name in columns])
    return base64.b64encode(shown.serialize().to_pybytes())


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system and pyarrow say of a file into one line.

    Raises:
        ProcessError: In their place.
        MemoryError: As it was.
    """
    try:
        yield
    except MemoryError:  # Arrow's, too
        raise
    except (OSError, pa.ArrowException) as error:
        raise unwritable(path, error) from None
