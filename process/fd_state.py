"""What each segment of a capture must know of descriptors from the others, put together in order.

Of the net effects of all segments one list is made; what the tables held at a segment's start, and what later segments
have under way, is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.errors import ProcessError
from process.fd_keys import TimeKeys
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
    taken,
)
from process.fd_resolve import Answers, Given, Resolver
from process.fd_timeline import Timeline
from process.grouping import distinct, group, in_order, ranges

Numbers = npt.NDArray[np.int64]

_COPIES = (Birth.COPY, Birth.EXEC, Birth.RANGE, Birth.RANGE_CLOEXEC)
"""How nodes are made of others."""
_DEEPEST = 4096
"""Tables that one was copied from, one after the other, that are looked through for what it may hold."""


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
    """

    scan: Scan = field(default_factory=Scan)
    sights: Records = field(default_factory=lambda: np.zeros(0, SIGHT))
    edges: list[tuple[int, int, int]] = field(default_factory=list)
    clock: int = ALWAYS
    stored: Path | None = None
    reset: tuple[int, int] = (-1, 0)
    is_whole: bool = False


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
        mine: The changes whose node is known.
        pairs: The distinct keys of group and descriptor of these, ascending.
        pair: Of each of these, an index into ``pairs``.
        held: What all nodes that are copies held when they were made, as `bases`; None if nobody asked.
    """

    lives: Lives
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
        self.mine = np.flatnonzero(self.node >= 0)
        table = self.nodes["group"][self.node[self.mine]].astype(np.int64)
        few, number = group(table << 32 | self.changes["fd"][self.mine].astype(np.int64) & 0xFFFFFFFF)
        order = np.argsort(few)
        self.pairs: Numbers = few[order]
        rank = np.empty(len(few), np.int64)
        rank[order] = np.arange(len(few))
        self.pair: Numbers = rank[number]


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
    pairs = np.unique(np.stack([told["a"], told["task"] >> np.uint64(32)]), axis=1)
    if len(np.unique(pairs[0])) == pairs.shape[1]:
        return False
    settle(effects, starts)  # an address may have been used twice: look closer
    return Lives(
        np.concatenate([effect.scan.lives for effect in effects]), _seen(effects), *gaps_of(effects, starts)
    ).crosses


def join_all(effects: Sequence[Effect], starts: Numbers, shelf: Path | None = None) -> Whole:
    """Put the effects of a capture's segments together.

    Args:
        effects: They, in order; what is the same in several is then held once.
        starts: As for `gaps_of`.
        shelf: Takes their changes, of which a copy is made here (`shelve`); None: they stay in memory.
    """
    gaps, unsure = gaps_of(effects, starts)
    codes: dict[str, int] = {}
    changes = joined([np.zeros(0, CHANGE), *(effect.scan.changes for effect in effects)])
    sizes = [len(effect.scan.changes) for effect in effects]
    parts = [[codes.setdefault(text, len(codes)) for text in effect.scan.texts] for effect in effects]
    names = list(codes)
    for effect, part, end, size in zip(effects, parts, np.cumsum(sizes).tolist(), sizes, strict=True):
        recode(changes[end - size : end], np.array(part, np.int64))
        effect.scan.texts = [names[code] for code in part]
    del parts
    if shelf is not None:
        shelve([effect.scan for effect in effects], shelf)
    segment = np.repeat(np.arange(len(effects)), sizes)
    steps = np.concatenate([effect.scan.lives for effect in effects])
    lives = Lives(steps, _seen(effects), gaps, unsure)
    nodes = lives.nodes()
    files, folders, owners = lives.timelines()
    has_roots = bool((changes["fd"] == ROOT).any())
    roots = plant(changes, names, has_roots, folders)
    node, source = place(changes, files, folders, owners)
    resolver = Resolver(nodes, changes, node, source, roots, names, Given())
    return Whole(lives, nodes, files, folders, owners, changes, node, segment, resolver, has_roots)


def _seen(effects: Sequence[Effect]) -> list[tuple[int, int, int]]:
    """Every task of a capture, with its first and last time."""
    found: dict[int, tuple[int, int]] = {}
    for effect in effects:
        for task, first, last in effect.sights.tolist():
            low, high = found.get(task, (first, last))
            found[task] = min(low, first), max(high, last)
    return [(task, *times) for task, times in sorted(found.items())]


def compose(
    effects: Sequence[Effect], starts: Numbers, *, history: bool = False, shelf: Path | None = None
) -> tuple[list[Start], Whole]:
    """What each segment must know, and all of them together.

    Args:
        effects: Of a capture's segments, in order; records without a time are given one.
        starts: As for `gaps_of`.
        history: Whether somebody will ask what all tables held when they were made.
        shelf: As for `join_all`.
    """
    clocks = settle(effects, starts)
    whole = join_all(effects, starts, shelf)
    began = np.array(clocks, np.int64)[whole.segment]
    long = np.flatnonzero((whole.node >= 0) & (whole.changes["since"] < began))
    latest = _Latest(whole, len(effects))
    needs = []
    edges = np.searchsorted(whole.segment, np.arange(len(effects) + 1)).tolist()
    for k, effect in enumerate(effects):
        own = whole.changes[edges[k] : edges[k + 1]]
        needs.append(_needs(whole, effect, own, clocks[k], latest.changes(), long[whole.segment[long] > k]))
        latest.take(k)
    del latest
    roots = [np.flatnonzero(copied_nodes(whole.nodes))] if history else [one.roots for one in needs]
    held = bases(whole, distinct(np.concatenate(roots)))
    whole.held = held if history else None
    results = whole.resolver.results(np.concatenate([one.changes for one in needs]))
    found, at = [], 0
    for one in needs:
        found.append(_pack(whole, one, held, results[np.arange(at, at + len(one.changes))]))
        at += len(one.changes)
    return found, whole


class _Needs(NamedTuple):
    """What a segment must know.

    Attributes:
        start: Has the timelines.
        nodes: Ascending.
        changes: The last ones before it, and those that were under way.
        roots: Of the nodes those of which it is asked what they held when they were made, ascending.
    """

    start: Start
    nodes: Numbers
    changes: Numbers
    roots: Numbers


def _needs(whole: Whole, effect: Effect, own: Records, clock: int, last: Numbers, long: Numbers) -> _Needs:
    """Find out for one segment.

    Args:
        whole: All segments.
        effect: Its own.
        own: Its changes.
        clock: The latest return before it.
        last: The last change before it of each descriptor.
        long: Changes of later segments that were under way when their segments began.
    """
    tasks, first = effect.sights["task"], effect.sights["first"]
    files = whole.files.cut(tasks, first, np.full(len(tasks), effect.clock))
    told = np.setdiff1d(own["holder"][own["by"] == By.FOLDER], tasks)
    tasks, first = np.concatenate([tasks, told]), np.concatenate([first, np.full(len(told), clock)])
    order = np.argsort(tasks)
    folders = whole.folders.cut(tasks[order], first[order], np.full(len(tasks), effect.clock))
    holders = np.unique(own["holder"][np.isin(own["by"], (By.FILE, By.SNAPSHOT))])
    owners = whole.owners.cut(holders, np.full(len(holders), clock), np.full(len(holders), effect.clock))
    wanted = np.unique(np.concatenate([timeline.nodes for timeline in (files, folders, owners)]))
    old = _old(whole.nodes, clock)
    wanted, roots = _ancestors(whole.nodes, wanted[wanted >= 0], old)
    groups = np.zeros(int(whole.nodes["group"].max(initial=-1)) + 1, np.bool_)
    groups[whole.nodes["group"][wanted]] = True
    long = long[whole.changes["since"][long] < effect.clock]
    before, under_way = (some[groups[whole.nodes["group"][whole.node[some]]]] for some in (last, long))
    chosen = np.concatenate([before, under_way])
    wanted = np.union1d(wanted, whole.node[chosen])
    start = Start(clock, whole.has_roots, files=files, folders=folders, owners=owners, stored=effect.stored)
    return _Needs(start, wanted, chosen, roots)


def copied_nodes(nodes: Records) -> npt.NDArray[np.bool_]:
    """Nodes that are made of others."""
    return np.isin(nodes["kind"], _COPIES)


def _old(nodes: Records, clock: int) -> npt.NDArray[np.bool_]:
    """Nodes that were made before a segment: what they hold at first is asked here, not there."""
    old: npt.NDArray[np.bool_] = copied_nodes(nodes) & (nodes["t0"] < clock)
    return old


def _ancestors(nodes: Records, wanted: Numbers, old: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """All nodes that some are made of within a segment, and of these the old ones."""
    every, frontier = wanted, wanted
    while len(frontier):
        parents = nodes["parent"][frontier[~old[frontier]]].astype(np.int64)
        frontier = np.setdiff1d(parents[parents >= 0], every)
        every = np.union1d(every, frontier)
    return every, every[old[every]]


class _Latest:
    """Of changes the last one of each descriptor of each group: by a call, read, and the first that never ended.

    What has not ended hides nothing, and is under way from its beginning on.
    """

    def __init__(self, whole: Whole, segments: int) -> None:
        """Begin with none of the changes."""
        mine = whole.mine
        t1, since, seq, by = (whole.changes[name][mine] for name in ("t1", "since", "seq", "by"))
        never = t1 == NEVER
        thing, time = 3 * whole.pair + np.where(never, 2, by != By.CALL), np.where(never, ~since, t1)
        order = in_order(TimeKeys(3 * len(whole.pairs), time).of(thing, time), seq)
        self._change, self._thing, segment = mine[order], thing[order], whole.segment[mine][order]
        by_segment = np.argsort(segment, kind="stable")
        self._places = np.split(by_segment, np.searchsorted(segment[by_segment], np.arange(1, segments)))
        self._best = np.full(3 * len(whole.pairs), -1)

    def take(self, segment: int) -> None:
        """Take the changes of a segment, too."""
        places = self._places[segment]  # ascending, so that the last of each thing stays
        self._best[self._thing[places]] = np.maximum(places, self._best[self._thing[places]])

    def changes(self) -> Numbers:
        """They, ascending, as indices."""
        found: Numbers = np.sort(self._change[self._best[self._best >= 0]])
        return found


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


def bases(whole: Whole, nodes: Numbers) -> Bases:
    """What some nodes held when they were made."""
    pairs, groups = whole.pairs, whole.pairs >> 32
    roots = above = nodes
    found = [np.zeros(0, np.int64)]
    for _ in range(_DEEPEST):
        kind = whole.nodes["kind"][above]
        copied = np.isin(kind, _COPIES)
        roots, above = roots[copied], whole.nodes["parent"][above[copied]].astype(np.int64)
        if not len(roots):
            break
        own = whole.nodes["group"][above].astype(np.int64)
        low, high = (np.searchsorted(groups, own, side) for side in ("left", "right"))
        found.append(distinct(np.repeat(roots, high - low) << 32 | pairs[ranges(low, high)] & 0xFFFFFFFF))
    keys = distinct(np.concatenate(found))
    node, fd = keys >> 32, (keys & 0xFFFFFFFF).astype(np.uint32).view(np.int32).astype(np.int64)
    answers = whole.resolver.born(node, fd)
    known = (answers.name >= 0) | (fd == ROOT)
    return Bases(node[known], fd[known], answers[known])


def _pack(whole: Whole, needs: _Needs, held: Bases, results: Answers) -> Start:
    """Number nodes and names anew, so that a start holds no more than it needs.

    Args:
        whole: All segments.
        needs: What one must know.
        held: What nodes, its own among them, held when they were made.
        results: What descriptors were after its changes.
    """
    start, wanted, chosen, roots = needs
    old = _old(whole.nodes, start.clock)
    number = np.full(len(whole.nodes) + 1, -1)
    number[wanted] = np.arange(len(wanted))
    nodes = whole.nodes[wanted]
    nodes["kind"][old[wanted]] = Birth.BASE
    nodes["parent"] = number[nodes["parent"]]
    start.nodes, start.numbers = nodes, wanted
    for timeline in (start.files, start.folders, start.owners):
        timeline.nodes = number[timeline.nodes]
    changes = taken(whole.changes, chosen)
    node, fd, answers = held.of(roots)
    used = distinct(np.concatenate([results.name, answers.name]))
    used = used[used >= 0]
    code = np.full(len(whole.resolver.names) + 2, -1)
    code[used] = np.arange(len(used))
    code[[-1, -2]] = -1, -2
    start.names = [whole.resolver.names[name] for name in used.tolist()]
    changes["text"], changes["join"], changes["src"] = code[results.name], Join.TEXT, NONE
    start.changes, start.node = changes, number[whole.node[chosen]]
    start.given = Given(
        Answers(code[results.name], results.cloexec, results.source), number[node], fd,
        Answers(code[answers.name], answers.cloexec, answers.source),
    )  # fmt: skip
    return start
