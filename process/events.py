"""The events of a segment's blocks: as stored, unpacked, or a word of all or some of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import ROW_SIZES, Block, BlockType, Encoding, EventFlag, SegmentError
from process.kernels_planes import unplane_all
from process.planes import Planes, Some

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.uint16] | Words

MAX_SEQUENCE = (1 << 63) - 1

TIME, DURATION, TASK, ARG0, RET, NR_STRINGS, FLAGS_ENTRY = 0, 1, 2, 3, 9, 10, 11
"""The words of an event. The last two hold a pair of uint32 each, the first of the pair in the low half."""

WORDS = 12
"""Words of an event."""

LOW = np.uint64(0xFFFFFFFF)
HIGH = np.uint64(32)
ABI_BYTE = 2
"""The byte of an event's flags that names its ABI."""
ABI_SHIFT, ABI_MASK = np.uint64(8 * ABI_BYTE), np.uint64(0xFF)


class Flags:
    """The flags of a block's events: most say that a call came back, and nothing else.

    Attributes:
        odd: The events of which more or less is said: their indices, ascending.
        words: Their words ``FLAGS_ENTRY``.
    """

    def __init__(self, words: Words) -> None:
        """Take the words of all events."""
        self.odd = np.flatnonzero(words != np.uint64(EventFlag.RETURNED))
        self.words = words[self.odd]
        self._any = int(np.bitwise_or.reduce(self.words))

    def rows(self, flags: int) -> Indices:
        """The events that have any of some flags, but for `EventFlag.RETURNED`: their indices, ascending."""
        found: Indices = self.odd[self.words & np.uint64(flags) != 0] if self._any & flags else self.odd[:0]
        return found


class Damage(NamedTuple):
    """A place of a file that could not be used.

    Attributes:
        file: Name of the file.
        offset: Where, in bytes.
        length: How much, in bytes; 0 if only known to be a block.
        reason: What is wrong with it.
        loss: False for the torn end of a file whose events are in a live file, too.
    """

    file: str
    offset: int
    length: int
    reason: str
    loss: bool


@dataclass
class EventBlock:
    """An EVENTS block, not yet unpacked.

    Attributes:
        first: Sequence number of its first event.
        count: Events in it.
        file: Name of its file.
        block: As stored.
    """

    first: int
    count: int
    file: str
    block: Block

    def words(self) -> Words:
        """Its events: uint64 of shape (12, count), a row for each word of ``EVENT_ROW``.

        Raises:
            SegmentError: The payload does not unpack.
        """
        return words(self.block)

    def unpacked(self, count: int) -> Unpacked:
        """Its first events, whose words are made when they are wanted.

        Raises:
            SegmentError: The payload does not unpack.
        """
        return Unpacked(self.block, count)

    def damage(self, error: SegmentError) -> Damage:
        """The error of `words` as damage."""
        return damage_of(self.file, self.block, str(error))


@dataclass
class Stretch:
    """Events of several blocks that follow each other, unpacked; otherwise as `EventBlock`.

    Attributes:
        first: Sequence number of the first event.
        file: Name of the first file.
    """

    first: int
    file: str
    _words: Words

    def __reduce__(self) -> tuple[Callable[..., Stretch], tuple[Any, ...]]:
        """For pickle: without the parts of words that are zero in all events, a good half of most."""
        lanes = np.ascontiguousarray(self._words).view(np.uint16).reshape(WORDS, self.count, _LANES)
        places = [(word, lane) for word in range(WORDS) for lane in range(_LANES) if lanes[word, :, lane].any()]
        return _stretch, (self.first, self.file, self.count, [(*at, lanes[at[0], :, at[1]].copy()) for at in places])

    @property
    def count(self) -> int:
        """Events in it."""
        return len(self._words[0])

    def words(self) -> Words:
        """All of them."""
        return self._words

    def unpacked(self, count: int) -> Ready:
        """The first ones."""
        return Ready(count, self._words)

    def damage(self, error: SegmentError) -> Damage:
        """An error that its events made."""
        return Damage(self.file, 0, 0, str(error), True)


_LANES = 4
"""Parts of a word, of 16 bits each."""


def _stretch(first: int, file: str, count: int, filled: list[tuple[int, int, npt.NDArray[np.uint16]]]) -> Stretch:
    """The way back from `Stretch.__reduce__`."""
    words = np.zeros((WORDS, count), np.uint64)
    lanes = words.view(np.uint16).reshape(WORDS, count, _LANES)
    for word, lane, parts in filled:
        lanes[word, :, lane] = parts
    return Stretch(first, file, words)


@dataclass
class Ready:
    """Like `Unpacked`, where nothing is left to be made.

    Attributes:
        count: How many of the events are wanted: the first ones.
    """

    count: int
    _words: Words

    def fill(self, out: Words, wanted: Iterable[int]) -> None:
        """Copy some words to their rows of ``out``, uint64 of shape (12, count)."""
        for word in wanted:
            out[word] = self.word(word)

    def with_words(self, wanted: Iterable[int]) -> Words:
        """The events with some words, uint64 of shape (12, count): all are there already."""
        return self._words[:, : self.count]

    def word(self, word: int) -> Words:
        """A word of all events."""
        row: Words = self._words[word, : self.count]
        return row

    in_any_order = word

    def choose(self, rows: Indices, out: Words) -> None:
        """Write all words of some of the events to ``out``, by their indices."""
        out[:] = self._words.take(rows, axis=1)

    @property
    def numbers(self) -> Words:
        """The number of each call."""
        numbers: Words = self._words[NR_STRINGS, : self.count] & LOW
        return numbers

    @property
    def abis(self) -> Words | None:
        """The ABI that each event names; None if none does."""
        abis: Words = self._words[FLAGS_ENTRY, : self.count] >> ABI_SHIFT & ABI_MASK
        return abis if abis.any() else None

    def some(self, rows: Indices) -> Some:
        """Some of the events: their indices, ascending."""
        return Some(self, rows, rows)

    def fill_some(self, some: Some, out: Words, wanted: Iterable[int]) -> None:
        """Write some words of some of the events to their rows of ``out``."""
        for word in wanted:
            out[word] = self._words[word, some.rows]

    def words(self, some: Some) -> Words:
        """All words of some of the events."""
        return self._words[:, some.rows]


