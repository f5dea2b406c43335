"""Rows of the table `fd` out of steps of descriptors: kernels_files.c."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from process.library import at, integer, load

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_STEP = [4, 4, 8, 8, 8, 1, 4, 8, 4, 1, 1, 1, 1, 1, 1]
"""Bytes of what `rows_of_steps` must know of a step."""

_library = load(("size_of_row", "mark_steps"), ("rows_of_steps",))


def rows_of_steps(
    steps: Collection[npt.NDArray[Any]], ends: Sequence[Numbers], wanted: Mask | None, row: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    """Rows of the table `fd`; see `process.fd_rows.records`.

    Args:
        steps: The columns of ``process.fd_steps.Steps``.
        ends: Those of ``process.fd_steps.Ends``, for all of the steps' groups.
        wanted: Whether the row that begins with a step is wanted; None: all are.
        row: ``process.fd_rows.ROW``.

    Returns:
        Of that dtype, in the order of the steps, with -1 for programs.
    """
    assert row.itemsize == _library.size_of_row()
    columns = [np.ascontiguousarray(column) for column in steps]
    assert [column.itemsize for column in columns] == _STEP
    pointers, count = np.array([column.ctypes.data for column in columns], np.uintp), len(columns[0])
    marks = np.empty(count, np.uint8)
    size = _library.mark_steps(at(pointers), integer(count), None if wanted is None else at(wanted), at(marks))
    end, ended, end_seq = (np.ascontiguousarray(one, np.int64) for one in ends)
    found = np.zeros(size, row)
    _library.rows_of_steps(
        at(pointers), integer(count), at(marks), at(end), at(ended), at(end_seq), integer(size), at(found)
    )
    return found
