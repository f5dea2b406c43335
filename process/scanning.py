"""A lazy frame over segments: decodes what a query asks for, and writes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import cache, partial
from os import PathLike
from pathlib import Path

import polars as pl

from capture.segment import SegmentError
from process.decode import Decoder
from process.fd_state import Start
from process.frames import frames as frames_of
from process.garbage import collecting_rarely
from process.lazy import lazy
from process.plan import Plan
from process.pool import Workers
from process.predicates import conditions
from process.prepare import Prepared, prepare


def scan(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> pl.LazyFrame:
    """The rows of segments as a lazy frame, with the columns of ``schema.SCHEMA``.

    The segments are surveyed at once, in this process, and decoded one after the other when the query runs. What
    descriptors are is found out when a query first asks for it.
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
    found = [Path(path) for path in several]
    with collecting_rarely:
        prepared = prepare(found, Workers(1, reads_ahead=True), files=False, trees=False, is_query=True)
    for _, note in prepared.ledger.notes():
        warnings.warn(note, stacklevel=2)

    @cache
    def whole() -> tuple[Prepared, dict[str, Start | None]]:
        again = prepare(found, Workers(1, reads_ahead=True), trees=False, is_query=True)
        return again, {plan.batch.label: plan.start for plan in again.plans}

    def start_of(plan: Plan) -> Start:
        start = whole()[1].get(plan.batch.label)
        if start is None:
            raise SegmentError(f"{plan.batch.name}: changed since it was surveyed; scan again")
        return start

    def frames(columns: list[str] | None, predicate: pl.Expr | None) -> Iterator[pl.DataFrame]:
        asked = conditions(predicate)
        for plan in prepared.plans:
            yield from frames_of(Decoder(plan, columns, asked, partial(start_of, plan), is_ahead=True))

    return lazy(frames)
