"""Values of a column by their indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl


def take(values: pl.Series, indices: npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]) -> pl.Series:
    """The values at some indices, none of which is negative.

    Polars' `Series.gather` makes a query of it, casts the indices twice, and is fifteen times slower where a column has
    two pieces, as one that was just put together has (2.1).

    Args:
        values: Any column.
        indices: As uint32 they are used as they are; truth values are 0 and 1.
    """
    found: pl.Series = values.rechunk()[indices.astype(np.uint32, copy=False)]
    return found
