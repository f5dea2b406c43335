"""Columns as Arrow has them, for what writes rows: texts stay the dictionaries that the decoder made.

Importing pyarrow takes 0.03 s and 34 MB: what writes nothing does without.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from process.values import Bools, Integers, Made, Texts

TEXTS = pa.dictionary(pa.int32(), pa.large_string())
"""A column of texts: large, since those of a slice may be more than 2 GiB."""

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what is freed; malloc's is given back by `garbage`
pa.set_cpu_count(1)


def record_batch(made: Made) -> pa.RecordBatch:
    """Columns as a record batch: int64, or `TEXTS`, whose dictionaries hold each text once, and none without a row."""
    arrays = [_numbers(one) if isinstance(one, Integers) else _texts(one) for one in made.values()]
    return pa.RecordBatch.from_arrays(arrays, names=list(made))


def longest(batch: pa.RecordBatch) -> int:
    """Bytes of the longest dictionary."""
    return max((one.dictionary.nbytes for one in batch.columns if one.type == TEXTS), default=0)


def _numbers(column: Integers) -> pa.Array:
    """Not copied."""
    return _array(pa.int64(), np.ascontiguousarray(column.values), column.valid)


def _texts(column: Texts) -> pa.DictionaryArray:
    codes, texts = column.codes, column.texts
    used = np.zeros(len(texts) + 1, np.bool_)
    used[codes] = True  # -1 is the last one
    used = used[:-1]
    if not used.all():
        texts = texts.filter(pl.Series(used))
    found = texts.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    if len(found.dictionary) < len(used):
        code_of = np.full(len(used) + 1, -1, np.int32)
        code_of[:-1][used] = found.indices.fill_null(-1).to_numpy()
        codes = code_of[codes]
    indices = _array(pa.int32(), codes.astype(np.int32, copy=False), codes >= 0)
    return pa.DictionaryArray.from_arrays(indices, found.dictionary, safe=False)


def _array(dtype: pa.DataType, values: npt.NDArray[np.signedinteger], valid: Bools | None) -> pa.Array:
    """Values as they are in memory, and the bits that tell which are null."""
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(dtype, len(values), [bits, pa.py_buffer(values)])
