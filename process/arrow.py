"""Columns as Arrow has them, for what writes rows: texts stay the dictionaries that the decoder made.

Importing pyarrow takes 0.03 s and 34 MB: what writes nothing does without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from process.schema import SCHEMA
from process.text_array import TextArray
from process.values import Bools, Integers, Made, Texts

TEXTS: Final = pa.dictionary(pa.int32(), pa.large_string())
"""A column of texts: large, since those of a slice may be more than 2 GiB."""

WHOLE: Final = frozenset({"id", "name", "procname", "seq", "abi", "nr", "time_ns", "status", "capture"})
"""Columns without nulls: Parquet stores nothing of which rows have a value, which takes a twentieth of its time."""

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what is freed; malloc's is given back by `garbage`
pa.set_cpu_count(1)  # workers are as many as there are processors to use


def schema(columns: Iterable[str]) -> pa.Schema:
    """Of record batches with some of the output's columns, in order."""
    return pa.schema(
        [pa.field(name, pa.int64() if SCHEMA[name] == pl.Int64 else TEXTS, name not in WHOLE) for name in columns]
    )


def record_batch(made: Made) -> pa.RecordBatch:
    """Columns as a record batch: int64, or `TEXTS`, whose dictionaries hold each text once, and none without a row."""
    arrays = [_integers(one) if isinstance(one, Integers) else _texts(one) for one in made.values()]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(made))


def longest(batch: pa.RecordBatch) -> int:
    """Bytes of the longest dictionary."""
    return max((one.dictionary.nbytes for one in batch.columns if one.type == TEXTS), default=0)


def _integers(column: Integers) -> pa.Array:
    """Not copied."""
    return _array(pa.int64(), np.ascontiguousarray(column.values), column.valid)


def _texts(column: Texts) -> pa.DictionaryArray:
    codes, texts = column.codes, _strings(column.texts)
    used = np.zeros(len(texts) + 1, np.bool_)
    used[codes] = True  # -1 is the last one
    used = used[:-1]
    if not used.all():
        texts = texts.filter(pa.array(used))
    found = texts.dictionary_encode()
    if len(found.dictionary) < len(used):
        code_of = np.full(len(used) + 1, -1, np.int32)
        code_of[:-1][used] = found.indices.fill_null(-1).to_numpy()
        codes = code_of[codes]
    indices = _array(pa.int32(), codes.astype(np.int32, copy=False), codes >= 0)
    return pa.DictionaryArray.from_arrays(indices, found.dictionary, safe=False)


def _strings(texts: pl.Series | TextArray) -> pa.LargeStringArray:
    if isinstance(texts, TextArray):
        return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(texts.offsets), pa.py_buffer(texts.data))
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest())


def _array(dtype: pa.DataType, values: npt.NDArray[np.signedinteger], valid: Bools | None) -> pa.Array:
    """Values as they are in memory, and the bits that tell which are null."""
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(dtype, len(values), [bits, pa.py_buffer(values)])
