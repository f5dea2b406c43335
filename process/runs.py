"""The stretches of sequence numbers in which nothing is missing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Sequences = npt.NDArray[np.int64]


class Runs:
    """The stretches of a capture's sequence numbers in which no event is missing, and none is a reset.

    Attributes:
        starts: First sequence number of each, int64, ascending.
        ends: One past the last of each, likewise.
        missing: (first, count) of each stretch of events that are missing, the one before the first event included.
        end: One past the last event of all, 0 without any.
    """

    def __init__(
        self, blocks: Iterable[tuple[int, int]], resets: Iterable[int] = (), breaks: Iterable[int] = ()
    ) -> None:
        """Join (first, count) pairs, in any order, and cut them at resets, and before breaks.

        Args:
            blocks: What is there.
            resets: Events that are resets.
            breaks: Events before which something is lost that may have changed what holds.
        """
        starts: list[int] = []
        ends: list[int] = []
        for first, count in sorted(blocks):
            if ends and first <= ends[-1]:
                ends[-1] = max(ends[-1], first + count)
            else:
                starts.append(first)
                ends.append(first + count)
        before = [0, *ends]
        self.missing = [(a, b - a) for a, b in zip(before, starts, strict=False) if b > a]
        self.end = ends[-1] if ends else 0
        cuts = np.fromiter(resets, np.int64)
        before_them = sorted(set(breaks))
        starts = sorted([*starts, *(cuts + 1).tolist(), *before_them])
        ends = sorted([*ends, *cuts.tolist(), *before_them])
        pairs = [(first, end) for first, end in zip(starts, ends, strict=True) if first < end]
        self._starts, self._ends = [first for first, _ in pairs], [end for _, end in pairs]
        self.starts = np.array(self._starts, np.int64)
        self.ends = np.array(self._ends, np.int64)

    def of(self, seq: int) -> int:
        """The run that holds a sequence number, -1 if none does."""
        at = bisect_right(self._starts, seq) - 1
        return at if at >= 0 and seq < self._ends[at] else -1

    def starts_of(self, sequences: Sequence[int]) -> list[int]:
        """Where the run that holds each of some sequence numbers starts, -1 if none does."""
        at = np.searchsorted(self.starts, np.array(sequences, np.int64), "right") - 1
        inside = (at >= 0) & (np.array(sequences, np.int64) < np.append(self.ends, 0)[at])
        found: list[int] = np.where(inside, np.append(self.starts, -1)[at], -1).tolist()
        return found

    def around(self, blocks: list[tuple[int, int]]) -> Sequences:
        """Starts of the runs in which (first, count) pairs are: nothing that others do not need, and may change."""
        first = min((first for first, _ in blocks), default=0)
        end = max((first + count for first, count in blocks), default=0)
        low = max(int(np.searchsorted(self.starts, first, "right")) - 1, 0)
        return self.starts[low : np.searchsorted(self.starts, end)]
