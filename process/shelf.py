"""Arrays in files, for this run alone: what batches leave for each other, in few bytes, since a page of a file costs.

Nothing of it outlives the run, so that a file does not say what it is; its folder is this user's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from io import BufferedIOBase
from typing import Any

import numpy as np
import numpy.typing as npt

from process.kernels_narrow import narrow, size_of, widen
from process.text_array import TextArray

Columns = Mapping[str, npt.NDArray[Any]]
Records = npt.NDArray[np.void]
Near = Mapping[str, str]
"""The names of some columns, and of columns before them from which their values differ little."""


def put_columns(file: BufferedIOBase, columns: Columns, near: Near) -> None:
    """Write columns of integers, of one length.

    Raises:
        OSError: There is no room.
    """
    shape, data = narrow(list(columns.values()), _references(columns, near))
    sizes = np.array([len(next(iter(columns.values()))), shape.shape[1], len(data)], np.int64)
    file.writelines((sizes.data, shape.data, data.data))


def get_columns(file: BufferedIOBase, room: Callable[[int], Columns], near: Near) -> Columns:
    """The columns that `put_columns` wrote.

    Args:
        file: Where from.
        room: Gives room for so many rows: columns of the same names and dtypes.
        near: As it was then.

    Raises:
        OSError, ValueError: Something else is there.
    """
    count, width, size = _read(file, np.int64, 3).tolist()
    shape, data = _read(file, np.int64, 2 * width).reshape(2, -1), _read(file, np.uint8, size)
    if len(data) != size_of(shape, count):
        raise ValueError("not of that size")
    columns = room(count)
    widen(list(columns.values()), _references(columns, near), shape, data)
    return columns


def put_records(file: BufferedIOBase, records: Records, near: Near) -> None:
    """As `put_columns`, of the fields of a structured array."""
    put_columns(file, _fields(records), near)


def get_records(file: BufferedIOBase, dtype: np.dtype[np.void], near: Near) -> Records:
    """As `get_columns`, of what `put_records` wrote."""
    records = np.empty(0, dtype)

    def room(count: int) -> Columns:
        nonlocal records
        records = np.empty(count, dtype)
        return _fields(records)

    get_columns(file, room, near)
    return records


def put_texts(file: BufferedIOBase, texts: TextArray) -> None:
    """Write texts.

    Raises:
        OSError: There is no room.
    """
    sizes = np.array([len(texts), len(texts.data)], np.int64)
    file.writelines((sizes.data, texts.offsets.data, texts.data.data))


def get_texts(file: BufferedIOBase) -> TextArray:
    """The texts that `put_texts` wrote.

    Raises:
        OSError, ValueError: Something else is there.
    """
    count, size = _read(file, np.int64, 2).tolist()
    return TextArray(_read(file, np.int64, count + 1), _read(file, np.uint8, size))


def _read(file: BufferedIOBase, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
    """So many values.

    Raises:
        ValueError: There are not so many.
    """
    found = np.empty(count, dtype)
    if file.readinto(found.view(np.uint8).data) != found.nbytes:
        raise ValueError("not of that size")
    return found


@cache
def _layout(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """The fields of a dtype, but of a uint64 its halves: mostly a process and a thread, each of few bytes."""
    columns: list[tuple[str, npt.DTypeLike, int]] = []
    for name, (kind, offset, *_) in (dtype.fields or {}).items():
        if kind == np.uint64:
            columns += [(f"{name}{half}", np.int32, offset + half) for half in (0, 4)]
        else:
            columns.append((name, kind, offset))
    names, kinds, offsets = zip(*columns, strict=True)
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": dtype.itemsize})


def _fields(records: Records) -> Columns:
    """The fields of records, as views."""
    layout = _layout(records.dtype)
    found = records.view(layout)
    return {name: found[name] for name in layout.names or ()}


def _references(columns: Columns, near: Near) -> list[int]:
    """For each column the index of the one from which it differs little, -1 for none."""
    names = list(columns)
    return [names.index(near[name]) if name in near else -1 for name in names]
