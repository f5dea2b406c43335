"""Step two: a segment's files as arrays, without parsing; what is damaged is passed over and told."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from capture.reader import Segment
from capture.segment import (
    COUNTERS,
    FILE_HEADER_SIZE,
    ROW_SIZES,
    Block,
    BlockType,
    Encoding,
    EventFlag,
    Header,
    SegmentError,
)
from process.discover import Part, current
from process.holes import breaks, misplaced
from process.planes import Planes, Some
from process.repair import read
from process.strings import SetTable, StringTable

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.uint16] | Words

MAX_SEQUENCE = (1 << 63) - 1

TIME, DURATION, TASK, ARG0, RET, NR_STRINGS, FLAGS_ENTRY = 0, 1, 2, 3, 9, 10, 11
"""The words of an event. The last two hold a pair of uint32 each, the first of the pair in the low half."""

WORDS = 12
"""Words of an event."""

_AGAIN = 4
"""How often the files of a segment that change while they are read are looked for again."""

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


@dataclass
class Contents:
    """A segment, or several as one, read.

    Attributes:
        name: Of the files.
        header: As of its first file.
        events: EVENTS blocks by sequence number; none overlaps another.
        strings: Strings by id.
        sets: Sets by id.
        tasks: Identity records: uint64 of shape (8, n), the words of ``TASK_ROW``.
        marks: Mark records: uint64 of shape (2, n), the words of ``MARK_ROW``.
        files: File records: uint64 of shape (4, n), the words of ``FILE_ROW``.
        damage: What was passed over.
        is_sealed: Whether the segment was closed properly.
        counters: Its ledger, by the names of ``COUNTERS``.
        size: Bytes of its files.
        kept_from: Sequence number before which capture has deleted segments on purpose.
        breaks: Sequence numbers before which records are lost that may have changed what holds, ascending.
    """

    name: str
    header: Header
    events: Sequence[EventBlock | Stretch] = ()
    strings: StringTable = field(default_factory=StringTable)
    sets: SetTable = field(default_factory=SetTable)
    tasks: Words = field(default_factory=lambda: np.zeros((8, 0), np.uint64))
    marks: Words = field(default_factory=lambda: np.zeros((2, 0), np.uint64))
    files: Words = field(default_factory=lambda: np.zeros((4, 0), np.uint64))
    damage: list[Damage] = field(default_factory=list)
    is_sealed: bool = False
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    size: int = 0
    kept_from: int = 0
    breaks: list[int] = field(default_factory=list)


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
        planes = Planes(payload, width, block.count)
        return np.stack([planes.word(word) for word in range(width)])
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


MAX_HELD = 1 << 26
"""Bytes to which all records of a segment but its events may unpack; more if the segment is large."""
MAX_TOGETHER = 1 << 28
"""Bytes to which segments that are read as one may unpack: many times what those that capture writes do."""
_MOST_PACKED = 32
"""Times its size: far more than Zstandard makes of what capture writes."""


def join(part: Part) -> tuple[Contents, list[tuple[str, Block]]]:
    """Read a segment's files, and give their blocks with the name of the file that each is in.

    Live files are read before the sealed one: a running emulator writes the sealed block first and then
    removes the live file, so that whatever vanishes between the two reads is in the file read last. If one has
    vanished, or the sealed file ends within a block and no live file is there, the folder is looked at again.

    Returns:
        The segment with none of its records taken yet, and its blocks.

    Raises:
        SegmentError: A file cannot be used at all.
        OSError: A file cannot be read.
    """
    for again in range(_AGAIN + 1):
        live: list[tuple[Path, Segment]] = []
        for path in part.live:
            with suppress(FileNotFoundError):
                live.append((path, read(path)))
        sealed = read(part.sealed) if part.sealed else None
        is_changing = len(live) < len(part.live) or (sealed is not None and not live and _is_torn(sealed))
        if not is_changing or again == _AGAIN or (now := current(part)) == part:
            break
        part = now
    if not live and sealed is None:
        raise FileNotFoundError(errno.ENOENT, "removed while it was read", part.name)
    contents = Contents(part.name, part.header)
    blocks: list[tuple[str, Block]] = []
    if part.sealed is not None and sealed is not None:
        contents.is_sealed, contents.kept_from = sealed.sealed, kept_from(sealed.meta)
        for found in sealed.damage:
            torn = bool(live) and found.offset + found.length >= sealed.size
            contents.damage.append(Damage(part.sealed.name, found.offset, found.length, found.reason, not torn))
        _count(contents, sealed)
        blocks += [(part.sealed.name, block) for block in sealed.blocks]
        elsewhere = [block.index for _, chunk in live for block in chunk.blocks]
        for text in misplaced(sealed, elsewhere):
            contents.damage.append(Damage(part.sealed.name, FILE_HEADER_SIZE, 0, text, True))
        if any(damage.loss for damage in contents.damage):
            contents.breaks = breaks(sealed, elsewhere)
    for path, chunk in live:
        _count(contents, chunk)
        if not _is_sealed(chunk.blocks, blocks):
            blocks += [(path.name, block) for block in chunk.blocks]
    return contents, list(_bounded(contents, blocks))


def _bounded(contents: Contents, blocks: list[tuple[str, Block]]) -> Iterator[tuple[str, Block]]:
    """Blocks without those that would unpack to more than memory can be asked to hold at once.

    Events are unpacked a block at a time; all other records of a segment are held together.
    """
    left = max(MAX_HELD, _MOST_PACKED * contents.size)
    for file, block in blocks:
        if block.type != BlockType.EVENTS:
            if block.raw_length > left:
                contents.damage.append(damage_of(file, block, "with it the segment unpacks to more than it may"))
                if block.type in (BlockType.TASKS, BlockType.MARKS, BlockType.FILES):
                    contents.breaks = sorted([*contents.breaks, min(block.first, MAX_SEQUENCE)])
                continue
            left -= block.raw_length
        yield file, block


def _is_torn(segment: Segment) -> bool:
    """Whether a file ends within a block."""
    return any(found.offset + found.length >= segment.size for found in segment.damage)


def kept_from(meta: Mapping[str, Any]) -> int:
    """What a META block says of segments deleted on purpose: the sequence number of the first event that was kept."""
    told = meta.get("kept_from")
    return told if isinstance(told, int) and 0 < told <= MAX_SEQUENCE else 0


def load(part: Part) -> Contents:
    """Read a segment's files and put each record where it belongs.

    Raises:
        SegmentError: A file cannot be used at all.
        OSError: A file cannot be read.
    """
    contents, blocks = join(part)
    _sort_out(contents, blocks)
    return contents


def _count(contents: Contents, segment: Segment) -> None:
    """Add a file's size and ledger. A live file's ledger counts its whole segment so far."""
    if not contents.size:
        contents.counters = segment.counters
    else:
        contents.counters = {
            name: max(contents.counters.get(name, 0), value) for name, value in segment.counters.items()
        }
    contents.size += segment.size


def _is_sealed(chunk: list[Block], blocks: list[tuple[str, Block]]) -> bool:
    """Whether a live file was sealed before it could be removed: its last block is among ``blocks``."""
    if not chunk:
        return True
    last = chunk[-1]
    return any(
        block.type == last.type and block.first == last.first and block.count >= last.count for _, block in blocks
    )


def _sort_out(contents: Contents, blocks: list[tuple[str, Block]]) -> None:
    """Put each block where it belongs; one that contradicts itself or another is damage."""
    tasks, marks, files = [contents.tasks], [contents.marks], [contents.files]
    events = []
    for file, block in blocks:
        try:
            taken = True
            if block.type == BlockType.EVENTS:
                events.append(EventBlock(block.first, block.count, file, block))
            elif block.type == BlockType.STRINGS:
                taken = contents.strings.add(block.first, block.count, block.payload())
            elif block.type == BlockType.SETS:
                taken = contents.sets.add(block.first, pairs(words(block)))
            elif block.type == BlockType.TASKS:
                tasks.append(words(block))
            elif block.type == BlockType.MARKS:
                marks.append(words(block))
            elif block.type == BlockType.FILES:
                files.append(words(block))
            if not taken:
                contents.damage.append(damage_of(file, block, "its records contradict its header"))
        except SegmentError as error:
            contents.damage.append(damage_of(file, block, str(error)))
            contents.breaks += broken(block)
    contents.breaks.sort()
    contents.tasks, contents.marks = np.concatenate(tasks, axis=1), np.concatenate(marks, axis=1)
    contents.files = np.concatenate(files, axis=1)
    contents.events = list(in_order(contents, events))


def pairs(rows: Words) -> npt.NDArray[np.int64]:
    """Words of shape (3, n) as the six uint32 they hold, low half first: int64 of shape (n, 6)."""
    halves = np.stack([half for word in rows for half in (word & LOW, word >> HIGH)], axis=1)
    return halves.astype(np.int64)


def in_order(contents: Contents, events: list[EventBlock]) -> Iterator[EventBlock]:
    """EVENTS blocks by sequence number, without those that claim numbers which another has."""
    end = contents.header.first_event
    for block in sorted(events, key=lambda block: (block.first, -block.count)):
        if block.first < end or block.first + block.count > MAX_SEQUENCE:
            reason = f"claims events {block.first} to {block.first + block.count - 1}, which cannot be"
            contents.damage.append(damage_of(block.file, block.block, reason))
        elif block.count:
            end = block.first + block.count
            yield block


def broken(block: Block) -> list[int]:
    """Where what holds is not known for want of a block that does not unpack; see `Contents.breaks`."""
    return [min(block.first, MAX_SEQUENCE)] if block.type in (BlockType.TASKS, BlockType.MARKS, BlockType.FILES) else []


def damage_of(file: str, block: Block, reason: str) -> Damage:
    """A block that cannot be used, as damage."""
    prefix = f"block at offset {block.offset}: "
    return Damage(file, block.offset, len(block.stored), reason.removeprefix(prefix), True)
