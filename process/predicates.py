"""The conditions of a query, taken apart, so that the cheap ones decide for which events the others are looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from process.schema import REPRS


def parts(predicate: pl.Expr | None) -> list[pl.Expr]:
    """The conditions that are joined by `&`, those that need no texts first."""
    if predicate is None:
        return []
    return sorted(_parts(predicate), key=lambda one: not REPRS.isdisjoint(one.meta.root_names()))


def holds(condition: pl.Expr, frame: pl.DataFrame, count: int) -> npt.NDArray[np.bool_]:
    """For which of ``count`` rows a condition holds; a frame of its columns, which may be none."""
    found = frame.select(condition).to_series().fill_null(False)
    values: npt.NDArray[np.bool_] = found.to_numpy()
    return values if len(values) == count else np.full(count, values[0])


def _parts(predicate: pl.Expr) -> list[pl.Expr]:
    inputs = predicate.meta.pop()
    if len(inputs) == 2 and predicate.meta.eq(inputs[1] & inputs[0]):
        return _parts(inputs[1]) + _parts(inputs[0])
    return [predicate]