def words(block: Block) -> Words:
    """The 8-byte words of a block of fixed-size records: uint64 of shape (words of a record, records).

    Raises:
        SegmentError: The payload does not unpack.
    """
    width = ROW_SIZES[block.type] // 8
    if block.type == BlockType.EVENTS:
        unpacked = Unpacked(block, block.count)  # before any memory is taken for what a header claims
        return unpacked.with_words(range(width))
    payload = block.payload()
    if block.encoding == Encoding.PLANES:
        found = np.empty((width, block.count), np.uint64)
        unplane_all(payload, np.array([block.count]), None, found)
        return found
    return flat(block.encoding, block.count, payload, width)


class Unpacked:
    """A block of events whose words are made when they are wanted.

    Attributes:
        count: How many of its events are wanted: the first ones.
    """

    def __init__(self, block: Block, count: int) -> None:
        """Inflate it.

        Raises:
            SegmentError: The payload does not unpack.
        """
        payload = block.payload()
        self.count, self._planes = count, None
        if block.encoding == Encoding.PLANES:
            self._planes = Planes(payload, WORDS, block.count, NR_STRINGS)
        else:
            self._rows = flat(block.encoding, block.count, payload, WORDS)

    @property
    def numbers(self) -> Numbers:
        """The number of each call, of 16 or 64 bits."""
        numbers: Numbers = self._rows[NR_STRINGS] & LOW if self._planes is None else self._planes.keys
        return numbers[: self.count]

    @property
    def abis(self) -> Words | None:
        """The ABI that each event names; None if none does."""
        if self._planes is not None and not self._planes.has(FLAGS_ENTRY, ABI_BYTE):
            return None
        abis: Words = self.word(FLAGS_ENTRY) >> ABI_SHIFT & ABI_MASK
        return abis if abis.any() else None

    def fill(self, out: Words, wanted: Iterable[int]) -> None:
        """Write some words to their rows of ``out``, uint64 of shape (12, count)."""
        if self._planes is not None:
            self._planes.fill(out, wanted, TIME)
            return
        for word in wanted:
            out[word] = self.word(word)

    def with_words(self, wanted: Iterable[int]) -> Words:
        """The events with some words, uint64 of shape (12, count); the others are anything."""
        if self._planes is None:
            return np.ascontiguousarray(self._rows[:, : self.count])
        found = np.empty((WORDS, self.count), np.uint64)
        self._planes.fill(found, wanted, TIME)
        return found

    def choose(self, rows: Indices, out: Words) -> None:
        """Write all words of some of the events to ``out``, by their indices, ascending."""
        if self._planes is None:
            out[:] = self._rows.take(rows, axis=1)
        else:
            self._planes.fill(out, range(WORDS), TIME, rows)

    def some(self, rows: Indices) -> Some:
        """Some of the events: their indices, ascending."""
        return Some(self, rows, rows if self._planes is None else self._planes.places(rows))

    def fill_some(self, some: Some, out: Words, wanted: Iterable[int]) -> None:
        """Write some words of some of the events to their rows of ``out``.

        A time takes as long as all of them, since it needs those before it.
        """
        times = {TIME} if self._planes is not None else set(wanted)
        for word in times.intersection(wanted):
            out[word] = self.word(word)[some.rows]
        if self._planes is not None:
            self._planes.some(out, set(wanted) - times, some.rows, some.places)

    def words(self, some: Some) -> Words:
        """All words of some of the events."""
        if self._planes is None:
            return self._rows[:, some.rows]
        found = self._planes.words(some.rows, some.places)
        found[TIME] = self._times[some.rows]
        return found

    def word(self, word: int) -> Words:
        """A word of all events."""
        if self._planes is None:
            row: Words = self._rows[word, : self.count]
            return row
        return self._times if word == TIME else self._planes.word(word)[: self.count]

    def in_any_order(self, word: int) -> Words:
        """Likewise, in whatever order costs least; not of times, nor of numbers."""
        is_whole = self._planes is not None and self._planes.count == self.count
        return self._planes.as_stored(word) if self._planes is not None and is_whole else self.word(word)

    @cached_property
    def _times(self) -> Words:
        """They are stored as differences."""
        assert self._planes is not None  # else they are as they were recorded
        found = self._planes.word(TIME)[: self.count]
        return np.cumsum(found, out=found)


def flat(encoding: int, count: int, payload: bytes | memoryview, width: int) -> Words:
    """The words of a block that is as it was recorded, or turned into columns."""
    found: Words = np.frombuffer(payload, "<u8", width * count).astype(np.uint64, copy=False)
    return found.reshape(width, count) if encoding == Encoding.COLUMNS else found.reshape(-1, width).T


def damage_of(file: str, block: Block, reason: str) -> Damage:
    """A block that cannot be used, as damage."""
    prefix = f"block at offset {block.offset}: "
    return Damage(file, block.offset, len(block.stored), reason.removeprefix(prefix), True)
