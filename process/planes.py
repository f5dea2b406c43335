"""Records as a block has them in byte planes: their words, and those of some of them alone (docs/FORMAT.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from process.grouping import ranges

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.uint16] | Words


class Planes:
    """Records that may be sorted by the low half of one of their words, the key; that one itself is not."""

    def __init__(self, payload: bytes | memoryview, width: int, count: int, key: int | None = None) -> None:
        """Take a block's payload.

        Args:
            payload: Byte 0 of the first word of all records, then byte 1 of it, and so on.
            width: Words of a record.
            count: Records.
            key: Index of the word by which they are sorted; None if they are not.
        """
        self.count, self._key = count, key
        self._planes = np.frombuffer(payload, np.uint8, 8 * width * count).reshape(width, 8, count)

    def has(self, word: int, byte: int) -> bool:
        """Whether a byte of a word is not zero in all records."""
        return bool(self._planes[word, byte].any())

    @cached_property
    def keys(self) -> Numbers:
        """The low half of the key of each record, of 16 bits if all fit."""
        planes = self._planes[self._key or 0]
        if planes[2:4].any():
            wide = np.zeros(self.count, np.uint64)
            _interlace(planes, range(4), wide)
            return wide
        narrow: npt.NDArray[np.uint16] = planes[1].astype(np.uint16) << np.uint16(8) | planes[0]
        return narrow

    def word(self, word: int) -> Words:
        """A word of all records."""
        plain = np.zeros(self.count, np.uint64)
        _interlace(self._planes[word], range(4 if word == self._key else 0, 8), plain)
        if self._key is None:
            return plain
        found = np.empty(self.count, np.uint64)
        found[self._order] = plain
        if word == self._key:
            found |= self.keys
        return found

    def some(self, word: int, rows: Indices, places: Indices | slice) -> Words:
        """A word of some records, by their indices and their `places`."""
        planes = self._planes[word][:, places]
        plain = np.zeros(len(rows), np.uint64)
        _interlace(planes, range(4 if word == self._key else 0, 8), plain)
        if word == self._key:
            plain |= self.keys[rows]
        return plain

    def places(self, rows: Indices) -> Indices | slice:
        """Where some records are stored; where they are all that have their keys, the others need not be sorted.

        Args:
            rows: Their indices, ascending.
        """
        if self._key is None:
            return rows
        if self.keys.dtype != np.uint16 or not len(rows):
            return self._place_of[rows]
        asked = self.keys[rows]
        counts, taken = np.bincount(self.keys), np.bincount(asked)
        found = np.flatnonzero(taken)
        if (counts[found] != taken[found]).any():
            return self._place_of[rows]
        starts = (np.cumsum(counts) - counts)[found]
        if len(found) == 1:
            return slice(int(starts[0]), int(starts[0]) + len(rows))
        places = np.empty(len(rows), np.intp)
        places[np.argsort(asked, kind="stable")] = ranges(starts, starts + counts[found])
        return places

    @cached_property
    def _order(self) -> Indices:
        """The record at each place; numpy sorts 16 bits by radix."""
        return np.argsort(self.keys, kind="stable")

    @cached_property
    def _place_of(self) -> Indices:
        places = np.empty(self.count, np.intp)
        places[self._order] = np.arange(self.count)
        return places


def _interlace(planes: npt.NDArray[np.uint8], places: Iterable[int], words: Words) -> None:
    """Put planes, one for each byte of a word, into words that are zero; most planes are zero, and cost little."""
    octets = words.view(np.uint8).reshape(-1, 8)
    filled = planes.max(axis=1) if len(words) else np.zeros(8, np.uint8)
    for place in places:
        if filled[place]:
            octets[:, place if sys.byteorder == "little" else 7 - place] = planes[place]
