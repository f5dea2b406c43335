"""The table `fd`: which process had which file open as which descriptor, from when to when.

All changes of a capture and all beginnings of tables stand in one order, by table and descriptor; a stretch in which
the descriptor is open and stays the same file is a row. Of each stretch it is known why it ends: the next change, or
the end of its table. What ends in a way that nobody saw has no end, and is flagged `lost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from process.fd_index import Pairs
from process.fd_keys import TimeKeys
from process.fd_records import (
    CLOSED,
    NEVER,
    SOURCES,
    UNKNOWN,
    Birth,
    By,
    Cloexec,
    Join,
    Life,
    Records,
    Scan,
    stored,
    taken,
)
from process.fd_state import Effect, Whole, bases, gaps_of, join_all, settle
from process.grouping import distinct, in_order
from process.read import MAX_SEQUENCE
from process.render import labels, nullable
from process.tree import Tree

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ENDS = ("close", "replaced", "exec", "exit", "unshare", "lost")
"""How a descriptor's row ends; none of them if it was open at the end."""
_CLOSE, _REPLACED, _EXEC, _EXIT, _UNSHARE, _LOST = range(len(_ENDS))
_HOW = ("open", "dup", "accept", "pipe", "socket", "made", "fork", "unshare", "exec", "seen")
_OPEN, _DUP, _ACCEPT, _PIPE, _SOCKET, _MADE, _FORKED, _UNSHARED, _EXECED, _SEEN = range(len(_HOW))
_ENDED_BY = (
    ((Life.UNSHARE, Life.RANGE), _UNSHARE, "t1"),
    ((Life.EXEC,), _EXEC, "t1"),
    ((Life.EXIT, Life.EXIT_GROUP), _EXIT, "t0"),
)
"""Which steps of a process end its use of a table, how, and when that is."""
_IN_PLACE = (Join.SAME, Join.LOCAL, Join.PEER)


@dataclass
class _Steps:
    """What happens to descriptors: changes, and what tables hold when they begin; arrays of one length.

    Attributes:
        group: Of the table, which is the same as long as this is.
        fd: The descriptor.
        time: When it was over; `NEVER` if nobody saw that.
        began: When it began.
        seq: By which event.
        rank: Orders what is at one time: a table's begin comes first.
        node: The table.
        pid: Whose call it was, else who has the table.
        name: Code of a name, `UNKNOWN` or `CLOSED`.
        cloexec: As `Cloexec`.
        source: As `Source`.
        how: Index into the ways to be made.
        begins: Whether what is open now was not before.
        told: Whether capture read it.
        is_open: Whether it is open for sure.
    """

    group: Numbers
    fd: Numbers
    time: Numbers
    began: Numbers
    seq: Numbers
    rank: Numbers
    node: Numbers
    pid: Numbers
    name: Numbers
    cloexec: Numbers
    source: Numbers
    how: Numbers
    begins: Mask
    told: Mask
    is_open: Mask

    @classmethod
    def of(cls, births: _Steps, changes: _Steps) -> _Steps:
        """Both, by group, descriptor and time, then rank, then event. Changes are given by rank."""
        first = births.only(np.argsort(births.seq, kind="stable"))
        columns = {name: np.concatenate([column, getattr(changes, name)]) for name, column in vars(first).items()}
        pairs, time = Pairs(columns["group"], columns["fd"]), columns["time"]
        never = time == NEVER
        order = in_order(TimeKeys(len(pairs), time[~never]).of(pairs.own, time) + never)
        return cls(**{name: column[order] for name, column in columns.items()})

    def only(self, which: Mask | Numbers) -> _Steps:
        """Some of them."""
        return _Steps(**{name: column[which] for name, column in vars(self).items()})


def history(effects: Sequence[Effect], starts: Numbers, tree: Tree, realtime_ns: int) -> pl.DataFrame | None:
    """The rows of one capture: see `schema.FD_COLUMNS`; ``program`` in place of ids is an index into the tree.

    Args:
        effects: Of its segments, in order.
        starts: Sequence numbers at which events follow a gap, or the capture's first event.
        tree: Its programs.
        realtime_ns: Unix time of its clock's zero.
    """
    full = [replace(effect, scan=_unpruned(effect)) for effect in effects]
    settle(full, starts)
    whole = join_all(full, starts)
    if not len(whole.nodes):
        return None
    lives = np.concatenate([effect.scan.lives for effect in full])
    tables = _Tables(whole, lives, {gap.before for gap in gaps_of(full, starts)[0]})
    changes = _changes(whole, tables)
    births = _births(whole, tables, changes)
    steps = _Steps.of(births, changes)
    return _rows(_without_doubles(steps), tables, whole, tree, starts, realtime_ns) if len(steps.fd) else None


