"""Columns of integers in as few bytes as each needs: kernels_narrow.c.

A column's differences from another one, or itself, are stored as what they are above the lowest of them, in 0, 1, 2 or
4 bytes each; what takes more is stored as it is, in 8. The greatest and the least int64, which stand for times that
there are not, have codes of their own, so that they cost no column its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from process.library import UNSUITED, at, integer, load

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Columns = Sequence[npt.NDArray[Any]]
"""Of integers of 8, 4 or 1 bytes, or bool; of one length, with gaps between their values or without."""

_OTHERS = 2
"""Codes that stand for something else than a difference."""
_WIDTHS = (1, 2, 4)
_LEAST = np.iinfo(np.int64).min
_SAMPLED = 1 << 12, 16
"""Of so many rows or more, one in so many is looked at first: it mostly tells what all are like."""

_library = load(("narrow",), ("spans", "widen"))


def narrow(columns: Columns, references: Sequence[int]) -> tuple[Numbers, Bytes]:
    """The columns in few bytes.

    Args:
        columns: They.
        references: For each the index of an earlier one, from which it differs little; -1 for none.

    Returns:
        int64 of shape (2, columns): the bytes of each column's values, and what their codes are counted from; and all
        bytes.
    """
    described, count = _described(columns, references), len(columns[0])
    least, every = _SAMPLED
    for step in (every, 1) if count >= least else (1,):
        shape = _shape(described, count, step)
        places, size = _places(shape[0], count)
        data = np.zeros(size, np.uint8)
        done = _library.narrow(
            at(described), integer(len(columns)), integer(count), at(shape[1]), at(shape[0]), at(places), at(data)
        )
        if done != UNSUITED:
            return shape, data
    raise AssertionError("all rows were looked at")


def _shape(described: Numbers, count: int, every: int) -> Numbers:
    """The shape that suits one in so many rows."""
    lowest, highest, odd = np.empty((3, len(described)), np.int64)
    _library.spans(
        at(described), integer(len(described)), integer(count), integer(every), at(lowest), at(highest), at(odd)
    )
    shape = np.zeros((2, len(described)), np.int64)
    for index, (low, high, no_times) in enumerate(zip(lowest.tolist(), highest.tolist(), odd.tolist(), strict=True)):
        span = max(high - low, 0)
        fitting = (width for width in _WIDTHS if span + _OTHERS < 1 << 8 * width)
        width = 0 if low == high and not no_times else next(fitting, 8)
        spare = (1 << 8 * width) - 1 - _OTHERS - span if every > 1 and 0 < width < 8 else 0
        shape[:, index] = width, max(low - spare // 2, _LEAST) if low <= high else 0
    return shape


def size_of(shape: Numbers, count: int) -> int:
    """How many bytes `narrow` gives for so many rows.

    Raises:
        ValueError: It gives no such shape.
    """
    if not np.isin(shape[0], (0, *_WIDTHS, 8)).all():
        raise ValueError("no widths of columns")
    return _places(shape[0], count)[1]


def widen(columns: Columns, references: Sequence[int], shape: Numbers, data: Bytes) -> None:
    """Give columns their values again.

    Args:
        columns: As they were for `narrow`, of any values.
        references: Likewise.
        shape: What it gave, of the size of the data (`size_of`).
        data: What it gave.
    """
    count = len(columns[0])
    assert len(data) == size_of(shape, count)
    widths, bases = np.ascontiguousarray(shape)
    places, _ = _places(widths, count)
    described = _described(columns, references)
    _library.widen(
        at(described), integer(len(columns)), integer(count), at(bases), at(widths), at(places), at(data)
    )  # fmt: skip


def _described(columns: Columns, references: Sequence[int]) -> Numbers:
    """What the loops must know of columns."""
    count = len(columns[0])
    assert all(len(column) == count and column.dtype.itemsize in (1, 4, 8) for column in columns)
    assert all(reference < index for index, reference in enumerate(references))
    rows = [
        (
            column.ctypes.data, column.strides[0],
            -column.dtype.itemsize if column.dtype.kind == "i" else column.dtype.itemsize, reference,
        )
        for column, reference in zip(columns, references, strict=True)
    ]  # fmt: skip
    return np.array(rows, np.int64).reshape(-1, 4)


def _places(widths: Numbers, count: int) -> tuple[Numbers, int]:
    """Where the bytes of each column begin, at multiples of 8, and how many all are."""
    ends = np.cumsum(-(-widths * count // 8) * 8)
    return np.append(0, ends[:-1]), int(ends[-1])
