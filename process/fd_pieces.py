"""What one batch of segments gives the table `fd`: rows that begin and end within it, and the steps that are left.

Made by the worker that decodes the batch, once its rows are done: what answered for them is there, and what must be
known of other batches (`Piece`) their net effects tell beforehand. Behind a close nothing depends on what was before
it. So of the steps of a descriptor from its first close to its last one, rows are made here, and only the two closes
are passed on, with what is outside of them. Where something else may reach into that (a call of a later batch that had
begun by then, one that never came back, a table that begins anew or ends), closes count only before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from process.batch import Batch
from process.descriptors import Descriptors, scan_again
from process.errors import ProcessError
from process.fd_index import later
from process.fd_records import CLOSED, NEVER, Records, Scan, stored, taken
from process.fd_rows import Stretch, records
from process.fd_state import Start
from process.fd_steps import Ends, Steps, of_changes, order_of, same_as_before
from process.fd_timeline import Timeline
from process.grouping import ranges
from process.kernels_changes import last_at
from process.shelf import get_columns, get_texts, put_columns, put_texts
from process.text_array import TextArray

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Shelved = TypeVar("Shelved", "Left", Stretch)

EARLY = np.dtype([("pair", np.int64), ("began", np.int64), ("batch", np.int64)])
"""A change that reaches into other batches than its own: of a descriptor (see `pair_of`), since when, and into which:
those before this one. One that never came back reaches into all."""
EVERY = np.iinfo(np.int64).max
_NEAR = {"began": "time"}
"""Columns of `Steps` that differ little from others."""


@dataclass(frozen=True)
class Piece:
    """What must be known of other batches.

    Attributes:
        number: Of the batch, from 0.
        before: The latest time of the batches before it; `ALWAYS` for none.
        groups: Ascending, the groups of the start's nodes.
        ends: When the tables of these end.
        owner: Of each node of the start, the process that had it first, -1 for none.
        begins: Of tables of these groups: int64 of shape (3, n): index into ``groups``, since when, and when the call
            that made them began; by the first two.
        reached: Ascending, descriptors (see `pair_of`) into which changes of other batches reach.
        since: From when on.
        programs: Which program of the capture's tree each process runs, -1 if none is known.
        gaps: Sequence numbers that follow a gap.
        path: Where rows go; None to give them back.
    """

    number: int
    before: int
    groups: Numbers
    ends: Numbers
    owner: Numbers
    begins: Numbers
    reached: Numbers
    since: Numbers
    programs: Timeline
    gaps: Numbers
    path: Path | None


@dataclass(frozen=True)
class Alone:
    """A piece that is made when the rows of its batch are not.

    Attributes:
        piece: It.
        start: What is known of descriptors when the batch starts.
        scan: The batch's own records, if the survey has them.
        batch: Whose they are, where they are read again if what was kept of them is gone.
        blocks: (first, count) of the EVENTS blocks that were surveyed.
    """

    piece: Piece
    start: Start
    scan: Scan | None
    batch: Batch
    blocks: list[tuple[int, int]]


@dataclass(frozen=True)
class Left:
    """Steps that are left.

    Attributes:
        steps: They, in the order of the changes.
        names: What their names are codes into.
    """

    steps: Steps
    names: TextArray

    def save(self, path: Path) -> None:
        """Keep it in a file, for this run alone.

        Raises:
            OSError: There is no room.
        """
        with path.open("wb") as file:
            put_columns(file, vars(self.steps), _NEAR)
            put_texts(file, self.names)

    @classmethod
    def load(cls, path: Path) -> Left:
        """What was kept.

        Raises:
            ProcessError: It is gone.
        """
        try:
            with path.open("rb") as file:
                columns = get_columns(file, lambda count: vars(Steps.room(count)), _NEAR)
                return cls(Steps(**columns), get_texts(file))
        except (OSError, ValueError):
            raise ProcessError(f"{path.parent}: what was kept there is gone; is someone clearing it?") from None


@dataclass
class Made:
    """What came of it.

    Attributes:
        left: The steps that are left, or the file that they were saved in.
        passed_on: How many they are.
        early: Of dtype `EARLY`.
        rows: The rows, or the file that they were saved in.
        count: Of rows.
        first: The lowest sequence number of these, and ``last`` the highest.
    """

    left: Left | Path
    passed_on: int
    early: Records
    rows: Stretch | Path
    count: int = 0
    first: int = 0
    last: int = -1

    def take(self) -> Left:
        """The steps, which are not here any more then.

        Raises:
            ProcessError: What was kept of them is gone.
        """
        left, self.left = self.left, Path()
        return Left.load(left) if isinstance(left, Path) else left


def pair_of(group: npt.NDArray[np.signedinteger], fd: npt.NDArray[np.signedinteger]) -> Numbers:
    """A number for the table and the descriptor."""
    pair: Numbers = group.astype(np.int64) << 32 | fd.astype(np.int64) & 0xFFFFFFFF
    return pair


def make_alone(alone: Alone) -> Made:
    """Make the rows.

    Raises:
        SegmentError: What was kept of the batch is gone, and its segments cannot be read again.
        OSError: Likewise.
    """
    scan = alone.scan or stored(alone.start.stored) or scan_again(alone.batch, alone.blocks)
    return make(alone.piece, alone.start, Descriptors(alone.start, scan))


def make(piece: Piece, start: Start, found: Descriptors) -> Made:
    """Make the rows.

    Args:
        piece: What must be known of other batches.
        start: What is known of descriptors when the batch starts.
        found: What descriptors are in it.
    """
    which = np.flatnonzero((found.node >= 0) & (found.changes["fd"] >= 0))
    group = np.ascontiguousarray(start.nodes["group"])
    fd, over = found.changes["fd"][which].astype(np.int64), found.changes["t1"][which]
    which = which[order_of(group[found.node[which]].astype(np.int64), fd, over)]
    changes, answers = taken(found.changes, which), found.results(which)
    steps = of_changes(changes, found.node[which], group, piece.owner, answers, found.names)
    del fd, over, changes, answers  # some hundred bytes for each change
    early = _early(piece, steps)
    drops, began = _cut(piece, steps)
    rows = _rows(piece, steps, drops)
    steps.began = began
    kept = np.flatnonzero(~drops)
    left = steps.only(kept[np.argsort(which[kept])])
    left.node = start.numbers.astype(np.int32)[left.node]
    rest = Left(left, left.only_names(found.names))
    stretch = Stretch.of(rows, found.names)
    made = Made(rest, len(left.fd), early, stretch, len(rows))
    if len(rows):
        made.first, made.last = int(rows["seq"].min()), int(rows["seq"].max())
    if piece.path is not None:
        made.left = _saved(rest, piece.path.with_suffix(".left"))
        made.rows = _saved(stretch, piece.path)
    return made


def _saved(what: Shelved, path: Path) -> Shelved | Path:
    """Keep something in a file; without room for it, it stays in memory."""
    try:
        what.save(path)
    except OSError:
        path.unlink(missing_ok=True)
        return what
    return path


def _early(piece: Piece, steps: Steps) -> Records:
    """The changes that reach into other batches."""
    never = steps.time == NEVER
    which = np.flatnonzero(never | (steps.began < piece.before) | (steps.time < piece.before))
    found = np.zeros(len(which), EARLY)
    found["pair"], found["began"] = pair_of(steps.group[which], steps.fd[which]), steps.began[which]
    found["began"] = np.minimum(found["began"], steps.time[which])
    found["batch"] = np.where(never[which], EVERY, piece.number)
    return found


def _limits(piece: Piece, steps: Steps) -> tuple[Numbers, Numbers]:
    """Until when each step's neighbours alone decide, and which beginning of its table is the next (a number)."""
    place_of = np.zeros(int(piece.groups[-1]) + 1, np.int64)
    place_of[piece.groups] = np.arange(len(piece.groups))
    place = place_of[steps.group]
    limit = piece.ends[place]
    groups, since, began = piece.begins
    starts = np.searchsorted(groups, np.arange(len(piece.groups) + 1))
    next_ = last_at(starts, since, place, np.minimum(steps.time, NEVER - 1)) + 1
    next_ = np.where(next_ > 0, next_, starts[place])
    earliest = np.append(later(began, groups), NEVER)[next_]
    limit = np.where(np.append(groups, -1)[next_] == place, np.minimum(limit, earliest), limit)
    if len(piece.reached):
        pairs = pair_of(steps.group, steps.fd)
        low, high = np.searchsorted(pairs, piece.reached), np.searchsorted(pairs, piece.reached, "right")
        mine = ranges(low, high)
        limit[mine] = np.minimum(limit[mine], np.repeat(piece.since, high - low))
    return limit, next_


