"""Rows as leaves of a table in an SQLite database, without SQLite: sqlite_leaves.c, which the build compiles.

SQLite takes values one by one: a row of 30 columns costs 1.8 us, two thirds of it for handing them over, even by ADBC
in batches of Arrow. Out of the decoder's own columns the same bytes are made in a quarter of that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from process.library import at, integer, load
from process.values import Integers, Values

Numbers = npt.NDArray[np.int64]

_PAGES = 64
"""Made at a time: half a megabyte, which stays in the processor's cache."""
_MOST = 64
"""Columns of a table."""


class _Column(ctypes.Structure):
    """As sqlite_leaves.c has it."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("values", "valid", "codes", "offsets", "data")]


class Leaves(NamedTuple):
    """Some leaves, which lie one after the other.

    Attributes:
        pages: uint8 of shape (k, size).
        last: The last rowid of each.
        rows: In all leaves so far.
    """

    pages: npt.NDArray[np.uint8]
    last: Numbers
    rows: int


_library = load(("sqlite_leaves", "size_of_column"))


def leaves(rowids: Numbers, columns: Sequence[Values | None], size: int) -> Iterator[Leaves]:
    """Rows as leaves, up to the first row that is too long for a page.

    A text is stored as it is, an integer in as few bytes as hold it, and what is null at a row's end not at all: SQLite
    reads rows as if they ended in null (as its own SQLITE_ENABLE_NULL_TRIM writes them).

    Args:
        rowids: int64, ascending, from 0 to 2^56.
        columns: Of the table, in order, but for those that take no space; None for one that is null, as the one that
            stands for the rowid is.
        size: Bytes of a page.
    """
    assert len(columns) <= _MOST and ctypes.sizeof(_Column) == _library.size_of_column()
    rowids = np.ascontiguousarray(rowids, np.int64)
    given = [_arrays(column, len(rowids)) for column in columns]
    done = 0
    while done < len(rowids):
        rest = [_column(arrays, done) for arrays in given]
        pages, last = np.empty((_PAGES, size), np.uint8), np.empty(_PAGES, np.int64)
        used = ctypes.c_int64()
        more = _library.sqlite_leaves(
            integer(len(rowids) - done), at(rowids[done:]), (_Column * len(rest))(*rest),
            integer(len(rest)), integer(size), integer(_PAGES), at(pages), at(last),
            ctypes.byref(used),
        )  # fmt: skip
        if not more:
            return
        done += more
        yield Leaves(pages[: used.value], last[: used.value], done)


_Arrays = dict[str, npt.NDArray[Any]]


def _arrays(column: Values | None, count: int) -> _Arrays:
    """What a column is made of, by the names of `_Column`'s fields."""
    if column is None:
        return {}
    if isinstance(column, Integers):
        found: _Arrays = {"values": np.ascontiguousarray(column.values, np.int64)}
        if column.valid is not None:
            found["valid"] = np.ascontiguousarray(column.valid, np.bool_)
        assert all(len(array) == count for array in found.values())
        return found
    texts, codes = column.texts, np.ascontiguousarray(column.codes, np.int32)
    assert len(codes) == count and (not count or codes.max() < len(texts))
    if not len(texts):
        return {}
    return {"codes": codes, "offsets": texts.offsets, "data": texts.data if len(texts.data) else np.zeros(1, np.uint8)}


def _column(arrays: _Arrays, start: int) -> _Column:
    """A column from a row on."""
    by_row = {name: array[start:] if name in ("values", "valid", "codes") else array for name, array in arrays.items()}
    return _Column(**{name: array.ctypes.data for name, array in by_row.items()})
