"""A lazy frame over segments: decodes what a query asks for, and writes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import polars as pl

from process.decode import Decoder
from process.lazy import lazy
from process.pool import Workers
from process.prepare import prepare


def scan(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> pl.LazyFrame:
    """The rows of segments as a lazy frame, with the columns of ``schema.SCHEMA``.

    The segments are surveyed at once, in this process, and decoded one after the other when the query runs.
    What is missing or damaged is told by a warning.

    Args:
        paths: A file or folder, or several.

    Returns:
        A frame whose filters, projections and `head` are applied slice by slice, so that memory stays small. Only the
        columns that a query names are made, and only for the rows that meet its conditions.

    Raises:
        ProcessError: Nothing in ``paths`` can be decoded.

    Example:
        >>> scan("captures/").filter(pl.col("errno") == "ENOENT").select("procname", "arg0_repr").collect()
    """
    several = [paths] if isinstance(paths, str | PathLike) else list(paths)
    prepared = prepare([Path(path) for path in several], Workers(1))
    for _, note in prepared.ledger.notes():
        warnings.warn(note, stacklevel=2)

    def frames(columns: list[str] | None, predicate: pl.Expr | None) -> Iterator[pl.DataFrame]:
        for plan in prepared.plans:
            yield from Decoder(plan, columns, predicate).frames()

    return lazy(frames)