def _unpruned(effect: Effect) -> Scan:
    scan = stored(effect.stored) if effect.stored is not None else None
    return effect.scan if scan is None else Scan(scan.changes, effect.scan.lives, scan.texts)


class _Tables:
    """Whose tables are, and how they end.

    Attributes:
        group: Of each node.
        owner: Of each node, the process that had it first, -1 for none.
        end: Of each group, when the last task that had it ended or left it; `NEVER`.
        ended: Of each group, how, -1 if it did not.
        end_seq: Of each group, by which event, -1 if that is not known.
    """

    def __init__(self, whole: Whole, lives: Records, gaps: set[int]) -> None:
        self.group = whole.nodes["group"].astype(np.int64)
        count, groups = len(whole.nodes), int(self.group.max()) + 1
        files = whole.files
        has = np.flatnonzero(files.nodes >= 0)
        first = has[np.lexsort((files.holders[has], files.times[has]))][::-1]
        self.owner = np.full(count, -1)
        self.owner[files.nodes[first]] = (files.holders[first] >> np.uint64(32)).astype(np.int64)
        until = np.full(len(files.nodes), NEVER)
        same = files.holders[1:] == files.holders[:-1]
        until[:-1] = np.where(same, files.times[1:], NEVER)
        self.end = np.full(groups, np.iinfo(np.int64).min)
        np.maximum.at(self.end, self.group[files.nodes[has]], until[has])
        self.ended = np.where(self.end == NEVER, -1, _LOST)
        self.end_seq = np.full(groups, -1)
        lasts = has[until[has] == self.end[self.group[files.nodes[has]]]]
        lasts = lasts[until[lasts] != NEVER]
        ends = _ends(lives)
        for move in lasts.tolist():
            time, pid = int(until[move]), int(files.holders[move]) >> 32
            if (pid, time) in ends and time not in gaps:
                group = int(self.group[files.nodes[move]])
                self.ended[group], self.end_seq[group] = ends[pid, time]


