"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made.

Imports pyarrow (see `arrow`): only for workers that write.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from process.arrow import PLAIN, longest, record_batch, schema
from process.output import sync, unwritable
from process.schema import REPRS, SCHEMA
from process.values import Made, Texts, split

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
def new_part(path: Path, columns: Sequence[str]) -> Iterator[Part]:
    """A part with some of the output's columns, in order, for as long as it is written; gone if anything is raised.

    Raises:
        ProcessError: It cannot be written.
    """
    part = Part(path, columns)
    try:
        yield part
        part.finish()
    except BaseException:
        part.abandon()
        raise


class Part:
    """A file that is being written."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Begin it.

        Raises:
            ProcessError: It cannot be written, as with the other methods.
        """
        self._path, self._columns = path, columns
        self._writer: pq.ParquetWriter | None = None
        with self._told():
            self._file = pa.OSFile(str(path), "wb")

    def write(self, made: Made) -> None:
        """Write rows as a row group, or as several if their texts are long."""
        with self._told():
            if self._writer is None:
                self._writer = writer(self._file, schema(self._columns, _plain(made)))
            batch = record_batch(made, self._writer.schema)
            count = len(batch)
            pieces = min(count, longest(batch) // MOST + 1)
            if pieces == 1:
                self._writer.write_batch(batch)
                return
            del batch  # before others are made
        for stretch in split(made, count, pieces):
            self.write(stretch)

    def finish(self) -> None:
        """Write what is left, down to the disk."""
        with self._told():
            if self._writer is None:
                self._writer = writer(self._file, schema(self._columns))
            self._writer.add_key_value_metadata({"ARROW:schema": _shown(self._columns)})
            self._writer.close()
            self._file.close()
            sync(self._path)

    def abandon(self) -> None:
        """Remove it."""
        if self._writer is not None:
            self._writer.is_open = False  # else it would write the rest when Python forgets it
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system and pyarrow say of the file into one line.

        Raises:
            ProcessError: In their place.
            MemoryError: As it was.
        """
        try:
            yield
        except MemoryError:  # Arrow's, too
            raise
        except (OSError, pa.ArrowException) as error:
            raise unwritable(self._path, error) from None


def _plain(made: Made) -> list[str]:
    """Columns of which so many texts are unique that it costs more to find those that are not than it saves."""
    return [name for name, one in made.items() if name in REPRS and isinstance(one, Texts) and one.are_many]


def writer(file: pa.NativeFile, stored: pa.Schema) -> pq.ParquetWriter:
    """What takes record batches of a schema that `arrow.schema` gave, and writes each as a row group."""
    coded = [field.name for field in stored if field.name not in RISING and field.type != PLAIN]
    return pq.ParquetWriter(
        file,
        stored,
        compression="zstd",
        compression_level=1,
        use_dictionary=coded,
        column_encoding={name: "DELTA_BINARY_PACKED" for name in stored.names if name in RISING},
        dictionary_pagesize_limit=2 * MOST,
        write_statistics=[name for name in stored.names if name in SOUGHT],
        write_batch_size=_ROWS,
        store_schema=False,
    )


def _shown(columns: Sequence[str]) -> bytes:
    """What Parquet files have under ``ARROW:schema``: without it all texts would be read as dictionaries, or none."""
    shown = pa.schema([(name, _SHOWN[SCHEMA[name]]) for name in columns])
    return base64.b64encode(shown.serialize().to_pybytes())
