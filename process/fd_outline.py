"""What a batch must know of the others to make its piece of the table `fd`: their net effects tell it beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from process.batch import Batch
from process.fd_pieces import EARLY, EVERY, Alone, Piece, pair_of
from process.fd_records import ALWAYS, NEVER, Birth, Life, Records
from process.fd_state import Effect, Start, Whole, gaps_of
from process.fd_steps import EXEC, EXIT, LOST, UNSHARE, Ends
from process.fd_timeline import Timeline
from process.grouping import are_in, distinct, ranges, union
from process.tree import Tree

Numbers = npt.NDArray[np.int64]

_ENDED_BY = (
    ((Life.UNSHARE, Life.RANGE), UNSHARE, "t1"),
    ((Life.EXEC,), EXEC, "t1"),
    ((Life.EXIT, Life.EXIT_GROUP), EXIT, "t0"),
)
"""Which steps of a process end its use of a table, how, and when that is."""


@dataclass(frozen=True)
class Source:
    """One capture.

    Attributes:
        number: Its number in the output.
        batches: Its batches, each with its EVENTS blocks, in order.
        effects: Of these.
        known: What is known of descriptors when each starts.
        starts: Sequence numbers at which events follow a gap, or the capture's first event.
        tree: Its programs.
        realtime_ns: Unix time of its clock's zero.
        folder: Where workers put rows; None to give them back.
    """

    number: int
    batches: Sequence[tuple[Batch, list[tuple[int, int]]]]
    effects: Sequence[Effect]
    known: Sequence[Start]
    starts: Numbers
    tree: Tree
    realtime_ns: int
    folder: Path | None


class Tables:
    """Whose tables are, and how they end.

    Attributes:
        group: Of each node.
        owner: Of each node, the process that had it first, -1 for none.
        ends: How they end.
        later: The nodes in which a table goes on that was there before.
    """

    def __init__(self, source: Source, whole: Whole) -> None:
        """Find out; ``whole`` is that of the source, and has nodes."""
        lives = np.concatenate([effect.scan.lives for effect in source.effects])
        gaps = {gap.before for gap in gaps_of(source.effects, source.starts)[0]}
        self.group = whole.nodes["group"].astype(np.int64)
        count, groups = len(whole.nodes), int(self.group.max()) + 1
        first = np.full(groups, count)
        np.minimum.at(first, self.group, np.arange(count))
        self.later = np.flatnonzero(np.arange(count) > first[self.group])
        files = whole.files
        has = np.flatnonzero(files.nodes >= 0)
        first = has[np.lexsort((files.holders[has], files.times[has]))][::-1]
        self.owner = np.full(count, -1)
        self.owner[files.nodes[first]] = (files.holders[first] >> np.uint64(32)).astype(np.int64)
        until = np.full(len(files.nodes), NEVER)
        same = files.holders[1:] == files.holders[:-1]
        until[:-1] = np.where(same, files.times[1:], NEVER)
        end = np.full(groups, np.iinfo(np.int64).min)
        np.maximum.at(end, self.group[files.nodes[has]], until[has])
        ended = np.where(end == NEVER, -1, LOST)
        end_seq = np.full(groups, -1)
        lasts = has[until[has] == end[self.group[files.nodes[has]]]]
        lasts = lasts[until[lasts] != NEVER]
        ends = _ends(lives)
        for move in lasts.tolist():
            time, pid = int(until[move]), int(files.holders[move]) >> 32
            if (pid, time) in ends and time not in gaps:
                group = int(self.group[files.nodes[move]])
                ended[group], end_seq[group] = ends[pid, time]
        self.ends = Ends(end, ended, end_seq)


def _ends(lives: Records) -> dict[tuple[int, int], tuple[int, int]]:
    """How processes ended, or went on with another table, by their numbers and the time."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for ops, how, when in _ENDED_BY:
        some = lives[np.isin(lives["op"], ops)]
        for task, time, seq in zip(some["task"].tolist(), some[when].tolist(), some["seq"].tolist(), strict=True):
            found[task >> 32, time] = how, seq
    return found


