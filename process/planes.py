"""Records as a block has them in byte planes: their words, and those of some of them alone (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from process.grouping import ranges
from process.kernels_planes import places_of, stored_word, unplane, words_at

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.uint16] | Words

_LOW_HALF, _HIGH_HALF = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


class Block(Protocol):
    """Events of which some can be taken."""

    def fill_some(self, some: Some, out: Words, wanted: Iterable[int]) -> None:
        """Write some words of some of them to their rows of ``out``, uint64 of shape (words, n)."""

    def words(self, some: Some) -> Words:
        """All words of some of them: uint64 of shape (words, n)."""


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
            wide: Words = stored_word(planes)[0] & _LOW_HALF
            return wide
        narrow: npt.NDArray[np.uint16] = planes[1].astype(np.uint16) << np.uint16(8) | planes[0]
        return narrow

    def word(self, word: int) -> Words:
        """A word of all records."""
        plain, is_same = stored_word(self._planes[word])
        if self._key is None or is_same:
            return plain
        found = plain.take(self._place_of)
        return found & _HIGH_HALF | plain & _LOW_HALF if word == self._key else found

    def fill(self, out: Words, wanted: Iterable[int], summed: int, rows: Indices | None = None) -> None:
        """Write some words of the first records to their rows of ``out``; one of them is stored as differences.

        Args:
            out: uint64 of shape (words, n).
            wanted: Which words.
            summed: Index of the word that is the sum of all before it.
            rows: Of other records than the first: their indices, ascending.
        """
        assert self._key is not None  # else there is nothing to undo
        unplane(self._planes, self._place_of, rows, self._key, summed, wanted, out)

    def as_stored(self, word: int) -> Words:
        """A word of all records in the order in which they are stored; of the key the upper half alone is."""
        return stored_word(self._planes[word])[0]

    def some(self, out: Words, wanted: Iterable[int], rows: Indices, places: Indices | slice) -> None:
        """Write some words of some records to their rows of ``out``, by the records' indices and `places`."""
        words_at(self._planes, rows, places, self._key, wanted, out)

    def words(self, rows: Indices, places: Indices | slice) -> Words:
        """All words of some records, by their indices and their `places`: uint64 of shape (words, n)."""
        octets = np.ascontiguousarray(self._planes[:, :, places].transpose(0, 2, 1))
        words: Words = octets.view("<u8")[:, :, 0].astype(np.uint64, copy=False)
        if self._key is not None:
            words[self._key] = words[self._key] & _HIGH_HALF | self.keys[rows]
        return words

    def places(self, rows: Indices) -> Indices | slice:
        """Where some records are stored; where they are all that have their keys, the others need not be sorted.

        Args:
            rows: Their indices, ascending.
        """
        if self._key is None:
            return rows
        if self.keys.dtype != np.uint16 or not len(rows):
            return self._place_of[rows].astype(np.intp)
        asked = self.keys[rows]
        one = asked[0]
        if (asked == one).all() and np.count_nonzero(self.keys == one) == len(rows):
            start = int(np.count_nonzero(self.keys < one))
            return slice(start, start + len(rows))
        counts, taken = np.bincount(self.keys), np.bincount(asked)
        found = np.flatnonzero(taken)
        if (counts[found] != taken[found]).any():
            return self._place_of[rows].astype(np.intp)
        starts = (np.cumsum(counts) - counts)[found]
        places = np.empty(len(rows), np.intp)
        places[np.argsort(asked, kind="stable")] = ranges(starts, starts + counts[found])
        return places

    @cached_property
    def _place_of(self) -> npt.NDArray[np.uint32]:
        """Where each record is; to take words is faster than to put them."""
        keys = self.keys
        if keys.dtype == np.uint16:
            return places_of(keys.view(np.uint16))
        places = np.empty(self.count, np.uint32)
        places[np.argsort(keys, kind="stable")] = np.arange(self.count)
        return places


@dataclass
class Some:
    """Some events of a block, whose words are made when they are wanted.

    Attributes:
        rows: Which.
        places: Where they are stored.
    """

    _block: Block
    rows: Indices
    places: Indices | slice

    @property
    def count(self) -> int:
        """How many."""
        return len(self.rows)

    def fill(self, out: Words, wanted: Iterable[int]) -> None:
        """Write some words to their rows of ``out``, uint64 of shape (12, count)."""
        self._block.fill_some(self, out, wanted)

    def words(self) -> Words:
        """All words: uint64 of shape (12, count)."""
        return self._block.words(self)
