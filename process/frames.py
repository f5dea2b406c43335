"""What the decoder makes as Polars has it, for queries and for what reads rows through; what writes needs no Polars."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from process import schema
from process.decode import Decoder
from process.library import at, integer, load
from process.polars_types import DTYPES, dtypes
from process.text_array import TextArray
from process.values import Integers, Made, Values

_library = load(("arrow_texts", "size_of_arrow_schema", "size_of_arrow_array"))
_SIZES: Final = _library.size_of_arrow_schema, _library.size_of_arrow_array
_capsule: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)

SCHEMA: Final = dtypes(schema.SCHEMA)
"""Name and dtype of each column of the output, in order."""


def frames(decoder: Decoder) -> Iterator[pl.DataFrame]:
    """The rows that a decoder makes, as frames.

    Raises:
        SegmentError: The segment is not what it was when it was surveyed.
    """
    return map(frame, decoder.columns())


def size(frame: pl.DataFrame) -> int:
    """The bytes that a frame holds, about."""
    return int(frame.estimated_size())


def frame(made: Made) -> pl.DataFrame:
    """Columns as Polars has them."""
    return pl.DataFrame([series(column).alias(name) for name, column in made.items()])


def series(column: Values) -> pl.Series:
    """A column as Polars has it."""
    if isinstance(column, Integers):
        numbers = pl.Series(column.values, dtype=pl.Int64)
        if column.valid is None or column.valid.all():
            return numbers
        some: pl.Series = numbers.zip_with(pl.Series(column.valid), pl.Series([None], dtype=pl.Int64))
        return some
    known = pl.concat([texts(column.texts), pl.Series([None], dtype=pl.String)]).cast(DTYPES[column.kind])
    codes, nothing = column.codes, len(column.texts)
    if len(codes) and (codes == codes[0]).all():
        one: pl.Series = known.new_from_index(int(codes[0]) if codes[0] >= 0 else nothing, len(codes))
        return one
    indices = codes.astype(np.uint32)
    indices[codes < 0] = nothing
    return _take(known, indices)


def texts(array: TextArray) -> pl.Series:
    """Texts as a String column, by Arrow's C interface: in an eighth of the time that expressions take to cut bytes.

    Raises:
        MemoryError: There is too little.
    """
    schema, made = (ctypes.create_string_buffer(size()) for size in _SIZES)
    if _library.arrow_texts(
        integer(len(array)), at(array.offsets), at(array.data), ctypes.byref(schema), ctypes.byref(made)
    ):
        raise MemoryError
    return pl.Series(_Exported(schema, made))


class _Exported:
    """An Arrow array for whoever takes it over, which must happen once."""

    def __init__(self, schema: ctypes.Array[ctypes.c_char], array: ctypes.Array[ctypes.c_char]) -> None:
        self._schema, self._array = schema, array

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Arrow's PyCapsule interface."""
        return _capsule(self._schema, b"arrow_schema", None), _capsule(self._array, b"arrow_array", None)


def _take(values: pl.Series, indices: npt.NDArray[np.unsignedinteger[Any]]) -> pl.Series:
    """The values at some indices.

    Polars' `Series.gather` makes a query of it, casts the indices twice, and is fifteen times slower where a column has
    two pieces, as one that was just put together has (2.1).
    """
    found: pl.Series = values.rechunk()[indices]
    return found
