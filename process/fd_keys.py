"""Keys that put a thing and a time into one integer, so that one sort and one search serve for both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.grouping import distinct

Numbers = npt.NDArray[np.int64]

_WORD = (1 << 64) - 1


class TimeKeys:
    """Makes keys of a thing's number and a time; they are in the order of the things, then of the times.

    Times are counted from the earliest; if the span is too long for the bits that are left, by their ranks.
    """

    def __init__(self, things: int, times: Numbers) -> None:
        """Prepare.

        Args:
            things: How many things there are, at most 2**32.
            times: All that keys will be made of; others take the place before the next of these.
        """
        self._low = int(times.min()) if len(times) else 0
        span = int(times.max()) - self._low if len(times) else 0
        self._bits = (span + 2).bit_length()
        self._ranks: Numbers | None = None
        if self._bits + things.bit_length() > 62:
            self._ranks = distinct(times)
            self._bits = (len(self._ranks) + 2).bit_length()
        self._last = span + 1

    def of(self, things: Numbers, times: Numbers, *, before: bool = False) -> Numbers:
        """Keys of things at times, or just ``before`` them. Whatever the time, a key stays among those of its thing."""
        if self._ranks is not None:
            places = np.searchsorted(self._ranks, times, "left" if before else "right")
        else:
            above = times.view(np.uint64) - np.uint64(self._low & _WORD)  # right beyond 2**63, too
            places = np.minimum(above, np.uint64(self._last - 1 + before)).view(np.int64) + 1 - before
            places[times < self._low] = 0
        keys: Numbers = (things << self._bits) + places
        return keys

    def things(self, keys: Numbers) -> Numbers:
        """The things that keys are of."""
        return keys >> self._bits
