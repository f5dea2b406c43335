"""Which table a task has, from when to when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.events import Words
from process.grouping import group
from process.kernels_changes import last_at

Numbers = npt.NDArray[np.int64]


@dataclass
class Timeline:
    """Moves of holders (tasks, or the kernel's tables) to nodes, by holder, then by time.

    Attributes:
        holders: uint64.
        times: int64.
        nodes: int64, -1 for none.
    """

    holders: Words
    times: Numbers
    nodes: Numbers

    @classmethod
    def of(cls, moves: list[tuple[int, int, int]]) -> Timeline:
        """Sort moves; of those at one time the last counts."""
        holders = np.array([holder for holder, _, _ in moves], np.uint64)
        times, nodes = (np.array([move[k] for move in moves], np.int64) for k in (1, 2))
        order = np.lexsort((times, holders))
        return cls(holders[order], times[order], nodes[order])

    def __post_init__(self) -> None:
        self._distinct, starts = np.unique(self.holders, return_index=True)
        self._starts = np.append(starts, len(self.holders))

    def at(self, holders: Words, times: Numbers, *, before: bool = False) -> Numbers:
        """The node that each of some holders has at a time, or had just ``before`` it; -1 if none is known."""
        return self._node(self.index(holders, times, before=before))

    def at_of(self, holders: Words, which: Numbers, times: Numbers) -> Numbers:
        """Likewise at times; which holder each has is told by an index into some distinct ones, -1 for none."""
        return self._node(self._index_of(holders, which, times, False))

    def index(self, holders: Words, times: Numbers, *, before: bool = False) -> Numbers:
        """As `at`, but the move that made it so; -1 if there is none."""
        return self._index_of(*group(holders), times, before)

    def _index_of(self, holders: Words, which: Numbers, times: Numbers, before: bool) -> Numbers:
        if not len(self._distinct):
            return np.full(len(which), -1)
        number = np.minimum(np.searchsorted(self._distinct, holders), len(self._distinct) - 1)
        number = np.append(np.where(self._distinct[number] == holders, number, -1), -1)
        return last_at(self._starts, self.times, number[which], times, before=before)

    def _node(self, index: Numbers) -> Numbers:
        return np.append(self.nodes, -1).take(index, mode="wrap")  # -1 is the last one

    def cut(self, holders: Words, first: Numbers, last: Numbers) -> Timeline:
        """The moves that matter to some holders, each between two times: those, and the one before."""
        low = np.maximum(self.index(holders, first), np.searchsorted(self.holders, holders, "left"))
        high = self.index(holders, last)
        counts = np.maximum(high - low + 1, 0)
        at = np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return Timeline(self.holders[at], self.times[at], self.nodes[at])
