"""Where events begin that do not follow those before: after gaps, resets, and where something recorded is lost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from process.events import MAX_SEQUENCE
from process.fd_records import ALWAYS


class Edges:
    """Of a segment, whose blocks come in their order.

    Attributes:
        found: Of each stretch of events that does not follow the one before, or from which something that was
            recorded is lost: its first sequence number, the time at which that event came back, and the latest time
            at which one before it did. After a reset, the reset's time is in its place.
        reset: The last reset: the sequence number after it, and its time.
    """

    def __init__(self, breaks: Sequence[int]) -> None:
        """Prepare; ``breaks``: sequence numbers before which records are lost, ascending."""
        self.found: list[tuple[int, int, int]] = []
        self.reset = (-1, 0)
        self._end = -1
        self._breaks = breaks

    def stretches(self, first: int, count: int, resets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The events of a block between which nothing is missing: start and end of each stretch, no reset in it.

        Args:
            first: Sequence number of the block's first event.
            count: Its events.
            resets: Index and time of its resets, ascending.
        """
        at = 0
        for end, time in (*resets, (count, 0)):
            for place in self._breaks[bisect_right(self._breaks, first + at) :]:
                if place >= first + end:
                    break
                yield at, place - first
                at = place - first
            if at < end:
                yield at, end
            at = end + 1
            if end < count:
                self.reset = (first + at, min(time, MAX_SEQUENCE))

    def take(self, first: int, count: int, came_back: Callable[[], int], clock: int) -> int:
        """Take a stretch.

        Args:
            first: Sequence number of its first event.
            count: Its events.
            came_back: Gives the time at which the first came back.
            clock: The latest time at which one before it did.

        Returns:
            The time just before it; `ALWAYS` if that is for another segment to tell.
        """
        if first == self.reset[0]:
            self.found.append((first, self.reset[1], clock))
            clock = self.reset[1] - 1
        elif first != self._end or first in self._breaks:
            time = came_back()
            self.found.append((first, time, clock))
            clock = ALWAYS if len(self.found) == 1 else time - 1
        self._end = first + count
        return clock
