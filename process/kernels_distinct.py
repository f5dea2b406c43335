"""Distinct values, texts and orders, by hash tables and radix sort: kernels_distinct.c."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from process.library import OUT_OF_MEMORY, SEED, at, integer, load
from process.text_array import TextArray

Number = TypeVar("Number", np.int64, np.uint64)
Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint32]

KIND = np.dtype([(name, np.int32) for name in ("prefix", "suffix", "pointer")])
"""What the texts of a call's argument are made of; prefix -1 for none."""

_library = load(("group", "in_order", "number_texts_of", "group_texts"))


class Numbered(NamedTuple):
    """Rows by what their texts are made of.

    Attributes:
        codes: int32, for each row the index of its text, -1 for none.
        values: uint64, of each text.
        prefixes: uint32, likewise.
        suffixes: uint32, likewise.
        nulls: bool, whether the text is that of a null pointer.
    """

    codes: npt.NDArray[np.int32]
    values: Words
    prefixes: Codes
    suffixes: Codes
    nulls: Mask


def group(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Numbers] | None:
    """The distinct values of an array, by their first places, and for each element an index into them.

    As ``numpy.unique(values, return_inverse=True)``, but for the order, by a hash table.

    Args:
        values: int64 or uint64 of shape (n,).

    Returns:
        None if the table does not suit them: too many collide.
    """
    values = np.ascontiguousarray(values)
    distinct, inverse = np.empty_like(values), np.empty(len(values), np.int64)
    if len(values) >= 1 << 32:
        return None
    count = _library.group(at(values), integer(len(values)), integer(SEED), at(distinct), at(inverse))
    if count == OUT_OF_MEMORY:
        raise MemoryError
    return None if count < 0 else (distinct[:count].copy(), inverse)


def in_order(keys: Numbers) -> tuple[Numbers, Numbers]:
    """The stable order of keys, as ``numpy.argsort(keys, kind="stable")``, by their digits; and the keys in it.

    Args:
        keys: int64, fewer than 2**32.
    """
    keys = np.ascontiguousarray(keys, np.int64)
    assert len(keys) < 1 << 32
    order, ordered = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    if _library.in_order(at(keys), integer(len(keys)), at(order), at(ordered)) == OUT_OF_MEMORY:
        raise MemoryError
    return order, ordered


def number_texts_of(
    values: Words, call_of: Numbers, kinds: npt.NDArray[np.void], own: npt.NDArray[np.int32] | None
) -> Numbered:
    """The distinct texts of an argument of many calls: pairs of a prefix, a value and a suffix.

    Args:
        values: Of each row.
        call_of: Of each row, an index into ``kinds``.
        kinds: Of dtype `KIND`.
        own: Of each row, its own suffix, -1 for that of its kind; None if no row has one.
    """
    assert kinds.dtype == KIND and len(values) == len(call_of) < 1 << 31
    values, call_of = np.ascontiguousarray(values), np.ascontiguousarray(call_of, np.int64)
    rows = len(values)
    codes, distinct, nulls = np.empty(rows, np.int32), np.empty(rows, np.uint64), np.empty(rows, np.bool_)
    prefixes, suffixes = np.empty(rows, np.uint32), np.empty(rows, np.uint32)
    count = _library.number_texts_of(
        integer(rows), at(values), at(call_of), at(kinds), None if own is None else at(own), integer(SEED),
        at(distinct), at(prefixes), at(suffixes), at(nulls), at(codes),
    )  # fmt: skip
    if count == OUT_OF_MEMORY:
        raise MemoryError
    if count < 0:
        return _numbered_slowly(values, kinds[call_of], own)
    return Numbered(codes, distinct[:count], prefixes[:count], suffixes[:count], nulls[:count])


def _numbered_slowly(values: Words, kinds: npt.NDArray[np.void], own: npt.NDArray[np.int32] | None) -> Numbered:
    """The same by sorting, for values that collide."""
    nulls = (kinds["pointer"] != 0) & (values == 0)
    suffixes = kinds["suffix"] if own is None else np.where(own >= 0, own, kinds["suffix"])
    parts = np.stack([values, kinds["prefix"].astype(np.uint64), np.where(nulls, 0, suffixes).astype(np.uint64), nulls])
    there = np.flatnonzero(kinds["prefix"] >= 0)
    distinct, which = np.unique(parts[:, there], axis=1, return_inverse=True)
    codes = np.full(len(values), -1, np.int32)
    codes[there] = which.reshape(-1)
    prefix, suffix = distinct[1].astype(np.uint32), distinct[2].astype(np.uint32)
    return Numbered(codes, distinct[0].copy(), prefix, suffix, distinct[3] != 0)


def group_texts(texts: TextArray) -> tuple[Numbers, Numbers]:
    """Where each distinct text is first, ascending, and for each text an index into these."""
    found = group_bytes(texts)
    if found is not None:
        return found
    known: dict[str, int] = {}
    codes = [known.setdefault(text, at) for at, text in enumerate(texts.to_list())]
    distinct, which = np.unique(np.array(codes, np.int64), return_inverse=True)
    return distinct, which


def group_bytes(texts: TextArray) -> tuple[Numbers, Numbers] | None:
    """Likewise, of texts that need not be UTF-8; None if too many collide."""
    firsts, inverse = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    count = _library.group_texts(
        at(texts.offsets), at(texts.data), integer(len(texts)), integer(SEED), at(firsts), at(inverse)
    )
    if count == OUT_OF_MEMORY:
        raise MemoryError
    return (firsts[:count].copy(), inverse) if count >= 0 else None
