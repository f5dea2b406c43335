"""The latest return up to each event of a batch: asked for calls of which it is not known when they ended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.events import DURATION, TIME
from process.fd_records import ALWAYS
from process.slices import Slice, Slices

Numbers = npt.NDArray[np.int64]


class Clock:
    """Of one batch; slices that nobody has asked about are looked at again when a later one is."""

    def __init__(self, slices: Slices, dropped: Numbers) -> None:
        """Begin before the first slice.

        Args:
            slices: Of the batch.
            dropped: Sequence numbers of events that are no rows, ascending.
        """
        self._slices, self._dropped = slices, dropped
        self._next, self._latest = 0, ALWAYS
        self._running = np.zeros(0, np.int64)

    def of(self, index: int, piece: Slice) -> Numbers:
        """The latest return in the batch up to each event of a slice, int64.

        Args:
            index: Of the slice; none is asked about after a later one.
            piece: The slice.
        """
        if index >= self._next:
            for skipped in range(self._next, index):
                self._latest = int(self._run(self._slices.slice(skipped))[-1])
            self._next, self._running = index + 1, self._run(piece)
            self._latest = int(self._running[-1])
        return self._running

    def _run(self, piece: Slice) -> Numbers:
        piece.fill((TIME, DURATION))
        lasted = piece.words[DURATION]
        times = piece.words[TIME].view(np.int64) + np.where(lasted < 1 << 63, lasted, 0).view(np.int64)
        first, last = np.searchsorted(self._dropped, (piece.sequences[0], piece.sequences[-1] + 1))
        times[np.searchsorted(piece.sequences, self._dropped[first:last])] = ALWAYS
        return np.maximum(np.maximum.accumulate(times), self._latest)
