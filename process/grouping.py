"""Distinct values and orders of arrays, in the way that costs least."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from process import kernels_distinct

Number = TypeVar("Number", np.int64, np.uint64)
Value = TypeVar("Value", bound=np.generic)
Indices = npt.NDArray[np.intp]

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: products of numbers that follow each other are far apart in their upper bits."""


def group(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Indices]:
    """The distinct values of an array, in no order to rely on, and for each element an index into them.

    Args:
        values: int64 or uint64 of shape (n,).
    """
    found = kernels_distinct.group(values)
    if found is None:
        distinct, inverse = np.unique(values, return_inverse=True)
        return distinct, inverse
    return found


def distinct(values: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """The distinct values of an array, or records, ascending.

    Sorting takes a fraction of what numpy's hashing does (2.4), whose first use imports numpy.ma, too: 0.007 s.
    """
    ordered = np.sort(values)
    if not len(ordered):
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def union(values: npt.NDArray[Value], others: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """The distinct values of two arrays, ascending."""
    return distinct(np.concatenate([values, others]))


def without(values: npt.NDArray[Number], others: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The distinct values of an array that are not in another one, ascending."""
    found = distinct(values)
    return found[~are_in(found, others)]


def are_in(values: npt.NDArray[Number], others: npt.NDArray[Number]) -> npt.NDArray[np.bool_]:
    """Which values of an array are in another one."""
    if not len(others):
        return np.zeros(len(values), np.bool_)
    ordered = np.sort(others)
    found: npt.NDArray[np.bool_] = ordered.take(np.searchsorted(ordered, values), mode="clip") == values
    return found


def in_order(keys: npt.NDArray[np.int64], then: npt.NDArray[np.int64] | None = None) -> Indices:
    """The stable order by keys; where two are equal, by what is given for then."""
    order, ordered = kernels_distinct.in_order(keys)
    if then is None:
        return order
    return np.lexsort((then, keys)) if (ordered[1:] == ordered[:-1]).any() else order


def ranges(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All indices from each start to its end."""
    counts = ends - starts
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def by_code(codes: Indices, count: int) -> Indices:
    """The stable order of small numbers below ``count``."""
    narrow = codes.astype(np.uint16) if count <= 1 << 16 else codes  # numpy sorts 16 bits by radix
    return np.argsort(narrow, kind="stable")


def spread(values: npt.NDArray[np.uint64], bits: int) -> Indices:
    """A place below ``1 << bits`` for each value; mostly others for others."""
    places: Indices = (values * _SPREAD >> np.uint64(64 - bits)).view(np.intp)
    return places
