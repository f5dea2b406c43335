"""The changes of descriptors, sorted so that the last one before a call is found for many calls at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import NEVER, ROOT, Records
from process.grouping import in_order
from process.kernels_changes import NODE, index_changes, last_changes

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
        self._nodes = np.empty(len(nodes), NODE)
        for name in NODE.names or ():
            self._nodes[name] = nodes[name]
        kept = np.flatnonzero(node >= 0)
        t1 = changes["t1"][kept]
        self._pairs = Pairs(nodes["group"][node[kept]].astype(np.int64), changes["fd"][kept].astype(np.int64))
        open_ended = t1 == NEVER
        at = TimeKeys(len(self._pairs), t1[~open_ended])
        order = in_order(at.of(self._pairs.own, t1) + open_ended, changes["seq"][kept])
        self._starts = np.cumsum(np.bincount(self._pairs.own + 1, minlength=len(self._pairs) + 1))
        self._index, self._times = index_changes(changes, node, kept[order], self._starts, self._nodes["unsure"].copy())

    def unclear(self, count: int) -> Mask:
        """Of each of the ``count`` changes, whether others were under way with it: nobody knows which was the last."""
        found = np.zeros(count, np.bool_)
        found[self._index["change"]] = self._index["unclear"]
        return found

    def last(self, asked: Asked) -> tuple[Mask, Numbers]:
        """The last change before each call.

        Returns:
            Whether it can be told, and the change's index; -1 if there is none since the table was made.
        """
        if not len(self._nodes):
            return np.zeros(len(asked.node), np.bool_), np.full(len(asked.node), -1)
        which = self._pairs.of(self._nodes["group"][asked.node], asked.fd)  # of a node that is not known whatever it is
        return last_changes(
            self._index, self._times, self._starts, self._nodes, which, asked.node, asked.t0, asked.t1, asked.seq
        )


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
