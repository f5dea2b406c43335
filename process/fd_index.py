"""The changes of descriptors, sorted so that the last one before a call is found for many calls at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from process.fd_records import By, Records
from process.grouping import Indices, by_code, distinct, group

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Asked(Protocol):
    """Calls that ask; see `fd_resolve.Questions`."""

    node: Numbers
    fd: Numbers
    t0: Numbers
    t1: Numbers
    seq: Numbers


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
        kept = kept[np.argsort(changes["seq"][kept], kind="stable")]
        kept = kept[np.argsort(changes["t1"][kept], kind="stable")]  # both are all but sorted before
        self._pairs, which = _pairs(self._groups[node[kept]], changes["fd"][kept].astype(np.int64))
        self._change = kept[by_code(which, len(self._pairs))]
        rows = changes[self._change]
        counts = np.bincount(which, minlength=len(self._pairs))
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        which = np.repeat(np.arange(len(counts)), counts)
        self._node, self._t1, self._seq = node[self._change], rows["t1"].copy(), rows["seq"].copy()
        self._times = distinct(self._t1)
        self._width = len(self._times) + 1
        self._keys = which * self._width + np.searchsorted(self._times, self._t1, "right")
        self._under_way = _later(rows["since"], which)
        first = np.zeros(len(rows), np.bool_)
        calls = rows["by"] == By.CALL
        before = np.maximum.accumulate(np.where(calls, np.arange(len(rows)), -1))[:-1]  # the last one by a call
        before = np.concatenate(([-1], before))
        overlaps = (before >= self._starts[:-1][which]) & (self._t1[before] > rows["t0"]) if len(rows) else first
        self._next_call = np.full(len(rows) + 1, len(rows))
        self._next_call[:-1][calls] = np.flatnonzero(calls)
        self._next_call = np.minimum.accumulate(self._next_call[::-1])[::-1]
        self._unclear = (overlaps | (rows["t0"] < self._unsure[self._node])) & calls

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
        if not len(self._pairs):
            return sure, np.full(len(node), -1)
        pair = _pair(self._groups[node], asked.fd)
        which = np.minimum(np.searchsorted(self._pairs, pair), len(self._pairs) - 1)
        hit = self._pairs[which] == pair
        keys = which * self._width + np.searchsorted(self._times, asked.t0, "right")
        after = np.searchsorted(self._keys, keys, "right")
        stop = self._starts[which + 1]
        other = self._next_call[after]
        other = other + ((other < stop) & (self._seq[np.minimum(other, len(self._keys) - 1)] == asked.seq))
        disturbed = (other < stop) & (self._under_way[np.minimum(other, len(self._keys) - 1)] < asked.t1)
        sure &= ~(hit & disturbed)
        at = np.maximum(after - 1, 0)
        same = self._node[at] == asked.node
        found = hit & (after > self._starts[which]) & (same | (self._t1[at] > self._since[node]))
        sure &= ~found | (same & ~self._unclear[at])
        return sure, np.where(found, self._change[at], -1)


def _pair(group: Numbers, fd: Numbers) -> Numbers:
    pair: Numbers = group << 32 | fd & 0xFFFFFFFF
    return pair


def _pairs(group_: Numbers, fd: Numbers) -> tuple[Numbers, Indices]:
    """The distinct pairs, ascending, and for each element an index into them."""
    if not len(fd):
        return fd, np.zeros(0, np.intp)
    low = int(fd.min())
    width = int(fd.max()) - low + 1
    found, which = group(group_ * width + fd - low)  # few numbers without holes, mostly
    pairs = _pair(found // width, found % width + low)
    order = np.argsort(pairs)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return pairs[order], rank[which]


def _later(since: Numbers, which: Numbers) -> Numbers:
    """The earliest of ``since`` from each place to the end of its stretch of equal ``which``, which ascends."""
    if not len(since):
        return since
    distinct, rank = np.unique(since, return_inverse=True)
    shifted = rank + which * len(distinct)
    lowest = np.minimum.accumulate(shifted[::-1])[::-1]
    found: Numbers = distinct[lowest - which * len(distinct)]
    return found
