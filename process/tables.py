"""The small tables that stand beside the rows: process, segment and stats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from process.discover import Part
from process.fd_history import history
from process.ledger import Ledger, Severity
from process.plan import Plan, captures, runs_of
from process.prepare import Prepared
from process.process_rows import process_rows
from process.read import MAX_SEQUENCE
from process.render import nullable
from process.schema import FD_COLUMNS, PROCESS_COLUMNS, SEGMENT_COLUMNS, STATS_COLUMNS, TEXT_COLUMNS
from process.strings import escape
from process.tally import Tally

Tables = dict[str, pl.DataFrame]
"""Tables by their names."""

Decoded = list[tuple[Plan, Tally]]
"""What was decoded, in the output's order."""


def account(decoded: Decoded, ledger: Ledger) -> None:
    """Enter what decoding gave into the ledger."""
    total = Tally()
    for _, tally in decoded:
        total.unknown += tally.unknown
    ledger.add(Severity.INFO, "decode", "rows", sum(tally.rows for _, tally in decoded))
    ledger.add(Severity.INFO, "decode", "errors", sum(tally.errors for _, tally in decoded))
    ledger.add(
        Severity.LOSS,
        "decode",
        "arguments whose string is lost",
        sum(tally.lost_strings for _, tally in decoded),
    )
    for (abi, number), count in sorted(total.unknown.items()):
        ledger.add(Severity.WARNING, "decode", f"calls of {abi} syscall {number}, which no table has", count)


def tables(prepared: Prepared, decoded: Decoded, *, files: bool = True) -> Tables:
    """The small tables of an output, without `fd` unless ``files``; the ledger last: it must be complete."""
    rows, ids = _processes(prepared, decoded)
    return {
        "process": _frame(PROCESS_COLUMNS, rows),
        **({"fd": _files(prepared, ids)} if files else {}),
        "segment": _frame(
            SEGMENT_COLUMNS, _segments(prepared, {part for plan, _ in decoded for part in plan.batch.parts})
        ),
        "stats": _frame(
            STATS_COLUMNS,
            [(*row, min(count, MAX_SEQUENCE)) for *row, count in prepared.ledger.rows()],
        ),
    }


def _frame(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows as a table."""
    return pl.DataFrame(rows, {name: pl.String if name in TEXT_COLUMNS else pl.Int64 for name in columns}, orient="row")


def processes(prepared: Prepared, decoded: Decoded) -> list[tuple[Any, ...]]:
    """Rows of the table `process`, by capture and first event."""
    return _processes(prepared, decoded)[0]


def _processes(prepared: Prepared, decoded: Decoded) -> tuple[list[tuple[Any, ...]], list[dict[int, int]]]:
    """Likewise, and for each capture the ids of its programs."""
    tallies: dict[int, Tally] = {number: Tally() for number in range(1, len(prepared.trees) + 1)}
    for plan, tally in decoded:
        for process, count in tally.processes.items():
            tallies[plan.capture].add_process(process, count)
    rows: list[tuple[Any, ...]] = []
    ids: list[dict[int, int]] = []
    for (capture, tally), tree in zip(tallies.items(), prepared.trees, strict=True):
        made, found = process_rows(capture, tree, tally, len(rows))
        rows += made
        ids.append(found)
    return rows, ids


def _files(prepared: Prepared, ids: list[dict[int, int]]) -> pl.DataFrame:
    """The table `fd`, by capture and event."""
    found = [_frame(FD_COLUMNS, [])]
    for capture, (segments, tree, known) in enumerate(
        zip(captures(prepared.surveys), prepared.trees, ids, strict=True), 1
    ):
        began = segments[0].batch.header.realtime_ns
        frame = history([survey.effect for survey in segments], runs_of(segments).starts, tree, began)
        if frame is not None:
            first = sum(map(len, found)) + 1
            named = np.full(len(tree.programs) + 1, -1)
            named[list(known)] = list(known.values())
            program = named[frame["program"].to_numpy()]
            frame = frame.with_columns(
                id=pl.int_range(first, first + len(frame)), capture=capture, program=nullable(program, program >= 0)
            )
            found.append(frame.select(FD_COLUMNS).cast(found[0].schema))
    return pl.concat(found)


def count_processes(rows: Iterable[tuple[Any, ...]]) -> int:
    """Distinct numbers in the table `process`, where each has a row for every program that ran under it."""
    at = PROCESS_COLUMNS.index("capture"), PROCESS_COLUMNS.index("pid")
    return len({(row[at[0]], row[at[1]]) for row in rows if row[at[1]] is not None})


def _segments(prepared: Prepared, parts: set[Part]) -> list[tuple[Any, ...]]:
    """Rows of the table `segment`; one that could not be decoded has no rows."""
    return [
        (
            plan.capture,
            str(one.part.header.capture),
            one.part.header.segment,
            one.part.name,
            escape(one.part.header.abi.encode()),
            min(one.part.header.first_event, MAX_SEQUENCE),
            one.events,
            rows if one.part in parts else 0,
            one.size,
            int(one.is_sealed),
            len(one.damage),
        )
        for plan, survey in zip(prepared.plans, prepared.surveys, strict=True)
        for one, rows in zip(survey.members, plan.counts, strict=True)
    ]
