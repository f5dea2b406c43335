"""Which tasks a segment has, and when each entered its first and its last call there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.events import Words
from process.fd_records import SIGHT, Records
from process.kernels_events import note_times

Numbers = npt.NDArray[np.int64]

_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_NOBODY = (1 << 64) - 1
_BITS = 14
"""Of a place (`grouping.spread`) in the table of tasks: mostly there are far fewer tasks than places."""
_TRIES = 8
"""Places that a task may have, from its own on."""


class Sights:
    """Gathers tasks and their times, each at its place in a table, but for those that find others at all of theirs."""

    def __init__(self) -> None:
        """Begin without tasks."""
        places = (1 << _BITS) + _TRIES - 1
        self._tasks = np.full(places, _NOBODY, np.uint64)
        self._first, self._last = np.full(places, _LATEST), np.full(places, _EARLIEST)
        self._others = np.zeros(0, SIGHT)

    def add(self, tasks: Words, times: Numbers) -> None:
        """Take some events: their tasks, and when they began."""
        missed = note_times(tasks, times, _BITS, self._tasks, self._first, self._last)
        if len(missed):
            more = np.zeros(len(missed), SIGHT)
            more["task"], more["first"], more["last"] = tasks[missed], times[missed], times[missed]
            self._others = _together(np.concatenate([self._others, more]))

    def records(self) -> Records:
        """The tasks, ascending, of dtype `SIGHT`."""
        used = np.flatnonzero(self._last != _EARLIEST)
        seen = np.zeros(len(used), SIGHT)
        seen["task"], seen["first"], seen["last"] = self._tasks[used], self._first[used], self._last[used]
        return _together(np.concatenate([seen, self._others[self._others["last"] != _EARLIEST]]))


def _together(sights: Records) -> Records:
    """Sights with each task once, ascending."""
    if not len(sights):
        return sights
    sights = sights[np.argsort(sights["task"])]
    starts = np.flatnonzero(np.append(True, sights["task"][1:] != sights["task"][:-1]))
    found = sights[starts]
    found["first"] = np.minimum.reduceat(sights["first"], starts)
    found["last"] = np.maximum.reduceat(sights["last"], starts)
    return found
