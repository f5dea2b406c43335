"""The small tables that stand beside the rows: process, segment and stats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from process.discover import Part
from process.ledger import Ledger, Severity
from process.plan import Plan
from process.prepare import Prepared
from process.read import MAX_SEQUENCE
from process.schema import PROCESS_COLUMNS, SEGMENT_COLUMNS, STATS_COLUMNS
from process.strings import escape
from process.tally import Tally

Tables = dict[str, tuple[Sequence[str], list[tuple[Any, ...]]]]
"""Columns and rows by name of the table."""

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


def tables(prepared: Prepared, decoded: Decoded) -> Tables:
    """The three tables of an output, the ledger last: it must be complete."""
    return {
        "process": (PROCESS_COLUMNS, processes(decoded)),
        "segment": (SEGMENT_COLUMNS, _segments(prepared, {part for plan, _ in decoded for part in plan.batch.parts})),
        "stats": (
            STATS_COLUMNS,
            [(*row, min(count, MAX_SEQUENCE)) for *row, count in prepared.ledger.rows()],
        ),
    }


def processes(decoded: Decoded) -> list[tuple[Any, ...]]:
    """Rows of the table `process`, by capture and first event."""
    merged: dict[int, Tally] = {}
    for plan, tally in decoded:
        whole = merged.setdefault(plan.capture, Tally())
        for process, (seq, time_ns, events) in tally.processes.items():
            whole.add_process(process, seq, time_ns, events)
    rows = (
        (capture, *process, *counts, source)
        for capture, tally in merged.items()
        for (*process, source), counts in tally.processes.items()
    )
    return sorted(rows, key=lambda row: (row[0], row[5]))


def count_processes(rows: Iterable[tuple[Any, ...]]) -> int:
    """Distinct processes in the table `process`, where each has a row for every program that it ran."""
    return len({(capture, pid) for capture, pid, *_ in rows if pid is not None})


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
