"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl
import zstandard

from process.output import unwritable
from process.parquet_footer import MAGIC, Field, Stored, data_header, dictionary_header, footer, row_group
from process.parquet_pages import Coded, Column, chunk
from process.schema import FD_COLUMNS, SCHEMA, dtypes
from process.thrift import Value
from process.values import Integers, Made, split

RISING: Final = frozenset({"id", "seq", "time_ns", "duration_ns"})
"""Columns that hardly have a value twice, stored as differences; all others are smaller as dictionaries."""
SOUGHT: Final = frozenset({
    "id", "name", "procname", "proc_id", "retno", "seq", "nr", "pid", "tid", "time_ns", "errno", "mark", "capture",
})  # fmt: skip
"""Columns whose extremes are told, by which readers skip row groups: those of the others would exclude nothing."""
WHOLE: Final = frozenset({"id", "name", "procname", "seq", "abi", "nr", "time_ns", "status", "capture"})
"""Columns without nulls: nothing is stored of which rows have a value."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A table that is written in parts.

    Attributes:
        schema: Dtype of each column.
        rising: As `RISING`, and so the others.
    """

    schema: pl.Schema
    rising: Collection[str]
    sought: Collection[str]
    whole: Collection[str]


ROWS: Final = Kind(SCHEMA, RISING, SOUGHT, WHOLE)
FILES: Final = Kind(
    dtypes(FD_COLUMNS),
    rising={"id", "start_seq", "start_time_ns", "end_seq", "end_time_ns"},
    sought=FD_COLUMNS,
    whole={"id", "capture", "fd", "source", "how", "start_time_ns"},
)
"""The table `fd`."""

MOST: Final = 1 << 25
"""Bytes of the texts of a dictionary; rows with more are several row groups (a page must be smaller than 2 GiB)."""


@contextmanager
def new_part(path: Path, columns: Sequence[str], kind: Kind = ROWS) -> Iterator[Callable[[Made], None]]:
    """A file with some of a table's columns, in order, for as long as it is written; gone if anything is raised.

    What is in it is yet to be put on the disk.

    Returns:
        A function that takes rows and writes them as a row group, or as several if their texts are long.

    Raises:
        ProcessError: It cannot be written.
    """
    with _told(path):
        file = path.open("wb")
    try:
        with _told(path):
            part = Part(file, columns, kind)
        yield partial(_write, part, path)
        with _told(path):
            part.finish()
            file.close()
    except BaseException:
        with suppress(OSError):
            file.close()
        path.unlink(missing_ok=True)
        raise


def _write(part: Part, path: Path, made: Made) -> None:
    """Write rows; at the top level, since a function within another that calls itself is a cycle, which holds all."""
    ready = {name: one if isinstance(one, Integers) else Coded.of(one) for name, one in made.items()}
    rows = _rows(ready)
    longest = max((one.size(MOST) for one in ready.values() if isinstance(one, Coded)), default=0)
    pieces = min(rows, longest // MOST + 1)
    if pieces == 1:
        with _told(path):
            part.write(ready)
        return
    del ready  # before others are made
    for stretch in split(made, rows, pieces):
        _write(part, path, stretch)


class Part:
    """A file that is being written."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], kind: Kind) -> None:
        """Begin it.

        Raises:
            OSError: It cannot be written; as from all other methods.
        """
        self._file, self._kind, self._at, self._rows = file, kind, 0, 0
        self._fields = [Field(name, kind.schema[name] != pl.Int64, name not in kind.whole) for name in columns]
        self._groups: list[Value] = []
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._put(MAGIC)

    def write(self, columns: Mapping[str, Column]) -> None:
        """Write rows, at least one, as a row group; they must have the file's columns, in order."""
        assert list(columns) == [field.name for field in self._fields]
        rows = _rows(columns)
        stored = [self._column(field, columns[field.name], rows) for field in self._fields]
        self._groups.append(row_group(stored, len(self._groups)))
        self._rows += rows

    def finish(self) -> None:
        """Write the footer."""
        names = tuple(field.name for field in self._fields)
        self._put(footer(self._fields, self._groups, self._rows, _shown(names, self._kind)))

    def _column(self, field: Field, column: Column, rows: int) -> Stored:
        """Write a column of a row group."""
        name, kind = field.name, self._kind
        found = chunk(column, may_be_null=field.may_be_null, rising=name in kind.rising, sought=name in kind.sought)
        start = data = self._at
        unpacked = 0
        if found.dictionary is not None:
            count, page = found.dictionary
            packed = self._compressor.compress(page.data)
            header = dictionary_header(count, len(page), len(packed))
            self._put(header, packed)
            unpacked, data = len(header) + len(page), self._at
        packed = self._compressor.compress(found.data.data)
        header = data_header(rows, found.encoding, len(found.data), len(packed))
        self._put(header, packed)
        unpacked += len(header) + len(found.data)
        return Stored(field, rows, found.nulls, found.encoding, start, data, self._at - start, unpacked, found.extremes)

    def _put(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._file.write(piece)
            self._at += len(piece)


@cache
def _shown(columns: tuple[str, ...], kind: Kind) -> dict[str, str]:
    """What Polars has in a file with these columns: without it all texts would be read as one type."""
    file = BytesIO()
    pl.DataFrame(schema={name: kind.schema[name] for name in columns}).write_parquet(file)
    file.seek(0)
    return pl.read_parquet_metadata(file)


def _rows(columns: Mapping[str, Column]) -> int:
    """Of all columns alike."""
    (rows,) = {len(column.values if isinstance(column, Integers) else column.codes) for column in columns.values()}
    return rows


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into one line.

    Raises:
        ProcessError: In its place.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None
