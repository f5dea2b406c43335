"""A lazy frame over segments: decodes what a query asks for, and writes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import chain
from os import PathLike
from pathlib import Path
from threading import Lock

import polars as pl

from capture.segment import SegmentError
from process.decode import Decoder
from process.fd_state import Start
from process.frames import frames as frames_of
from process.frames import size
from process.garbage import collecting_rarely
from process.lazy import lazy
from process.plan import Plan
from process.pool import Workers
from process.predicates import conditions
from process.prepare import Prepared, prepare
from process.side_by_side import THREADS, side_by_side


def scan(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> pl.LazyFrame:
    """The rows of segments as a lazy frame, with the columns of ``schema.SCHEMA``.

    The segments are surveyed at once, in this process, and decoded when the query runs, two at a time. What
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
        prepared = prepare(found, Workers(1, threads=THREADS), files=False, trees=False, is_query=True)
    for _, note in prepared.ledger.notes():
        warnings.warn(note, stacklevel=2)

    lock = Lock()

    @cache
    def whole() -> tuple[Prepared, dict[str, Start | None]]:
        again = prepare(found, Workers(1, threads=THREADS), trees=False, is_query=True)
        return again, {plan.batch.label: plan.start for plan in again.plans}

    def start_of(plan: Plan) -> Start:
        with lock:
            start = whole()[1].get(plan.batch.label)
        if start is None:
            raise SegmentError(f"{plan.batch.name}: changed since it was surveyed; scan again")
        return start

    def frames(columns: list[str] | None, predicate: pl.Expr | None, is_head: bool) -> Iterator[pl.DataFrame]:
        asked = conditions(predicate)

        def of(plan: Plan) -> Iterator[pl.DataFrame]:
            return frames_of(Decoder(plan, columns, asked, partial(start_of, plan)))

        if is_head:
            return chain.from_iterable(map(of, prepared.plans))
        return side_by_side(of, prepared.plans, size)

    return lazy(frames)
