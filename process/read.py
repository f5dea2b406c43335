"""Step two: a segment's files as arrays, without parsing; what is damaged is passed over and told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from capture.reader import Segment, parse_stretch
from capture.segment import (
    BLOCK_HEADER_SIZE,
    COUNTERS,
    FILE_HEADER_SIZE,
    Block,
    BlockType,
    Header,
    SegmentError,
)
from process.discover import AGAIN, Part, current
from process.events import HIGH, LOW, MAX_SEQUENCE, Damage, EventBlock, Stretch, Words, damage_of, words
from process.holes import breaks, misplaced
from process.repair import open_segment, read
from process.splits import NAMED, Head, Split, head_at, most_held
from process.strings import SetTable, StringTable

Taken = TypeVar("Taken")


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


MAX_TOGETHER = 1 << 28
"""Bytes to which segments that are read as one may unpack: many times what those that capture writes do."""


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
    for again in range(AGAIN + 1):
        live: list[tuple[Path, Segment]] = []
        for path in part.live:
            with suppress(FileNotFoundError):
                live.append((path, read(path)))
        sealed = read(part.sealed) if part.sealed else None
        is_changing = len(live) < len(part.live) or (sealed is not None and not live and _is_torn(sealed))
        if not is_changing or again == AGAIN or (now := current(part)) == part:
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
    left = most_held(contents.size)
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


def load_split(part: Part, split: Split) -> Contents:
    """Read a split of a segment; of the strings and sets before it only what its events turn out to need.

    What is damaged in other splits is passed over there. The ledger of the segment is that of its last split.

    Raises:
        SegmentError: The file is not what it was when it was divided.
        OSError: It cannot be read.
    """
    assert part.sealed is not None  # else it is not divided
    contents = Contents(part.name, replace(part.header, first_event=split.first), is_sealed=True)
    with open(open_segment(part.sealed), "rb") as file:
        heads = [head_at(file.fileno(), offset, part.header) for offset in split.before]
        file.seek(split.start)
        data = file.read(split.end - split.start)
    found = parse_stretch(data, str(part.sealed), part.header, split.start)
    if len(data) != split.end - split.start or (found.indexes and found.indexes[0] < split.block):
        raise _changed(part)
    for head in heads:
        if head is None or head.type not in NAMED:
            raise _changed(part)
        if head.type == BlockType.STRINGS:
            contents.strings.add_later(head.first, head.records, partial(_later, part, head, Block.payload))
        else:
            contents.sets.add_later(head.first, head.records, partial(_later, part, head, _sets_of))
    contents.kept_from = kept_from(found.meta)
    contents.damage = [Damage(part.sealed.name, *one[:3], True) for one in found.damage]
    if contents.damage:
        contents.breaks = breaks(found, list(range(split.block)))
    contents.counters, contents.size = found.counters, part.size
    _sort_out(contents, [(part.sealed.name, block) for block in found.blocks])
    return contents


def _later(part: Part, head: Head, take: Callable[[Block], Taken]) -> Taken | None:
    """What a block of a sealed file holds; None if it is damaged.

    Raises:
        OSError: The file cannot be read.
    """
    assert part.sealed is not None  # else it is not divided
    file = open_segment(part.sealed)
    try:
        data = os.pread(file, BLOCK_HEADER_SIZE + head.length, head.offset)
    finally:
        os.close(file)
    try:
        return next((take(block) for block in parse_stretch(data, part.name, part.header, head.offset).blocks), None)
    except SegmentError:
        return None


def _sets_of(block: Block) -> npt.NDArray[np.int64]:
    """The sets of a block.

    Raises:
        SegmentError: The payload does not unpack.
    """
    return pairs(words(block))


def _changed(part: Part) -> SegmentError:
    return SegmentError(f"{part.name}: changed since it was found; decode again")


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
                taken = contents.sets.add(block.first, _sets_of(block))
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
