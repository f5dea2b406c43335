"""Frames that are made while a query runs, as a lazy frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import polars as pl
from polars.io.plugins import register_io_source

from process.frames import SCHEMA
from process.garbage import collecting_rarely
from process.side_by_side import at_work, ending

Frames = Callable[[list[str] | None, pl.Expr | None, bool], Iterator[pl.DataFrame]]
"""Makes frames of some columns, or all, and of the rows that meet a predicate, or all; whether only the first count."""


def lazy(frames: Frames, schema: Mapping[str, pl.DataType | type[pl.DataType]] = SCHEMA) -> pl.LazyFrame:
    """A lazy frame over frames of the output's columns, held one at a time.

    Args:
        frames: Begins to yield frames, in order; called once for each run of a query.
        schema: Of the columns, if they are not all.
    """

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        if left is None:
            made, rest = frames(with_columns, predicate, False), None
        else:  # the first rows are meant, whether they meet the predicate or not
            needed = None if with_columns is None else list(dict.fromkeys([*with_columns, *_roots(predicate)]))
            made, rest = frames(needed, None, True), predicate
        while not ending.is_set():
            with at_work, collecting_rarely:
                frame = next(made, None)
                if frame is not None and left is not None:
                    frame = frame.head(left)
                    left -= len(frame)
                if frame is not None and rest is not None:
                    frame = frame.filter(rest)
            if frame is None:
                return
            yield frame if with_columns is None else frame.select(with_columns)
            if left is not None and left <= 0:
                return

    return register_io_source(source, schema=schema, is_pure=True)


def _roots(predicate: pl.Expr | None) -> list[str]:
    return [] if predicate is None else predicate.meta.root_names()
