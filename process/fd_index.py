"""The changes of descriptors, sorted so that the last one before a call is found for many calls at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import NEVER, ROOT, By, Records
from process.grouping import in_order

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Asked(Protocol):
    """Calls that ask; see `fd_resolve.Questions`."""

    node: Numbers
    fd: Numbers
    t0: Numbers
    t1: Numbers
    seq: Numbers


_LOWEST = ROOT
"""The lowest number that stands for a descriptor."""
_SMALL = 1 << 16


class ChangeIndex:
    """Changes by group of tables and descriptor, then by the time at which they were over."""

    def __init__(self, nodes: Records, changes: Records, node: Numbers) -> None:
        """Sort.

        Args:
            nodes: Of dtype `NODE`.
            changes: Of dtype `CHANGE`.
            node: Of each change, -1 if not known: it is left out.
        """
        self._groups = nodes["group"].astype(np.int64)
        self._tainted, self._since = nodes["tainted"], nodes["since"].copy()
        self._unsure, self._end, self._ender = nodes["unsure"].copy(), nodes["end"].copy(), nodes["ender"].copy()
        kept = np.flatnonzero(node >= 0)
        node, t1 = node[kept], changes["t1"][kept]
        self._pairs = Pairs(self._groups[node], changes["fd"][kept].astype(np.int64))
        open_ended = t1 == NEVER
        self._at = TimeKeys(len(self._pairs), t1[~open_ended])
        keys = self._at.of(self._pairs.own, t1) + open_ended
        order = in_order(keys, changes["seq"][kept])
        self._keys, self._change, which = keys[order], kept[order], self._pairs.own[order]
        self._starts = np.searchsorted(which, np.arange(len(self._pairs) + 1))
        self._node, self._t1, self._seq = node[order], t1[order], changes["seq"][self._change]
        t0, calls = changes["t0"][self._change], changes["by"][self._change] == By.CALL
        self._under_way = later(changes["since"][self._change], which)
        count = len(order)
        before = np.maximum.accumulate(np.where(calls, np.arange(count), -1))  # the last one by a call
        before = np.concatenate(([-1], before[:-1]))[:count]
        overlaps = (before >= self._starts[which]) & (self._t1[before] > t0)
        self._next_call = np.full(count + 1, count)
        self._next_call[:-1][calls] = np.flatnonzero(calls)
        self._next_call = np.minimum.accumulate(self._next_call[::-1])[::-1]
        self._unclear = (overlaps | (t0 < self._unsure[self._node])) & calls

    def unclear(self, count: int) -> Mask:
        """Of each of the ``count`` changes, whether others were under way with it: nobody knows which was the last."""
        found = np.zeros(count, np.bool_)
        found[self._change] = self._unclear
        return found

    def last(self, asked: Asked) -> tuple[Mask, Numbers]:
        """The last change before each call.

        Returns:
            Whether it can be told, and the change's index; -1 if there is none since the table was made.
        """
        known = asked.node >= 0
        node = np.where(known, asked.node, 0)
        if not len(self._groups):
            return known & False, np.full(len(node), -1)
        sure = known & ~self._tainted[node] & (asked.t0 >= self._unsure[node])
        sure &= (asked.t1 <= self._end[node]) | (asked.seq == self._ender[node])
        found = np.full(len(node), -1)
        which = self._pairs.of(self._groups[node], asked.fd)
        hit = np.flatnonzero(which >= 0)
        if len(hit):
            which, node, t1 = which[hit], asked.node[hit], asked.t1[hit]
            after = np.searchsorted(self._keys, self._at.of(which, asked.t0[hit]), "right")
            stop, last = self._starts[which + 1], len(self._keys) - 1
            other = self._next_call[after]
            other = other + ((other < stop) & (self._seq[np.minimum(other, last)] == asked.seq[hit]))
            clear = (other >= stop) | (self._under_way[np.minimum(other, last)] >= t1)
            at = np.maximum(after - 1, 0)
            same = self._node[at] == node
            is_there = (after > self._starts[which]) & (same | (self._t1[at] > self._since[node]))
            clear &= ~is_there | (same & ~self._unclear[at])
            sure[hit] &= clear
            found[hit] = np.where(is_there, self._change[at], -1)
        return sure, found


class Pairs:
    """Numbers for pairs of a group and a descriptor.

    Attributes:
        own: Of the pairs given.
    """

    def __init__(self, groups: Numbers, fds: Numbers) -> None:
        width = int(fds.max(initial=0)) + 1 - _LOWEST
        height = int(groups.max(initial=-1)) + 1
        self._table: Numbers | None = None
        if width * height > max(_SMALL, 8 * len(groups)):
            self._distinct, self.own = np.unique(_pair(groups, fds), return_inverse=True)
            self._count = len(self._distinct)
            return
        self._width, self._height = width, height
        places = groups * width + fds - _LOWEST
        self._table = np.full(width * height + 1, -1)
        self._table[places] = 0
        taken = np.flatnonzero(self._table == 0)
        self._table[taken] = np.arange(len(taken))
        self.own, self._count = self._table[places], len(taken)

    def __len__(self) -> int:
        return self._count

    def of(self, groups: Numbers, fds: Numbers) -> Numbers:
        """The numbers of pairs, -1 for one that is not among those given."""
        if self._table is not None:
            fits = (fds >= _LOWEST) & (fds < self._width + _LOWEST) & (groups < self._height)
            found: Numbers = self._table[np.where(fits, groups * self._width + fds - _LOWEST, -1)]
            return found
        if not len(self._distinct):
            return np.full(len(groups), -1)
        pair = _pair(groups, fds)
        at = np.minimum(np.searchsorted(self._distinct, pair), len(self._distinct) - 1)
        return np.where(self._distinct[at] == pair, at, -1)


def _pair(group: Numbers, fd: Numbers) -> Numbers:
    pair: Numbers = group << 32 | fd & 0xFFFFFFFF
    return pair


def later(since: Numbers, which: Numbers) -> Numbers:
    """The earliest of ``since`` from each place to the end of its stretch of equal ``which``, which ascends."""
    if not len(since):
        return since
    earliest, latest = int(since.min()), int(since.max(initial=-(1 << 63), where=since != NEVER))
    span = latest - earliest + 2
    if 0 < span * (int(which[-1]) + 1) < 1 << 62:
        base = which * span - earliest
        lowest = np.minimum.accumulate((np.minimum(since, latest + 1) + base)[::-1])[::-1] - base
        return np.where(lowest > latest, NEVER, lowest)
    distinct, rank = np.unique(since, return_inverse=True)
    base = which * len(distinct)
    found: Numbers = distinct[np.minimum.accumulate((rank + base)[::-1])[::-1] - base]
    return found
