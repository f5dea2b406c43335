"""What each segment of a capture must know of the others when it is decoded: asked of all of them, put together.

That is what tables held at its start, and what later segments have under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import (
    NEVER,
    NONE,
    ROOT,
    Birth,
    By,
    Join,
    Records,
    taken,
)
from process.fd_resolve import Answers, Given
from process.fd_state import Bases, Effect, Start, Whole, join_all, settle
from process.grouping import distinct, in_order, ranges, union, without

Numbers = npt.NDArray[np.int64]

_DEEPEST = 4096
"""Tables that one was copied from, one after the other, that are looked through for what it may hold."""


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
    whole = join_all(effects, starts, shelf, clocks)
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
    roots = [np.flatnonzero(whole.copied)] if history else [one.roots for one in needs]
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
    told = without(own["holder"][own["by"] == By.FOLDER], tasks)
    tasks, first = np.concatenate([tasks, told]), np.concatenate([first, np.full(len(told), clock)])
    order = np.argsort(tasks)
    folders = whole.folders.cut(tasks[order], first[order], np.full(len(tasks), effect.clock))
    holders = distinct(own["holder"][np.isin(own["by"], (By.FILE, By.SNAPSHOT))])
    owners = whole.owners.cut(holders, np.full(len(holders), clock), np.full(len(holders), effect.clock))
    wanted = distinct(np.concatenate([timeline.nodes for timeline in (files, folders, owners)]))
    old = _old(whole, clock)
    wanted, roots = _ancestors(whole.nodes, wanted[wanted >= 0], old)
    groups = np.zeros(int(whole.nodes["group"].max(initial=-1)) + 1, np.bool_)
    groups[whole.nodes["group"][wanted]] = True
    long = long[whole.changes["since"][long] < effect.clock]
    before, under_way = (some[groups[whole.nodes["group"][whole.node[some]]]] for some in (last, long))
    chosen = np.concatenate([before, under_way])
    wanted = union(wanted, whole.node[chosen])
    start = Start(clock, whole.has_roots, files=files, folders=folders, owners=owners, stored=effect.stored)
    return _Needs(start, wanted, chosen, roots)


def _old(whole: Whole, clock: int) -> npt.NDArray[np.bool_]:
    """Nodes that were made before a segment: what they hold at first is asked here, not there."""
    old: npt.NDArray[np.bool_] = whole.copied & (whole.nodes["t0"] < clock)
    return old


def _ancestors(nodes: Records, wanted: Numbers, old: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """All nodes that some are made of within a segment, and of these the old ones."""
    every, frontier = wanted, wanted
    while len(frontier):
        parents = nodes["parent"][frontier[~old[frontier]]].astype(np.int64)
        frontier = without(parents[parents >= 0], every)
        every = union(every, frontier)
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
        self._is_last = np.zeros(len(whole.changes), np.bool_)

    def take(self, segment: int) -> None:
        """Take the changes of a segment, too."""
        places = self._places[segment]  # ascending, so that the last of each thing stays
        things = self._thing[places]
        before = self._best[things]
        self._is_last[self._change[before[before >= 0]]] = False
        self._best[things] = np.maximum(places, before)
        self._is_last[self._change[self._best[things]]] = True

    def changes(self) -> Numbers:
        """They, ascending, as indices."""
        return np.flatnonzero(self._is_last)


def bases(whole: Whole, nodes: Numbers) -> Bases:
    """What some nodes held when they were made."""
    pairs, groups = whole.pairs, whole.pairs >> 32
    roots = above = nodes
    found = [np.zeros(0, np.int64)]
    for _ in range(_DEEPEST):
        copied = whole.copied[above]
        roots, above = roots[copied], whole.nodes["parent"][above[copied]].astype(np.int64)
        if not len(roots):
            break
        own = whole.nodes["group"][above].astype(np.int64)
        low, high = (np.searchsorted(groups, own, side) for side in ("left", "right"))
        found.append(np.repeat(roots, high - low) << 32 | pairs[ranges(low, high)] & 0xFFFFFFFF)
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
    old = _old(whole, start.clock)
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
    used = union(results.name, answers.name)
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