def _ends(lives: Records) -> dict[tuple[int, int], tuple[int, int]]:
    """How processes ended, or went on with another table, by their numbers and the time."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for ops, how, when in _ENDED_BY:
        some = lives[np.isin(lives["op"], ops)]
        for task, time, seq in zip(some["task"].tolist(), some[when].tolist(), some["seq"].tolist(), strict=True):
            found[task >> 32, time] = how, seq
    return found


def _changes(whole: Whole, tables: _Tables) -> _Steps:
    """The changes of descriptors whose table is known."""
    which = np.flatnonzero((whole.node >= 0) & (whole.changes["fd"] >= 0))
    rows, node = taken(whole.changes, which), whole.node[which]
    answers = whole.resolver.results(which)
    by_call, join = rows["by"] == By.CALL, rows["join"]
    begins = by_call & ~((rows["src"] == rows["fd"]) & np.isin(join, _IN_PLACE))
    unnamed = begins & (answers.name == UNKNOWN) & (rows["t1"] != NEVER) & (answers.cloexec != Cloexec.UNSURE)
    return _Steps(
        group=tables.group[node], fd=rows["fd"].astype(np.int64), time=rows["t1"].copy(),
        began=rows["t0"].copy(), seq=rows["seq"].copy(), rank=1 + np.arange(len(rows)), node=node,
        pid=np.where(by_call, (rows["holder"] >> np.uint64(32)).astype(np.int64), tables.owner[node]),
        name=answers.name, cloexec=answers.cloexec.astype(np.int64), source=answers.source.astype(np.int64),
        how=np.where(by_call, _ways(join, whole.resolver.names, answers.name), _SEEN), begins=begins,
        told=~by_call, is_open=(answers.name >= 0) | unnamed,
    )  # fmt: skip


def _ways(join: npt.NDArray[np.uint8], names: list[str], codes: Numbers) -> Numbers:
    """How descriptors were made, by how their names were."""
    text = pl.Series(names, dtype=pl.String)
    by_name = np.full(len(names) + 1, _MADE)
    for prefix, way in (("/", _OPEN), ("/memfd:", _MADE), ("/secretmem", _MADE), ("pipe(", _PIPE), ("socket", _SOCKET)):
        by_name[:-1][text.str.starts_with(prefix).to_numpy()] = way
    found = by_name[np.maximum(codes, -1)]
    found[np.isin(join, (Join.PATH, Join.ROOTED))] = _OPEN
    found[join == Join.SAME] = _DUP
    found[join == Join.ACCEPT] = _ACCEPT
    return found


def _births(whole: Whole, tables: _Tables, changes: _Steps) -> _Steps:
    """What tables held when they began: all that is known of a new one, all that there was of one that goes on."""
    kind, group = whole.nodes["kind"], tables.group
    first = np.full(int(group.max()) + 1, len(group))
    np.minimum.at(first, group, np.arange(len(group)))
    goes_on = np.arange(len(group)) > first[group]
    copied = np.isin(kind, (Birth.COPY, Birth.EXEC, Birth.RANGE, Birth.RANGE_CLOEXEC))
    node, fd, _ = bases(whole, np.flatnonzero(copied & ~goes_on))
    later = np.flatnonzero(goes_on)
    pairs = distinct(np.concatenate([changes.group, group[node]]) << 32 | np.maximum(np.append(changes.fd, fd), 0))
    low, high = (np.searchsorted(pairs >> 32, group[later], side) for side in ("left", "right"))
    at = np.repeat(low - (np.cumsum(high - low) - (high - low)), high - low) + np.arange((high - low).sum())
    node, fd = np.append(node, np.repeat(later, high - low)), np.append(fd, pairs[at] & 0xFFFFFFFF)
    node, fd = node[fd >= 0], fd[fd >= 0]
    answers = whole.resolver.born(node, fd)
    kinds = [kind[node] == one for one in (Birth.COPY, Birth.EXEC, Birth.WHOLE)]
    ways = np.select(kinds, [_FORKED, _EXECED, _SEEN], _UNSHARED)
    since = whole.nodes["since"][node]
    ranged = goes_on[node] & np.isin(kind[node], (Birth.RANGE, Birth.RANGE_CLOEXEC))
    return _Steps(
        group=group[node], fd=fd, time=since,
        began=np.where(ranged, whole.nodes["t0"][node], since), seq=whole.nodes["seq"][node],
        rank=np.zeros(len(node), np.int64), node=node, pid=tables.owner[node], name=answers.name,
        cloexec=answers.cloexec.astype(np.int64), source=answers.source.astype(np.int64), how=ways,
        begins=~goes_on[node], told=np.zeros(len(node), np.bool_), is_open=answers.name >= 0,
    )  # fmt: skip


def _without_doubles(steps: _Steps) -> _Steps:
    """Without begins of tables that say less than what capture read at the same time."""
    if not len(steps.fd):
        return steps
    next_told = np.append(steps.told[1:] & _same(steps)[1:] & (steps.time[1:] == steps.time[:-1]), False)
    return steps.only(~((steps.rank == 0) & next_told))


def _same(steps: _Steps) -> Mask:
    """Whether each is of the same descriptor as the one before."""
    found = np.zeros(len(steps.fd), np.bool_)
    found[1:] = (steps.group[1:] == steps.group[:-1]) & (steps.fd[1:] == steps.fd[:-1])
    return found


def _rows(steps: _Steps, tables: _Tables, whole: Whole, tree: Tree, starts: Numbers, realtime_ns: int) -> pl.DataFrame:
    """Stretches of steps in which a descriptor stays open, as rows by their first event."""
    same, is_birth = _same(steps), steps.rank == 0
    before = np.maximum(np.arange(len(same)) - 1, 0)
    named = (steps.name == steps.name[before]) | steps.told | ~(steps.begins | is_birth)
    follows = same & steps.is_open[before] & ~steps.begins & named & ((steps.node == steps.node[before]) | is_birth)
    unnamed = ~steps.is_open & (steps.name == UNKNOWN) & (steps.name[before] == UNKNOWN)  # stays what it was
    steps.is_open |= follows & unnamed & ~is_birth & (steps.cloexec != Cloexec.UNSURE)
    heads = np.flatnonzero(steps.is_open & ~(follows & steps.is_open[before]))
    breaks = np.flatnonzero(~(follows & steps.is_open))
    after = np.append(breaks, len(same))[np.searchsorted(breaks, heads, "right")]
    last = after - 1
    ended, end_seq, end_time = _endings(steps, tables, same, last, after)
    pid, name = steps.pid[heads], steps.name[last]
    frame = pl.DataFrame({
        "program": _programs(tree, starts, pid, steps.seq[heads], steps.how[heads]),
        "pid": nullable(pid, pid >= 0),
        "fd": steps.fd[heads],
        "name": pl.Series(whole.resolver.names, dtype=pl.String).gather(pl.Series(nullable(name, name >= 0))),
        "source": labels(steps.source[last], SOURCES).cast(pl.String),
        "cloexec": nullable(steps.cloexec[last], np.isin(steps.cloexec[last], (Cloexec.NO, Cloexec.YES))),
        "how": labels(steps.how[heads], _HOW).cast(pl.String),
        "start_seq": nullable(steps.seq[heads], steps.seq[heads] >= 0),
        "start_time_ns": np.minimum(steps.time[heads], MAX_SEQUENCE - realtime_ns) + realtime_ns,
        "ended": labels(ended, _ENDS).cast(pl.String),
        "end_seq": nullable(end_seq, end_seq >= 0),
        "end_time_ns": nullable(np.minimum(end_time, MAX_SEQUENCE - realtime_ns) + realtime_ns, end_time != NEVER),
    })  # fmt: skip
    order = np.lexsort((steps.fd[heads], pid, steps.time[heads], steps.seq[heads]))
    return frame[order]


def _endings(
    steps: _Steps, tables: _Tables, same: Mask, last: Numbers, after: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """How stretches end, by which event (-1), and when (`NEVER`, if that is not known).

    Args:
        steps: In order.
        tables: They are of.
        same: Whether each step is of the same descriptor as the one before.
        last: The last step of each stretch.
        after: The one behind it.
    """
    inside = after < len(same)
    at = np.minimum(after, len(same) - 1)
    within = inside & same[at] & (steps.time[at] <= tables.end[steps.group[last]])
    group = steps.group[last]
    sure = within & ((steps.node[at] == steps.node[last]) | (steps.rank[at] == 0))
    closed = sure & (steps.name[at] == CLOSED) & ~steps.told[at] & (steps.how[at] != _SEEN)
    replaced = sure & steps.is_open[at] & steps.begins[at] & (steps.how[at] == _DUP)
    seq = np.where(within, steps.seq[at], tables.end_seq[group])
    time = np.where(within, steps.time[at], tables.end[group])
    later = np.minimum(after + within, len(same))  # calls that began before the end may have been the end
    disturbed = np.append(same, False)[later] & (_earliest(steps, same)[later] < time)
    ended = np.select([disturbed, closed, replaced, within], [_LOST, _CLOSE, _REPLACED, _LOST], tables.ended[group])
    return ended, np.where(ended == _LOST, -1, seq), np.where(ended == _LOST, NEVER, time)


def _earliest(steps: _Steps, same: Mask) -> Numbers:
    """When the first of each step and those after it of the same descriptor began; one more, `NEVER`."""
    stretch = np.cumsum(~same)
    order = np.lexsort((steps.began, stretch))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    lowest = np.minimum.accumulate(ranks[::-1])[::-1]
    return np.append(steps.began[order[lowest]], NEVER)


def _programs(tree: Tree, starts: Numbers, pid: Numbers, seq: Numbers, how: Numbers) -> Numbers:
    """The program whose descriptors these are, an index into the tree's; -1 if none is known."""
    timeline = tree.timeline()
    move = timeline.index(pid.astype(np.uint64), seq)
    run = np.append(0, starts)[np.searchsorted(starts, seq, "right")]
    found = np.append(timeline.nodes, -1)[move]
    found[np.append(timeline.times, -1)[move] < run] = -1
    begun = {(one.pid, one.start_seq): index for index, one in enumerate(tree.programs) if one.start_seq is not None}
    births = np.flatnonzero(np.isin(how, (_FORKED, _EXECED)))
    keys = zip(pid[births].tolist(), seq[births].tolist(), strict=True)
    found[births] = [begun.get(key, -1) for key in keys]
    return found