class Outline:
    """The pieces of all batches."""

    def __init__(self, source: Source, whole: Whole, tables: Tables) -> None:
        """Prepare; ``whole`` and ``tables`` are those of the source."""
        self._source, self._tables, self._timeline = source, tables, source.tree.timeline()
        self._nodes = nodes = whole.nodes
        ranged = np.isin(nodes["kind"], (Birth.RANGE, Birth.RANGE_CLOEXEC))
        self._order = np.lexsort((nodes["since"], tables.group))
        self._began = np.where(ranged, nodes["t0"], nodes["since"])
        self._sorted = tables.group[self._order]
        times = whole.changes["t1"]
        latest = [effect.clock for effect in source.effects]
        over = np.flatnonzero(times != NEVER)
        highest = np.array([ALWAYS, *latest], np.int64)
        np.maximum.at(highest, whole.segment[over] + 1, times[over])
        self._clock = np.maximum.accumulate(highest)

    def alone(self, piece: Piece, *, is_lost: bool = False) -> Alone:
        """A piece with what it takes to make it without the batch's rows.

        Of a batch that ``is_lost`` it is made of its net effect: without what it opened and closed itself, or had open
        in processes that began and ended there.
        """
        source, number = self._source, piece.number
        effect = source.effects[number]
        scan = effect.scan if effect.stored is None or is_lost else None
        return Alone(piece, source.known[number], scan, *source.batches[number])

    def early(self, whole: Whole) -> Records:
        """The changes that reach into other batches, as far as their net effects tell."""
        changes = whole.changes
        before, never = self._clock[whole.segment], changes["t1"] == NEVER
        known = (whole.node >= 0) & (changes["fd"] >= 0)
        which = np.flatnonzero(known & (never | (changes["since"] < before) | (changes["t1"] < before)))
        found = np.zeros(len(which), EARLY)
        found["pair"] = pair_of(self._tables.group[whole.node[which]], changes["fd"][which].astype(np.int64))
        found["began"] = np.minimum(changes["since"][which], changes["t1"][which])
        found["batch"] = np.where(never[which], EVERY, whole.segment[which])
        return found

    def piece(self, number: int, early: Records) -> Piece:
        """That of a batch, given what reaches into others."""
        source, start, tables = self._source, self._source.known[number], self._tables
        groups = distinct(start.nodes["group"].astype(np.int64))
        low, high = (np.searchsorted(self._sorted, groups, side) for side in ("left", "right"))
        at = self._order[ranges(low, high)]
        place = np.repeat(np.arange(len(groups)), high - low)
        mine = early[(early["batch"] > number) & (early["began"] < self._clock[number + 1])]
        mine = mine[are_in(mine["pair"] >> 32, groups)]
        mine = mine[np.lexsort((mine["began"], mine["pair"]))]
        first = np.append(True, mine["pair"][1:] != mine["pair"][:-1])[: len(mine)]
        pids = union(tables.owner[start.numbers], self._tasks(number))
        timeline = self._timeline
        moves = np.flatnonzero(are_in(timeline.holders.astype(np.int64), pids))
        timeline = Timeline(timeline.holders[moves], timeline.times[moves], timeline.nodes[moves])
        return Piece(
            number, int(self._clock[number]), groups, tables.ends.end[groups], tables.owner[start.numbers],
            np.stack([place, self._nodes["since"][at], self._began[at]]), mine["pair"][first].copy(),
            mine["began"][first].copy(), timeline, source.starts,
            source.folder / f"fd-{source.number}-{number}.ipc" if source.folder is not None else None,
        )  # fmt: skip

    def _tasks(self, number: int) -> Numbers:
        """The processes of a batch."""
        found: Numbers = (self._source.effects[number].sights["task"] >> np.uint64(32)).astype(np.int64)
        return found
