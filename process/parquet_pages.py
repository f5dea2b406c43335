"""Columns as pages of a Parquet file before compression: parquet_pages.c, which the build compiles.

Writers of others get texts and find their dictionaries anew, by hashing the text of each row or at least each text;
the decoder has them, as codes into texts. What a page is made of is one pass over the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.kernels_distinct import group_texts
from process.library import OUT_OF_MEMORY, SEED, UNSUITED, at, integer, load
from process.parquet_footer import Encoding
from process.text_array import TextArray
from process.thrift import varint
from process.values import Integers, Texts

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]

_SLACK = 16
"""Bytes that may be written behind what is told."""
_FEW = 1 << 10
"""So many distinct integers are always a dictionary."""
_SPAN = 1 << 16
"""Integers that are not further apart are numbered by a table of all between them."""
_LONG = 1 << 12
"""Bytes of a text that is too long to be told as an extreme."""


@dataclass(frozen=True)
class Coded:
    """A column of texts as the compiled loops take it.

    Attributes:
        codes: int32 of shape (n,), contiguous, indices into ``texts``, none of them beyond these; a negative one is
            null.
        texts: One may be there twice, or stand for no row.
        is_unique: Whether none does.
        has_nulls: Whether any code is negative.
    """

    codes: npt.NDArray[np.int32]
    texts: TextArray
    is_unique: bool
    has_nulls: bool

    @classmethod
    def of(cls, column: Texts) -> Coded:
        """From what the decoder makes."""
        codes, texts = column.codes, column.texts
        least, greatest = int(codes.min(initial=0)), int(codes.max(initial=-1))
        assert greatest < len(texts) < 1 << 31 and least >= -1 << 31
        return cls(np.ascontiguousarray(codes, np.int32), texts, column.is_unique, least < 0)

    def size(self, enough: int) -> int:
        """Bytes of the dictionary, or a little more: texts that are there twice count twice.

        Args:
            enough: Where all texts are not more, those without a row are counted, too.
        """
        size = int(self.texts.offsets[-1]) + 4 * len(self.texts)
        if size <= enough:
            return size
        used = np.zeros(len(self.texts) + 1, np.bool_)
        used[np.maximum(self.codes, -1)] = True  # -1 is the last one
        return int((np.diff(self.texts.offsets) + 4)[used[:-1]].sum())


Column = Integers | Coded


class Dictionary(NamedTuple):
    """The distinct values of a column.

    Attributes:
        values: How many.
        page: They, PLAIN.
    """

    values: int
    page: Bytes


class Chunk(NamedTuple):
    """A column of some rows.

    Attributes:
        dictionary: None if its values are in the data page itself.
        data: The data page.
        encoding: Of its values.
        nulls: Rows without a value.
        extremes: Least and greatest value, as a footer has them.
    """

    dictionary: Dictionary | None
    data: Bytes
    encoding: Encoding
    nulls: int
    extremes: tuple[bytes, bytes] | None


class _Present(NamedTuple):
    """Which rows have a value.

    Attributes:
        rows: How many there are.
        values: How many have one.
        bits: Which, eight to a byte, the first in the lowest bit; None if all have, or none.
    """

    rows: int
    values: int
    bits: Bytes | None = None


_library = load(
    ("kept_codes", "kept_values", "put_levels", "put_codes", "put_deltas", "number_values", "put_texts"),
    ("extreme_texts", "mark_used", "recode"),
)


class Way(NamedTuple):
    """How a column is made into pages.

    Attributes:
        may_be_null: Whether readers expect to be told which rows have a value.
        rising: Whether integers are stored as differences.
        sought: Whether its extremes are told.
    """

    may_be_null: bool
    rising: bool
    sought: bool


def chunk(column: Column, may_be_null: bool, rising: bool, sought: bool) -> Chunk:
    """A column, which has at least one row, as pages; the rest is as in `Way`."""
    values, present = _present_values(column) if isinstance(column, Integers) else _present_codes(column)
    assert may_be_null or present.values == present.rows
    levels = _levels(present) if may_be_null else b""
    nulls = present.rows - present.values
    if not present.values:
        return Chunk(None, _page(levels, np.empty(0, np.uint8)), Encoding.PLAIN, nulls, None)
    if isinstance(column, Integers):
        return _integers(values.view(np.int64), levels, nulls, rising, sought)
    return _texts(column, values.view(np.uint32), levels, nulls, sought)


def _integers(values: Numbers, levels: bytes, nulls: int, rising: bool, sought: bool) -> Chunk:
    """Of the rows that have a value; there is at least one."""
    least, greatest = int(values.min()), int(values.max())
    extremes = (_plain(least), _plain(greatest)) if sought else None
    if rising:
        return Chunk(None, _page(levels, _deltas(values)), Encoding.DELTA_BINARY_PACKED, nulls, extremes)
    found = _numbered(values, least, greatest)
    if found is None:
        plain = np.ascontiguousarray(values, "<i8").view(np.uint8)
        return Chunk(None, _page(levels, plain), Encoding.PLAIN, nulls, extremes)
    distinct, codes = found
    dictionary = Dictionary(len(distinct), distinct.astype("<i8").view(np.uint8))
    return Chunk(dictionary, _coded(levels, codes, len(distinct)), Encoding.RLE_DICTIONARY, nulls, extremes)


def _texts(column: Coded, codes: Codes, levels: bytes, nulls: int, sought: bool) -> Chunk:
    """Likewise; ``codes`` are those of these rows."""
    texts = column.texts
    places, codes = (None, codes) if column.is_unique else _distinct(texts, codes)
    count = len(texts) if places is None else len(places)
    dictionary = Dictionary(count, _plain_texts(texts, places, count))
    extremes = _extremes(texts, places, count) if sought else None
    return Chunk(dictionary, _coded(levels, codes, count), Encoding.RLE_DICTIONARY, nulls, extremes)


# --- which rows have a value -----------------------------------------------------------------------------------


def _present_values(column: Integers) -> tuple[Numbers, _Present]:
    """The numbers of an integer column."""
    values, valid = np.ascontiguousarray(column.values, np.int64), column.valid
    rows = len(values)
    if valid is None or valid.all():
        return values, _Present(rows, rows)
    valid = np.ascontiguousarray(valid, np.bool_)
    assert len(valid) == rows
    kept, bits = np.empty(rows + 1, np.int64), np.empty((rows + 7) // 8, np.uint8)
    count = _library.kept_values(at(values), at(valid), integer(rows), at(kept), at(bits))
    return kept[:count], _Present(rows, count, bits if count else None)


def _present_codes(column: Coded) -> tuple[Codes, _Present]:
    """The codes of a column of texts."""
    codes, rows = column.codes, len(column.codes)
    if not column.has_nulls:
        return codes.view(np.uint32), _Present(rows, rows)
    kept, bits = np.empty(rows + 1, np.uint32), np.empty((rows + 7) // 8, np.uint8)
    count = _library.kept_codes(at(codes), integer(rows), at(kept), at(bits))
    return kept[:count], _Present(rows, count, bits if count else None)


def _levels(present: _Present) -> bytes:
    """Definition levels with their length (Encodings.md, RLE): 1 where a row has a value."""
    if present.bits is None:
        found = varint(present.rows << 1) + bytes([present.values > 0])
    else:
        out = np.empty(2 * len(present.bits) + _SLACK, np.uint8)
        found = out[: _library.put_levels(at(present.bits), integer(present.rows), at(out))].tobytes()
    return len(found).to_bytes(4, "little") + found


# --- distinct values -------------------------------------------------------------------------------------------


def _numbered(values: Numbers, least: int, greatest: int) -> tuple[Numbers, Codes] | None:
    """Distinct integers by their first places, and for each value its index; None if hardly any is there twice."""
    count, span = len(values), greatest - least + 1
    most = min(count, max(count // 2, _FEW))
    distinct, codes = np.empty(most, np.int64), np.empty(count, np.uint32)
    found = _library.number_values(
        at(values), integer(count), integer(least), integer(span if span <= _SPAN else 0), integer(most), integer(SEED),
        at(distinct), at(codes),
    )  # fmt: skip
    if found == OUT_OF_MEMORY:
        raise MemoryError
    return None if found == UNSUITED else (distinct[:found], codes)


def _distinct(texts: TextArray, codes: Codes) -> tuple[Numbers | None, Codes]:
    """Which texts are to be stored, each once and none without a row, and codes that stand for these.

    Returns:
        The places of the texts; None for all of them, with the codes that are given.
    """
    used = np.zeros(len(texts), np.bool_)
    _library.mark_used(at(codes), integer(len(codes)), at(used))
    firsts, number_of = group_texts(texts)
    wanted = np.zeros(len(firsts), np.bool_)
    wanted[number_of[used]] = True
    if len(firsts) == len(texts) and wanted.all():
        return None, codes
    code_of, recoded = (np.cumsum(wanted) - 1)[number_of].astype(np.uint32), np.empty(len(codes), np.uint32)
    _library.recode(at(codes), integer(len(codes)), at(code_of), at(recoded))
    return firsts[wanted], recoded


# --- what is in pages ------------------------------------------------------------------------------------------


def _page(levels: bytes, values: Bytes) -> Bytes:
    """A data page of what is made already."""
    return np.concatenate([np.frombuffer(levels, np.uint8), values]) if levels else values


def _coded(levels: bytes, codes: Codes, count: int) -> Bytes:
    """A data page of codes into so many values (Encodings.md, Dictionary Encoding)."""
    width = max((count - 1).bit_length(), 1)
    head = levels + bytes([width])
    out = np.empty(len(head) + (len(codes) + 7) // 8 * (max(width, 8) + 1) + _SLACK, np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    size = _library.put_codes(at(codes), integer(len(codes)), integer(width), at(out[len(head) :]))
    return out[: len(head) + size]


def _deltas(values: Numbers) -> Bytes:
    """Integers as differences (Encodings.md, Delta Encoding)."""
    out = np.empty(32 + (len(values) + 127) // 128 * (10 + 4 + 128 * 8) + _SLACK, np.uint8)
    return out[: _library.put_deltas(at(values), integer(len(values)), at(out))]


def _plain_texts(texts: TextArray, places: Numbers | None, count: int) -> Bytes:
    """Texts with their lengths (Encodings.md, Plain)."""
    total = int(texts.offsets[-1] if places is None else np.diff(texts.offsets)[places].sum())
    out = np.empty(total + 4 * count + _SLACK, np.uint8)
    size = _library.put_texts(
        at(texts.offsets), at(texts.data), None if places is None else at(places), integer(count), at(out)
    )
    return out[:size]


def _extremes(texts: TextArray, places: Numbers | None, count: int) -> tuple[bytes, bytes] | None:
    """Least and greatest text by their bytes; None if one is long."""
    found = np.empty(2, np.int64)
    _library.extreme_texts(
        at(texts.offsets), at(texts.data), None if places is None else at(places), integer(count), at(found)
    )
    least, greatest = (texts.data[texts.offsets[at] : texts.offsets[at + 1]].tobytes() for at in found.tolist())
    return (least, greatest) if max(len(least), len(greatest)) <= _LONG else None


def _plain(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)
