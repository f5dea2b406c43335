"""The conditions of a query, taken apart, so that the cheap ones decide for which events the others are looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from process.calls import Rules
from process.schema import LABEL, REPRS, SCHEMA
from process.wanted import May

_OF_CALLS = frozenset({"name", "abi", "nr"})
"""Columns that say only which call an event is of."""


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


def of_calls(conditions: list[pl.Expr]) -> list[pl.Expr]:
    """Those of some conditions that hold for all events of a call or for none."""
    return [one for one in conditions if (names := one.meta.root_names()) and _OF_CALLS.issuperset(names)]


def met_by(conditions: list[pl.Expr], rules: Rules) -> May:
    """Which numbers stand for calls that meet some conditions `of_calls`, or may lead to such a call."""

    def may(abi: int, numbers: list[int]) -> npt.NDArray[np.bool_]:
        targets = [rules.target(abi, number) for number in numbers]
        frame = pl.DataFrame(
            {
                "name": pl.Series([one.name for one in targets], dtype=pl.String).cast(LABEL),
                "abi": pl.Series([one.abi.name for one in targets], dtype=pl.String).cast(LABEL),
                "nr": pl.Series(numbers, dtype=SCHEMA["nr"]),
            }
        )
        met = np.ones(len(numbers), np.bool_)
        for condition in conditions:
            met &= holds(condition, frame, len(numbers))
        return met | np.array([one.way is not None for one in targets], np.bool_)

    return may


def _parts(predicate: pl.Expr) -> list[pl.Expr]:
    inputs = predicate.meta.pop()
    if len(inputs) == 2 and predicate.meta.eq(inputs[1] & inputs[0]):
        return _parts(inputs[1]) + _parts(inputs[0])
    return [predicate]
