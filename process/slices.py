"""A segment's events some blocks at a time; each word of them is made when it is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import SegmentError
from process.batch import SLICE
from process.events import WORDS, Ready, Unpacked, Words
from process.planes import Some
from process.read import Contents

Sequences = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]

_MORE = 0.25
"""By how much a slice may be larger than it should be, if one less is made for it."""
_KEPT = 8
"""Slices whose words are kept from one look at a segment to the next, at most: 100 MB."""


@dataclass
class Slice:
    """Events in a row.

    Attributes:
        sequences: int64 of shape (n,), ascending.
        words: uint64 of shape (12, n); those that were not filled are anything.
    """

    sequences: Sequences
    words: Words
    _blocks: Sequence[tuple[int, Unpacked | Ready | Some]] | None
    _filled: set[int]
    _origin: tuple[Slice, Indices] | None = None
    """The slice that it is some events of, and which."""

    @property
    def filled(self) -> frozenset[int]:
        """The words that have been made."""
        return frozenset(self._filled)

    def fill(self, wanted: Collection[int]) -> None:
        """Make some words that are not there yet."""
        fresh = set(wanted) - self._filled
        self._filled |= fresh
        if self._origin is not None and fresh:
            whole, rows = self._origin
            whole.fill(fresh)
            for word in fresh:
                self.words[word] = whole.words[word, rows]
        if fresh and self._origin is None:
            assert self._blocks is not None  # else there is nothing to make them of
        for start, block in self._blocks or () if fresh else ():
            block.fill(self.words[:, start : start + block.count], fresh)
        if len(self._filled) == WORDS:
            self._blocks = None  # as large as the words

    def alone(self) -> Slice:
        """The same with no other words than those that have been made: what they are made of is not held."""
        return Slice(self.sequences, self.words, None, self._filled)

    def only(self, rows: Indices) -> Slice:
        """Some of the events."""
        words = _room(len(rows))
        for word in self._filled:
            words[word] = self.words[word, rows]
        return Slice(self.sequences[rows], words, [], set(self._filled), (self, rows))


def joined(pieces: Sequence[Slice]) -> Slice:
    """Several slices as one that has no other words than those that have been made; the same ones in all."""
    filled = pieces[0].filled
    sequences = np.concatenate([piece.sequences for piece in pieces])
    words = _room(len(sequences))
    for word in filled:
        np.concatenate([piece.words[word] for piece in pieces], out=words[word])
    return Slice(sequences, words, None, set(filled))


class Few(NamedTuple):
    """Some events of a block.

    Attributes:
        number: Of the slice that the block is in.
        start: Where in the slice its events begin.
        first: Sequence number of its first event.
        events: How many it has.
        rows: Which of them these are: indices, ascending.
        piece: They, with no words filled.
    """

    number: int
    start: int
    first: int
    events: int
    rows: Indices
    piece: Slice


class Slices:
    """The planned events of a segment.

    Attributes:
        events: Of a slice, about.
    """

    def __init__(self, contents: Contents, blocks: list[tuple[int, int]], events: int | None = None) -> None:
        """Take (first, count) of each block.

        Args:
            contents: The segment.
            blocks: The planned ones.
            events: Of a slice; `SLICE` if not told.

        Raises:
            SegmentError: They are not there any more.
        """
        self._found = {block.first: block for block in contents.events}
        self._blocks = blocks
        self._kept: dict[int, Words] = {}
        self.events = SLICE if events is None else events
        self._room = _KEPT * self.events
        for first, count in blocks:
            if first not in self._found or self._found[first].count < count:
                raise SegmentError(f"{contents.name}: changed while it was decoded; decode again")

    def blocks(self) -> Iterator[tuple[int, Words]]:
        """Each block's first sequence number and all its words; some are kept for `slice`."""
        for first, count in self._blocks:
            words = self._found[first].words()[:, :count]
            if count <= self._room:
                self._kept[first] = words
                self._room -= count
            yield first, words

    @property
    def count(self) -> int:
        """How many slices there are."""
        return len(self._groups)

    def slice(self, index: int) -> Slice:
        """The events of one, with no words filled but those that were kept."""
        blocks = self._groups[index]
        sequences = _sequences(blocks)
        if all(first in self._kept for first, _ in blocks):
            words = np.concatenate([self._kept.pop(first) for first, _ in blocks], axis=1)
            return Slice(sequences, words, [], set(range(WORDS)))
        starts = np.cumsum([0, *(count for _, count in blocks)]).tolist()
        opened = [
            (start, self._found[first].unpacked(count)) for start, (first, count) in zip(starts, blocks, strict=False)
        ]
        return Slice(sequences, _room(len(sequences)), opened, set())

    def few(self, choose: Callable[[Unpacked | Ready], Indices]) -> Iterator[Few]:
        """The events that are chosen, in order, of every block; nothing is made of the others.

        Args:
            choose: Gives the indices of those in a block, ascending.
        """
        for number, blocks in enumerate(self._groups):
            start = 0
            for first, count in blocks:
                block = self._found[first].unpacked(count)
                rows = choose(block)
                piece = Slice(first + rows, _room(len(rows)), [(0, block.some(rows))], set())
                yield Few(number, start, first, count, rows, piece)
                start += count

    @cached_property
    def _groups(self) -> list[list[tuple[int, int]]]:
        """The blocks of each slice, of which none is much smaller than others: it would cost nearly as much."""
        starts = list(accumulate((count for _, count in self._blocks), initial=0))
        total = starts.pop()
        slices = max(math.ceil(total / self.events - _MORE), 1)
        each = groupby(zip(starts, self._blocks, strict=True), key=lambda block: block[0] * slices // max(total, 1))
        return [[block for _, block in group] for _, group in each]


def _room(count: int) -> Words:
    """Words of so many events, which are not made yet: to clear them would take a fiftieth of what a slice takes."""
    return np.empty((WORDS, count), np.uint64)


def _sequences(blocks: list[tuple[int, int]]) -> Sequences:
    """Of the events of some blocks."""
    first, end = blocks[0][0], sum(blocks[-1])
    if end - first == sum(count for _, count in blocks):
        return np.arange(first, end)
    return np.concatenate([np.arange(first, first + count) for first, count in blocks])
