"""The small tables that stand beside the rows: process, segment and stats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from process.batch import Batch
from process.events import MAX_SEQUENCE
from process.fd_history import Sheet
from process.fd_pieces import Made
from process.garbage import settle
from process.ledger import Ledger, Severity
from process.plan import Plan
from process.pool import Workers
from process.prepare import Prepared
from process.process_rows import process_rows
from process.schema import FD_COLUMNS, PROCESS_COLUMNS, SEGMENT_COLUMNS, STATS_COLUMNS, Kinds, kinds
from process.strings import escape
from process.tally import Tally
from process.text import printable


@dataclass
class Files:
    """The table `fd`, which may be large: in pieces.

    Attributes:
        sheets: They, in order.
    """

    sheets: list[Sheet] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Rows."""
        return sum(sheet.count for sheet in self.sheets)

    @property
    def columns(self) -> Kinds:
        """Its columns."""
        return kinds(FD_COLUMNS)


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: Its columns.
        rows: They, each with a value for each column.
    """

    columns: Kinds
    rows: Sequence[tuple[Any, ...]]


Tables = dict[str, Table | Files]
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


def tables(prepared: Prepared, decoded: Decoded, workers: Workers | None) -> Tables:
    """All that `each_table` gives."""
    return dict(each_table(prepared, decoded, workers))


def each_table(prepared: Prepared, decoded: Decoded, workers: Workers | None) -> Iterator[tuple[str, Table | Files]]:
    """The small tables of an output, whose ledger must be complete.

    The one that takes longest to make comes last: `fd`, which is left out if nobody is to make it.
    """
    rows, ids = _processes(prepared, decoded)
    yield "process", Table(kinds(PROCESS_COLUMNS), rows)
    yield "segment", Table(kinds(SEGMENT_COLUMNS), _segments(prepared, decoded))
    stats = [(*row, min(count, MAX_SEQUENCE)) for *row, count in prepared.ledger.rows()]
    yield "stats", Table(kinds(STATS_COLUMNS), stats)
    if workers is not None:
        yield "fd", _files(prepared, decoded, ids, workers)


def _processes(prepared: Prepared, decoded: Decoded) -> tuple[list[tuple[Any, ...]], list[dict[int, int]]]:
    """Rows of the table `process`, by capture and first event, and for each capture the ids of its programs."""
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


def _files(prepared: Prepared, decoded: Decoded, ids: list[dict[int, int]], workers: Workers) -> Files:
    """The table `fd`, by capture and event."""
    found = Files()
    made: list[dict[int, Made]] = [{} for _ in prepared.histories]
    for plan, tally in decoded:
        if plan.files is not None and tally.files is not None:
            made[plan.capture - 1][plan.files.number] = tally.files
        tally.files = None  # it is much, and is not asked for again
    for history, pieces, tree, known in zip(prepared.histories, made, prepared.trees, ids, strict=True):
        named = np.full(len(tree.programs), -1)
        named[list(known)] = list(known.values())
        found.sheets += history.sheets(pieces, named, workers.anew, found.count, workers.end)
    settle(workers.apart)
    return found


def count_processes(tables: Tables) -> int:
    """Distinct numbers in the table `process`, where each has a row for every program that ran under it."""
    table = tables["process"]
    assert isinstance(table, Table)
    at = PROCESS_COLUMNS.index("capture"), PROCESS_COLUMNS.index("pid")
    return len({(row[at[0]], row[at[1]]) for row in table.rows if row[at[1]] is not None})


def _segments(prepared: Prepared, decoded: Decoded) -> list[tuple[Any, ...]]:
    """Rows of the table `segment`; one that could not be decoded has no rows."""
    whole = {plan.position for plan, _ in decoded if not plan.piece}
    alone = {key for plan, _ in decoded if plan.piece for key in plan.batch.key}
    rows: list[tuple[Any, ...]] = []
    before: Batch | None = None
    for plan, survey in zip(prepared.plans, prepared.surveys, strict=True):
        members, header, keys = survey.members, survey.batch.header, survey.batch.key
        counts = zip(keys, plan.counts, strict=True)
        found = zip(
            repeat(plan.capture, len(keys)),
            repeat(str(header.capture)),
            (number for _, number in keys),
            map(printable, members.parts.names()),
            repeat(escape(header.abi.encode())),
            (min(first, MAX_SEQUENCE) for first in members.parts.firsts()),
            members.events.tolist(),
            plan.counts if plan.position in whole else [count if key in alone else 0 for key, count in counts],
            members.sizes.tolist(),
            members.sealed.astype(int).tolist(),
            (len(members.damage.get(k, ())) for k in range(len(keys))),
            strict=False,
        )
        rows += [_joined(rows.pop(), *found)] if survey.batch.continues(before) else found
        before = survey.batch
    return rows


_SUMMED = [name in ("events", "rows", "damage") for name in SEGMENT_COLUMNS]


def _joined(row: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of a segment of which two tell a split each."""
    return tuple(one + two if summed else one for one, two, summed in zip(row, other, _SUMMED, strict=True))
