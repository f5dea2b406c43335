"""Distinct values of arrays, by a table where values are close together: sorting is what decoding spends most on."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.int64, np.uint64)
Indices = npt.NDArray[np.intp]

_MIN_SPAN = 1 << 12
_PER_VALUE = 2
"""A table has at most so many places for each value, but may always have `_MIN_SPAN`."""
_SAMPLE = 256
_MANY = 1 << 10
"""So many values are worth a look at whether most are unique."""
_UNIQUE = 0.98
"""Share of unique values in a sample that stands for most."""


def group(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Indices]:
    """The distinct values of an array, in no order to rely on, and for each element an index into them.

    Args:
        values: int64 or uint64 of shape (n,).
    """
    if not len(values):
        return values, np.zeros(0, np.intp)
    low = values.min()
    span = int(values.max()) - int(low)
    room = max(_MIN_SPAN, _PER_VALUE * len(values))
    above = values.view(np.uint64) - low.view(np.uint64)  # right beyond 2**63, too
    if span < room:
        return _by_table(values, above.view(np.intp), span + 1)
    near = above < np.uint64(room)
    if near.sum() < len(values) >> 1:
        distinct, inverse = np.unique(values, return_inverse=True)
        return distinct, inverse
    inverse, far = np.empty(len(values), np.intp), ~near
    distinct, inverse[near] = _by_table(values[near], above[near].view(np.intp), room)
    others, inverse_of_others = np.unique(values[far], return_inverse=True)
    inverse[far] = inverse_of_others + len(distinct)
    return np.concatenate([distinct, others]), inverse


def distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The distinct values of an array, ascending; sorting takes a fraction of what numpy's hashing does (2.4)."""
    ordered = np.sort(values)
    if not len(ordered):
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def by_code(codes: Indices, count: int) -> Indices:
    """The stable order of small numbers below ``count``."""
    narrow = codes.astype(np.uint16) if count <= 1 << 16 else codes  # numpy sorts 16 bits by radix
    return np.argsort(narrow, kind="stable")


def group_roughly(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Indices]:
    """As `group`, but values of which most are unique are left as they are, some of them more than once."""
    if len(values) >= _MANY:
        sample = np.sort(values[:: len(values) // _SAMPLE])
        if (sample[1:] != sample[:-1]).mean() > _UNIQUE:
            return values, np.arange(len(values))
    return group(values)


def _by_table(values: npt.NDArray[Number], places: Indices, room: int) -> tuple[npt.NDArray[Number], Indices]:
    """`group` of values that have places below ``room``."""
    value_at = np.zeros(room, values.dtype)
    seen = np.zeros(room, np.bool_)
    value_at[places], seen[places] = values, True
    taken = np.flatnonzero(seen)
    index_of = np.empty(room, np.intp)
    index_of[taken] = np.arange(len(taken))
    return value_at[taken], index_of[places]
