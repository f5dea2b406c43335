"""A part of a Parquet output, written a row group at a time with the dictionaries that the decoder made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import zstandard

from process.output import unwritable
from process.parquet_footer import (
    MAGIC,
    Codec,
    Encoding,
    Field,
    Stored,
    data_header,
    dictionary_header,
    footer,
    row_group,
)
from process.parquet_pages import Bytes, Chunk, Coded, Column, Way, chunk
from process.schema import FD_COLUMNS, SCHEMA, Kind, Kinds, kinds
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
class Layout:
    """A table that is written in parts.

    Attributes:
        columns: They, in order.
        rising: As `RISING`, and so the others.
    """

    columns: Kinds
    rising: Collection[str]
    sought: Collection[str]
    whole: Collection[str]


ROWS: Final = Layout(SCHEMA, RISING, SOUGHT, WHOLE)
FILES: Final = Layout(
    kinds(FD_COLUMNS),
    rising={"id", "start_seq", "start_time_ns", "end_seq", "end_time_ns"},
    sought=FD_COLUMNS,
    whole={"id", "capture", "fd", "source", "how"},
)
"""The table `fd`."""

_DENSE: Final = 0.95
"""Columns that compression leaves more of than this share are stored as they are from then on."""
MOST: Final = 1 << 25
"""Bytes of the texts of a dictionary; rows with more are several row groups (a page must be smaller than 2 GiB)."""


@contextmanager
def new_part(
    path: Path, columns: Sequence[str], layout: Layout = ROWS, told: Mapping[str, str] | None = None
) -> Iterator[Callable[[Made], None]]:
    """A file with some of a table's columns, in order, for as long as it is written; gone if anything is raised.

    What is in it is yet to be put on the disk.

    Args:
        path: The file.
        columns: Their names.
        layout: Of the table.
        told: What the footer tells of types: `polars_types.parquet_metadata`; None: it is found out, which takes
            Polars.

    Returns:
        A function that takes rows and writes them as a row group, or as several if their texts are long.

    Raises:
        ProcessError: It cannot be written.
    """
    known = _found_out({name: layout.columns[name] for name in columns}) if told is None else told
    with _told(path):
        file = path.open("wb")
    try:
        with _told(path):
            part = Part(file, columns, layout, known)
        yield partial(_write, part, path)
        with _told(path):
            part.finish()
            file.close()
    except BaseException:
        with suppress(OSError):
            file.close()
        path.unlink(missing_ok=True)
        raise


def _found_out(columns: Kinds) -> Mapping[str, str]:
    from process.polars_types import parquet_metadata

    return parquet_metadata(columns)


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


Buffer = bytes | memoryview


class _Packed(NamedTuple):
    """A column of a row group as it is to be written.

    Attributes:
        pieces: Headers and pages.
        place: Where the data page is among them.
        size: Bytes of all.
        unpacked: The same before compression.
        codec: How the pages are compressed.
        encoding: Of the data page.
        nulls: Rows without a value.
        extremes: Least and greatest value.
    """

    pieces: Sequence[Buffer]
    place: int
    size: int
    unpacked: int
    codec: Codec
    encoding: Encoding
    nulls: int
    extremes: tuple[bytes, bytes] | None


class Part:
    """A file that is being written."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], layout: Layout, metadata: Mapping[str, str]) -> None:
        """Begin it.

        Raises:
            OSError: It cannot be written; as from all other methods.
        """
        self._file, self._layout, self._metadata, self._at, self._rows = file, layout, metadata, 0, 0
        self._fields = [
            Field(name, layout.columns[name] is not Kind.INTEGER, name not in layout.whole) for name in columns
        ]
        self._groups: list[Value] = []
        self._dense: set[str] = set()
        """Columns that are not compressed any more."""
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._put(MAGIC)

    def write(self, columns: Mapping[str, Column]) -> None:
        """Write rows, at least one, as a row group; they must have the file's columns, in order."""
        assert list(columns) == [field.name for field in self._fields]
        rows = _rows(columns)
        made: dict[tuple[object, ...], _Packed] = {}  # some columns are the same as others
        stored = []
        for field in self._fields:
            column, way = columns[field.name], self._way(field)
            key = (id(column), *way)
            if key not in made:
                made[key] = self._pack(field.name, chunk(column, *way), rows)
            stored.append(self._store(field, made[key], rows))
        self._groups.append(row_group(stored, len(self._groups)))
        self._rows += rows

    def finish(self) -> None:
        """Write the footer."""
        self._put(footer(self._fields, self._groups, self._rows, self._metadata))

    def _way(self, field: Field) -> Way:
        """How a column is made into pages."""
        name, layout = field.name, self._layout
        return Way(field.may_be_null, name in layout.rising, name in layout.sought)

    def _pack(self, name: str, found: Chunk, rows: int) -> _Packed:
        """Compress the pages of a column, unless those of the row group before became hardly smaller."""
        codec = Codec.UNCOMPRESSED if name in self._dense else Codec.ZSTD
        headers, pages, size = list[bytes](), list[Buffer](), 0
        if found.dictionary is not None:
            count, page = found.dictionary
            pages.append(self._press(page, codec))
            headers.append(dictionary_header(count, len(page), len(pages[-1])))
            size += len(page)
        pages.append(self._press(found.data, codec))
        headers.append(data_header(rows, found.encoding, len(found.data), len(pages[-1])))
        size += len(found.data)
        told, packed = sum(map(len, headers)), sum(map(len, pages))
        if packed > _DENSE * size:
            self._dense.add(name)
        place = len(headers[0]) + len(pages[0]) if len(pages) > 1 else 0
        pieces = [piece for both in zip(headers, pages, strict=True) for piece in both]
        return _Packed(pieces, place, told + packed, told + size, codec, found.encoding, found.nulls, found.extremes)

    def _press(self, page: Bytes, codec: Codec) -> Buffer:
        """A page as it is stored."""
        return self._compressor.compress(page.data) if codec is Codec.ZSTD else page.data

    def _store(self, field: Field, packed: _Packed, rows: int) -> Stored:
        """Write a column of a row group."""
        start = self._at
        self._put(*packed.pieces)
        return Stored(
            field, rows, packed.nulls, packed.encoding, packed.codec, start, start + packed.place, packed.size,
            packed.unpacked, packed.extremes,
        )  # fmt: skip

    def _put(self, *pieces: Buffer) -> None:
        self._file.writelines(pieces)
        self._at += sum(map(len, pieces))


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
