"""Large segments are divided into splits, so that several workers share one: each is handled as if it were a segment.

Where a segment is divided depends on its file alone, and on whether it is the last: then what comes last is small, so
that no worker has much to do when the others are done. A split begins where capture began a chunk: records of a chunk
are of its own events.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from crc32c import crc32c

from capture.segment import (
    BLOCK,
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    CRC,
    FILE_HEADER_SIZE,
    MAX_RAW,
    ROW_SIZES,
    BlockType,
    Header,
    SegmentError,
)
from process.repair import open_segment

EVENTS = 1 << 19
"""Events of a split, about. Each costs some hundredths of a second by itself: half of it would be a tenth slower."""
OF_QUERY = 4
"""Times as many where one process does them all, in two threads."""
LEAST = 1 << 20
"""Bytes of the smallest file that is looked at: smaller ones have less than half a split, mostly."""
_AT_THE_END = (0.5, 0.25)
"""Where the last split of the last segment is divided once more: what is left behind each, of its events."""
MAX_HELD = 1 << 26
"""Bytes to which all records of a segment but its events may unpack; more if the segment is large."""
_MOST_PACKED = 32
"""Times its size: far more than Zstandard makes of what capture writes."""
PER_BLOCK = 1 << 10
"""Bytes that a block and its header have on average, at least; else there are more than are worth looking at."""
_MOST_OFFSETS = 1 << 20
"""Offsets that all splits of a segment have to be told, at most."""
_MAX_SEQUENCE = (1 << 63) - 1
_MAX_ID = (1 << 32) - 1

NAMED = frozenset((BlockType.STRINGS, BlockType.SETS))
"""Blocks that events of later splits may point to."""


@dataclass(frozen=True)
class Split:
    """A stretch of a segment: whole chunks that follow each other.

    Attributes:
        number: From 0.
        block: Number of its first block.
        start: Offset of that in the file.
        end: Where its last one ends.
        first: Sequence number of its first event.
        before: Offsets of the blocks before it that its events may point to.
        size: Bytes of all these and its own.
    """

    number: int
    block: int
    start: int
    end: int
    first: int
    before: tuple[int, ...]
    size: int


class Head(NamedTuple):
    """A block's header, sound, and where it stands.

    Attributes:
        offset: In the file.
        number: Of the block.
        type: See `BlockType`.
        records: How many it has.
        first: Number of the first.
        raw: Bytes of the payload, unpacked.
        length: Bytes of the payload, as stored.
    """

    offset: int
    number: int
    type: int
    records: int
    first: int
    raw: int
    length: int


def most_held(size: int) -> int:
    """Bytes to which the records of a segment but its events may unpack, of so many bytes of files."""
    return max(MAX_HELD, _MOST_PACKED * size)


def split(
    path: str, head: bytes, size: int, *, is_last: bool, most: int | None = None, is_query: bool = False
) -> list[Split]:
    """Divide a segment.

    Args:
        path: Its file.
        head: The file's header, as it was when the file was found.
        size: The file's bytes then.
        is_last: Whether no other segment comes after it.
        most: Bytes of the file that a split has at most, about; None: as many as is quickest.
        is_query: Whether one process does them all.

    Returns:
        Its splits in order: at least two, or none if it is to stay whole. That it is if it is small, not sealed, or
        if anything about the headers of its blocks is unusual, so that whoever reads it has to look at all of it.
    """
    if size < LEAST:
        return []
    try:
        file = open_segment(path)
    except OSError:
        return []
    try:
        heads = _heads(file, head, size)
    except OSError:
        return []
    finally:
        os.close(file)
    if heads is None:
        return []
    fewest = 0 if most is None else math.ceil(size / most)
    if is_query:
        return _divided(heads, size, OF_QUERY * EVENTS, fewest, ())
    return _divided(heads, size, EVENTS, fewest, _AT_THE_END if is_last else ())


def head_at(file: int, offset: int, header: Header) -> Head | None:
    """The header of the block at some place of an open file; None if no sound one of this segment is there.

    Raises:
        OSError: The file cannot be read.
    """
    data = os.pread(file, BLOCK_HEADER_SIZE, offset)
    if len(data) < BLOCK_HEADER_SIZE or CRC.unpack_from(data, BLOCK.size)[0] != crc32c(data[: BLOCK.size]):
        return None
    magic, kind, _, _, number, records, raw, length, first, segment, capture, _ = BLOCK.unpack_from(data)
    if (magic, segment, capture) != (BLOCK_MAGIC, header.segment, header.capture.bytes[:8]):
        return None
    return Head(offset, number, kind, records, first, raw, length)


def extents(file: int, header: Header, split: Split) -> Iterator[tuple[int, int]]:
    """Offset and length of all that a split is made of: its blocks, and those before it that it may need.

    Raises:
        OSError: The file cannot be read.
    """
    yield split.start, split.end - split.start
    for offset in split.before:
        head = head_at(file, offset, header)
        yield offset, 0 if head is None else BLOCK_HEADER_SIZE + head.length


def _heads(file: int, head: bytes, size: int) -> list[Head] | None:
    """The headers of all blocks, in order; None if anything about them is unusual."""
    if os.pread(file, FILE_HEADER_SIZE, 0) != head:
        return None
    try:
        header = Header.unpack(head, "")
    except SegmentError:
        return None
    found: list[Head] = []
    at, event, held = FILE_HEADER_SIZE, header.first_event, 0
    ids = {int(kind): 1 for kind in NAMED}
    is_ended = False
    while at < size:
        one = head_at(file, at, header)
        if one is None or is_ended or one.number != len(found) or one.raw > MAX_RAW:
            return None
        if PER_BLOCK * len(found) > size:
            return None
        if one.type in ROW_SIZES and ROW_SIZES[one.type] * one.records != one.raw:
            return None
        is_ended = one.type == BlockType.END
        if one.type == BlockType.EVENTS:
            if one.first < event or not one.records:
                return None
            event = one.first + one.records
        else:
            held += one.raw
        if one.type in NAMED:
            if one.first < ids[one.type]:
                return None
            ids[one.type] = one.first + one.records
            if ids[one.type] > _MAX_ID + 1:
                return None
        found.append(one)
        at += BLOCK_HEADER_SIZE + one.length
    is_usual = is_ended and at == size and event <= _MAX_SEQUENCE and held <= most_held(size)
    return found if is_usual else None


def _chunks(heads: list[Head]) -> Iterator[tuple[int, int]]:
    """Where chunks begin: for each the number of its first block, and of the first one that has events."""
    first = 0
    for k, one in enumerate(heads):
        if one.type != BlockType.EVENTS:
            continue
        if k == 0 or heads[k - 1].type != BlockType.EVENTS:
            yield first, k
        first = k + 1


def _divided(heads: list[Head], size: int, each: int, fewest: int, at_the_end: Sequence[float]) -> list[Split]:
    """The splits of a segment, of whole chunks, and about as large as they should be."""
    counts = [one.records if one.type == BlockType.EVENTS else 0 for one in heads]
    before = [0, *accumulate(counts)]
    named = [k for k, one in enumerate(heads) if one.type in NAMED]
    pieces = min(max(round(before[-1] / each), fewest), _MOST_OFFSETS // max(len(named), 1))
    if not pieces:
        return []
    wanted = [piece * before[-1] / pieces for piece in (*range(1, pieces), *(pieces - rest for rest in at_the_end))]
    chunks = list(_chunks(heads))
    places = [before[events] for _, events in chunks]
    begins = [chunks[k] for k in sorted({0, *(_nearest(places, events) for events in wanted)})]
    ends = [heads[block].offset for block, _ in begins[1:]] + [size]
    made = []
    for number, ((block, events), end) in enumerate(zip(begins, ends, strict=True)):
        start, earlier = heads[block].offset, [heads[k] for k in named[: bisect_left(named, block)]]
        held = end - start + sum(BLOCK_HEADER_SIZE + one.length for one in earlier)
        made.append(Split(number, block, start, end, heads[events].first, tuple(one.offset for one in earlier), held))
    return made if len(made) > 1 else []


def _nearest(places: list[int], wanted: float) -> int:
    """Which of some ascending numbers is nearest."""
    at = bisect_left(places, wanted)
    return min((k for k in (at - 1, at) if 0 <= k < len(places)), key=lambda k: abs(places[k] - wanted))
