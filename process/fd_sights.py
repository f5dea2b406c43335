"""Which tasks a segment has, and when each entered its first and its last call there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.fd_records import SIGHT, Records
from process.grouping import distinct, spread
from process.read import Words

Numbers = npt.NDArray[np.int64]

_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_NOBODY = (1 << 64) - 1
_BITS = 14
"""Of a place in the table of tasks: mostly there are far fewer tasks than places."""


class Sights:
    """Gathers tasks and their times; each task has a number, found by a look into a table unless two share a place."""

    def __init__(self) -> None:
        """Begin without tasks, but for one that stands where there is none."""
        self._tasks = np.array([_NOBODY], np.uint64)
        self._first, self._last = np.array([_EARLIEST]), np.array([_EARLIEST])
        self._number_at = np.zeros(1 << _BITS, np.intp)

    def add(self, tasks: Words, times: Numbers) -> None:
        """Take some events: their tasks, and when they began."""
        numbers = self._number_at[spread(tasks, _BITS)]
        missed = np.flatnonzero(self._tasks[numbers] != tasks)
        if len(missed):
            numbers[missed] = self._search(tasks[missed])
        if times.min() < self._first.max():
            np.minimum.at(self._first, numbers, times)
        np.maximum.at(self._last, numbers, times)

    def records(self) -> Records:
        """The tasks, ascending, of dtype `SIGHT`."""
        order = np.argsort(self._tasks)
        order = order[self._last[order] != _EARLIEST]
        seen = np.zeros(len(order), SIGHT)
        seen["task"], seen["first"], seen["last"] = self._tasks[order], self._first[order], self._last[order]
        return seen

    def _search(self, tasks: Words) -> Numbers:
        """The numbers of tasks that are not in their places, as another is there or they are new."""
        order = np.argsort(self._tasks)
        known, asked = self._tasks[order], distinct(tasks)
        fresh = asked[known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] != asked]
        if len(fresh):
            self._number_at[spread(fresh, _BITS)] = np.arange(len(fresh)) + len(self._tasks)
            self._tasks = np.concatenate([self._tasks, fresh])
            self._first = np.concatenate([self._first, np.full(len(fresh), _LATEST)])
            self._last = np.concatenate([self._last, np.full(len(fresh), _EARLIEST)])
            order = np.argsort(self._tasks)
        found: Numbers = order[np.searchsorted(self._tasks, tasks, sorter=order)]
        return found
