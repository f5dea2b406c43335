"""What a Parquet file says of itself: the header of each page, and the footer.

The structures are those of parquet.thrift in https://github.com/apache/parquet-format; a number before a value is the
id of its field there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

from capture.version import VERSION
from process.thrift import STOP, Value, binary, boolean, fields, i16, i32, i64, listed, struct, structure, text

MAGIC: Final = b"PAR1"
_INT64, _BYTE_ARRAY = 2, 6
_UTF8 = 0
_REQUIRED, _OPTIONAL = 0, 1
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_VERSION = 2
"""Of the format: 1 would be one without RLE_DICTIONARY and DELTA_BINARY_PACKED."""


class Encoding(IntEnum):
    """How a page holds its values (Encodings.md)."""

    PLAIN = 0
    RLE = 3
    DELTA_BINARY_PACKED = 5
    RLE_DICTIONARY = 8


class Codec(IntEnum):
    """How a page is compressed (Compression.md)."""

    UNCOMPRESSED = 0
    ZSTD = 6


class Field(NamedTuple):
    """A column of a file.

    Attributes:
        name: Of the column.
        is_text: Else it is int64.
        may_be_null: Whether its pages say which rows have a value.
    """

    name: str
    is_text: bool
    may_be_null: bool


class Stored(NamedTuple):
    """A column of a row group, as it is in the file.

    Attributes:
        field: Of which column.
        values: Rows, with those that are null.
        nulls: How many are.
        encoding: Of the data page.
        codec: How pages are compressed.
        start: Offset of the first page.
        data: Offset of the data page; where ``start`` is another, a dictionary is there.
        size: Bytes in the file, with the headers.
        unpacked: The same before compression.
        extremes: Least and greatest value, PLAIN without a length; None if they are not told.
    """

    field: Field
    values: int
    nulls: int
    encoding: Encoding
    codec: Codec
    start: int
    data: int
    size: int
    unpacked: int
    extremes: tuple[bytes, bytes] | None


def dictionary_header(values: int, unpacked: int, packed: int) -> bytes:
    """PageHeader of a dictionary: how many values it has, its bytes before compression and after it."""
    header = struct({1: i32(values), 2: i32(Encoding.PLAIN)})
    return struct({1: i32(_DICTIONARY_PAGE), 2: i32(unpacked), 3: i32(packed), 7: header}).body


def data_header(values: int, encoding: Encoding, unpacked: int, packed: int) -> bytes:
    """PageHeader of a data page, version 1, which all readers know."""
    header = struct({1: i32(values), 2: i32(encoding), 3: i32(Encoding.RLE), 4: i32(Encoding.RLE)})
    return struct({1: i32(_DATA_PAGE), 2: i32(unpacked), 3: i32(packed), 5: header}).body


def row_group(columns: Sequence[Stored], ordinal: int) -> Value:
    """RowGroup."""
    return struct({
        1: listed(map(_column, columns)),
        2: i64(sum(column.unpacked for column in columns)),
        3: i64(columns[0].values),
        4: _sorting(columns),
        5: i64(columns[0].start),
        6: i64(sum(column.size for column in columns)),
        7: i16(ordinal) if ordinal < 1 << 15 else None,
    })  # fmt: skip


def footer(columns: Sequence[Field], groups: Sequence[Value], rows: int, known: Mapping[str, str]) -> bytes:
    """FileMetaData, its length, and the end of the file; ``known`` are pairs of names and texts for readers."""
    order = struct({1: struct({})})  # TYPE_ORDER: without it readers do not trust the extremes of texts
    found = struct({
        1: i32(_VERSION),
        2: listed([struct({4: text("rows"), 5: i32(len(columns))}), *map(_element, columns)]),
        3: i64(rows),
        4: listed(groups),
        5: listed(struct({1: text(key), 2: text(value)}) for key, value in known.items()),
        6: text(f"sysreel version {VERSION}"),
        7: listed([order] * len(columns)),
    }).body  # fmt: skip
    return found + len(found).to_bytes(4, "little") + MAGIC


def _element(field: Field) -> Value:
    """SchemaElement."""
    return struct({
        1: i32(_BYTE_ARRAY if field.is_text else _INT64),
        3: i32(_OPTIONAL if field.may_be_null else _REQUIRED),
        4: text(field.name),
        6: i32(_UTF8) if field.is_text else None,
        10: struct({1: struct({})}) if field.is_text else None,  # LogicalType STRING
    })  # fmt: skip


def _column(column: Stored) -> Value:
    """ColumnChunk."""
    has_dictionary = column.data > column.start
    begin, end = _constant(column.field, column.encoding, column.codec, has_dictionary)
    least, greatest = column.extremes or (None, None)
    told = struct({
        3: i64(column.nulls),
        5: None if greatest is None else binary(greatest),
        6: None if least is None else binary(least),
        7: None if greatest is None else boolean(True),
        8: None if least is None else boolean(True),
    })  # fmt: skip
    found = begin + fields({
        5: i64(column.values),
        6: i64(column.unpacked),
        7: i64(column.size),
        9: i64(column.data),
        11: i64(column.start) if has_dictionary else None,
        12: told,
    }, after=4) + end  # fmt: skip
    return struct({2: i64(0), 3: structure(found)})


@cache
def _constant(field: Field, encoding: Encoding, codec: Codec, has_dictionary: bool) -> tuple[bytes, bytes]:
    """The fields of ColumnMetaData before the one with the number of values, and those behind the statistics."""
    used = {Encoding.RLE, encoding, *([Encoding.PLAIN] if has_dictionary else [])}
    pages = [(_DICTIONARY_PAGE, Encoding.PLAIN)] * has_dictionary + [(_DATA_PAGE, encoding)]
    begin = fields({
        1: i32(_BYTE_ARRAY if field.is_text else _INT64),
        2: listed(map(i32, sorted(used))),
        3: listed([text(field.name)]),
        4: i32(codec),
    })  # fmt: skip
    told = listed(struct({1: i32(page), 2: i32(encoding), 3: i32(1)}) for page, encoding in pages)
    return begin, fields({13: told}, after=12) + STOP


def _sorting(columns: Sequence[Stored]) -> Value | None:
    """SortingColumn: rows are in the order of ``id``, if that is there."""
    places = [k for k, column in enumerate(columns) if column.field.name == "id"]
    return listed(struct({1: i32(k), 2: boolean(False), 3: boolean(False)}) for k in places) if places else None
