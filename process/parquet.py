"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made.

Imports pyarrow (see `arrow`): only for workers that write.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from process.arrow import TEXTS, longest, record_batch
from process.output import sync, unwritable
from process.schema import REPRS, SCHEMA
from process.values import Made, halves

RISING: Final = frozenset({"id", "seq", "time_ns", "duration_ns"})
"""Columns that hardly have a value twice, stored as differences; all others are smaller as dictionaries."""
_SHOWN: Final = {
    pl.Int64(): pa.int64(),
    pl.String(): pa.large_string(),
    pl.Categorical(): pa.dictionary(pa.uint32(), pa.string()),
}
"""As what readers that know Arrow are to take a column, by its dtype in `SCHEMA`: as if Polars had written it."""
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
            if len(batch) < 2 or longest(batch) <= MOST:
                writer.write_batch(batch)
                return
        for half in halves(made, len(batch)):
            write(half)

    try:
        with _told(path):
            file = path.open("wb")
        with file:
            with _told(path):
                writer = _writer(file, columns)
            try:
                yield write
                with _told(path):
                    writer.add_key_value_metadata({"ARROW:schema": _shown(columns)})
                    writer.close()
                    file.close()
                    sync(path)
            finally:
                writer.is_open = False  # else it would write the rest when Python forgets it
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _writer(file: BinaryIO, columns: Sequence[str]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        pa.schema([(name, pa.int64() if SCHEMA[name] == pl.Int64 else TEXTS) for name in columns]),
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in columns if name not in RISING],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in columns if name in RISING},
        dictionary_pagesize_limit=2 * MOST,
        write_statistics=[name for name in columns if name not in REPRS],
        store_schema=False,
    )


def _shown(columns: Sequence[str]) -> bytes:
    """What Parquet files have under ``ARROW:schema``: without it all texts would be read as dictionaries, or none."""
    schema = pa.schema([(name, _SHOWN[SCHEMA[name]]) for name in columns])
    return base64.b64encode(schema.serialize().to_pybytes())


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
