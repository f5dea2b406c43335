"""Step four: who and under which mark an event is, from what all segments of its capture say.

Nothing is taken across a gap: what a lost event may have changed is unknown until it is recorded again. A reset (the
emulator has gone back to a snapshot) is a gap at which nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process.compact import Columns, columns, rows
from process.events import Words
from process.kernels_changes import last_at
from process.naming import Namer
from process.runs import Runs, Sequences
from process.survey import Identity, Mark, Survey

Codes = npt.NDArray[np.int64]


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

    def __getstate__(self) -> tuple[Columns, Columns, Sequences]:
        return columns(self.identities), columns(self.marks), self.runs

    def __setstate__(self, state: tuple[Columns, Columns, Sequences]) -> None:
        identities, marks, self.runs = state
        self.identities, self.marks = rows(Identity, identities), rows(Mark, marks)


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
