"""What of a segment's changes can matter to another segment: the net effect.

A change is left out if the same task changes the same descriptor again in the segment, and its process does nothing in
between that reads the descriptor (dup, a relative path) or all of them (fork, exec, close_range ...). Readers of other
processes, which share the table by clone(CLONE_FILES), are not looked at: a capture with such is not pruned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import NONE, By, Life, Records, joined, taken
from process.grouping import group, in_order, ranges

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_HIGH = np.uint64(32)
_MANY = 1 << 16
_MOST = 1 << 36
"""Pairs of a task and a descriptor that a key has room for."""


def prune(changes: Records, lives: Records) -> Records:
    """The changes that are left. Each stands for those before it: see ``since`` and ``head`` in `CHANGE`.

    Args:
        changes: Of dtype `CHANGE`, as `together` gives them.
        lives: Of dtype `LIFE`.
    """
    is_call = changes["by"] == By.CALL
    calls = changes if is_call.all() else taken(changes, is_call)
    if not len(calls):
        return changes
    things = _Things(calls)
    if things.count > _MOST:
        return changes  # no guest needs such numbers; one that makes them up pays for it
    seq, starts = calls["seq"].copy(), np.flatnonzero(np.append(True, things.of[1:] != things.of[:-1]))
    keeps = np.zeros(len(calls), np.bool_)
    keeps[np.append(starts[1:], len(calls)) - 1] = True  # the last of each thing
    pids = (things.holders >> _HIGH)[things.of_holder[starts]]
    fds = calls["fd"][starts].astype(np.int64)
    reads = _reads(pids, fds, calls, lives)
    if reads is None:
        return changes
    which, when = reads
    at = TimeKeys(things.count, seq)
    before = np.searchsorted(at.of(things.of, seq), at.of(things.of[starts][which], when, before=True), "right") - 1
    keeps[before[before >= starts[which]]] = True
    kept = np.flatnonzero(keeps)
    first = np.concatenate(([0], kept[:-1] + 1))  # each kept one ends a stretch of those that it stands for
    left = taken(calls, kept)
    left["since"] = np.minimum.reduceat(calls["since"], first)
    left["head"] = calls["head"][first]
    return joined([left, changes[~is_call]])


def together(changes: Records) -> Records:
    """Changes with those of one holder and descriptor together, in sequence: by calls, then what was read."""
    if not len(changes):
        return changes
    things = _Things(changes)
    if things.count > _MOST:
        return changes
    order = in_order(TimeKeys(things.count, changes["seq"]).of(things.of, changes["seq"]))
    is_read = changes["by"][order] != By.CALL
    return taken(changes, np.concatenate([order[~is_read], order[is_read]]))


class _Things:
    """Pairs of a holder and a descriptor, as numbers.

    Attributes:
        of: The number of each change's.
        count: Greater than all that there can be.
        holders: The distinct ones, ascending.
        of_holder: An index into these for each change.
        low: The lowest descriptor.
        width: More than the descriptors, and sources, from there on.
    """

    def __init__(self, changes: Records) -> None:
        """Number them; at least one change is needed."""
        found, which = group(changes["holder"].copy())
        order = np.argsort(found)
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        self.holders, self.of_holder = found[order], rank[which]
        fd = changes["fd"].astype(np.int64)
        self.low = int(fd.min())
        self.width = max(int(fd.max()), int(changes["src"].max())) - self.low + 2
        self.count = len(self.holders) * self.width
        self.of: Numbers = self.of_holder * self.width + fd - self.low


def _reads(pids: Words, fds: Numbers, calls: Records, lives: Records) -> tuple[Numbers, Numbers] | None:
    """What reads things, which are descriptors of processes.

    Returns:
        The index of a thing, and a sequence number, for each time that one is read; None if there are too many.
    """
    tables = lives[~np.isin(lives["op"], (Life.SNAPSHOT, Life.IDENTITY, Life.EXIT))]
    makers = np.where(tables["op"] == Life.CHILD, tables["a"], tables["task"]) >> _HIGH
    sources = taken(calls, calls["src"] != NONE)
    read = _pair(sources["holder"] >> _HIGH, sources["src"].astype(np.int64))
    whole = tables["seq"][tables["op"] == Life.PIVOT]
    found = []
    for keys, wanted, when in (
        (_pair(pids, fds), read, sources["seq"]),
        (pids, makers, tables["seq"]),
        (np.zeros_like(pids), np.zeros(len(whole), np.uint64), whole),
    ):
        order = np.argsort(keys, kind="stable")
        low, high = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        if (high - low).sum() > _MANY + len(calls):
            return None
        found.append((order[ranges(low, high)], np.repeat(when, high - low)))
    which, times = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return which, times


def _pair(pids: Words, fds: Numbers) -> Words:
    pair: Words = pids << _HIGH | fds.view(np.uint64) & np.uint64(0xFFFFFFFF)
    return pair
