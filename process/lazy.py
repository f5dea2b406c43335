"""Frames that are made while a query runs, as a lazy frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
from polars.io.plugins import register_io_source

from process.schema import SCHEMA


def lazy(frames: Callable[[], Iterator[pl.DataFrame]]) -> pl.LazyFrame:
    """A lazy frame over frames of the output's columns, held one at a time.

    Args:
        frames: Begins to yield frames, in order; called once for each run of a query.
    """

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in frames():
            if left is not None:
                frame = frame.head(left)
                left -= len(frame)
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame if with_columns is None else frame.select(with_columns)
            if left is not None and left <= 0:
                return

    return register_io_source(source, schema=SCHEMA, is_pure=True)