def _cut(piece: Piece, steps: Steps) -> tuple[Mask, Numbers]:
    """Which steps are not passed on, and when each began: for the close behind these, when the first of them did."""
    drops, began = np.zeros(len(steps.fd), np.bool_), steps.began.copy()
    if not len(drops):
        return drops, began
    limit, epoch = _limits(piece, steps)
    same = same_as_before(steps)
    same[1:] &= epoch[1:] == epoch[:-1]
    run = np.cumsum(~same)
    closes = np.flatnonzero((steps.name == CLOSED) & (steps.time <= limit))
    if not len(closes):
        return drops, began
    ends = np.append(np.flatnonzero(run[closes][1:] != run[closes][:-1]), len(closes) - 1)
    first, last = closes[np.append(0, ends[:-1] + 1)], closes[ends]
    first, last = first[last > first + 1], last[last > first + 1]
    edges = np.zeros(len(drops) + 1, np.int64)
    edges[first + 1] += 1
    edges[last] -= 1
    drops = np.cumsum(edges[:-1]) > 0
    if len(first):
        spans = np.stack([first + 1, last + 1], axis=1).reshape(-1)
        began[last] = np.minimum.reduceat(np.append(began, NEVER), spans)[::2]
    return drops, began


def _rows(piece: Piece, steps: Steps, drops: Mask) -> Records:
    """The rows that begin with steps that are not passed on, as `fd_rows.records`."""
    size = int(piece.groups[-1]) + 1 if len(piece.groups) else 0
    end = np.full(size, NEVER)
    end[piece.groups] = piece.ends
    nobody = np.full(size, -1)
    rows = records(steps, Ends(end, nobody, nobody), drops)
    rows["program"] = programs_at(piece.programs, piece.gaps, rows["pid"], rows["seq"])
    return rows


def programs_at(timeline: Timeline, gaps: Numbers, pid: Numbers, seq: Numbers) -> Numbers:
    """The program that each of some processes ran at an event; -1 if none is known."""
    move = timeline.index(pid.astype(np.uint64), seq)
    run = np.append(0, gaps)[np.searchsorted(gaps, seq, "right")]
    found = np.append(timeline.nodes, -1)[move]
    found[np.append(timeline.times, -1)[move] < run] = -1
    return found
