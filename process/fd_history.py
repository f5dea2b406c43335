"""The table `fd`: which process had which file open as which descriptor, from when to when.

All changes of a capture and all beginnings of tables stand in one order, by table and descriptor; a stretch in which
the descriptor is open and stays the same file is a row (`fd_steps`). Of each stretch it is known why it ends: the next
change, or the end of its table. What ends in a way that nobody saw has no end, and is flagged `lost`. Most of it is
done by workers, each for a batch (`fd_pieces`); what they cannot decide is put together here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from process.errors import ProcessError
from process.fd_pieces import EARLY, EVERY, Made, Piece, in_order, make, pair_of, programs_at
from process.fd_records import ALWAYS, CHANGE, NEVER, Birth, Life, Records, Scan
from process.fd_state import Effect, Start, Whole, bases, gaps_of, join_all, settle
from process.fd_steps import (
    EXEC,
    EXECED,
    EXIT,
    FORKED,
    KEYS,
    LOST,
    SEEN,
    UNSHARE,
    UNSHARED,
    Ends,
    Rows,
    Steps,
    same_as_before,
)  # fmt: skip
from process.fd_timeline import Timeline
from process.garbage import give_back
from process.grouping import distinct, ranges
from process.pool import Failure, Outcome
from process.tree import Tree

Numbers = npt.NDArray[np.int64]
Run = Callable[[Callable[[Piece], Made | None], Sequence[Piece]], Iterator[Outcome[Piece, Made | None]]]
"""As `Workers.run`."""

_ENDED_BY = (
    ((Life.UNSHARE, Life.RANGE), UNSHARE, "t1"),
    ((Life.EXEC,), EXEC, "t1"),
    ((Life.EXIT, Life.EXIT_GROUP), EXIT, "t0"),
)
"""Which steps of a process end its use of a table, how, and when that is."""

_MANY = 1 << 18
"""Steps for which it is worth to start workers again afterwards: putting them together takes a few hundred MB."""
_STRETCH = 1 << 17
"""Steps that are made into rows at a time, at least."""


@dataclass(frozen=True)
class Sheet:
    """Some rows of the table, which follow each other.

    Attributes:
        parts: Rows, or where they are; together all of them, in any order.
        capture: The capture's number.
        first_id: Of the first row.
        count: How many there are.
    """

    parts: tuple[pl.DataFrame | Path, ...]
    capture: int
    first_id: int
    count: int

    def frame(self) -> pl.DataFrame:
        """The rows, with the columns of `schema.FD_COLUMNS`, in another order.

        Raises:
            ProcessError: What was kept of them is gone.
        """
        try:
            parts = [pl.read_ipc(part) if isinstance(part, Path) else part for part in self.parts]
        except (OSError, pl.exceptions.PolarsError):
            folders = {str(part.parent) for part in self.parts if isinstance(part, Path)}
            raise ProcessError(f"{min(folders)}: what was kept there is gone; is someone clearing it?") from None
        made = parts[0] if isinstance(self.parts[0], Path) and len(parts) == 1 else in_order(pl.concat(parts))
        ids = pl.int_range(self.first_id, self.first_id + len(made), dtype=pl.Int64)
        return made.drop(KEYS).with_columns(id=ids, capture=pl.lit(self.capture, pl.Int64))


@dataclass(frozen=True)
class Source:
    """One capture.

    Attributes:
        number: Its number in the output.
        effects: Of its batches, in order.
        known: What is known of descriptors when each starts.
        starts: Sequence numbers at which events follow a gap, or the capture's first event.
        tree: Its programs.
        ids: Of each program, -1 for one that has no row in the table `process`.
        realtime_ns: Unix time of its clock's zero.
        folder: Where workers put rows; None to give them back.
    """

    number: int
    effects: Sequence[Effect]
    known: Sequence[Start]
    starts: Numbers
    tree: Tree
    ids: Numbers
    realtime_ns: int
    folder: Path | None


def history(source: Source, run: Run, before: int, release: Callable[[], object] = lambda: None) -> list[Sheet]:
    """The rows of one capture.

    Args:
        source: The capture.
        run: Runs what workers do.
        before: Rows of the captures before it.
        release: Called before what is left between batches is put together, if that is much: ends idle workers.
    """
    effects, starts = source.effects, source.starts
    settle(effects, starts)
    whole = join_all(effects, starts)
    if not len(whole.nodes):
        return []
    lives = np.concatenate([effect.scan.lives for effect in effects])
    tables = _Tables(whole, lives, {gap.before for gap in gaps_of(effects, starts)[0]})
    timeline = source.tree.timeline()
    timeline.nodes = np.append(source.ids, -1)[timeline.nodes]
    pieces = _Pieces(source, whole, tables, timeline)
    early, begun, names, ends = pieces.early(whole), _begun(whole, tables), whole.resolver.names, tables.ends
    whole.changes = np.zeros(0, CHANGE)  # nobody asks for them any more, and they are much
    again = whole if len(tables.later) else None
    del whole
    give_back()
    made = _made(pieces, early, run)
    if sum(len(one.steps.fd) for one in made) > _MANY:
        release()
        give_back()
    rows = [one.rows_alone() for one in made]
    steps = Steps.joined([one.steps for one in made])
    steps.name = _renamed(made, names)
    del made
    births = begun if again is None else Steps.joined([begun, _begun_again(again, tables, begun, steps)])
    steps = Steps.joined([births.only(np.argsort(births.seq, kind="stable")), steps.narrow()])
    del again, tables, pieces, births, begun  # some hundred bytes for each step
    return _sheets(source, rows, (_frame(source, timeline, names, ends, some) for some in _in_stretches(steps)), before)


def _in_stretches(steps: Steps) -> Iterator[Steps]:
    """The steps in order, some at a time; those of a descriptor stay together."""
    order = steps.order() if len(steps.fd) else np.zeros(0, np.intp)
    pairs = pair_of(steps.group, steps.fd)[order]
    begins = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]) + 1, len(pairs))
    at = 0
    while at < len(pairs):
        end = int(begins[np.searchsorted(begins, min(at + _STRETCH, len(pairs)))])
        yield _without_doubles(steps.only(order[at:end]).wide())
        at = end


def _frame(source: Source, timeline: Timeline, names: Sequence[str], ends: Ends, steps: Steps) -> pl.DataFrame:
    """The rows of some steps, which are in order."""
    rows = Rows.of(steps, ends)
    return rows.frame(steps, names, _programs(source, timeline, steps, rows), source.realtime_ns)


def _made(pieces: _Pieces, early: Records, run: Run) -> list[Made]:
    """What workers make of all batches; again of those of which one turns out to reach into another."""
    todo = [pieces.piece(number, early) for number in range(pieces.count)]
    done: dict[int, tuple[Piece, Made]] = {}
    while todo:
        for outcome in run(make, todo):
            found = outcome.result
            if found is None or isinstance(found, Failure):
                found = make(outcome.item) or make(replace(outcome.item, scan=pieces.scan(outcome.item.number)))
            assert found is not None  # it has its scan
            done[outcome.item.number] = outcome.item, found
        early = distinct_early([early, *(made.early for _, made in done.values())])
        todo = []
        for number, (piece, _) in done.items():
            again = pieces.piece(number, early)
            if not (np.array_equal(again.reached, piece.reached) and np.array_equal(again.since, piece.since)):
                todo.append(again)
    return [made for _, (_, made) in sorted(done.items())]


def distinct_early(parts: Sequence[Records]) -> Records:
    """Records of dtype `EARLY`, each once."""
    found: Records = np.unique(np.concatenate(parts))
    return found


class _Pieces:
    """The work of workers, for each batch."""

    def __init__(self, source: Source, whole: Whole, tables: _Tables, timeline: Timeline) -> None:
        self._source, self._tables, self._timeline = source, tables, timeline
        self.count = len(source.effects)
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

    def scan(self, number: int) -> Scan:
        """What the survey gave of a batch."""
        return self._source.effects[number].scan

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
        """The work for a batch, given what reaches into it."""
        source, start, tables = self._source, self._source.known[number], self._tables
        groups = distinct(start.nodes["group"].astype(np.int64))
        low, high = (np.searchsorted(self._sorted, groups, side) for side in ("left", "right"))
        at = self._order[ranges(low, high)]
        place = np.repeat(np.arange(len(groups)), high - low)
        mine = early[(early["batch"] > number) & (early["began"] < self._clock[number + 1])]
        mine = mine[np.isin(mine["pair"] >> 32, groups)]
        mine = mine[np.lexsort((mine["began"], mine["pair"]))]
        first = np.append(True, mine["pair"][1:] != mine["pair"][:-1])[: len(mine)]
        pids = distinct(np.concatenate([tables.owner[start.numbers], self._tasks(number)]))
        timeline = self._timeline
        moves = np.flatnonzero(np.isin(timeline.holders.astype(np.int64), pids))
        timeline = Timeline(timeline.holders[moves], timeline.times[moves], timeline.nodes[moves])
        return Piece(
            number, start, source.effects[number].scan if source.effects[number].stored is None else None,
            int(self._clock[number]), groups, tables.ends.end[groups], tables.owner[start.numbers],
            np.stack([place, self._nodes["since"][at], self._began[at]]), mine["pair"][first].copy(),
            mine["began"][first].copy(), timeline,
            source.starts, source.realtime_ns,
            source.folder / f"fd-{source.number}-{number}.ipc" if source.folder is not None else None,
        )  # fmt: skip

    def _tasks(self, number: int) -> Numbers:
        """The processes of a batch."""
        found: Numbers = (self._source.effects[number].sights["task"] >> np.uint64(32)).astype(np.int64)
        return found


def _renamed(made: Sequence[Made], names: list[str]) -> Numbers:
    """The names of the steps that are left, as codes into ``names``, which grow."""
    codes = {text: code for code, text in enumerate(names)}
    found = [np.zeros(0, np.int64)]
    for one in made:
        own = np.array([codes.setdefault(text, len(codes)) for text in one.names] + [-2, -1], np.int64)
        found.append(own[one.steps.name])  # the last two count from the end
    names += list(codes)[len(names) :]
    return np.concatenate(found)


def _sheets(source: Source, made: Iterable[Made], rest: Iterable[pl.DataFrame], before: int) -> list[Sheet]:
    """All rows in their order: those of batches that overlap are put together, with what was left between them."""
    bunches: list[_Bunch] = []
    last = -1
    for one in sorted((one for one in made if one.count), key=lambda one: one.first):
        if not bunches or one.first > last:
            bunches.append(_Bunch(one.first))
        bunches[-1].add(one.rows, one.count)
        last = max(last, one.last)
    bunches = bunches or [_Bunch(0)]
    firsts = [bunch.first for bunch in bunches[1:]]
    for frame in rest:
        which = np.searchsorted(firsts, frame["_seq"].to_numpy(), "right")
        frame = frame[np.argsort(which, kind="stable")]
        ends = np.cumsum(np.bincount(which, minlength=len(bunches))).tolist()
        for bunch, at, end in zip(bunches, [0, *ends], ends, strict=False):
            bunch.add(frame[at:end], end - at)
    found: list[Sheet] = []
    for bunch in bunches:
        if bunch.count:
            found.append(Sheet(tuple(bunch.parts), source.number, before + 1, bunch.count))
            before += bunch.count
    return found


@dataclass
class _Bunch:
    """Rows from a sequence number on, up to those of the next bunch."""

    first: int
    count: int = 0
    parts: list[pl.DataFrame | Path] = field(default_factory=list)

    def add(self, rows: pl.DataFrame | Path, count: int) -> None:
        """Take some more, unless they are none."""
        if count:
            self.parts.append(rows)
            self.count += count


class _Tables:
    """Whose tables are, and how they end.

    Attributes:
        group: Of each node.
        owner: Of each node, the process that had it first, -1 for none.
        ends: How they end.
        later: The nodes in which a table goes on that was there before.
    """

    def __init__(self, whole: Whole, lives: Records, gaps: set[int]) -> None:
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


def _begun(whole: Whole, tables: _Tables) -> Steps:
    """What tables held when they began, as far as that is known."""
    copied = np.isin(whole.nodes["kind"], (Birth.COPY, Birth.EXEC, Birth.RANGE, Birth.RANGE_CLOEXEC))
    copied[tables.later] = False
    node, fd, _ = bases(whole, np.flatnonzero(copied))
    return _births(whole, tables, node, fd)


def _begun_again(whole: Whole, tables: _Tables, begun: Steps, changes: Steps) -> Steps:
    """Likewise of tables that go on: of each descriptor that was in them at any time."""
    groups, later = tables.group[tables.later], tables.later
    pairs = distinct(np.concatenate([pair_of(begun.group, begun.fd), pair_of(changes.group, changes.fd)]))
    low, high = (np.searchsorted(pairs >> 32, groups, side) for side in ("left", "right"))
    return _births(whole, tables, np.repeat(later, high - low), pairs[ranges(low, high)] & 0xFFFFFFFF)


def _births(whole: Whole, tables: _Tables, node: Numbers, fd: Numbers) -> Steps:
    """What descriptors were in tables when these began."""
    node, fd = node[fd >= 0], fd[fd >= 0]
    kind = whole.nodes["kind"][node]
    goes_on = np.isin(node, tables.later)
    answers = whole.resolver.born(node, fd)
    ways = np.select([kind == one for one in (Birth.COPY, Birth.EXEC, Birth.WHOLE)], [FORKED, EXECED, SEEN], UNSHARED)
    since = whole.nodes["since"][node]
    ranged = goes_on & np.isin(kind, (Birth.RANGE, Birth.RANGE_CLOEXEC))
    return Steps(
        group=tables.group[node], fd=fd, time=since,
        began=np.where(ranged, whole.nodes["t0"][node], since), seq=whole.nodes["seq"][node],
        is_birth=np.ones(len(node), np.bool_), node=node, pid=tables.owner[node], name=answers.name,
        cloexec=answers.cloexec.astype(np.int64), source=answers.source.astype(np.int64), how=ways,
        begins=~goes_on, told=np.zeros(len(node), np.bool_), is_open=answers.name >= 0,
    ).narrow()  # fmt: skip


def _without_doubles(steps: Steps) -> Steps:
    """Without begins of tables that say less than what capture read at the same time."""
    next_told = np.append(steps.told[1:] & same_as_before(steps)[1:] & (steps.time[1:] == steps.time[:-1]), False)
    return steps.only(~(steps.is_birth & next_told))


def _programs(source: Source, timeline: Timeline, steps: Steps, rows: Rows) -> Numbers:
    """The id of the program whose descriptor each row is; -1 if none is known."""
    pid, seq, how = (column[rows.heads] for column in (steps.pid, steps.seq, steps.how))
    found = programs_at(timeline, source.starts, pid, seq)
    programs = source.tree.programs
    begun = {(one.pid, one.start_seq): index for index, one in enumerate(programs) if one.start_seq is not None}
    births = np.flatnonzero(np.isin(how, (FORKED, EXECED)))
    keys = zip(pid[births].tolist(), seq[births].tolist(), strict=True)
    found[births] = np.append(source.ids, -1)[[begun.get(key, -1) for key in keys]]
    return found
