"""Step four: who and under which mark an event is, from what all segments of its capture say.

Nothing is taken across a gap: what a lost event may have changed is unknown until it is recorded again. A reset (the
emulator has gone back to a snapshot) is a gap at which nothing is lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process.kernels import last_at
from process.naming import Namer
from process.read import Words
from process.survey import Identity, Mark, Sequences, Survey

Codes = npt.NDArray[np.int64]


class Runs:
    """The stretches of a capture's sequence numbers in which no event is missing, and none is a reset.

    Attributes:
        starts: First sequence number of each, int64, ascending.
        ends: One past the last of each, likewise.
        missing: (first, count) of each stretch of events that are missing, the one before the first event included.
        end: One past the last event of all, 0 without any.
    """

    def __init__(
        self, blocks: Iterable[tuple[int, int]], resets: Iterable[int] = (), breaks: Iterable[int] = ()
    ) -> None:
        """Join (first, count) pairs, in any order, and cut them at resets, and before breaks.

        Args:
            blocks: What is there.
            resets: Events that are resets.
            breaks: Events before which something is lost that may have changed what holds.
        """
        starts: list[int] = []
        ends: list[int] = []
        for first, count in sorted(blocks):
            if ends and first <= ends[-1]:
                ends[-1] = max(ends[-1], first + count)
            else:
                starts.append(first)
                ends.append(first + count)
        before = [0, *ends]
        self.missing = [(a, b - a) for a, b in zip(before, starts, strict=False) if b > a]
        self.end = ends[-1] if ends else 0
        cuts = np.fromiter(resets, np.int64)
        before_them = sorted(set(breaks))
        starts = sorted([*starts, *(cuts + 1).tolist(), *before_them])
        ends = sorted([*ends, *cuts.tolist(), *before_them])
        pairs = [(first, end) for first, end in zip(starts, ends, strict=True) if first < end]
        self._starts, self._ends = [first for first, _ in pairs], [end for _, end in pairs]
        self.starts = np.array(self._starts, np.int64)
        self.ends = np.array(self._ends, np.int64)

    def of(self, seq: int) -> int:
        """The run that holds a sequence number, -1 if none does."""
        at = bisect_right(self._starts, seq) - 1
        return at if at >= 0 and seq < self._ends[at] else -1

    def around(self, blocks: list[tuple[int, int]]) -> Sequences:
        """Starts of the runs in which (first, count) pairs are: nothing that others do not need, and may change."""
        first = min((first for first, _ in blocks), default=0)
        end = max((first + count for first, count in blocks), default=0)
        low = max(int(np.searchsorted(self.starts, first, "right")) - 1, 0)
        return self.starts[low : np.searchsorted(self.starts, end)]


@dataclass
class State:
    """What is known at the start of a segment, and what it adds: records by sequence number.

    Attributes:
        identities: Those that events of the segment may need.
        marks: Likewise.
        runs: int64 starts of the runs that its events are in; a record holds only for events of its own run.
    """

    identities: list[Identity] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    runs: Sequences = field(default_factory=lambda: np.zeros(0, np.int64))


def states(surveys: list[Survey], runs: Runs) -> list[State]:
    """Each segment's state, composed in order from what the segments before it end with.

    What no longer holds because of a gap is carried, too; `identify` and `marked` see to that for each event.

    Args:
        surveys: The segments of one capture, in order.
        runs: Of the whole capture.
    """
    known: dict[int, Identity] = {}
    mark: Mark | None = None
    found = []
    is_whole = len(runs.starts) > 0 and int(runs.starts[0]) == 0
    namer = Namer([step for survey in surveys for step in survey.steps], is_whole)
    for survey in surveys:
        happened = {one.seq for one in survey.identities} | {step.seq for step in survey.steps}
        places = {seq: runs.of(seq) for seq in happened}
        recorded = [one for one in survey.identities if places[one.seq] >= 0]
        own = namer.name(recorded, [step for step in survey.steps if places[step.seq] >= 0], places)
        marks = [one for one in survey.marks if runs.of(one.seq) >= 0]
        needed = set(survey.tasks.tolist())
        carried = sorted(one for task, one in known.items() if task in needed)
        found.append(State(carried + own, ([mark] if mark else []) + marks, runs.around(survey.blocks)))
        known.update((one.task, one) for one in own)
        mark = marks[-1] if marks else mark
    return found


def identify(state: State, sequences: Sequences, tasks: Words, which: Codes) -> Codes:
    """The identity of each event: an index into ``state.identities``, -1 if nothing is known.

    Args:
        state: Of the events' segment.
        sequences: int64 of shape (n,), ascending.
        tasks: uint64, the distinct tasks of the events.
        which: For each event an index into these.
    """
    if not state.identities:
        return np.full(len(sequences), -1, np.int64)
    since = np.array([one.seq for one in state.identities], np.int64)
    known, own = np.unique(np.array([one.task for one in state.identities], np.uint64), return_inverse=True)
    order = np.lexsort((since, own))
    starts = np.searchsorted(own[order], np.arange(len(known) + 1))
    number = np.minimum(np.searchsorted(known, tasks), len(known) - 1)
    number[known[number] != tasks] = -1
    found = last_at(starts, since[order], number[which], sequences)
    return _within_run(state, np.append(order, -1).take(found, mode="wrap"), since, sequences)  # -1 is the last one


def marked(state: State, sequences: Sequences) -> Codes:
    """The mark of each event: an index into ``state.marks``, -1 if none is known."""
    if not state.marks:
        return np.full(len(sequences), -1, np.int64)
    since = np.array([mark.seq for mark in state.marks], np.int64)
    return _within_run(state, np.searchsorted(since, sequences, side="right") - 1, since, sequences)


def _within_run(state: State, index: Codes, since: Sequences, sequences: Sequences) -> Codes:
    """``index`` with -1 where a gap lies between an event and the record that it points to; there is at least one."""
    if not len(state.runs) or min(since.min(), sequences[0]) >= state.runs[-1]:  # all are of one run
        return index
    run_of_record = np.searchsorted(state.runs, since, side="right")
    same = run_of_record[index] == np.searchsorted(state.runs, sequences, side="right")
    return np.where((index >= 0) & same, index, -1)
