"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import zstandard

from process.output import sync, unwritable
from process.parquet_footer import MAGIC, Field, Stored, data_header, dictionary_header, footer, row_group
from process.parquet_pages import chunk
from process.schema import SCHEMA
from process.text_array import TextArray
from process.thrift import Value
from process.values import Integers, Made, Texts, Values, split

RISING: Final = frozenset({"id", "seq", "time_ns", "duration_ns"})
"""Columns that hardly have a value twice, stored as differences; all others are smaller as dictionaries."""
SOUGHT: Final = frozenset({
    "id", "name", "procname", "proc_id", "retno", "seq", "nr", "pid", "tid", "time_ns", "errno", "mark", "capture",
})  # fmt: skip
"""Columns whose extremes are told, by which readers skip row groups: those of the others would exclude nothing."""
WHOLE: Final = frozenset({"id", "name", "procname", "seq", "abi", "nr", "time_ns", "status", "capture"})
"""Columns without nulls: nothing is stored of which rows have a value."""
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
        count = _rows(made)
        pieces = min(count, _longest(made) // MOST + 1)
        if pieces == 1:
            with _told(path):
                part.write(made)
            return
        for stretch in split(made, count, pieces):
            write(stretch)

    with _told(path):
        file = path.open("wb")
    try:
        with _told(path):
            part = Part(file, columns)
        yield write
        with _told(path):
            part.finish()
            file.close()
            sync(path)
    except BaseException:
        with suppress(OSError):
            file.close()
        path.unlink(missing_ok=True)
        raise


class Part:
    """A file that is being written."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        """Begin it.

        Raises:
            OSError: It cannot be written; as from all other methods.
        """
        self._file, self._at, self._rows = file, 0, 0
        self._fields = [Field(name, SCHEMA[name] != pl.Int64, name not in WHOLE) for name in columns]
        self._groups: list[Value] = []
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._put(MAGIC)

    def write(self, made: Made) -> None:
        """Write rows, at least one, as a row group; they must have the file's columns, in order."""
        assert list(made) == [field.name for field in self._fields]
        stored = [self._column(field, made[field.name], _rows(made)) for field in self._fields]
        self._groups.append(row_group(stored, len(self._groups)))
        self._rows += stored[0].values

    def finish(self) -> None:
        """Write the footer."""
        names = tuple(field.name for field in self._fields)
        self._put(footer(self._fields, self._groups, self._rows, _shown(names)))

    def _column(self, field: Field, column: Values, rows: int) -> Stored:
        """Write a column of a row group."""
        name = field.name
        found = chunk(column, may_be_null=field.may_be_null, rising=name in RISING, sought=name in SOUGHT)
        start = data = self._at
        unpacked = 0
        if found.dictionary is not None:
            count, page = found.dictionary
            packed = self._compressor.compress(page)
            header = dictionary_header(count, len(page), len(packed))
            self._put(header, packed)
            unpacked, data = len(header) + len(page), self._at
        packed = self._compressor.compress(found.data)
        header = data_header(rows, found.encoding, len(found.data), len(packed))
        self._put(header, packed)
        unpacked += len(header) + len(found.data)
        return Stored(field, rows, found.nulls, found.encoding, start, data, self._at - start, unpacked, found.extremes)

    def _put(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._file.write(piece)
            self._at += len(piece)


@cache
def _shown(columns: tuple[str, ...]) -> dict[str, str]:
    """What Polars has in a file with these columns: without it all texts would be read as one type."""
    file = BytesIO()
    pl.DataFrame(schema={name: SCHEMA[name] for name in columns}).write_parquet(file)
    file.seek(0)
    return pl.read_parquet_metadata(file)


def _rows(made: Made) -> int:
    column = next(iter(made.values()))
    return len(column.values if isinstance(column, Integers) else column.codes)


def _longest(made: Made) -> int:
    """Bytes of the longest dictionary, or a little more: texts that are there twice count twice."""
    return max((_size(one) for one in made.values() if isinstance(one, Texts)), default=0)


def _size(column: Texts) -> int:
    """Of the texts that rows have, with their lengths; of all if they are few."""
    texts = column.texts
    if isinstance(texts, TextArray):
        sizes: npt.NDArray[np.int64] = np.diff(texts.offsets) + 4
    else:
        sizes = texts.str.len_bytes().fill_null(0).to_numpy().astype(np.int64) + 4
    if sizes.sum() <= MOST:
        return int(sizes.sum())
    used = np.zeros(len(texts) + 1, np.bool_)
    used[np.maximum(column.codes, -1)] = True  # -1 is the last one
    return int(sizes[used[:-1]].sum())


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
