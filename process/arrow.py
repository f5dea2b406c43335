"""Columns as Arrow has them, for what writes rows: texts stay the dictionaries that the decoder made.

Importing pyarrow takes 0.03 s and 34 MB: what writes nothing does without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from process.schema import SCHEMA
from process.text_array import TextArray
from process.values import Bools, Integers, Made, Texts, Values

PLAIN: Final = pa.large_string()
"""Texts, one a row: large, since those of a slice may be more than 2 GiB."""
TEXTS: Final = pa.dictionary(pa.int32(), PLAIN)
"""Texts as the dictionary of a slice and a code for each row."""

WHOLE: Final = frozenset({"id", "name", "procname", "seq", "abi", "nr", "time_ns", "status", "capture"})
"""Columns without nulls: Parquet stores nothing of which rows have a value, which takes a twentieth of its time."""

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what is freed; malloc's is given back by `garbage`
pa.set_cpu_count(1)  # workers are as many as there are processors to use


def schema(columns: Iterable[str], plain: Collection[str] = ()) -> pa.Schema:
    """Of record batches with some of the output's columns, in order: int64, `TEXTS`, or `PLAIN` texts."""

    def dtype(name: str) -> pa.DataType:
        if SCHEMA[name] == pl.Int64:
            return pa.int64()
        return PLAIN if name in plain else TEXTS

    return pa.schema([pa.field(name, dtype(name), name not in WHOLE) for name in columns])


def record_batch(made: Made, wanted: pa.Schema | None = None) -> pa.RecordBatch:
    """Columns as a record batch. Dictionaries hold each text once, and none without a row.

    Args:
        made: The columns.
        wanted: As `schema` gives it; if left out, no texts are plain.
    """
    wanted = wanted or schema(made)
    return pa.RecordBatch.from_arrays(
        [_array(one, field.type) for one, field in zip(made.values(), wanted, strict=True)], schema=wanted
    )


def longest(batch: pa.RecordBatch) -> int:
    """Bytes of the longest dictionary."""
    return max((one.dictionary.nbytes for one in batch.columns if one.type == TEXTS), default=0)


def _array(column: Values, dtype: pa.DataType) -> pa.Array:
    if isinstance(column, Integers):
        return _view(dtype, np.ascontiguousarray(column.values), column.valid)
    return _arrow(column.series()) if dtype == PLAIN else _dictionary(column)


def _dictionary(column: Texts) -> pa.DictionaryArray:
    codes, texts = column.codes, _strings(column.texts)
    if not column.is_unique:
        texts, codes = _once(texts, codes)
    indices = _view(pa.int32(), codes.astype(np.int32, copy=False), codes >= 0)
    return pa.DictionaryArray.from_arrays(indices, texts, safe=False)


def _once(texts: pa.Array, codes: npt.NDArray[np.signedinteger]) -> tuple[pa.Array, npt.NDArray[np.signedinteger]]:
    """Texts that rows have, each once, and codes into these."""
    used = np.zeros(len(texts) + 1, np.bool_)
    used[codes] = True  # -1 is the last one
    used = used[:-1]
    found = (texts if used.all() else texts.filter(pa.array(used))).dictionary_encode()
    if len(found.dictionary) < len(used):
        code_of = np.full(len(used) + 1, -1, np.int32)
        code_of[:-1][used] = found.indices.fill_null(-1).to_numpy()
        codes = code_of[codes]
    return found.dictionary, codes


def _strings(texts: pl.Series | TextArray) -> pa.Array:
    if isinstance(texts, TextArray):
        return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(texts.offsets), pa.py_buffer(texts.data))
    return _arrow(texts)


def _arrow(texts: pl.Series) -> pa.Array:
    """As `PLAIN`: not as the views that Polars has, which pyarrow would have to copy, too."""
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest())


def _view(dtype: pa.DataType, values: npt.NDArray[np.signedinteger], valid: Bools | None) -> pa.Array:
    """Values as they are in memory, not copied, and the bits that tell which are null."""
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(dtype, len(values), [bits, pa.py_buffer(values)])
