"""The conditions of a query, taken apart, so that the cheap ones decide for which events the others are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from process.calls import Rules
from process.frames import SCHEMA, frame
from process.schema import REPRS
from process.values import Made
from process.wanted import May

_OF_CALLS = frozenset({"name", "abi", "nr"})
"""Columns that say only which call an event is of."""


@dataclass(frozen=True, eq=False)
class Condition:
    """One of them.

    Attributes:
        expression: It.
        names: The columns that it looks at.
    """

    expression: pl.Expr
    names: list[str]

    @property
    def is_costly(self) -> bool:
        """Whether it should be asked only for rows that meet all others before it: it needs texts, or all is alike."""
        return not REPRS.isdisjoint(self.names) or not self.names

    def holds(self, made: Made, count: int) -> npt.NDArray[np.bool_]:
        """For which of ``count`` rows it holds, by its columns, which may be none."""
        return _holds(self.expression, frame(made), count)


class Conditions:
    """What rows must meet.

    Attributes:
        each: The conditions that are joined by `&`, those that need no texts first.
    """

    def __init__(self, predicate: pl.Expr) -> None:
        """Take a predicate apart."""
        found = [Condition(one, one.meta.root_names()) for one in _parts(predicate)]
        self.each = sorted(found, key=lambda one: not REPRS.isdisjoint(one.names))

    def of_calls(self, rules: Rules) -> May | None:
        """Which numbers stand for calls that meet the conditions on calls alone, or may lead to such a call.

        None if there are no such conditions.
        """
        chosen = [one.expression for one in self.each if one.names and _OF_CALLS.issuperset(one.names)]
        if not chosen:
            return None

        def may(abi: int, numbers: list[int]) -> npt.NDArray[np.bool_]:
            targets = [rules.target(abi, number) for number in numbers]
            columns = {
                "name": [one.name for one in targets],
                "abi": [one.abi.name for one in targets],
                "nr": numbers,
            }
            calls = pl.DataFrame(columns, schema_overrides={name: SCHEMA[name] for name in columns})
            met = np.ones(len(numbers), np.bool_)
            for condition in chosen:
                met &= _holds(condition, calls, len(numbers))
            return met | np.array([one.way is not None for one in targets], np.bool_)

        return may


def conditions(predicate: pl.Expr | None) -> Conditions | None:
    """What a predicate asks, if there is one."""
    return None if predicate is None else Conditions(predicate)


def _holds(condition: pl.Expr, rows: pl.DataFrame, count: int) -> npt.NDArray[np.bool_]:
    """For which of ``count`` rows a condition holds; a frame of its columns, which may be none."""
    found = rows.select(condition).to_series().fill_null(False)
    values: npt.NDArray[np.bool_] = found.to_numpy()
    return values if len(values) == count else np.full(count, values[0])


def _parts(predicate: pl.Expr) -> list[pl.Expr]:
    inputs = predicate.meta.pop()
    if len(inputs) == 2 and predicate.meta.eq(inputs[1] & inputs[0]):
        return _parts(inputs[1]) + _parts(inputs[0])
    return [predicate]
