"""The rows of the table `process`: a capture's tree, numbered, with what was counted."""

from __future__ import annotations

from typing import Any

from process.tally import Count, Tally
from process.tree import Program, Tree

_NONE = Count(0, 0)
Row = tuple[Any, ...]


def process_rows(capture: int, tree: Tree, tally: Tally, before: int) -> list[Row]:
    """The rows of one capture, in the order of ``schema.PROCESS_COLUMNS``.

    Args:
        capture: Its number.
        tree: Its programs.
        tally: Its rows by process.
        before: How many rows the captures before it have.
    """
    counts: dict[int, Count] = {}
    for key, count in tally.processes.items():
        if len(key) == 2 and key[1] == -1:
            counts[key[0]] = count
    entries: list[tuple[tuple[int, int, int], Row | int, Count]] = []
    for index in _kept(tree, counts):
        count, program = counts.get(index, _NONE), tree.programs[index]
        place = (count.seq if count.events else program.since, program.pid, index)
        entries.append((place, index, count))
    for number, (key, count) in enumerate(tally.processes.items(), len(tree.programs)):
        if len(key) == 2 and key[1] != -1:
            entries.append(((count.seq, key[0], number), (key[0], None, "[none]", None, "unknown"), count))
        elif len(key) != 2:
            entries.append(((count.seq, -1, number), (None, *key), count))
    entries.sort(key=lambda entry: entry[0])
    ids = {entry: number for number, (_, entry, _) in enumerate(entries, before + 1) if isinstance(entry, int)}
    rows = []
    for number, (_, entry, count) in enumerate(entries, before + 1):
        counted = (*((count.seq, count.time_ns) if count.events else (None, None)), count.events, count.errors)
        if isinstance(entry, int):
            program = tree.programs[entry]
            known = ids[program.process], ids.get(program.parent), *_named(program)
            rows.append((number, capture, *known, *counted, len(count.tasks), *_span(program)))
        else:
            rows.append((number, capture, number, None, *entry, *counted, len(count.tasks), *(None,) * 7))
    return rows


def _kept(tree: Tree, counts: dict[int, Count]) -> list[int]:
    """The programs that have made calls or that were seen to begin, and those that these need."""
    kept: set[int] = set()
    asked = {index for index, one in enumerate(tree.programs) if index in counts or one.began}
    while asked:
        kept |= asked
        asked = {above for index in asked for above in (tree.programs[index].process, tree.programs[index].parent)}
        asked -= kept | {-1}
    return sorted(kept)


def _named(program: Program) -> Row:
    who = program.who
    return program.pid, program.ppid, who.procname, who.argv, who.source


def _span(program: Program) -> Row:
    return (
        program.began, program.start_seq, program.start_time,
        program.ended, program.end_seq, program.end_time, program.status,
    )  # fmt: skip
