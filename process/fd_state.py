"""What all segments of a capture do to descriptors, put together: one list of changes, and who has which table when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.errors import ProcessError
from process.fd_lives import CLONE_FILES, CLONE_THREAD, Gap, Lives
from process.fd_names import climbs
from process.fd_records import (
    ALWAYS,
    CHANGE,
    CWD,
    NEVER,
    NODE,
    NONE,
    ROOT,
    SIGHT,
    Birth,
    By,
    Join,
    Life,
    Records,
    Scan,
    joined,
    recode,
    shelve,
    stored,
)
from process.fd_resolve import Answers, Given, Resolver
from process.fd_timeline import Timeline
from process.grouping import distinct, group, ranges

Numbers = npt.NDArray[np.int64]

_COPIES = (Birth.COPY, Birth.EXEC, Birth.RANGE, Birth.RANGE_CLOEXEC)
"""How nodes are made of others."""


@dataclass
class Effect:
    """What one segment does to descriptors.

    Attributes:
        scan: Its records, pruned.
        sights: Of dtype `SIGHT`.
        edges: Of each stretch of events without a gap: first sequence number, when that event came back, and the
            latest return before it in the segment, `ALWAYS` if there is none.
        clock: The latest return.
        stored: Where the scan is kept unpruned; None if it is here.
        reset: The last reset in it: the sequence number after it, and its time.
        is_whole: Whether the scan is here unpruned, although it was kept elsewhere, too.
        exits: Of a pruned scan: ends of processes of which it lacks something because they ended, by their sequence
            numbers; and ``gone_since``: when the first of that began.
    """

    scan: Scan = field(default_factory=Scan)
    sights: Records = field(default_factory=lambda: np.zeros(0, SIGHT))
    edges: list[tuple[int, int, int]] = field(default_factory=list)
    clock: int = ALWAYS
    stored: Path | None = None
    reset: tuple[int, int] = (-1, 0)
    is_whole: bool = False
    exits: tuple[int, ...] = ()
    gone_since: int = NEVER


def _no_timeline() -> Timeline:
    return Timeline(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass
class Start:
    """What is known when a segment starts.

    Attributes:
        clock: The latest return before it.
        has_roots: Whether any task of the capture has changed its root.
        nodes: Of dtype `NODE`, those that its events need.
        files: Which of them tasks have, as `Lives`; likewise ``folders`` and ``owners``.
        changes: Of dtype `CHANGE`: the last ones before the segment, then those that were under way when it ended.
        node: The node of each.
        given: What they and the older nodes hold.
        names: Texts of names.
        stored: Where the segment's own scan is kept, if it is.
        numbers: int64, of the nodes, their indices among those of the whole capture.
    """

    clock: int = ALWAYS
    has_roots: bool = False
    nodes: Records = field(default_factory=lambda: np.zeros(0, NODE))
    files: Timeline = field(default_factory=_no_timeline)
    folders: Timeline = field(default_factory=_no_timeline)
    owners: Timeline = field(default_factory=_no_timeline)
    changes: Records = field(default_factory=lambda: np.zeros(0, CHANGE))
    node: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    given: Given = field(default_factory=Given)
    names: list[str] = field(default_factory=list)
    stored: Path | None = None
    numbers: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Whole:
    """All segments of a capture together; see `Start`.

    Attributes:
        copied: Which nodes are made of others.
        mine: The changes whose node is known.
        pairs: The distinct keys of group and descriptor of these, ascending.
        pair: Of each of these, an index into ``pairs``.
        held: What all nodes that are copies held when they were made, as `bases`; None if nobody asked.
    """

    nodes: Records
    files: Timeline
    folders: Timeline
    owners: Timeline
    changes: Records
    node: Numbers
    segment: Numbers
    resolver: Resolver
    has_roots: bool
    held: Bases | None = None

    def __post_init__(self) -> None:
        self.copied = np.isin(self.nodes["kind"], _COPIES)
        self.mine = np.flatnonzero(self.node >= 0)
        table = self.nodes["group"][self.node[self.mine]].astype(np.int64)
        few, number = group(table << 32 | self.changes["fd"][self.mine].astype(np.int64) & 0xFFFFFFFF)
        order = np.argsort(few)
        self.pairs: Numbers = few[order]
        rank = np.empty(len(few), np.int64)
        rank[order] = np.arange(len(few))
        self.pair: Numbers = rank[number]


class Bases(NamedTuple):
    """What nodes held when they were made: all that is known to be there.

    Attributes:
        node: Ascending.
        fd: The descriptor.
        answers: What it was.
    """

    node: Numbers
    fd: Numbers
    answers: Answers

    def of(self, nodes: Numbers) -> Bases:
        """Of some nodes, ascending."""
        which = ranges(*(np.searchsorted(self.node, nodes, side) for side in ("left", "right")))
        return Bases(self.node[which], self.fd[which], self.answers[which])


def place(changes: Records, files: Timeline, folders: Timeline, owners: Timeline) -> tuple[Numbers, Numbers]:
    """The node that each change changes, and that of its source; -1 where it is not known.

    A call changes the table that its task has when it is over, and asks the one that it had at its entry.
    """
    node, source = np.full(len(changes), -1), np.full(len(changes), -1)
    over = np.where(changes["t1"] == NEVER, changes["t0"] + 1, changes["t1"])
    fd, src = changes["fd"], changes["src"]
    of_folder = (fd == CWD) | (fd == ROOT)
    by_call = changes["by"] == By.CALL
    for timeline, mine in ((files, by_call & ~of_folder), (folders, by_call & of_folder)):
        node[mine] = timeline.at(changes["holder"][mine], over[mine], before=True)
    told = (changes["by"] == By.FOLDER) & of_folder
    node[told] = folders.at(changes["holder"][told], changes["t1"][told])
    read = ~by_call & ~of_folder
    node[read] = owners.at(changes["holder"][read], changes["t1"][read])
    from_folder = (src == CWD) | (src == ROOT)
    for timeline, mine in ((files, (src != NONE) & ~from_folder), (folders, from_folder)):
        source[mine] = timeline.at(changes["holder"][mine], changes["t0"][mine])
    return node, source


def plant(changes: Records, texts: Sequence[str], has_roots: bool, folders: Timeline) -> Numbers:
    """Say what absolute paths count from: in a capture without chroot from nothing, which is quick.

    Args:
        changes: Of dtype `CHANGE`; altered.
        texts: What their texts are codes into.
        has_roots: Whether any task of the capture has changed its root.
        folders: Which current folder, and root, tasks have.

    Returns:
        Of each change whose path goes up, and may meet its task's root, the node that has this; -1 for the others.
    """
    roots = np.full(len(changes), -1)
    if has_roots:
        up = np.array([climbs(text) for text in texts], np.bool_)
        rows = np.flatnonzero((changes["join"] == Join.PATH) & (changes["text"] >= 0))
        rows = rows[up[changes["text"][rows]]]
        roots[rows] = folders.at(changes["holder"][rows], changes["t0"][rows])
    else:
        lone = changes["join"] == Join.ROOTED
        changes["src"][lone], changes["join"][lone] = NONE, Join.TEXT
    return roots


def gaps_of(effects: Sequence[Effect], starts: Numbers) -> tuple[list[Gap], int]:
    """The gaps of a capture, and the time before which its beginning is unsure (`ALWAYS` if nothing is missing).

    Args:
        effects: Of its segments, in order.
        starts: Sequence numbers at which events follow a gap, or the capture's first event.
    """
    gaps: list[Gap] = []
    unsure, clock = ALWAYS, ALWAYS
    missing = set(starts.tolist())
    for effect, edges in zip(effects, edges_of(effects), strict=True):
        for first, after, before in edges:
            clock = max(clock, before)
            if first in missing and clock == ALWAYS:
                unsure = after if first else ALWAYS
            elif first in missing:
                gaps.append(Gap(clock, after, first))
        clock = max(clock, effect.clock)
    return gaps, unsure


def unpruned(effects: Sequence[Effect]) -> None:
    """Take all that segments do, not only what others can need.

    Raises:
        ProcessError: What was kept of one is gone.
    """
    for effect in effects:
        if effect.stored is None or effect.is_whole:
            continue
        scan = stored(effect.stored)
        if scan is None:
            raise ProcessError(f"{effect.stored.parent}: what was kept there is gone; is someone clearing it?")
        effect.scan.changes, effect.scan.texts, effect.is_whole = scan.changes, scan.texts, True
        effect.exits, effect.gone_since = (), NEVER


def edges_of(effects: Sequence[Effect]) -> Iterator[list[tuple[int, int, int]]]:
    """The edges of each effect; one that follows a reset which ended the segment before has the time of that."""
    reset = (-1, 0)
    for effect in effects:
        yield [(first, reset[1] if first == reset[0] else after, clock) for first, after, clock in effect.edges]
        reset = effect.reset


def settle(effects: Sequence[Effect], starts: Numbers) -> list[int]:
    """Give records that capture read at a segment's very start their time.

    Returns:
        The latest return before each segment; `ALWAYS` if events are missing between them.
    """
    missing = set(starts.tolist())
    clock, clocks = ALWAYS, []
    for effect, edges in zip(effects, edges_of(effects), strict=True):
        if not edges:
            clocks.append(clock)
            continue
        first, after, _ = edges[0]
        time = after - 1 if first in missing or clock == ALWAYS else clock
        clocks.append(time)
        give_time(effect.scan, time)
        clock = max(clock, effect.clock)
    return clocks


def give_time(scan: Scan, time: int) -> None:
    """Set the time of records that have none yet."""
    for records in (scan.changes, scan.lives):
        bare = records["t1"] == ALWAYS
        records["t0"][bare] = records["t1"][bare] = time


def crosses(effects: Sequence[Effect], starts: Numbers) -> bool:
    """Whether tasks of two processes share a table at some time. Effects must then be whole for `compose`.

    Args:
        effects: Of a capture's segments, in order; records without a time are given one.
        starts: As for `gaps_of`.
    """
    steps = np.concatenate([effect.scan.lives for effect in effects])
    forks = steps[np.isin(steps["op"], (Life.FORK, Life.CHILD))]
    if ((forks["b"] >= 0) & (forks["b"] & CLONE_FILES != 0) & (forks["b"] & CLONE_THREAD == 0)).any():
        return True
    told = steps[steps["op"] == Life.IDENTITY]
    addresses, number = group(told["a"])
    processes, other = group(told["task"] >> np.uint64(32))
    if len(distinct(number * len(processes) + other)) == len(addresses):
        return False
    settle(effects, starts)  # an address may have been used twice: look closer
    return _lives(effects, starts).crosses


def join_all(
    effects: Sequence[Effect], starts: Numbers, shelf: Path | None = None, clocks: Sequence[int] | None = None
) -> Whole:
    """Put the effects of a capture's segments together.

    Args:
        effects: They, in order; what is the same in several is then held once.
        starts: As for `gaps_of`.
        shelf: Takes their changes, of which a copy is made here (`shelve`); None: they stay in memory.
        clocks: What `settle` gave; None if it is known that pruned effects lack nothing.

    Raises:
        ProcessError: As `unpruned`, of effects that lack something.
    """
    lives = _lives(effects, starts)
    if clocks is not None and (lives.lacks or _lack(effects, clocks)):
        unpruned(effects)
        settle(effects, starts)
    changes = joined([np.zeros(0, CHANGE), *(effect.scan.changes for effect in effects)])
    sizes = [len(effect.scan.changes) for effect in effects]
    names = list(dict.fromkeys(chain.from_iterable(effect.scan.texts for effect in effects)))
    codes = dict(zip(names, count(), strict=False))
    for effect, end, size in zip(effects, np.cumsum(sizes).tolist(), sizes, strict=True):
        part = list(map(codes.__getitem__, effect.scan.texts))
        recode(changes[end - size : end], np.array(part, np.int64))
        effect.scan.texts = list(map(names.__getitem__, part))
    del codes
    if shelf is not None:
        shelve([effect.scan for effect in effects], shelf)
    segment = np.repeat(np.arange(len(effects)), sizes)
    nodes, (files, folders, owners) = lives.nodes(), lives.timelines()
    del lives
    has_roots = bool((changes["fd"] == ROOT).any())
    roots = plant(changes, names, has_roots, folders)
    node, source = place(changes, files, folders, owners)
    resolver = Resolver(nodes, changes, node, source, roots, names, Given())
    return Whole(nodes, files, folders, owners, changes, node, segment, resolver, has_roots)


def _lack(effects: Sequence[Effect], clocks: Sequence[int]) -> bool:
    """Whether something was left out of a net effect that reaches into the segment before."""
    return any(effect.gone_since <= clock for effect, clock in zip(effects, clocks, strict=True))


def _lives(effects: Sequence[Effect], starts: Numbers) -> Lives:
    """All that tasks of a capture did to tables."""
    steps = np.concatenate([effect.scan.lives for effect in effects])
    exits = frozenset(chain.from_iterable(effect.exits for effect in effects))
    return Lives(steps, _seen(effects), *gaps_of(effects, starts), exits)


def _seen(effects: Sequence[Effect]) -> list[tuple[int, int, int]]:
    """Every task of a capture, with its first and last time; ascending."""
    sights = np.concatenate([np.zeros(0, SIGHT), *(effect.sights for effect in effects)])
    sights = sights[np.argsort(sights["task"])]
    of = np.flatnonzero(np.append(True, sights["task"][1:] != sights["task"][:-1])[: len(sights)])
    if not len(of):
        return []
    first, last = np.minimum.reduceat(sights["first"], of), np.maximum.reduceat(sights["last"], of)
    return list(zip(sights["task"][of].tolist(), first.tolist(), last.tolist(), strict=True))
